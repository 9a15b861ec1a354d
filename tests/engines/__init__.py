"""
Tests for L{xferd.engines}.
"""
