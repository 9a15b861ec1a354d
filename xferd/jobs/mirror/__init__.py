"""
The mirror: content of upstream registries for clients of xferd's own registry,
from the store or fetched while it is read.
"""
