"""
Tests for L{xferd.transfer.file_descriptors}, and for transfers in a process that
has no descriptors left.
"""

from __future__ import annotations

import errno
import os

from twisted.internet.error import ConnectBindError
from twisted.trial.unittest import SynchronousTestCase

from tests.transfer.case import ONE, Attempt, EngineTests
from xferd.errors import ConnectionFailed, StoreError
from xferd.testing.descriptors import no_descriptors
from xferd.transfer.file_descriptors import RESERVE, few_left, is_shortage
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.transfer import Transfer

SHORTAGE = Reason(Obstacle.FILE_DESCRIPTORS)


class DescriptorsTests(SynchronousTestCase):
    """
    Whether descriptors are free, and which errors mean that none was.
    """

    def test_few_left(self) -> None:
        """
        A shortage is recognised, and the check leaves no descriptor open.
        """
        before = os.listdir("/proc/self/fd")
        self.assertFalse(few_left())
        for left in (0, 1, RESERVE - 1):
            with no_descriptors(left):
                self.assertTrue(few_left(), left)
        with no_descriptors(RESERVE):
            self.assertFalse(few_left())
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    def test_shortage(self) -> None:
        """
        The error is found among the causes, from the kernel or from Twisted.
        """
        for number in (errno.EMFILE, errno.ENFILE):
            error = StoreError("cannot open it")
            error.__cause__ = OSError(number, os.strerror(number))
            self.assertTrue(is_shortage(error))
            failed = ConnectionFailed("no answer")
            failed.__cause__ = ConnectBindError(number, os.strerror(number))
            self.assertTrue(is_shortage(failed))
        self.assertFalse(is_shortage(OSError(errno.ENOSPC, "full")))
        self.assertFalse(is_shortage(ConnectionFailed("no answer")))


class ShortageTests(EngineTests):
    """
    Transfers wait for descriptors, whatever needs one.
    """

    limit = 1

    def test_attempt_does_not_begin(self) -> None:
        """
        Without descriptors no attempt begins, and no slot is held; it begins
        when there are some.
        """
        attempt, other = Attempt("blob"), Attempt("other")
        with no_descriptors():
            watcher = self.request("a", attempt.work(), ONE)
            snapshot = watcher.transfer.snapshot()
            self.assertEqual((snapshot["state"], watcher.transfer.reason()), ("waiting", SHORTAGE))
            self.assertEqual(self.slots.in_use, 0)
            self.clock.advance(1)
        self.assertEqual(attempt.sources, [])
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        watcher.release()
        watcher = self.request("b", other.work(), ONE)
        self.assertEqual(self.successResultOf(watcher.result()), "other")
        watcher.release()
        self.assert_idle()

    def test_attempt_does_not_count(self) -> None:
        """
        An attempt that could open no file or socket is not counted: there may
        be any number of them.
        """
        error = StoreError("cannot open it")
        error.__cause__ = OSError(errno.EMFILE, "Too many open files")
        attempt = Attempt(*[error] * 20, "blob")
        watcher = self.request("a", attempt.work(), ONE)
        for _ in range(20):
            self.assertEqual(watcher.transfer.reason(), SHORTAGE)
            self.clock.advance(1)
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 1)
        self.assertEqual([record["code"] for record in self.records], [None])

    def test_work(self) -> None:
        """
        Work without attempts is repeated, too.
        """
        calls = []

        async def work(transfer: Transfer) -> str:
            calls.append(transfer)
            if len(calls) < 3:
                raise StoreError("cannot open it") from OSError(errno.ENFILE, "Too many open files")
            return "tree"

        watcher = self.request("a", work)
        self.assertEqual((watcher.transfer.state, watcher.transfer.reason()), ("waiting", SHORTAGE))
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(watcher.result()), "tree")

    def test_cancelled(self) -> None:
        """
        A release during the wait leaves nothing behind.
        """
        for work in (Attempt().work(), _without):
            with no_descriptors():
                watcher = self.request("a", work, ONE)
                watcher.release()
                self.assert_idle()
            self.assertEqual(self.clock.getDelayedCalls(), [])


async def _without(transfer: Transfer) -> None:
    """
    Work that needs a file.
    """
    os.close(os.open(os.devnull, os.O_RDONLY))
