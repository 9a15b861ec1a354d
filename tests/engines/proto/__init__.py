"""
Tests for C{xferd.engines.proto}, and how its modules are made.
"""
