"""
xferd's own repositories: what clients push, served from the store.
"""
