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
    return Interrupted(f"the daemon ended {_SENTENCES.get(kind, 'before the job was done; begin it again')}")
