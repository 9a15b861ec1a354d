"""
Tests for L{xferd.registry.transport.urls}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.registry.transport.urls import MAX_HOST, MAX_LOCATION, Origin, resolve, with_argument
from xferd.registry.transport.zones import OutOfZone, Zone

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
            ("https://s3.example/b?k=v#part", "https://s3.example/b?k=v"),
            ("//other.example/x", "https://other.example/x"),
            ("/a b\u00e9", "https://hub.example/a%20b%C3%A9"),
        ):
            self.assertEqual(resolve(_HERE, location, Zone.PUBLIC), expected)

    def test_refused(self) -> None:
        """
        An invalid URL is refused, without quoting it.
        """
        for location in (
            "",
            "ftp://a/",
            "https://u:secret@a/",
            "https://127.0.0.1/",
            "https://10.0.0.1/",
            "https://[::ffff:169.254.169.254]/",
            "https://localhost./",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://" + "a" * (MAX_HOST + 1),
            "http://s3.example/",
            "https://[x",
            "https://a.example[2001:db8::1]/",
            "https://[2001:db8::1]a.example/",
            "http://a:b/",
            "/" + "a" * MAX_LOCATION,
        ):
            error = self.assertRaises(ValueError, resolve, _HERE, location, Zone.PUBLIC)
            self.assertNotIn("secret", str(error))
        longest = "https://" + "a" * MAX_HOST
        self.assertEqual(resolve(_HERE, longest, Zone.PUBLIC), longest)

    def test_zones(self) -> None:
        """
        A server leads to zones where it may lead, and to its own origin.
        """
        for here, location, zone in (
            ("http://127.0.0.1:5/", "http://localhost:6/", Zone.LOOPBACK),
            ("http://127.0.0.1:5/", "http://10.0.0.1/", Zone.LOOPBACK),
            ("http://hub.example/", "http://10.0.0.1/", Zone.PRIVATE),
            ("http://10.0.0.1/", "http://10.0.0.1/x", Zone.PUBLIC),
            ("http://hub.example/", "https://8.8.8.8/", Zone.PRIVATE),
        ):
            self.assertEqual(resolve(here, location, zone), location)
        for location, zone, where in (
            ("http://10.0.0.1/", Zone.PUBLIC, Zone.PRIVATE),
            ("http://127.0.0.1/", Zone.PRIVATE, Zone.LOOPBACK),
            ("http://[fe80::1]/", Zone.PRIVATE, Zone.LINK_LOCAL),
            ("http://169.254.169.254/", Zone.LOOPBACK, Zone.LINK_LOCAL),
        ):
            error = self.assertRaises(OutOfZone, resolve, "http://hub.example/", location, zone)
            self.assertIs(error.zone, where)
            self.assertEqual("private_redirects" in str(error), where is Zone.PRIVATE)

    def test_tls(self) -> None:
        """
        An https URL leads to no http URL; the error has a hint for a
        registry behind a proxy.
        """
        for here, location, hint in (
            ("https://hub.example/", "http://hub.example/x", True),
            ("https://hub.example/", "http://s3.example/x", False),
            ("https://localhost:5000/", "http://localhost:5001/", True),
        ):
            error = self.assertRaises(ValueError, resolve, here, location, Zone.LOOPBACK)
            self.assertIn("without TLS", str(error))
            self.assertEqual("X-Forwarded-Proto" in str(error), hint)

    def test_characters(self) -> None:
        """
        A host has no characters that a proxy or a resolver may take for
        others.
        """
        for host in (
            "127%2e0%2e0%2e1",
            "127%2e1",
            "%31.2",
            "a%00b",
            "a,b",
            "a*b",
            "a\\b",
            "\u2460.example",
            "a;b",
        ):
            for start in (f"https://{host}/", f"https://{host}:443/"):
                self.assertRaises(ValueError, resolve, _HERE, start, Zone.PUBLIC)
        for host in ("a_b.example", "A-b.example.", "8.8.8.8", "[2606:4700::1]", "[fe80::1%eth0]"):
            self.assertEqual(Origin.of(f"https://{host}/").host, host.strip("[]").lower())

    def test_origin(self) -> None:
        """
        The origin of an URL depends on nothing after its server.
        """
        for url in (
            "https://A.example",
            "HTTPS://a.example:443?x=@b",
            "https://a.example/@b:1",
            "https://a.example#@b",
        ):
            self.assertEqual(Origin.of(url), Origin("https", "a.example", 443))

    def test_disguised(self) -> None:
        """
        A number that stands for an address is no origin's host.
        """
        for host in ("2130706433", "0x7f000001", "127.1", "0", "0177.0.0.1"):
            self.assertIn("a number", str(self.assertRaises(ValueError, Origin.of, f"https://{host}/")))

    def test_argument(self) -> None:
        """
        An argument is added to the existing ones.
        """
        self.assertEqual(with_argument("http://a/b", "digest", "sha256:0"), "http://a/b?digest=sha256%3A0")
        self.assertEqual(with_argument("http://a/b?x=%20", "n", "1"), "http://a/b?x=%20&n=1")
