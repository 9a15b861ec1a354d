# -*- test-case-name: tests.transfer.test_spare_slots -*-
"""
Spare slots: those that are borrowed while no request waits for them.
"""

from __future__ import annotations

from twisted.logger import Logger

from xferd.transfer.host_limits import HostLimits
from xferd.transfer.request_queue import RequestQueue
from xferd.transfer.slot_request import SlotRequest


class SpareSlots:
    """
    The spare slots that are borrowed, and which of them is wanted back.
    """

    _log = Logger()

    def __init__(self, hosts: HostLimits, queue: RequestQueue) -> None:
        self._hosts = hosts
        self._queue = queue
        self._borrowed: list[SlotRequest] = []

    def __len__(self) -> int:
        return len(self._borrowed)

    def add(self, spare: SlotRequest) -> None:
        """
        Add a request that has borrowed a slot.
        """
        self._borrowed.append(spare)

    def discard(self, request: SlotRequest) -> None:
        """
        Remove a request that has released its slot, if it had borrowed it.
        """
        if request in self._borrowed:
            self._borrowed.remove(request)

    def want_back(self, fewer: bool) -> None:
        """
        Want the newest slot back that is of use: one at a time, as its release
        wakes the slots again.

        @param fewer: whether any of them is of use.
        """
        spare = next((s for s in reversed(self._borrowed) if fewer or self._is_wanted(s.host)), None)
        if spare is not None and spare.recalled is not None:
            try:
                spare.recalled()
            except Exception:
                self._log.failure("while asking for a slot for {host}", host=spare.host)

    def _is_wanted(self, host: str) -> bool:
        """
        Whether a host has more slots than it may have, or a request could be
        granted if it had one less.
        """
        hosts = self._hosts
        most = hosts.most(host)
        if most and hosts.held[host] > most:
            return True
        hosts.remove(host)
        try:
            return self._queue.first(hosts.rank) is not None
        finally:
            hosts.add(host)
