"""
The read-only view of the store in the form of containers-storage, from which podman,
CRI-O, buildah and skopeo run images: the names and records of its files, its writer,
and what the engines have recorded about its layers.
"""
