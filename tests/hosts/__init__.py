"""
Tests for L{xferd.hosts}.
"""
