"""
xferd moves container images between registries and a local store, for many
clients at once, and moves every byte once.
"""
