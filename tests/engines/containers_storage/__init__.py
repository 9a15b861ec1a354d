"""
Tests for L{xferd.engines.containers_storage}.
"""
