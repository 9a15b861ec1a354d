"""
The jobs of the daemon: pulls, pushes, copies, imports and exports of images.

L{Jobs<xferd.jobs.manager.Jobs>} answers clients, C{runner} runs their jobs, and
C{transfers} owns what the jobs share.  Each kind of job has a module or package:
C{pull}, C{push}, C{copy}, C{archives}.  They are made of the documents and graphs
in C{images}, the layers and blobs in C{blobs}, and the reservations in
C{disk_space}; C{events} has the streams of what changes.  Registries, the store
and the unpacker are reached by their Interfaces alone.
"""
