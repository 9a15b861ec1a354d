"""
Tests for L{xferd.tracing}.
"""
