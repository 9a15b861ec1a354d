"""
From a layer's compressed tar to a directory tree that overlayfs can mount, in
worker processes that follow a growing file.

Everything in a layer is hostile until checked.  The worker's side imports no
Twisted and runs with no more rights than it needs.
"""
