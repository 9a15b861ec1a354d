"""
Tests for L{xferd.store.integrity}.
"""
