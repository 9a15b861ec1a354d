"""
Blobs and layers on their way: downloads into partial files, layers unpacked
meanwhile, uploads, and the bytes that are read while they still arrive.
"""
