"""
Tests for L{xferd.ctl.engine}.
"""
