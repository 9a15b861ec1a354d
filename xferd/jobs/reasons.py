# -*- test-case-name: tests.jobs.test_reasons -*-
"""
The C{why} of a transfer: its L{Reason} as text.
"""

from __future__ import annotations

from typing import Any, assert_never

from xferd.transfer.reason import PLACES, Obstacle, Reason
from xferd.transfer.transfer import Transfer

_NOUNS = {"download": "download slot", "upload": "upload slot", "unpacking": "unpacking worker"}


def snapshot(transfer: Transfer) -> dict[str, Any]:
    """
    A transfer as it is now, with its C{why}.
    """
    return {**transfer.snapshot(), "why": why(transfer)}


def why(transfer: Transfer) -> str:
    """
    The reason why a transfer waits, is slow or failed; empty where it proceeds.
    """
    return describe(transfer.reason(), transfer.kind, small=transfer.small)


def describe(reason: Reason, kind: str, *, small: bool = False) -> str:
    """
    The reason why a transfer waits, is slow or failed; empty where it proceeds.

    @param kind: the kind of the transfer: C{download}.
    @param small: whether it waits for the slots of small transfers.
    """
    number, detail = reason.number, reason.detail
    noun = ("small " if small else "") + _NOUNS.get(kind, "slot")
    match reason.obstacle:
        case Obstacle.NONE:
            return ""
        case Obstacle.HOLD | Obstacle.WORK | Obstacle.DISCARDED | Obstacle.FAILURE:
            return detail
        case Obstacle.PAUSE:
            return f"{detail} asked to wait {number} s"
        case Obstacle.INTERVAL:
            return f"{detail} permits few more requests; the next one is made in {number} s"
        case Obstacle.HOST_LIMIT:
            return f"{detail} has its {number} {noun}{'s' * (number != 1)} in use"
        case Obstacle.THIN_LINE:
            return f"more than {number} at once are too slow at {detail}"
        case Obstacle.QUEUE:
            article = "an" if noun[0] in "aeiou" else "a"
            place = f"behind {PLACES} others or more" if number > PLACES else f"{_ordinal(number)} in line"
            return f"waiting for {article} {noun}, {place}"
        case Obstacle.LENT:
            return f"in a further slot, as others hold all {number}"
        case Obstacle.SLOW:
            return "under a tenth of its fair share for 30 s; it keeps no others waiting"
        case Obstacle.BANDWIDTH:
            return f"slowed by the {kind} limit"
        case Obstacle.BACK_OFF:
            return f"trying again in {number} s: {detail}"
        case Obstacle.FILE_DESCRIPTORS:
            return "waiting for file descriptors: all are in use"
        case Obstacle.PREDECESSOR:
            return "waiting for its predecessor's work to end"
        case Obstacle.CANCELLATION:
            return "waiting for its work to end"
        case never:
            assert_never(never)


def _ordinal(n: int) -> str:
    """
    1st, 2nd, 3rd, 4th, 11th.
    """
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"
