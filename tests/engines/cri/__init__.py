"""
Tests for C{xferd.engines.cri}.
"""
