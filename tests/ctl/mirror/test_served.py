"""
Tests for L{xferd.ctl.mirror.served}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.errors import ClientError, NotXferd
from xferd.ctl.mirror.served import Upstream, read_served

FOUND: Mapping[str, Any] = {
    "listen": ["tcp:5000:interface=127.0.0.1"],
    "urls": ["http://127.0.0.1:5000", "https://mirror.example"],
    "default": "docker.io",
    "any_public": False,
    "upstreams": [{"host": "docker.io", "alias": ""}, {"host": "registry.lan:5000", "alias": "lan"}],
    "local": ["local/"],
}


class ServedTests(SynchronousTestCase):
    """
    The daemon's description of its registry.
    """

    def refused(self, found: Mapping[str, Any], **more: Any) -> str:
        """
        The message for a description that cannot be used.
        """
        return str(self.assertRaises(ClientError, read_served, found, **more))

    def test_read(self) -> None:
        """
        The first URL is used, and all upstreams.
        """
        served = read_served(FOUND)
        self.assertEqual((served.url, served.is_plain), ("http://127.0.0.1:5000", True))
        self.assertEqual(served.default, "docker.io")
        self.assertEqual(served.upstreams, (Upstream("docker.io"), Upstream("registry.lan:5000", "lan")))
        self.assertEqual(served.hub, Upstream("docker.io"))

    def test_component(self) -> None:
        """
        A name can begin with an alias, or with a host that is a legal component.
        """
        for upstream, component in (
            (Upstream("docker.io"), "docker.io"),
            (Upstream("docker.io", "hub"), "hub"),
            (Upstream("lan:5000"), None),
            (Upstream("lan:5000", "lan"), "lan"),
        ):
            self.assertEqual(upstream.component, component)

    def test_chosen(self) -> None:
        """
        The user can name the URL and the upstreams; Docker Hub has several names.
        """
        served = read_served(FOUND, url="https://[::1]:5000/", upstreams=["index.docker.io"])
        self.assertEqual((served.url, served.is_plain), ("https://[::1]:5000", False))
        self.assertEqual(served.upstreams, (Upstream("docker.io"),))
        self.assertIsNone(read_served(FOUND, upstreams=["registry.lan:5000"]).hub)

    def test_any(self) -> None:
        """
        A daemon that mirrors any registry is used for Docker Hub, or for those that the user
        names.
        """
        found = {**FOUND, "any_public": True, "upstreams": []}
        self.assertEqual(read_served(found).upstreams, (Upstream("docker.io"),))
        self.assertEqual(read_served(found, upstreams=["ghcr.io"]).upstreams, (Upstream("ghcr.io"),))

    def test_none(self) -> None:
        """
        Without a registry, the error names the option that starts one.
        """
        self.assertIn("--registry tcp:5000:interface=127.0.0.1", self.refused({**FOUND, "listen": []}))

    def test_unknown_port(self) -> None:
        """
        Where the daemon does not know its port, the user names the URL.
        """
        found = {**FOUND, "urls": []}
        self.assertIn("--url", self.refused(found))
        self.assertEqual(read_served(found, url="http://h:1").authority, "h:1")

    def test_upstreams_refused(self) -> None:
        """
        A registry that the daemon does not mirror is refused with its setting, and text that is no
        host is refused.
        """
        self.assertIn('[registry.upstreams."ghcr.io"]', self.refused(FOUND, upstreams=["ghcr.io"]))
        for name in ("ghcr", "ghcr.io/a", "a b.io", "", "..", "ghcr.io:x"):
            self.assertIn("is not the host of a registry", self.refused(FOUND, upstreams=[name]), name)
        self.assertIn("no upstream", self.refused({**FOUND, "upstreams": []}))

    def test_urls_refused(self) -> None:
        """
        A URL has a scheme and an authority, and nothing else.
        """
        for url in (
            "127.0.0.1:5000",
            "ftp://h:1",
            "http://",
            "http://h:1/path",
            "http://u@h:1",
            "http://h:1?q",
            "http://h:x",
            'http://h"\n:1',
        ):
            self.assertIn("is not the URL of a registry", self.refused(FOUND, url=url), url)

    def test_malformed(self) -> None:
        """
        An answer that is not one of xferd's is refused: its text goes into files.
        """
        changes: list[dict[str, Any]] = [
            {"listen": None},
            {"listen": [1]},
            {"urls": "http://h:1"},
            {"default": '"\n'},
            {"default": 5},
            {"upstreams": {}},
            {"upstreams": ["docker.io"]},
            {"upstreams": [{"host": '"\n', "alias": ""}]},
            {"upstreams": [{"host": "docker.io", "alias": '"'}]},
            {"upstreams": [{"host": "docker.io"}]},
        ]
        for change in changes:
            self.assertRaises(NotXferd, read_served, {**FOUND, **change})
