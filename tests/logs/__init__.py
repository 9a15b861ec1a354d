"""
Tests for L{xferd.logs}.
"""
