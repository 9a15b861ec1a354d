"""
Tests for L{xferd.jobs.pull} and L{xferd.jobs.blobs.download}.
"""
