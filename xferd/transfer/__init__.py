"""
The transfer engine: single flight by key, watchers that are counted, slots in a
fair order, attempts by a retry policy.

C{manager}, C{transfer} and C{watcher} are the work that jobs share;
C{attempts}, C{sources} and C{retry} are how it is repeated; C{slots} and the
modules below it (C{slot_request}, C{request_queue}, C{fair_queue},
C{host_limits}, C{lent_slot}, C{spare_slots}, C{standings}) are when it may move
bytes; C{bandwidth} is how fast, and C{adaptive_streams} in how many streams.

The engine knows keys, time and slots.  It knows nothing of HTTP, images or
disks, so that every rule in it is tested on a clock that the test advances.
"""
