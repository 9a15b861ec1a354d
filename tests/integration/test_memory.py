"""
The data that the daemon keeps in memory of a job that has ended.
"""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast
from weakref import ref

from attrs import evolve
from twisted.internet import reactor as installed
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from xferd.config import Config
from xferd.credentials import Credentials, Secret
from xferd.interfaces.reactor import IReactor
from xferd.service import Daemon
from xferd.testing.faults import Stall
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry
from xferd.testing.tokens import TokenServer

reactor = cast(IReactor, installed)

PATIENCE = 60.0
"""Seconds after which a test that waits fails."""


class CredentialsTests(TestCase):
    """
    Credentials that clients sent.
    """

    sharing = "shared"

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start a registry for one user, a public one, and a daemon in this
        process.
        """
        tokens = TokenServer(reactor, users={"me": "hunter2"}, anonymous=False)
        await tokens.listen(reactor)
        self.addCleanup(tokens.stop)
        self.registry = Registry(reactor, guard=tokens)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)
        self.registry.add(sample_image(2, 1000), "team/app", "1")
        self.other = Registry(reactor)
        await self.other.listen(reactor)
        self.addCleanup(self.other.stop)
        place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, place)
        config = evolve(
            Config.default({"HOME": place}, os.geteuid()),
            data_dir=str(Path(place, "data")),
            socket="",
            sharing=self.sharing,
            listen=("tcp:0:interface=127.0.0.1",),
        )
        self.daemon = Daemon(config, reactor, wall_clock=time.time)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.daemon.privilegedStartService()
        self.daemon.startService()
        self.addCleanup(self.daemon.stopService)

    async def ended(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        A job, once it has ended.
        """
        deadline = reactor.seconds() + PATIENCE
        while True:
            found = self.daemon.jobs.get(job["id"])
            if found["state"] not in ("queued", "running"):
                return found
            self.assertLess(reactor.seconds(), deadline)
            await deferLater(reactor, 0.02)

    async def test_forgotten(self) -> None:
        """
        No job, transfer or registry refers to them once the job has ended, with
        or without an error.
        """
        reference = f"{self.registry.host}/team/app:1"
        copy = f"{self.registry.host}/team/other:1"
        for password, state in (("hunter2", "done"), ("wrong", "failed")):
            credentials = Credentials("me", Secret(password))
            held = ref(credentials)
            brought = {self.registry.host: credentials}
            jobs = [
                self.daemon.jobs.pull(reference, None, "ci", 0, brought),
                self.daemon.jobs.copy(reference, copy, None, False, "ci", 0, brought),
            ]
            del credentials, brought
            for job in jobs:
                self.assertEqual((await self.ended(job))["state"], state)
            await self.gone(held)

    async def gone(self, held: ref[Credentials]) -> None:
        """
        Wait until no object refers to some credentials.
        """
        deadline = reactor.seconds() + PATIENCE
        while held() is not None and reactor.seconds() < deadline:
            await deferLater(reactor, 0.05)
            gc.collect()
        self.assertIsNone(held(), [type(r) for r in gc.get_referrers(held())])

    async def test_of_every_kind(self) -> None:
        """
        The same holds for pushes and exports, and for jobs that are cancelled
        during a layer, also while a client that follows all events does not
        read.
        """
        host = self.registry.host
        stream = self.daemon.jobs.events(None)
        self.addCleanup(stream.close)
        large = sample_image(1, 3_000_000, seed="large")
        self.registry.add(large, "team/large", "1")
        self.registry.faults.plant(Stall(50_000), str(large.layers[0].blob.digest), times=None)
        credentials = Credentials("me", Secret("hunter2"))
        held = ref(credentials)
        brought = {host: credentials}
        del credentials
        pull = self.daemon.jobs.pull(f"{host}/team/app:1", None, "ci", 0, brought)
        self.assertEqual((await self.ended(pull))["state"], "done")
        push = self.daemon.jobs.push(f"{host}/team/app:1", f"{host}/team/new:1", (), None, "ci", 0, brought)
        self.assertEqual((await self.ended(push))["state"], "done")
        archive = await self.daemon.jobs.export(f"{host}/team/app:1", "oci", "ci", brought)
        archive.close()
        del archive
        reference = f"{host}/team/large:1"
        jobs = [
            self.daemon.jobs.pull(reference, None, "ci", 0, brought),
            # Within one registry the layer would be mounted, and the copy would end at once.
            self.daemon.jobs.copy(reference, f"{self.other.host}/team/b:1", None, False, "ci", 0, brought),
        ]
        del brought
        await self.moving(jobs[0])
        for job in jobs:
            self.daemon.jobs.cancel(job["id"])
        for job in jobs:
            self.assertEqual((await self.ended(job))["state"], "cancelled")
        await self.gone(held)

    async def moving(self, job: Mapping[str, Any]) -> None:
        """
        Wait until some bytes of a job are transferred.
        """
        deadline = reactor.seconds() + PATIENCE
        while self.daemon.jobs.get(job["id"])["bytes_done"] < 40_000:
            self.assertLess(reactor.seconds(), deadline)
            await deferLater(reactor, 0.02)


class IsolatedTests(CredentialsTests):
    """
    The same with isolated clients.
    """

    sharing = "isolated"
