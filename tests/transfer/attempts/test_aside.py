"""
Tests for L{xferd.transfer.attempts}: attempts with sources that no watcher brings, and
attempts that are withdrawn.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.transfer.case import ONE, TWO, Attempt, EngineTests
from xferd.errors import ConnectionFailed
from xferd.interfaces.transfer import ISource
from xferd.transfer.attempts import Withdrawn
from xferd.transfer.transfer import Transfer


class AsideTests(EngineTests):
    """
    One attempt with another source, then the usual ones.
    """

    limit = 1

    def setUp(self) -> None:
        """
        Have another transfer hold the only slot.
        """
        super().setUp()
        self.holding = Attempt()
        self.holder = self.request("holder", self.holding.work(), ONE)
        self.aside: list[Deferred[str]] = []
        self.usual = Attempt()

    async def work(self, transfer: Transfer) -> object:
        """
        Try the other source first.
        """

        async def attempt(_: ISource) -> str:
            self.aside.append(Deferred())
            return await self.aside[-1]

        try:
            return await transfer.attempt_with(TWO, attempt)
        except ConnectionFailed:
            return await self.usual.work()(transfer)

    def test_without_slot(self) -> None:
        """
        It needs no slot, and is recorded.
        """
        watcher = self.request("a", self.work, ONE)
        snapshot = watcher.transfer.snapshot()
        self.assertEqual((snapshot["state"], snapshot["source"]), ("running", TWO.label))
        self.aside[0].callback("blob")
        self.turn()
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        (record,) = self.records
        self.assertEqual((record["source"], record["attempt"], record["code"]), (TWO.label, 1, None))

    def test_fails(self) -> None:
        """
        Its failure concerns no other source.
        """
        watcher = self.request("a", self.work, ONE)
        self.aside[0].errback(ConnectionFailed("cut", host=TWO.host))
        self.turn()
        self.assertEqual(watcher.transfer.state, "queued")
        self.assertEqual(self.slots.hosts.paused(TWO.host), 0)
        self.holding.ends[0].callback("held")
        self.turn()
        self.assertEqual(self.usual.sources, [ONE])
        self.usual.ends[0].callback("blob")
        self.turn()
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        found = [(r["source"], r["attempt"], r["code"]) for r in self.records if r["digest"] == "sha256:a"]
        self.assertEqual(found, [(TWO.label, 1, "CONNECTION_FAILED"), (ONE.label, 2, None)])

    def test_cancelled(self) -> None:
        """
        It is cancelled with the transfer.
        """
        watcher = self.request("a", self.work, ONE)
        watcher.release()
        self.turn()
        self.assertEqual([record["code"] for record in self.records], ["CANCELLED"])
        self.holder.release()
        self.assert_idle()


class WithdrawnTests(EngineTests):
    """
    Attempts that are over before they began.
    """

    limit = 1

    def test_again(self) -> None:
        """
        They are neither recorded nor counted, release the slot, and can begin again.
        """
        withdrawn, attempt = Attempt(), Attempt()
        waiting: Deferred[None] = Deferred()

        async def work(transfer: Transfer) -> object:
            try:
                return await withdrawn.work()(transfer)
            except Withdrawn:
                await waiting
            return await attempt.work()(transfer)

        watcher = self.request("a", work, ONE)
        withdrawn.ends[0].errback(Withdrawn())
        self.turn()
        self.assertEqual((self.records, self.slots.in_use), ([], 0))
        waiting.callback(None)
        self.turn()
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 1)
        attempt.ends[0].callback("blob")
        self.turn()
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        self.assertEqual([record["attempt"] for record in self.records], [1])
