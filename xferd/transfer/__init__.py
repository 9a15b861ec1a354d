"""
Shared work: single flight by key, watchers that are counted, slots that are
fair, retries that are data.

This room knows keys, time and slots.  It knows nothing of HTTP, images or
disks, and so every rule in it is tested on a clock that the test winds.
"""
