"""
Content on the disk is compared with what it should be; what is damaged is moved into
C{quarantine/}.
"""
