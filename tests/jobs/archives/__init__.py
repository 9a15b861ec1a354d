"""
Tests for L{xferd.jobs.archives}.
"""
