"""
Disk space for jobs: the quota, reservations, and waiting while the disk is full.
"""
