"""
Tests for L{xferd.jobs.request}.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from xferd.archive.contents import Contents, StoredFile
from xferd.jobs.request import Request
from xferd.names import Digest


class RequestTests(SynchronousTestCase):
    """
    What begins a job again.
    """

    def test_over_json(self) -> None:
        """
        All members survive JSON, and those of a newer xferd are ignored.
        """
        contents = Contents()
        contents.documents = {"index.json": b"\xff{}"}
        contents.files = {"blobs/sha256/x": StoredFile(Digest.of(b"x"), 1, b"x")}
        contents.links = {"a": "b"}
        request = Request(
            priority=3,
            owner="user 1",
            hosts=("r.example",),
            tags=("1", "2"),
            referrers=True,
            named=False,
            wanted="app",
            size=10,
            contents=contents,
        )
        values = {**json.loads(json.dumps(dict(request.to_json()))), "newer": 1}
        again = Request.from_json(values)
        self.assertEqual(again.to_json(), request.to_json())
        self.assertEqual((again.tags, again.hosts), (request.tags, request.hosts))
        assert again.contents is not None
        self.assertEqual(again.contents.files, contents.files)
        self.assertEqual(again.contents.documents, contents.documents)

    def test_older(self) -> None:
        """
        Members that an older xferd did not record have their defaults.
        """
        self.assertEqual(Request.from_json({}), Request())
