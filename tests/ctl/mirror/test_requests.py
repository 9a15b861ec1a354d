"""
Tests for L{xferd.ctl.mirror.requests}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.mirror.fake_mirror import AMD64, FakeMirror
from xferd.ctl.mirror.requests import SCRIPTS, Answer, Pull, Request, Unusable
from xferd.media_types import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from xferd.names import Reference
from xferd.platforms import Platform

PING, HEAD, MANIFEST, BLOB = "ping", "head", "manifest", "blob"


class RequestsCase(SynchronousTestCase):
    """
    Clients of a fake mirror.
    """

    def setUp(self) -> None:
        """
        Make the mirror.
        """
        self.mirror = FakeMirror()

    def pull(self, client: str, reference: str = "lib/app:1", platform: Platform = AMD64) -> None:
        """
        Make the requests of a client.
        """
        wanted = Reference.parse(f"quay.io/{reference}")
        script = SCRIPTS[client](Pull("/v2/lib/app", "?ns=quay.io", wanted, platform))
        request = next(script)
        while True:
            try:
                request = script.send(self.mirror.answer(request))
            except StopIteration:
                return

    def spoiled(self, client: str, change: Callable[[Request, Answer], Answer]) -> str:
        """
        The reason why a client cannot use a changed answer.
        """
        self.mirror.spoil = change
        return str(self.assertRaises(Unusable, self.pull, client))


class OrderTests(RequestsCase):
    """
    The requests in their order.
    """

    def paths(self, *, head: bool, tag: bool) -> list[tuple[str, str]]:
        """
        The requests for the image, after the ping.

        @param head: whether HEAD comes first.
        @param tag: whether the index is requested by the tag.
        """
        image, index = self.mirror.image, self.mirror.index
        layer = min(image.layers, key=lambda layer: layer.blob.descriptor.size).blob.digest
        found = [("HEAD", "manifests/1")] if head else []
        wanted = ["manifests/1" if tag else f"manifests/{index.digest}", f"manifests/{image.digest}"]
        wanted += [f"blobs/{image.config.digest}", f"blobs/{layer}", f"blobs/{layer}"]
        found += [("GET", each) for each in wanted]
        return [(method, f"/v2/lib/app/{path}?ns=quay.io") for method, path in found]

    def test_containerd(self) -> None:
        """
        containerd and its relatives do not ping, and ask by digest what HEAD has found.
        """
        for client in ("containerd", "buildkit", "k3s"):
            self.mirror.requests, self.mirror.accepts = [], []
            self.pull(client)
            self.assertEqual(self.mirror.requests, self.paths(head=True, tag=False), client)
            kinds = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, "*/*")
            self.assertEqual(self.mirror.accepts[0], [", ".join(kinds)])
            self.assertEqual(self.mirror.accepts[1:3], [[f"{OCI_INDEX}, */*"], [f"{OCI_MANIFEST}, */*"]])

    def test_docker(self) -> None:
        """
        docker pings, and sends six Accept lines.
        """
        self.pull("docker")
        self.assertEqual(self.mirror.requests, [("GET", "/v2/"), *self.paths(head=True, tag=False)])
        self.assertEqual([len(lines) for lines in self.mirror.accepts], [0, 6, 6, 6, 0, 0, 0])

    def test_podman(self) -> None:
        """
        podman asks for the tag by GET alone.
        """
        self.pull("podman")
        self.assertEqual(self.mirror.requests, [("GET", "/v2/"), *self.paths(head=False, tag=True)])
        self.assertEqual([len(lines) for lines in self.mirror.accepts], [0, 6, 6, 0, 0, 0])

    def test_crane(self) -> None:
        """
        crane asks for the tag by HEAD and by GET, with one Accept line.
        """
        self.pull("crane")
        self.assertEqual(self.mirror.requests, [("GET", "/v2/"), *self.paths(head=True, tag=True)])
        self.assertEqual([len(lines) for lines in self.mirror.accepts], [0, 1, 1, 1, 0, 0, 0])

    def test_by_digest(self) -> None:
        """
        A reference with a digest of an image is requested by it.
        """
        for client in SCRIPTS:
            self.mirror.requests = []
            self.pull(client, f"lib/app@{self.mirror.image.digest}")
            paths = [path for _, path in self.mirror.requests if "manifests" in path]
            self.assertEqual(set(paths), {f"/v2/lib/app/manifests/{self.mirror.image.digest}?ns=quay.io"})


class AnswerTests(RequestsCase):
    """
    Answers that clients cannot use.
    """

    def change(self, kind: str, **more: object) -> Callable[[Request, Answer], Answer]:
        """
        A change of the answers to one kind of request.
        """

        def spoil(request: Request, answer: Answer) -> Answer:
            path = request.path.partition("?")[0]
            found = PING if path.endswith("/v2/") else path.split("/")[-2].removesuffix("s")
            found = HEAD if request.method == "HEAD" else found
            if found != kind:
                return answer
            headers = {**answer.headers, **dict(more.get("headers", {}))}  # type: ignore[call-overload]
            rest = {k: v for k, v in more.items() if k != "headers"}
            return answer._replace(headers=headers, **rest)  # type: ignore[arg-type]

        return spoil

    def test_refused(self) -> None:
        """
        An error of the mirror is quoted.
        """
        error = b'{"errors":[{"code":"X","message":"no such upstream"}]}'
        for client in SCRIPTS:
            for kind in (MANIFEST, BLOB):
                said = self.spoiled(client, self.change(kind, status=404, body=error))
                self.assertEqual(said, "the answer is 404: no such upstream", client)
        self.assertIn("500", self.spoiled("docker", self.change(PING, status=500, body=b"")))

    def test_challenged(self) -> None:
        """
        A challenge at the root is no error.
        """
        self.mirror.spoil = self.change(PING, status=401)
        self.pull("podman")

    def test_head(self) -> None:
        """
        HEAD needs the type of a manifest, a length and a digest.
        """
        for headers, words in (
            ({"content-type": "text/html"}, "'text/html' is not that of a manifest"),
            ({"content-length": "0"}, "Content-Length '0'"),
            ({"content-length": ""}, "Content-Length ''"),
            ({"docker-content-digest": ""}, "no Docker-Content-Digest"),
        ):
            for client in ("docker", "containerd", "crane"):
                self.assertIn(words, self.spoiled(client, self.change(HEAD, headers=headers)))

    def test_bodies(self) -> None:
        """
        A body has the announced length, the digest of its name, and no encoding.
        """
        for kind in (MANIFEST, BLOB):
            said = self.spoiled("containerd", self.change(kind, headers={"content-length": "7"}))
            self.assertIn("Content-Length differs", said)
            said = self.spoiled("docker", self.change(kind, headers={"content-encoding": "gzip"}))
            self.assertIn("Content-Encoding", said)
            wrong = {"content-length": "5"}
            said = self.spoiled("containerd", self.change(kind, body=b"wrong", size=5, headers=wrong))
            self.assertIn("has the digest sha256:", said)

    def test_documents(self) -> None:
        """
        A tag needs a valid manifest, and its index the platform.
        """
        html = {"content-length": "2", "content-type": OCI_INDEX}
        said = self.spoiled("podman", self.change(MANIFEST, body=b"{}", size=2, headers=html))
        self.assertIn("has schemaVersion None", said)
        self.mirror.spoil = lambda _, answer: answer
        error = self.assertRaises(Unusable, self.pull, "podman", platform=Platform("linux", "s390x"))
        self.assertIn("linux/s390x", str(error))

    def test_ranges(self) -> None:
        """
        A range needs 206 and its exact Content-Range.
        """

        def whole(request: Request, answer: Answer) -> Answer:
            return answer._replace(status=200) if answer.status == 206 else answer

        def other(request: Request, answer: Answer) -> Answer:
            if answer.status != 206:
                return answer
            return answer._replace(headers={**answer.headers, "content-range": "bytes 0-1/2"})

        for client in SCRIPTS:
            self.assertIn("the answer is 200", self.spoiled(client, whole))
            self.assertIn("the Content-Range is 'bytes 0-1/2'", self.spoiled(client, other))
