"""
Tests for L{xferd.jobs.local}.
"""
