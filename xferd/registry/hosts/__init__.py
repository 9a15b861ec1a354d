"""
The configuration of registries by host: C{[hosts]} of xferd's own file, and the
C{certs.d} directories that containerd and docker read.
"""
