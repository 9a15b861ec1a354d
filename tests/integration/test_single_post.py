"""
Small blobs in the request that begins an upload, sent to real registries.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.integration.peers import DockerRegistry, Registry3, require
from tests.integration.places import free_port
from tests.integration.programs import Xferd
from xferd.errors import DigestMismatch
from xferd.interfaces.reactor import IReactor
from xferd.interfaces.registry import IRepository, Pushed
from xferd.names import Digest, Repository
from xferd.registry.client import Registries
from xferd.testing.fakes import FakeContent, FakeKeychain

reactor = cast(IReactor, installed)


class SinglePostTests(TestCase):
    """
    Registries that accept such a request, and registries that do not.
    """

    def setUp(self) -> None:
        """
        Make a client.
        """
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        self.registries = Registries(
            reactor, wall_clock=time.time, hosts={}, keychain=FakeKeychain(lambda: None)
        )
        self.addCleanup(self.registries.close)

    async def push(self, host: str, path: str) -> IRepository:
        """
        Push small blobs; the registry has each of them afterwards.
        """
        target = self.registries.repository(Repository(host, path))
        for number in range(20):
            data = os.urandom(1000 + number)
            pushed = await self._push(target, Digest.of(data), data)
            self.assertEqual(pushed, Pushed("uploaded"))
            self.assertEqual(await target.confirm(Digest.of(data)), len(data))
        return target

    def _push(self, target: IRepository, digest: Digest, data: bytes) -> Deferred[Pushed]:
        return target.push(digest, FakeContent(data), [], None, lambda _: None, lambda _: None)

    async def wrong(self, target: IRepository) -> None:
        """
        A blob with the wrong digest is refused.
        """
        try:
            await self._push(target, Digest.of(b"another"), b"one")
        except DigestMismatch:
            return
        self.fail("it was accepted")

    def _single_post(self, host: str) -> bool | None:
        return self.registries._context.capabilities.of(host).single_post

    async def test_xferd(self) -> None:
        """
        xferd's own registry accepts it.
        """
        port = free_port()
        options = ("--registry", f"tcp:{port}:interface=127.0.0.1")
        daemon = Xferd(reactor, str(self.place / "x"), *options)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        host = f"127.0.0.1:{port}"
        await self.wrong(await self.push(host, "local/app"))
        self.assertIs(self._single_post(host), True)

    async def test_distribution(self) -> None:
        """
        Debian's registry, Distribution 2, begins a session.  Bodies are sent in vain once.
        """
        await self._check_distribution(DockerRegistry(reactor, str(self.place / "registry")))

    async def test_later_distribution(self) -> None:
        """
        So does Distribution 3.
        """
        await self._check_distribution(Registry3(reactor, str(self.place / "registry")))

    async def _check_distribution(self, registry: DockerRegistry) -> None:
        require(registry.program)
        await registry.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(registry.stop()))
        await self.wrong(await self.push(registry.host, "team/app"))
        self.assertIs(self._single_post(registry.host), False)
        await registry.stop()
        posts = [path for method, path, _ in registry.log if method == "POST"]
        self.assertEqual(len([path for path in posts if "?digest=" in path]), 1)
