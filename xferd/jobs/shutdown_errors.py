# -*- test-case-name: tests.jobs.test_shutdown_errors -*-
"""
The errors of jobs and exports that the daemon's shutdown or crash interrupts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from xferd.errors import Interrupted

_SENTENCES: Final[Mapping[str, str]] = {
    "pull": "before the image was pulled; pull it again to resume",
    "push": "before the image was pushed; push it again to resume",
    "copy": "before the image was copied; copy it again to resume",
    "prefetch": "before the image was fetched; prefetch it again to resume",
    "verify": "before all content was checked; verify it again",
    "import": "before the archive was imported; import it again from its beginning",
    "export": "before the archive was complete; export it again from its beginning",
}


def stopped(kind: str) -> Interrupted:
    """
    The error of a job or export that runs while the daemon stops.

    @param kind: C{export}, or the kind of a job.
    """
    return Interrupted(f"the daemon stopped {_SENTENCES[kind]}")


def killed(kind: str) -> Interrupted:
    """
    The error of a job that an earlier daemon left unfinished.

    @param kind: the kind of the job, by the journal.
    """
    return Interrupted(f"the daemon ended {_of(kind)}")


def left(kind: str, seconds: float) -> Interrupted:
    """
    The error of a job whose client did not come back after a restart.

    @param seconds: the time that the client had.
    """
    window = f"within {seconds:.0f} s"
    return Interrupted(f"its client did not come back {window} after the daemon ended {_of(kind)}")


def crashed(kind: str, times: int) -> Interrupted:
    """
    The error of a job that is not begun again, because it may be what kills the daemon.

    @param times: how often in a row the daemon died while the job ran.
    """
    return Interrupted(
        f"the daemon died {times} times in a row while this job ran, the last time {_of(kind)}, "
        "once the daemon's log has shown why"
    )


def _of(kind: str) -> str:
    return _SENTENCES.get(kind, "before the job was done; begin it again")
