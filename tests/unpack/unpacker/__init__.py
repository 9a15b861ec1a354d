"""
Tests for L{xferd.unpack.unpacker} and L{xferd.unpack.layer_task}.
"""
