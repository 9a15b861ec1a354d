"""
A registry with faults, a token server and fakes of the Interfaces: for xferd's own
tests, for the demo, and for the tests of programs that build on xferd.
"""
