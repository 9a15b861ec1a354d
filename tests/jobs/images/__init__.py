"""
Tests for L{xferd.jobs.images}.
"""
