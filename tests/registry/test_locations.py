"""
Tests for L{xferd.registry.locations}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.registry.locations import MAX_LOCATION, resolve, with_argument

_HERE = "https://hub.example/v2/a/blobs/uploads/"


class LocationTests(SynchronousTestCase):
    """
    A C{Location} may be anything.
    """

    def test_resolved(self) -> None:
        """
        Absolute, relative, elsewhere; its query stays as it is, and what no
        URL may hold is escaped.
        """
        for location, expected in (
            ("/v2/a/blobs/uploads/1?s=a%2Fb+c", "https://hub.example/v2/a/blobs/uploads/1?s=a%2Fb+c"),
            ("1?x", "https://hub.example/v2/a/blobs/uploads/1?x"),
            ("?x=1", "https://hub.example/v2/a/blobs/uploads/?x=1"),
            ("http://s3.example/b?k=v#part", "http://s3.example/b?k=v"),
            ("//other.example/x", "https://other.example/x"),
            ("/a b\u00e9", "https://hub.example/a%20b%C3%A9"),
        ):
            self.assertEqual(resolve(_HERE, location), expected)

    def test_refused(self) -> None:
        """
        What is no place to go to is refused, without quoting it.
        """
        for location in (
            "",
            "ftp://a/",
            "https://u:secret@a/",
            "http://127.0.0.1/",
            "https://[x",
            "http://a:b/",
            "/" + "a" * MAX_LOCATION,
        ):
            error = self.assertRaises(ValueError, resolve, _HERE, location)
            self.assertNotIn("secret", str(error))
        self.assertEqual(resolve("http://127.0.0.1:5/", "http://localhost:6/"), "http://localhost:6/")

    def test_argument(self) -> None:
        """
        An argument joins those that are there.
        """
        self.assertEqual(with_argument("http://a/b", "digest", "sha256:0"), "http://a/b?digest=sha256%3A0")
        self.assertEqual(with_argument("http://a/b?x=%20", "n", "1"), "http://a/b?x=%20&n=1")
