"""
Tests for L{xferd.v2}.
"""
