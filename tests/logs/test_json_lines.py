"""
Tests for L{xferd.logs.json_lines}.
"""

from __future__ import annotations

import json
from io import StringIO

from twisted.logger import ILogObserver, Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.logs.json_lines import JsonLines


class JsonLinesTests(SynchronousTestCase):
    """
    The log as lines of JSON.
    """

    def test_lines(self) -> None:
        """
        Each event is one line of ASCII, whatever its values are.
        """
        file = StringIO()
        observer = JsonLines(file)
        verifyObject(ILogObserver, observer)
        writer = Logger("xferd.test", observer=LogPublisher(observer))
        writer.info("{a}", a="one\ntwo\u202e", b=float("nan"), c={"d": object()})
        writer.warn("next")
        first, second = file.getvalue().splitlines()
        self.assertTrue(first.isascii())
        self.assertEqual(json.loads(first)["a"], "one\ntwo\u202e")
        self.assertEqual((json.loads(second)["message"], json.loads(second)["level"]), ("next", "warn"))
