"""
Tests for L{xferd.store.incoming}.
"""
