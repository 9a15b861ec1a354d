"""
The upload sessions of clients that push blobs: their files, and their rows in the
journal's database.
"""
