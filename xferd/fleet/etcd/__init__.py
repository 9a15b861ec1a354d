"""
The coordination of a fleet by etcd, through its JSON gateway (etcd 3.4 and later).

Messages and records are pure.  The client makes requests; the batches send
operations together; session, announcements and pauses each keep one part of what
etcd knows; the coordination is the whole.
"""
