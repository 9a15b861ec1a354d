"""
Tests for L{xferd.archive}.
"""
