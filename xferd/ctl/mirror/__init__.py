"""
The daemon's registry as other container tools use it: their configuration, and
the requests that they make.
"""
