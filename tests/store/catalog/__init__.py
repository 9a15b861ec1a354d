"""
Tests for L{xferd.store.catalog}.
"""
