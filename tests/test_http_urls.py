"""
Tests for L{xferd.http_urls}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.http_urls import split_url


class SplitTests(SynchronousTestCase):
    """
    Tests for L{split_url}.
    """

    def test_split(self) -> None:
        """
        Host and port are found with and without brackets and user info.
        """
        for url, host, port in (
            ("http://a.example/v2", "a.example", None),
            ("https://a.example:5000", "a.example", 5000),
            ("http://[::1]/", "::1", None),
            ("http://u:p@[::1]:5000/", "::1", 5000),
            ("http://[::1]:/", "::1", None),
        ):
            parts = split_url(url)
            self.assertEqual((parts.hostname, parts.port), (host, port), url)

    def test_not_one_host(self) -> None:
        """
        Text beside the brackets of an IPv6 address is refused, and so is a port
        that is no number.
        """
        for url in (
            "http://a.example[::1]/",
            "http://u:p[::1]:5000/",
            "http://u@a[::1]/",
            "http://[::1]a.example/",
            "http://[::1].a.example:80/",
            "http://[::1][::2]/",
            "http://a:b:c/",
            "http://a]b/",
        ):
            self.assertRaises(ValueError, split_url, url)
