"""
Tests for L{xferd.transfer.attempts}.
"""
