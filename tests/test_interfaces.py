"""
Tests for the zope Interfaces of the package.
"""

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.interface import Method

from tests.test_modules import interfaces


class InterfaceTests(SynchronousTestCase):
    """
    Every zope Interface of the package.
    """

    def test_documented(self) -> None:
        """
        Every method and attribute of every Interface has a docstring.
        """
        found = interfaces()
        self.assertGreater(len(found), 20)
        for interface in found:
            for name, member in interface.namesAndDescriptions():
                self.assertTrue(member.getDoc().strip(), f"{interface.__name__}.{name}")

    def test_methods_take_no_self(self) -> None:
        """
        Methods are declared as callers see them, without C{self}.
        """
        for interface in interfaces():
            for name, member in interface.namesAndDescriptions():
                if isinstance(member, Method):
                    self.assertNotIn("self", member.positional, f"{interface.__name__}.{name}")
