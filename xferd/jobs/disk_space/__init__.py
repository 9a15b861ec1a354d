"""
The bytes that jobs may write: quota, reservations, and waiting while the disk
is full.
"""
