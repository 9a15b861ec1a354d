"""
The whole daemon but for the wire and the disk, on a fake clock, driven by a seed.
"""
