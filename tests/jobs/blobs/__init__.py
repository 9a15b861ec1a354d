"""
Tests for L{xferd.jobs.blobs}.
"""
