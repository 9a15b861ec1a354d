"""
Tests for L{xferd.registry.transport.proxies}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import ConfigError
from xferd.registry.transport.proxies import Proxies, Proxy, ProxySettings


class ProxyTests(SynchronousTestCase):
    """
    L{Proxy.parse} reads a proxy's URL.
    """

    def test_forms(self) -> None:
        """
        A scheme and a port may be missing; a password may be quoted.
        """
        for text, scheme, name, secret in (
            ("http://p.example:3128", "http", "p.example:3128", ""),
            ("p.example:3128", "http", "p.example:3128", ""),
            ("https://p.example/", "https", "p.example:443", ""),
            ("http://[::1]", "http", "[::1]:80", ""),
            ("http://a:b%40c@p", "http", "p:80", "Basic YTpiQGM="),
            ("a@p:1", "http", "p:1", "Basic YTo="),
        ):
            proxy = Proxy.parse(text, "here")
            self.assertEqual((proxy.scheme, proxy.name, proxy.authorization.reveal()), (scheme, name, secret))

    def test_refused(self) -> None:
        """
        What cannot be used is refused, without its password.
        """
        for text in (
            "socks5://a:hunter2@p",
            "http://",
            "http://a:hunter2@p:x",
            "http://a:hunter2@p/x",
            "http://a:hunter2[::1]",
        ):
            error = str(self.assertRaises(ConfigError, Proxy.parse, text, "HTTPS_PROXY"))
            self.assertIn("HTTPS_PROXY", error)
            self.assertNotIn("hunter2", error)

    def test_secret(self) -> None:
        """
        A password is not shown.
        """
        settings = ProxySettings(https="http://a:hunter2@p")
        used = f"{settings!r} {Proxy.parse(settings.https, '')!r}"
        self.assertNotIn("hunter2", used)
        self.assertNotIn("YTpodW50ZXIy", used)


class FindTests(SynchronousTestCase):
    """
    L{Proxies.find} knows which proxy leads to a server.
    """

    def test_environment(self) -> None:
        """
        Each scheme has its own, in capitals or not; C{ALL_PROXY} is for the
        rest.
        """
        proxies = Proxies(
            ProxySettings.from_environ(
                {"https_proxy": "s:1", "ALL_PROXY": "a:2", "NO_PROXY": "x.test, y.test"}
            )
        )
        for scheme, host, name in (("https", "r.test", "s:1"), ("http", "r.test", "a:2")):
            found = proxies.find(scheme, host, 443)
            assert found is not None
            self.assertEqual(found.name, name)
        self.assertIsNone(proxies.find("https", "y.test", 443))
        self.assertEqual(ProxySettings.from_environ({}), ProxySettings())
        self.assertIsNone(Proxies(ProxySettings()).find("https", "r.test", 443))

    def test_loopback(self) -> None:
        """
        Hosts on this machine are reached without a proxy.
        """
        proxies = Proxies(ProxySettings(https="p:1", http="p:1"))
        for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1", "a.localhost"):
            self.assertIsNone(proxies.find("https", host, 5000))

    def test_no_proxy(self) -> None:
        """
        Hosts, their subdomains, addresses and networks, with ports or without,
        are excepted.
        """
        for item, meant, others in (
            ("a.test", [("a.test", 1), ("b.a.test", 1), ("A.TEST", 1)], [("ba.test", 1), ("test", 1)]),
            (".a.test", [("b.a.test", 1)], [("a.test", 1)]),
            ("*.a.test", [("b.a.test", 1)], [("a.test", 1)]),
            ("a.test:5", [("a.test", 5), ("b.a.test", 5)], [("a.test", 6)]),
            ("10.1.2.3", [("10.1.2.3", 1)], [("10.1.2.4", 1), ("x.test", 1)]),
            ("10.1.2.3:5", [("10.1.2.3", 5)], [("10.1.2.3", 6)]),
            ("10.0.0.0/8", [("10.1.2.3", 1)], [("11.0.0.1", 1), ("fd00::1", 1)]),
            ("fd00::/8", [("fd00::1", 1)], [("fe80::1", 1)]),
            ("[fd00::1]:5", [("fd00::1", 5)], [("fd00::1", 6)]),
            ("*", [("a.test", 1), ("10.1.2.3", 1)], []),
            (" ", [], [("a.test", 1)]),
            (":5", [], [("a.test", 5)]),
        ):
            proxies = Proxies(ProxySettings(https="p:1", no_proxy=(item,)))
            for host, port in meant:
                self.assertIsNone(proxies.find("https", host, port), (item, host, port))
            for host, port in others:
                self.assertIsNotNone(proxies.find("https", host, port), (item, host, port))

    def test_bad(self) -> None:
        """
        A setting that is no proxy is named.
        """
        error = self.assertRaises(ConfigError, Proxies, ProxySettings(http="socks5://p"))
        self.assertIn("proxy.http (HTTP_PROXY) names a proxy that speaks socks5", str(error))
