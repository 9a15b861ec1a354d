# -*- test-case-name: tests.ctl.commands.test_pull_push_copy -*-
"""
Following a job until it ends, and cancelling it when its user leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xferd.ctl.display.job_view import JobView
from xferd.ctl.display.progress import job_result
from xferd.ctl.errors import ClientError
from xferd.ctl.text import clean

if TYPE_CHECKING:
    from xferd.ctl.client import Daemon
    from xferd.ctl.display.progress import ProgressDisplay


class JobFailed(ClientError):
    """
    The job failed or was cancelled.
    """


def follow(daemon: Daemon, job: dict[str, object], display: ProgressDisplay) -> None:
    """
    Show a job until it has ended, and its result.

    @raise JobFailed: the job failed or was cancelled.
    """
    view = JobView(job)
    with display:
        for event in daemon.events(str(job.get("id"))):
            display.show_event(view, event, view.update(event))
    display.warn(view.warnings)
    if view.state == "failed":
        raise JobFailed(view.error or f"job {clean(job.get('id'))} failed")
    if view.state == "cancelled":
        raise JobFailed(f"job {clean(job.get('id'))} was cancelled")
    display.finish(job_result(view))


def cancel_interrupted(daemon: Daemon, kind: str, job: dict[str, object] | None) -> str:
    """
    Cancel the job of an interrupted command.

    @param kind: the job's kind.
    @param job: the job; L{None} if none was created.
    @return: the job's fate, in a sentence.
    """
    if job is None:
        return f"interrupted before the {kind} began"
    job_id = str(job.get("id"))
    shown = clean(job_id)
    try:
        state = daemon.cancel(job_id).get("state")
    except KeyboardInterrupt:
        return f"interrupted; job {shown} may still run: 'xferctl cancel {shown}' cancels it"
    except ClientError as e:
        return f"interrupted, and job {shown} could not be cancelled: {e}"
    if state in ("done", "failed"):
        return f"interrupted; job {shown} had already ended: {state}"
    return f"interrupted; job {shown} was cancelled"
