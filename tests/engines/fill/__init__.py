"""
Tests for C{xferd.engines.fill}.
"""
