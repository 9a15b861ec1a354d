"""
Blobs and layers: downloads into partial files, unpacking and registration of
layers, uploads, and readers of blobs that are still arriving.
"""
