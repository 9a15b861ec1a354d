"""
What a containerd lacks of images whose layers stand in the store: their blobs, which it
needs to export and to push them.  They are written into its content store by its API.
"""
