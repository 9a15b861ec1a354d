"""
Images in files: the tar archives that other tools load and save, taken apart
as their bytes come, told apart by what is in them, and put together.  Pure:
no I/O, no Twisted.
"""
