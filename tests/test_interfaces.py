"""
Tests for L{xferd.interfaces}.
"""

from inspect import getmembers

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.interface import InterfaceClass, Method

from xferd import interfaces


class InterfaceTests(SynchronousTestCase):
    """
    The Interfaces say what they promise.
    """

    def test_documented(self) -> None:
        """
        Every method and attribute of every Interface has a docstring.
        """
        ours = [
            i
            for _, i in getmembers(interfaces)
            if isinstance(i, InterfaceClass) and i.__module__ == interfaces.__name__
        ]
        self.assertGreater(len(ours), 10)
        for interface in ours:
            for name, member in interface.namesAndDescriptions():
                self.assertTrue(member.getDoc().strip(), f"{interface.__name__}.{name}")

    def test_methods_take_no_self(self) -> None:
        """
        Methods are declared as callers see them, without C{self}.
        """
        for _, interface in getmembers(interfaces):
            if isinstance(interface, InterfaceClass):
                for name, member in interface.namesAndDescriptions():
                    if isinstance(member, Method):
                        self.assertNotIn("self", member.positional, f"{interface.__name__}.{name}")
