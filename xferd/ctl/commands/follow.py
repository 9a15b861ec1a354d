# -*- test-case-name: tests.ctl.commands.test_pull_push_copy -*-
"""
Following a job until it ends, and cancelling it when its user leaves.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from xferd.ctl.display.choose import choose_display
from xferd.ctl.display.job_view import JobView
from xferd.ctl.display.progress import job_result
from xferd.ctl.display.timing import closing
from xferd.ctl.errors import ClientError
from xferd.ctl.interrupts import CommandInterrupted
from xferd.ctl.text import clean, json_line

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from xferd.ctl.client import Daemon
    from xferd.ctl.display.progress import ProgressDisplay
    from xferd.ctl.session import Session


class JobFailed(ClientError):
    """
    The job failed or was cancelled.
    """


def run_job(args: Namespace, session: Session, headers: Mapping[str, str], **fields: object) -> None:
    """
    Create a job of the kind C{args.command} and follow it.  The job is cancelled if the
    user interrupts the command, or the output cannot be written.

    @param headers: the user's credentials.
    @param fields: fields of the request for this kind of job.
    @raise JobFailed: the job failed or was cancelled.
    @raise CommandInterrupted: the user interrupted the command.
    """
    daemon, stdout = session.daemon, session.stdout
    display = choose_display(args, session)
    job: dict[str, object] | None = None
    try:
        # Until the answer arrives, the daemon may have a job whose ID is unknown here.
        with session.interrupts.held():
            if args.detach:
                # A job with a key continues by itself after a restart of the daemon.
                headers = {**headers, "Idempotency-Key": secrets.token_hex(16)}
                job = daemon.start(args.command, args.reference, headers, **fields)
            else:
                job = daemon.start_followed(
                    args.command, args.reference, headers, briefly=display.brief, **fields
                )
        if args.detach:
            print(json_line(job) if args.json else clean(job.get("id")), file=stdout)
            return
        follow(daemon, job, display, headers)
    except KeyboardInterrupt as e:
        raise CommandInterrupted(cancel_interrupted(daemon, args.command, job)) from e
    except OSError:
        cancel_interrupted(daemon, args.command, job)
        raise


def follow(
    daemon: Daemon,
    job: dict[str, object],
    display: ProgressDisplay,
    headers: Mapping[str, str] | None = None,
) -> None:
    """
    Show a job until it has ended, and its result.

    @param headers: the user's credentials.
    @raise JobFailed: the job failed or was cancelled.
    """
    view = JobView(job)
    with display:
        for event in daemon.events(str(job.get("id")), headers, briefly=display.brief):
            if event.kind == "lost":
                display.lost(view, view.update(event))
                continue
            display.show_event(view, event, view.update(event))
    display.warn(view.warnings)
    display.report(view.findings)
    if view.state != "done":
        for line in closing(view.job):
            display.note(line)
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
