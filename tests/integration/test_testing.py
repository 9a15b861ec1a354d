"""
The test registry with other programs' clients, and Debian's registry as a
fixture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.integration.peers import PASSWORD, USER, DockerRegistry, PeerFailed, push, require, run
from xferd.interfaces.reactor import IReactor
from xferd.platforms import Platform
from xferd.testing.images import image_of, index_of, sample_image
from xferd.testing.layers import LayerBuilder
from xferd.testing.registry import Registry
from xferd.testing.tokens import BasicGuard, TokenServer

reactor = cast(IReactor, installed)


class RequireTests(SynchronousTestCase):
    """
    Missing programs.
    """

    def test_found(self) -> None:
        """
        An installed program is found.
        """
        self.assertTrue(Path(require("sh")).is_absolute())

    def test_missing(self) -> None:
        """
        A test that needs a missing program is skipped, or fails if the
        environment requires it.
        """
        for value, error in (("0", SkipTest), ("1", AssertionError)):
            before = os.environ.get("XFERD_REQUIRE_PEERS")
            os.environ["XFERD_REQUIRE_PEERS"] = value
            try:
                caught = self.assertRaises(error, require, "no-such-program")
            finally:
                if before is None:
                    del os.environ["XFERD_REQUIRE_PEERS"]
                else:
                    os.environ["XFERD_REQUIRE_PEERS"] = before
            self.assertIn("no-such-program is not installed", str(caught))


class RunTests(TestCase):
    """
    Programs that fail.
    """

    async def test_output(self) -> None:
        """
        A program's output is its result.
        """
        self.assertEqual("hello\n", await run(reactor, ["echo", "hello"]))

    async def test_failure(self) -> None:
        """
        The error contains the command, the exit status and the output.
        """
        try:
            await run(reactor, ["sh", "-c", "echo sorry >&2; exit 3"])
        except PeerFailed as e:
            for part in ("sh -c", "ended with 3", "sorry"):
                self.assertIn(part, str(e))
        else:
            self.fail("it did not fail")


class PushAndPullTestCase(TestCase):
    """
    Shared by the tests with skopeo.
    """

    def setUp(self) -> None:
        """
        Make an image. skopeo compresses uncompressed layers, so all are
        compressed.
        """
        require("skopeo")
        kinds = ("gzip", "zstd")
        self.image = image_of(LayerBuilder(kind).file(kind, os.urandom(100_000)).finish() for kind in kinds)

    async def pull(self, host: str, *options: str) -> None:
        """
        Pull the image with skopeo, and check that each of its blobs was
        received.
        """
        into = Path(self.mktemp())
        argv = ["skopeo", "--insecure-policy", "copy", "--quiet", *options]
        await run(reactor, [*argv, f"docker://{host}/library/sample:1.0", f"dir:{into}"])
        self.assertEqual(self.image.manifest.data, (into / "manifest.json").read_bytes())
        for blob in self.image.blobs:
            self.assertEqual(blob.read(), (into / blob.digest.hex).read_bytes())

    async def assertRefused(self, pushing: Coroutine[Any, Any, None]) -> None:
        """
        Check that a push is refused without credentials.
        """
        error: Any = await self.assertFailure(Deferred.fromCoroutine(pushing), PeerFailed)
        self.assertRegex(str(error), "unauthorized|denied|authentication required")


class OurRegistryTests(PushAndPullTestCase):
    """
    skopeo with the test registry.
    """

    async def listening(self, registry: Registry) -> Registry:
        """
        Let a registry listen.
        """
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        return registry

    async def test_push_and_pull(self) -> None:
        """
        An image that skopeo pushes is stored byte for byte, and skopeo pulls
        it: each blob with one request.
        """
        registry = await self.listening(Registry(reactor, directory=Path(self.mktemp())))
        await push(reactor, self.image, f"{registry.host}/library/sample:1.0", self.mktemp())
        found = registry.storage.repositories["library/sample"].find("1.0")
        self.assertEqual(self.image.manifest, found)
        await self.pull(registry.host, "--src-tls-verify=false")
        for blob in self.image.blobs:
            self.assertEqual(blob.read(), registry.storage.blobs[blob.digest].read())
            self.assertEqual(1, registry.count("GET", blob.digest))

    async def test_inspect_index(self) -> None:
        """
        skopeo selects the right platform of an index, and lists the tags.
        """
        registry = await self.listening(Registry(reactor))
        platforms = [Platform("linux", name) for name in ("amd64", "arm64", "s390x")]
        registry.add(index_of({p: sample_image(1, seed=str(p), platform=p) for p in platforms}), "multi", "2")
        argv = ["skopeo", "--override-arch", "s390x", "inspect", "--tls-verify=false"]
        shown = json.loads(await run(reactor, [*argv, f"docker://{registry.host}/multi:2"]))
        self.assertEqual(("s390x", ["2"]), (shown["Architecture"], shown["RepoTags"]))

    async def test_basic(self) -> None:
        """
        skopeo sends its credentials to a registry that requires them.
        """
        registry = await self.listening(Registry(reactor, guard=BasicGuard({USER: PASSWORD})))
        reference = f"{registry.host}/library/sample:1.0"
        refused = push(reactor, self.image, reference, self.mktemp(), "--dest-creds=ann:wrong")
        await self.assertRefused(refused)
        await push(reactor, self.image, reference, self.mktemp(), f"--dest-creds={USER}:{PASSWORD}")
        await self.pull(registry.host, "--src-tls-verify=false", f"--src-creds={USER}:{PASSWORD}")

    async def test_token(self) -> None:
        """
        skopeo fetches tokens from the token server, to push as a user and to
        pull anonymously.
        """
        tokens = TokenServer(reactor, users={USER: PASSWORD})
        await tokens.listen(reactor)
        self.addCleanup(tokens.stop)
        registry = await self.listening(Registry(reactor, guard=tokens))
        reference = f"{registry.host}/library/sample:1.0"
        await self.assertRefused(push(reactor, self.image, reference, self.mktemp()))
        await push(reactor, self.image, reference, self.mktemp(), f"--dest-creds={USER}:{PASSWORD}")
        self.assertEqual(USER, tokens.fetches[-1].user)
        await self.pull(registry.host, "--src-tls-verify=false")
        self.assertIsNone(tokens.fetches[-1].user)


class DockerRegistryTests(PushAndPullTestCase):
    """
    skopeo with Debian's docker-registry.
    """

    async def started(self, **options: Any) -> DockerRegistry:
        """
        Start a registry.
        """
        registry = DockerRegistry(reactor, self.mktemp(), **options)
        self.addCleanup(registry.stop)
        await registry.start()
        return registry

    async def test_plain(self) -> None:
        """
        An image that was pushed can be pulled, and the log lists the requests.
        """
        registry = await self.started()
        await push(reactor, self.image, f"{registry.host}/library/sample:1.0", self.mktemp())
        await self.pull(registry.host, "--src-tls-verify=false")
        await registry.stop()
        for blob in self.image.blobs:
            self.assertEqual(1, registry.count("GET", blob.digest))
        self.assertIn(("PUT", "/v2/library/sample/manifests/1.0", 201), registry.log)

    async def test_tls_and_htpasswd(self) -> None:
        """
        It uses TLS with a certificate of its own authority, and accepts one
        user.
        """
        registry = await self.started(tls=True, htpasswd=True)
        name = f"{registry.host}/library/sample:1.0"
        known = f"--dest-creds={USER}:{PASSWORD}", f"--dest-cert-dir={registry.certificates}"
        await push(reactor, self.image, name, self.mktemp(), *known)
        await self.pull(
            registry.host, f"--src-creds={USER}:{PASSWORD}", f"--src-cert-dir={registry.certificates}"
        )
        await registry.stop()
        self.assertIn(401, {status for _, _, status in registry.log})

    async def test_stopped_twice(self) -> None:
        """
        A registry that has ended, or was never started, can be stopped.
        """
        registry = await self.started()
        await registry.stop()
        await registry.stop()
        never = DockerRegistry(reactor, self.mktemp())
        await never.stop()
        self.assertEqual("", never.host)
