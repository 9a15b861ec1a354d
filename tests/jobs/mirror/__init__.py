"""
Tests for L{xferd.jobs.mirror}.
"""
