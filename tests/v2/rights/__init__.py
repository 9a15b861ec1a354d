"""
Tests for L{xferd.v2.rights}.
"""
