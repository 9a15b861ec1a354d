"""
Tests for L{xferd.store.blobs.partials} and L{xferd.store.blobs.partial_file}.
"""
