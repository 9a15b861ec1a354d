"""
The commands of C{xferctl}: each module holds the commands that belong together.
"""
