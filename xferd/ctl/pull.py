# -*- test-case-name: tests.ctl.test_pull -*-
"""
C{xferctl pull}: begin a pull, show it, and cancel it when the user leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from xferd.ctl.client import ClientError
from xferd.ctl.display import Display, JsonLines, PlainLines, Quiet, draws_bars
from xferd.ctl.interrupts import Interrupted
from xferd.ctl.text import clean, json_line
from xferd.ctl.view import PullView

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from xferd.ctl.client import Daemon
    from xferd.ctl.session import Session


class JobFailed(ClientError):
    """
    The job ended, and not as its user wanted.
    """


def choose_display(args: Namespace, stdout: TextIO, environ: Mapping[str, str]) -> Display:
    """
    The way to show a pull: what was asked for, else bars on a terminal that
    can draw them, else plain lines.
    """
    if args.json:
        return JsonLines(stdout)
    if args.quiet:
        return Quiet(stdout)
    if draws_bars(stdout, environ):
        from xferd.ctl.bars import Bars  # noqa: PLC0415 - rich is slow to import

        return Bars(stdout)
    return PlainLines(stdout)


def pull(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl pull} was told.

    If the user leaves before the pull has ended, or the output breaks, the
    job is cancelled.

    @raise JobFailed: the job failed, or somebody cancelled it.
    @raise Interrupted: the user wants no more; the text says what became of
        the job.
    """
    daemon, stdout = session.daemon, session.stdout
    display = choose_display(args, stdout, session.environ)
    job: dict[str, object] | None = None
    try:
        # Between question and answer there is a job whose name we do not know.
        with session.interrupts.held():
            job = daemon.start_pull(args.reference, args.platform, args.priority)
        if args.detach:
            print(json_line(job) if args.json else clean(job.get("id")), file=stdout)
            return
        follow(daemon, job, display)
    except KeyboardInterrupt as e:
        raise Interrupted(_abandon(daemon, job)) from e
    except OSError:
        _abandon(daemon, job)
        raise


def follow(daemon: Daemon, job: dict[str, object], display: Display) -> PullView:
    """
    Show a job until it has ended.

    @return: the pull, done.
    @raise JobFailed: it is not.
    """
    view = PullView(job)
    with display:
        for event in daemon.events(str(job.get("id"))):
            display.show(view, event, view.take(event))
    if view.state == "failed":
        raise JobFailed(view.error or f"job {clean(job.get('id'))} failed")
    if view.state == "cancelled":
        raise JobFailed(f"job {clean(job.get('id'))} was cancelled")
    display.finish(view)
    return view


def _abandon(daemon: Daemon, job: dict[str, object] | None) -> str:
    """
    Cancel the job, if there is one.

    @return: what became of it, in a sentence.
    """
    if job is None:
        return "interrupted before the pull began"
    job_id = str(job.get("id"))
    shown = clean(job_id)
    try:
        state = daemon.cancel(job_id).get("state")
    except KeyboardInterrupt:
        return f"interrupted; job {shown} may go on: 'xferctl cancel {shown}' ends it"
    except ClientError as e:
        return f"interrupted, and job {shown} could not be cancelled: {e}"
    if state in ("done", "failed"):
        return f"interrupted; job {shown} had ended before: {state}"
    return f"interrupted; job {shown} was cancelled"
