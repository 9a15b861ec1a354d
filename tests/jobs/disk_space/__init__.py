"""
Tests for L{xferd.jobs.disk_space}.
"""
