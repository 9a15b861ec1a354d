# -*- test-case-name: tests.jobs.test_reasons -*-
"""
Why a job, a layer or a transfer waits: the same words and the same data everywhere.
"""

from __future__ import annotations

from typing import Final, NamedTuple, assert_never

from attrs import frozen

from xferd.interfaces.job_json import ReasonJSON
from xferd.json_encoding import rfc3339
from xferd.transfer.bandwidth import ALL, HOST
from xferd.transfer.reason import PLACES, Obstacle, Reason
from xferd.transfer.transfer import Transfer

_NOUNS = {"download": "download slot", "upload": "upload slot", "unpacking": "unpacking worker"}


class Explanation(NamedTuple):
    """
    A reason in words, C{why}, and as data, C{reason}.  An error has no data: it is no wait.

    @ivar since: the wall clock's time at which the wait began; 0 where that is not known.
    """

    why: str
    reason: ReasonJSON | None
    since: float = 0.0


NOTHING: Final = Explanation("", None)
"""It proceeds."""

BEFORE: Final = Explanation(
    "waiting for the blobs before it",
    {"what": "turn", "whom": "", "since": None, "until": None, "place": None},
)
"""The explanation of a blob whose upload has not been requested."""


@frozen
class JobWait:
    """
    What a job itself waits for, and none of its transfers.

    @ivar words: the reason in words.
    @ivar what: the name of the reason: see L{REASONS<xferd.interfaces.job_json.REASONS>}.
    @ivar whom: the host, program or person that has to act; empty if there is none.
    @ivar since: the wall clock's time at which the wait began.
    @ivar until: the wall clock's time at which it ends, or L{None} if that is not known.
    """

    words: str
    what: str
    since: float
    whom: str = ""
    until: float | None = None

    def explain(self) -> Explanation:
        """
        The wait as the API shows it.
        """
        return Explanation(self.words, _data(self.what, self.whom, self.since, self.until), self.since)


def explain(transfer: Transfer) -> Explanation:
    """
    The reason why a transfer waits, is slow or failed.
    """
    reason = transfer.reason()
    obstacle = reason.obstacle
    if obstacle is Obstacle.NONE:
        return NOTHING
    words = describe(reason, transfer.kind, small=transfer.small)
    if obstacle is Obstacle.FAILURE:
        return Explanation(words, None)
    until = None if reason.until is None else transfer.moment(reason.until)
    place = reason.number if obstacle is Obstacle.QUEUE and reason.number <= PLACES else None
    since = transfer.since
    return Explanation(words, _data(obstacle.value, reason.whom, since, until, place), since)


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
        case Obstacle.DISK | Obstacle.PAUSED | Obstacle.WORK | Obstacle.DISCARDED | Obstacle.FAILURE:
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
            whose = owner(detail)
            return f"slowed by the {kind} limit{whose}" if whose else f"slowed by the {kind} limit"
        case Obstacle.BACK_OFF:
            return f"trying again in {number} s: {detail}"
        case Obstacle.DOWNLOAD:
            return "waiting for its download"
        case Obstacle.UNPACKING:
            return "waiting for its bytes to be unpacked"
        case Obstacle.PARENT:
            return "waiting for the parent layer"
        case Obstacle.TOKEN:
            return f"waiting for a token for {detail}"
        case Obstacle.HELPER:
            return f"waiting for the credential helper {detail}"
        case Obstacle.CONFIRMATION:
            return f"waiting for {detail} to confirm that it has the blob"
        case Obstacle.MOUNT:
            return f"waiting for {detail} to mount the blob from another repository"
        case Obstacle.SILENCE:
            return _silence(kind, number, detail)
        case Obstacle.WORKER:
            return "waiting for a free unpacking worker"
        case Obstacle.WRITING:
            return "waiting for the disk to write it"
        case Obstacle.CLIENT:
            return "waiting for its client to send more of the archive"
        case Obstacle.MEMORY:
            return "waiting for memory for manifests: other copies use it"
        case Obstacle.FILE_DESCRIPTORS:
            return "waiting for file descriptors: all are in use"
        case Obstacle.PREDECESSOR:
            return "waiting for its predecessor's work to end"
        case Obstacle.CANCELLATION:
            return "waiting for its work to end"
        case never:
            assert_never(never)


def owner(whose: str) -> str:
    """
    The owner of a limit, in words that follow the limit's name; none for that of all transfers.

    @param whose: C{global}, or as C{host ghcr.io}, C{client ci}, C{job 1a2b}.
    """
    return "" if whose in ("", ALL) else f" of {whose.removeprefix(f'{HOST} ')}"


def _silence(kind: str, seconds: int, host: str) -> str:
    match kind:
        case "unpacking":
            return f"no bytes unpacked for {seconds} s"
        case "document":
            return f"no answer for {seconds} s from {host}"
        case "upload":
            return f"no bytes for {seconds} s to {host}"
    return f"no bytes for {seconds} s from {host}" if host else f"no bytes for {seconds} s"


def _data(what: str, whom: str, since: float, until: float | None, place: int | None = None) -> ReasonJSON:
    return {
        "what": what,
        "whom": whom,
        "since": rfc3339(since),
        "until": None if until is None else rfc3339(until),
        "place": place,
    }


def _ordinal(n: int) -> str:
    """
    1st, 2nd, 3rd, 4th, 11th.
    """
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"
