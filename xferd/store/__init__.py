"""
The data directory: the blobs, trees, layers and named images of one daemon,
and its journal.

L{store} opens the directory and joins the parts; L{paths} names every file in
it.  C{blobs/}, C{trees/}, L{layers} and C{images/} hold one kind of content
each; L{leases} and C{gc/} decide what is removed.  L{journal} is the SQLite
database.  C{disk/} has the operations on the file system, and L{threads} runs
what blocks.

A result that the store has reported survives C{kill -9} and a power failure:
files are flushed, renamed, and their directory is flushed.
"""
