"""
Garbage collection: the survey of everything in the data directory that is
referenced from outside, and the collector, which removes the rest.
"""
