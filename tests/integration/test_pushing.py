"""
Pushes into Debian's registry, and its handling of interrupted uploads.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import cast

from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import TestCase

from tests.integration.peers import PASSWORD, USER, DockerRegistry, run
from xferd.credentials import Credentials, Secret
from xferd.errors import BlobUnknown, RegistryError
from xferd.interfaces.reactor import IReactor
from xferd.interfaces.registry import Pushed, UploadSession
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Document
from xferd.registry.capabilities import ChunkSizes
from xferd.registry.client import Registries
from xferd.registry.hosts.configured import HostConfig
from xferd.testing.fakes import FakeContent, FakeKeychain
from xferd.testing.images import sample_image

reactor = cast(IReactor, installed)

_SIZES = ChunkSizes(first=1 << 20, largest=2 << 20, smallest=1 << 19)
_DATA = os.urandom(5 << 20)
_DIGEST = Digest.of(_DATA)


class Stalled(FakeContent):
    """
    Content that stalls during a request.
    """

    def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
        """
        Claim that all bytes are available.
        """
        return succeed(min(size, self.size - offset))


class PushingTests(TestCase):
    """
    Pushes into Debian's registry.
    """

    async def start(self, tls: bool = False, htpasswd: bool = False) -> Registries:
        """
        Start the registry and a client of it.
        """
        server = self.server = DockerRegistry(reactor, self.mktemp(), tls=tls, htpasswd=htpasswd)
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        self.here = Repository(self.server.host, "team/a")
        config = HostConfig(ca_file=os.path.join(self.server.certificates, "ca.crt")) if tls else None
        client = Registries(
            reactor,
            wall_clock=time.time,
            hosts={self.server.host: config} if config is not None else {},
            keychain=FakeKeychain(lambda: Credentials(USER, Secret(PASSWORD)) if htpasswd else None),
            chunk_sizes=_SIZES,
        )
        self.addCleanup(client.close)
        self.remembered: list[UploadSession | None] = []
        return client

    def push(
        self,
        registries: Registries,
        content: FakeContent | None = None,
        session: UploadSession | None = None,
        path: str = "team/a",
    ) -> Deferred[Pushed]:
        """
        Push the blob.
        """
        target = registries.repository(Repository(self.server.host, path))
        content = content or FakeContent(_DATA)
        return target.push(_DIGEST, content, [self.here], session, self.remembered.append, lambda _: None)

    async def test_each_way(self) -> None:
        """
        A blob is pushed in chunks, then found to exist, then mounted; over
        plain HTTP, with a password and over TLS.
        """
        for tls, htpasswd in ((False, False), (False, True), (True, False), (True, True)):
            registries = await self.start(tls, htpasswd)
            self.assertEqual(await self.push(registries), Pushed("uploaded"))
            self.assertEqual([s and s.offset >> 20 for s in self.remembered], [0, 1, 3, 5, None])
            self.assertEqual(await self.push(registries), Pushed("exists"))
            self.assertEqual(await self.push(registries, path="team/b"), Pushed("mounted", self.here))

    async def test_broken(self) -> None:
        """
        An upload that was interrupted between two chunks is resumed, with a small chunk. One that
        was interrupted within a chunk is restarted, because the registry
        discards its session.
        """
        for content, offsets in (
            (FakeContent(_DATA, 1 << 20), [0, 1, 1, 1, 2, 3, 4, 5]),
            (Stalled(_DATA, 3 << 19), [0, 1, 0, 1, 3, 5]),
        ):
            registries = await self.start()
            work = self.push(registries, content)
            while not content.waited_for:
                turn: Deferred[None] = Deferred()
                reactor.callLater(0.01, turn.callback, None)
                await turn
            work.cancel()
            try:
                await work
            except CancelledError:
                pass
            session = self.remembered[-1]
            self.assertEqual(await self.push(registries, session=session), Pushed("uploaded"))
            self.assertEqual(offsets, [s.offset >> 20 for s in self.remembered if s is not None])

    async def test_image(self) -> None:
        """
        skopeo reads an image that was pushed, and its referrers are found by
        their tag.
        """
        registries = await self.start()
        image = sample_image(2, size=100_000)
        repository = registries.repository(self.here)
        try:
            await repository.put_manifest("1", image.document)
        except BlobUnknown as e:
            self.assertIn("names", str(e))
        else:
            self.fail("it was taken")
        for blob in image.blobs:
            content = FakeContent(blob.read())
            await repository.push(blob.digest, content, [], None, self.remembered.append, lambda _: None)
        await repository.put_manifest("1", image.document)
        into = Path(self.mktemp())
        argv = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
        await run(reactor, [*argv, f"docker://{self.here}:1", f"dir:{into}"])
        self.assertEqual((into / "manifest.json").read_bytes(), image.document.data)
        value = json.loads(image.document.data)
        abouts = []
        for kind in ("application/vnd.example.sbom", "application/vnd.example.signature"):
            subject = {"subject": image.document.descriptor.to_json(), "artifactType": kind}
            about = Document.verified(OCI_MANIFEST, json.dumps(value | subject).encode())
            await repository.put_manifest(str(about.digest), about)
            abouts.append((about.digest, kind))
        found = await repository.referrers(image.document.digest)
        self.assertEqual([(d.digest, d.artifact_type) for d in found], abouts)

    async def test_read_only(self) -> None:
        """
        The error names a registry as read-only while it is in maintenance.
        """
        os.environ["REGISTRY_STORAGE_MAINTENANCE"] = '{"readonly": {"enabled": true}}'
        self.addCleanup(os.environ.pop, "REGISTRY_STORAGE_MAINTENANCE")
        registries = await self.start()
        image = sample_image(1, size=1000)
        for work in (
            self.push(registries),
            registries.repository(self.here).put_manifest("1", image.document),
        ):
            try:
                await work
            except RegistryError as e:
                self.assertIn("read-only", str(e))
            else:
                self.fail("it was taken")
