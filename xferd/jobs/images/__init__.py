"""
Images and their documents: manifests and configs are fetched and resolved, graphs
are walked and published, images get their names in the store.
"""
