"""
What the tests of the slots share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.interfaces.transfer import HostAccount
from xferd.transfer.fair_queue import Turn
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots

HOST = "one.example"
OTHER = "two.example"
ALICE = HostAccount(HOST, "alice")

picks = st.integers(0, 1000)


def turn(client: str = "client", job: int = 0, layer: int = 0, priority: int = 0) -> Turn:
    """
    Make a turn.
    """
    return Turn(client, priority, job, layer)


def acquire(
    slots: Slots,
    turns: Iterable[Turn],
    host: str,
    granted: Callable[[], object],
    reason_changed: Callable[[], object] = lambda: None,
    account: str = "",
    position: Callable[[], int] | None = None,
    recalled: Callable[[], bool] | None = None,
) -> SlotRequest:
    """
    Acquire a slot.

    @param granted: called when the request is granted later, not when it is
        granted at once.
    """
    request = SlotRequest(
        turns, host, account, position=position, reason_changed=reason_changed, recalled=recalled
    )
    acquired = slots.acquire(request)
    if not request.held:
        _ = acquired.addCallbacks(lambda _: granted(), lambda failure: failure.trap(CancelledError))
    return request


class SlotsCase(SynchronousTestCase):
    """
    Tests with one slot, which is held, and a list of the requests that were
    granted since.
    """

    def setUp(self) -> None:
        """
        Hold the slot.
        """
        self.clock = Clock()
        self.slots = Slots(1, self.clock)
        self.started: list[str] = []
        self.holder = acquire(self.slots, [turn("holder")], HOST, self.fail)
        self.assertTrue(self.holder.held)

    def queue(self, name: str, *turns: Turn, host: str = HOST, account: str = "") -> SlotRequest:
        """
        Queue a request, which records its name when it is granted.
        """
        return acquire(self.slots, turns, host, lambda: self.started.append(name), account=account)

    def drain(self, *requests: SlotRequest) -> list[str]:
        """
        Release all that is held until no request waits.

        @return: the names in the order of the grants.
        """
        self.started.clear()
        for _ in range(len(requests) + 1):
            for request in (self.holder, *requests):
                if request.held:
                    request.release()
            self.clock.advance(0)
        self.assertEqual((self.slots.in_use, self.slots.queued), (0, 0))
        return self.started
