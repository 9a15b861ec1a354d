"""
Tests for L{xferd.transfer.attempts}: progress, which resets the number of
attempts.
"""

from __future__ import annotations

from tests.transfer.case import ONE, EngineTests
from xferd.errors import (
    ConnectionFailed,
)
from xferd.interfaces.transfer import ISource
from xferd.real_progress import REAL_PROGRESS
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher


class RealProgressTests(EngineTests):
    """
    Attempts that move bytes before they fail.
    """

    limit = 1

    def breaking(self, step: int, total: int | None = None, attempts: int = 3) -> Watcher[None]:
        """
        Request a transfer that moves C{step} bytes with each attempt, up to
        C{total}, and then fails; attempts are one second apart.
        """
        self.manager.retry = RetryPolicy(attempts=attempts, jitter=0, cap=1)
        self.step, position = step, 0

        async def work(transfer: Transfer) -> None:
            async def attempt(source: ISource) -> None:
                nonlocal position
                transfer.report(bytes_done=position, bytes_total=total)
                position = position + self.step if total is None else min(total, position + self.step)
                transfer.report(bytes_done=position)
                raise ConnectionFailed("cut")

            await transfer.attempts(attempt)

        return self.request("a", work, ONE)

    def test_progress_resets(self) -> None:
        """
        A line that breaks repeatedly, but moves 64 KiB each time, is tried
        without end; once it moves none, only for its attempts.
        """
        watcher = self.breaking(REAL_PROGRESS, attempts=2)
        self.clock.pump([1] * 20)
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 21)
        self.step = 0
        self.clock.pump([1, 2])
        self.failureResultOf(watcher.result(), ConnectionFailed)
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 22)

    def test_little_progress(self) -> None:
        """
        A source that sends one byte for each connection has only its attempts.
        """
        watcher = self.breaking(1, 1_000_000)
        self.clock.pump([1] * 20)
        self.failureResultOf(watcher.result(), ConnectionFailed)
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 3)

    def test_progress_of_several_attempts(self) -> None:
        """
        The bytes of several attempts together count as progress.
        """
        watcher = self.breaking(REAL_PROGRESS // 2)
        self.clock.pump([1] * 20)
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 21)

    def test_the_rest_is_progress(self) -> None:
        """
        The rest of a blob is progress, however little it is: the last bytes may
        have been wrong.
        """
        watcher = self.breaking(1_000, 2_000)
        self.clock.pump([1] * 20)
        self.failureResultOf(watcher.result(), ConnectionFailed)
        # The second attempt brought the rest, and was counted as the first.
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 4)

    def test_same_bytes_again_are_no_progress(self) -> None:
        """
        A source that cannot resume and always breaks at the same byte has only
        its attempts.
        """

        async def work(transfer: Transfer) -> None:
            async def attempt(source: ISource) -> None:
                for position in (0, 100, 200):
                    transfer.report(bytes_done=position)
                raise ConnectionFailed("cut")

            await transfer.attempts(attempt)

        watcher = self.request("a", work, ONE)
        self.clock.pump([1, 2, 4, 8])
        self.failureResultOf(watcher.result(), ConnectionFailed)
        self.assertEqual(len(self.records), 5)
