"""
Tests for L{xferd.fleet}.
"""
