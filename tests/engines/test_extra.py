"""
Tests for L{xferd.engines.extra}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.extra import check_extra
from xferd.errors import ConfigError


class ExtraTests(SynchronousTestCase):
    """
    L{check_extra}.
    """

    def test_installed(self) -> None:
        """
        With the packages there is no error.
        """
        check_extra("[engines.containerd.node]")

    def test_missing(self) -> None:
        """
        Without one the error names it, the setting and the remedy.
        """

        def load(name: str) -> None:
            if name == "google.protobuf":
                raise ImportError(name)

        error = self.assertRaises(ConfigError, check_extra, "[engines.containerd.node]", load)
        self.assertEqual(
            str(error),
            "[engines.containerd.node] needs the Python package google.protobuf, which is not installed: "
            "install xferd with the extra 'engines' (pip install 'xferd[engines]')",
        )
