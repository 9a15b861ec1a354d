"""
Tests for L{xferd.ctl.mirror.check}, with a server.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.mirror.fake_mirror import AMD64, FakeMirror, MirrorServer
from xferd.ctl.errors import ClientError
from xferd.ctl.mirror.check import Checked, check
from xferd.ctl.mirror.requests import SCRIPTS
from xferd.ctl.mirror.served import Served, Upstream
from xferd.names import Reference

UPSTREAMS = (Upstream("docker.io"), Upstream("lan:5000", "lan"), Upstream("bare:5000"))


class CheckTests(SynchronousTestCase):
    """
    The requests of clients, over HTTP.
    """

    def setUp(self) -> None:
        """
        Start the mirror.
        """
        self.mirror = FakeMirror()
        self.server = MirrorServer(self.mirror)
        self.server.start()
        self.addCleanup(self.server.stop)
        self.served = Served("http", self.server.authority, "docker.io", UPSTREAMS)

    def check(self, client: str, reference: str = "alpine:3") -> list[Checked]:
        """
        Check one client.
        """
        return list(check(client, self.served, Reference.parse(reference), AMD64))

    def test_content(self) -> None:
        """
        Every client can pull, and each request is reported.
        """
        for client in SCRIPTS:
            self.mirror.requests = []
            found = self.check(client)
            self.assertEqual([(c.method, c.path) for c in found], self.mirror.requests)
            self.assertEqual({(c.client, c.problem) for c in found}, {(client, "")})
            self.assertEqual(found[-1].status, 206)

    def test_paths(self) -> None:
        """
        Each client names the upstream in its own way.
        """
        other = self.served._replace(default="", upstreams=(Upstream("docker.io", "hub"),))
        for served, client, reference, path in (
            (self.served, "docker", "alpine:3", "/v2/library/alpine/manifests/3"),
            (self.served, "containerd", "lan:5000/a:1", "/v2/a/manifests/1?ns=lan:5000"),
            (self.served, "buildkit", "bare:5000/a:1", "/v2/a/manifests/1?ns=bare:5000"),
            (self.served, "podman", "lan:5000/a:1", "/v2/lan/a/manifests/1"),
            (other, "crane", "alpine:3", "/v2/hub/library/alpine/manifests/3"),
        ):
            self.served = served
            found = [c.path for c in self.check(client, reference) if "/manifests/" in c.path]
            self.assertEqual(found[0], path)

    def test_problem(self) -> None:
        """
        The first answer that a client cannot use ends its requests.
        """
        self.mirror.spoil = lambda request, answer: (
            answer._replace(status=404) if "/blobs/" in request.path else answer
        )
        found = self.check("podman")
        self.assertEqual([bool(c.problem) for c in found], [False] * 3 + [True])
        self.assertEqual((found[-1].status, found[-1].problem), (404, "the answer is 404"))

    def test_no_answer(self) -> None:
        """
        A mirror that does not answer is a problem of the first request.
        """
        self.served = self.served._replace(authority="127.0.0.1:1")
        (found,) = self.check("crane")
        self.assertEqual(found.status, 0)
        self.assertIn("no answer: connection refused", found.problem)

    def test_token(self) -> None:
        """
        Where the registry wants a token, that of an anonymous client is fetched.
        """
        self.mirror.token = "secret"
        found = self.check("containerd")
        self.assertEqual({c.problem for c in found}, {""})
        self.assertEqual(self.server.scopes, ["service=here&scope=repository%3Aa%2Fb%3Apull"])

    def test_refused(self) -> None:
        """
        A client that cannot name the upstream is refused before any request.
        """
        for client, reference, words in (
            ("containerd", "ghcr.io/a/b", "ghcr.io is not one of the daemon's upstreams"),
            ("docker", "lan:5000/a", "mirrors Docker Hub alone"),
            ("podman", "bare:5000/a", "podman needs an alias for bare:5000: set it in [registry.upstreams."),
        ):
            self.assertIn(words, str(self.assertRaises(ClientError, self.check, client, reference)))
        self.served = self.served._replace(default="")
        refused = self.assertRaises(ClientError, self.check, "docker")
        self.assertIn('set registry.default = "docker.io"', str(refused))
        self.assertEqual(self.mirror.requests, [])
