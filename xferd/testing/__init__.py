"""
A registry with faults, a token server and fakes of our Interfaces: for our own
tests, for the demo, and for the tests of whoever builds on xferd.
"""
