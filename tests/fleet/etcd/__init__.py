"""
Tests for L{xferd.fleet.etcd}.
"""
