"""
Tests for L{xferd.jobs.isolation}, and for sources and credentials of several
clients.
"""
