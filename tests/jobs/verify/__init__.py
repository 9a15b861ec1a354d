"""
Tests for L{xferd.jobs.verify}.
"""
