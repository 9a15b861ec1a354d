"""
The disk: blobs and partial blobs, unpacked trees, layers, named images and
the journal.

What this room says is done is on disk, and is there after C{kill -9}.
"""
