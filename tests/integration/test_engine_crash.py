"""
The snapshotter and the daemon are killed while an engine makes, commits and removes
snapshots.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any, cast
from unittest import SkipTest

from google.protobuf.empty_pb2 import Empty
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.programs import Xferd
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.grpc.status import GrpcError
from xferd.engines.proto import snapshots_pb2 as messages
from xferd.engines.snapshotter.calls import SERVICE
from xferd.interfaces.reactor import IReactor

reactor = cast(IReactor, installed)

ROUNDS = 5
AT_ONCE = 12


class CrashTests(TestCase):
    """
    An engine that calls, and a daemon that is killed.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start the daemon.
        """
        if os.geteuid() != 0:
            raise SkipTest("snapshots need root")
        self.chance = Random(14)
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        self.socket = str(self.place / "engine.sock")
        self.settings = self.place / "xferd.toml"
        self.settings.write_text(f'[engines.containerd.main]\nsocket = "{self.socket}"\n')
        # What the engine knows: the state of each key after the last call that was answered, and the
        # states that calls without an answer may have led to.
        self.known: dict[str, str] = {}
        self.possible: dict[str, set[str]] = {}
        self.mounts: dict[str, Sequence[str]] = {}
        self.numbers = 0

    async def call(self, name: str, request: Any, answer: Any) -> Any:
        """
        Make a call.
        """
        return await self.client.unary(f"/{SERVICE}/{name}", request, answer)

    async def use(self) -> None:
        """
        Make snapshots, commit some and remove some, until the daemon does not answer.
        """
        while True:
            self.numbers += 1
            key = f"default/{self.numbers}/a b"
            parents = [name for name, state in self.known.items() if state == "committed"]
            parent = self.chance.choice([*parents[-5:], ""])
            self.possible[key] = {"absent", "active"}
            made = await self.call(
                "Prepare",
                messages.PrepareSnapshotRequest(key=key, parent=parent),
                messages.PrepareSnapshotResponse,
            )
            self.known[key], self.possible[key] = "active", {"active"}
            self.mounts[key] = list(made.mounts[0].options)
            what = self.chance.random()
            if what < 0.4:
                name = f"{key} committed"
                self.possible[key], self.possible[name] = {"active", "absent"}, {"absent", "committed"}
                await self.call("Commit", messages.CommitSnapshotRequest(name=name, key=key), Empty)
                self.known[key], self.known[name] = "absent", "committed"
                self.possible[key], self.possible[name] = {"absent"}, {"committed"}
            elif what < 0.8:
                self.possible[key] = {"active", "absent"}
                await self.call("Remove", messages.RemoveSnapshotRequest(key=key), Empty)
                self.known[key], self.possible[key] = "absent", {"absent"}

    async def until_killed(self) -> None:
        """
        Use the daemon until it is killed.
        """
        with self.assertRaises(GrpcError):
            await self.use()

    async def check(self) -> None:
        """
        The snapshots are those that were answered, with their mounts and their files, and
        nothing else is there.
        """
        found: dict[str, str] = {}
        kinds = {messages.Info.ACTIVE: "active", messages.Info.COMMITTED: "committed"}
        path = f"/{SERVICE}/List"
        listed = self.client.streaming(path, messages.ListSnapshotsRequest(), messages.ListSnapshotsResponse)
        async for part in listed:
            found.update({info.name: kinds[info.kind] for info in part.info})
        for key, states in self.possible.items():
            self.assertIn(found.get(key, "absent"), states, key)
        self.assertLessEqual(found.keys(), self.possible.keys())
        self.assertEqual(len(os.listdir(f"{self.daemon.data}/engines/main/snapshots")), len(found))
        for key in [key for key, state in found.items() if state == "active"]:
            got = await self.call("Mounts", messages.MountsRequest(key=key), messages.MountsResponse)
            options = list(got.mounts[0].options)
            self.assertEqual(options, self.mounts.get(key, options))
            for option in options:
                name, _, value = option.partition("=")
                if name in ("upperdir", "workdir", "lowerdir"):
                    for directory in value.split(":"):
                        self.assertTrue(os.path.isdir(directory), directory)
        # The engine has seen the list.
        self.known = found
        self.possible = {key: {state} for key, state in found.items()}

    async def test_killed(self) -> None:
        """
        Whenever they are killed, nothing that was answered is lost, nothing that was not
        is half done, and no files are left.
        """
        for _ in range(ROUNDS):
            self.daemon = Xferd(reactor, str(self.place / "x"), "--config", str(self.settings))
            await self.daemon.start()
            self.client = GrpcClient(self.socket, reactor)
            try:
                await self.check()
                using = [Deferred.fromCoroutine(self.until_killed()) for _ in range(AT_ONCE)]
                last = self.numbers + 50 + self.chance.randrange(100)
                while self.numbers < last:
                    await deferLater(reactor, 0.001)
                os.kill(self.daemon.snapshotter(), signal.SIGKILL)
                await self.daemon.stop("KILL")
                await gatherResults(using, consumeErrors=True)
            finally:
                self.client.close()
                await self.daemon.stop("KILL")
                await self.daemon.end_snapshotter()
