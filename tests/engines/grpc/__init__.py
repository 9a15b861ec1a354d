"""
Tests for C{xferd.engines.grpc}.
"""
