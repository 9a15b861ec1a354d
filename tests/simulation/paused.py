"""
What has to hold in a simulation for transfers that people have paused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.simulation.daemon import Daemon
from xferd.transfer.reason import NO_REASON
from xferd.transfer.transfer import Transfer

SILENT: Final = 1.0
"""Seconds after which a pause has taken effect."""


class PausedTransfers:
    """
    The transfers of one daemon that are paused, with the time since when, and their bytes.
    """

    def __init__(self) -> None:
        self._known: dict[Transfer, tuple[float, int]] = {}

    def check(self, daemon: Daemon) -> Iterator[str]:
        """
        What is paused holds no slot, and moves no byte after L{SILENT} seconds.
        """
        now, before, self._known = daemon.clock.seconds(), self._known, {}
        for transfer in daemon.jobs._transfers:
            source = transfer.source
            if transfer.over or source is None or not source.host:
                continue
            # With another source it may go on.
            reasons = [transfer.pause_of(each) for each in transfer.sources] or [transfer.pause()]
            if NO_REASON in reasons or transfer.bytes_done == transfer.bytes_total:
                continue
            since, moved = before.get(transfer, (now, 0))
            if now - since <= SILENT:
                moved = transfer.bytes_moved
            elif transfer.bytes_moved > moved:
                yield f"a {transfer.kind} is paused, and has moved {transfer.bytes_moved - moved} bytes"
            elif transfer._request is not None and (transfer._request.held or transfer._request.waiting):
                yield f"a {transfer.kind} is paused, and wants a slot, {transfer.state}"
            self._known[transfer] = since, moved
