"""
Images on the client's own disk: archives and OCI layouts that are sent or
saved, root file systems and runtime bundles that are made from the store.
"""
