"""
Tests for L{xferd.unpack.tree_writer}, L{xferd.unpack.directories} and
L{xferd.unpack.metadata}.
"""
