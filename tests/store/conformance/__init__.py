"""
Tests that each provider of the store's Interfaces passes: one class for each
Interface, to be mixed into a test case that sets C{store} and knows how to wait
for it.
"""
