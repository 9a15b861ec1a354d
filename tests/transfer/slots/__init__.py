"""
Tests for L{xferd.transfer.slots}.
"""
