"""
Tests for L{xferd.jobs.events.stream}.
"""
