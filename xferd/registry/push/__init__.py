"""
The writing side of the OCI distribution-spec: upload sessions, blobs in chunks,
mounts, and manifests.
"""
