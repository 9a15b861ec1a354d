"""
Tests for L{xferd.jobs.blobs.upload_source}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.interfaces.transfer import ISource
from xferd.jobs.blobs.reader import BlobReader
from xferd.jobs.blobs.upload_source import UploadSource
from xferd.testing.fakes import FakeRegistry


class UploadSourceTests(SynchronousTestCase):
    """
    A target with a content.
    """

    def test_identity(self) -> None:
        """
        Two are alike if they go to the same place and come from the same one.
        """
        clock = Clock()
        here, there = FakeRegistry("here.example", clock), FakeRegistry("there.example", clock)

        def upload_source(source: FakeRegistry, path: str) -> UploadSource:
            target = there.repository("app")
            return UploadSource(target, self.content, source.repository(path))

        one = upload_source(here, "app")
        verifyObject(ISource, one)
        self.assertEqual((one.host, one.label), ("there.example", "there.example/app"))
        self.assertEqual(one.identity, upload_source(here, "app").identity)
        self.assertNotEqual(one.identity, upload_source(here, "other").identity)
        self.assertNotEqual(one.identity, upload_source(there, "app").identity)

    def content(self) -> BlobReader:
        """
        Nothing opens it here.
        """
        raise AssertionError("it was opened")
