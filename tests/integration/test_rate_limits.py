"""
A daemon, and a registry that limits requests: the limit is obeyed before it is
met, and after a restart.
"""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

from attrs import evolve
from twisted.internet import reactor as installed
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.server import Request

from xferd.config import Config
from xferd.credentials import Credentials, Secret
from xferd.interfaces.hosts import Availability, KnownAccount
from xferd.interfaces.reactor import IReactor
from xferd.service import Daemon
from xferd.testing.answers import Answer
from xferd.testing.faults import Fault, SetHeader, too_many_requests
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry
from xferd.testing.tokens import TokenServer

reactor = cast(IReactor, installed)

PATIENCE = 60.0
"""Seconds after which a test that waits fails."""

ANN = Credentials("ann", Secret("of ann"))
BOB = Credentials("bob", Secret("of bob"))


class Limit(Fault):
    """
    A limit on requests for manifests, as Docker Hub has it.

    @ivar left: the requests that are left.
    @ivar limit: the requests in a window.
    """

    def __init__(self, left: int, limit: int) -> None:
        self.left = left
        self.limit = limit

    def on_request(self, request: Request) -> None:
        """
        Count it, if it has a token.
        """
        if request.getHeader("Authorization") is None:
            return
        if self.left <= 0:
            too_many_requests("600").on_request(request)
        self.left -= 1

    def on_answer(self, answer: Answer) -> Answer:
        """
        Name the limit.
        """
        named = SetHeader("ratelimit-limit", f"{self.limit};w=21600").on_answer(answer)
        return SetHeader("ratelimit-remaining", f"{self.left};w=21600").on_answer(named)


class RateLimitTests(TestCase):
    """
    Two users of one registry, and a daemon that is restarted.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start the registry and a daemon.
        """
        users = {"ann": "of ann", "bob": "of bob"}
        tokens = TokenServer(reactor, users=users, anonymous=False)
        await tokens.listen(reactor)
        self.addCleanup(tokens.stop)
        self.registry = Registry(reactor, guard=tokens)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)
        for n in range(3):
            self.registry.add(sample_image(1, 1000, seed=str(n)), f"team/app{n}", "1")
        place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, place)
        self.config = evolve(
            Config.default({"HOME": place}, os.geteuid()),
            data_dir=str(Path(place, "data")),
            socket="",
            listen=("tcp:0:interface=127.0.0.1",),
        )
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.start()
        self.addCleanup(lambda: self.daemon.stopService())

    def start(self) -> None:
        """
        Start a daemon.
        """
        self.daemon = Daemon(self.config, reactor, wall_clock=time.time)
        self.daemon.privilegedStartService()
        self.daemon.startService()

    async def restart(self) -> None:
        """
        Stop the daemon, and start another one with its data.
        """
        await self.daemon.stopService()
        self.start()

    def pull(self, n: int, credentials: Credentials) -> Mapping[str, Any]:
        """
        Begin to pull one of the images.
        """
        brought = {self.registry.host: credentials}
        return self.daemon.jobs.pull(f"{self.registry.host}/team/app{n}:1", None, "ci", 0, brought)

    async def until(self, condition: Callable[[], object]) -> None:
        """
        Wait for a condition.
        """
        deadline = reactor.seconds() + PATIENCE
        while not condition():
            self.assertLess(reactor.seconds(), deadline)
            await deferLater(reactor, 0.02)

    def state(self, job: Mapping[str, Any]) -> str:
        """
        The state of a job.
        """
        return str(self.daemon.jobs.get(job["id"])["state"])

    def accounts(self) -> list[KnownAccount]:
        """
        What is known of the accounts at the registry.
        """
        return [account for host in self.daemon.hosts.hosts() for account in host.accounts]

    def whys(self) -> set[str]:
        """
        The reasons why transfers wait.
        """
        return {transfer["why"] for transfer in self.daemon.jobs.transfers()}

    async def test_pause(self) -> None:
        """
        After a 429 with C{Retry-After: 600} no request is made with the account
        that it was for, not even after a restart; another account is not
        concerned.  When the host is cleared, the pull continues.
        """
        self.registry.faults.plant(too_many_requests("600"), "/manifests/")
        self.pull(0, ANN)
        await self.until(lambda: "paused" in [a.state.availability.value for a in self.accounts()])
        await self.restart()
        job = self.pull(1, ANN)
        await self.until(lambda: any("asked to wait" in why for why in self.whys()))
        log = len(self.registry.log)
        bobs = self.pull(2, BOB)
        await self.until(lambda: self.state(bobs) == "done")
        self.assertFalse([e for e in self.registry.log[log:] if "app1" in e.path])
        self.assertEqual(self.state(job), "running")
        kinds = sorted(account.state.availability.value for account in self.accounts())
        self.assertEqual(kinds, ["ok", "paused"])
        self.assertTrue(await self.daemon.hosts.clear(self.registry.host))
        await self.until(lambda: self.state(job) == "done")

    async def test_before_the_limit(self) -> None:
        """
        The quota of an account is known after a restart; while little is left,
        its documents are requested at intervals, so that the registry refuses
        none.
        """
        limit = Limit(2, 20)
        self.registry.faults.plant(limit, "/manifests/", times=None)
        first = self.pull(0, ANN)
        await self.until(lambda: self.state(first) == "done")
        await self.restart()
        await self.until(lambda: self.daemon.hosts.hosts())
        (account,) = self.accounts()
        self.assertIs(account.state.availability, Availability.QUOTA_LOW)
        quota = account.state.quota
        assert quota is not None
        self.assertEqual((quota.remaining, quota.limit), (1, 20))
        second = self.pull(1, ANN)
        await self.until(lambda: any("permits few more requests" in why for why in self.whys()))
        self.assertEqual(self.state(second), "running")
        self.assertFalse([e for e in self.registry.log if e.status == 429])

    async def test_no_secret(self) -> None:
        """
        The journal has nothing of the password of an account.
        """
        job = self.pull(0, ANN)
        await self.until(lambda: self.state(job) == "done")
        await self.daemon.stopService()
        journal = b"".join(path.read_bytes() for path in Path(self.config.data_dir).glob("xferd.db*"))
        self.assertIn(self.registry.host.encode(), journal)
        self.assertNotIn(b"of ann", journal)
