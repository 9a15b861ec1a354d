# -*- test-case-name: tests.ctl.commands.test_jobs -*-
"""
C{xferctl pull}, C{push} and C{copy}: begin a job, show it, and cancel it when
the user leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from xferd.ctl.display.job_view import JobView
from xferd.ctl.display.progress import Display, JsonLines, PlainLines, Quiet, draws_bars
from xferd.ctl.errors import ClientError
from xferd.ctl.interrupts import Interrupted
from xferd.ctl.text import clean, json_line

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from xferd.ctl.client import Daemon
    from xferd.ctl.session import Session


class JobFailed(ClientError):
    """
    The job ended, and not as its user wanted.
    """


def choose_display(args: Namespace, stdout: TextIO, environ: Mapping[str, str]) -> Display:
    """
    The way to show a job: what was asked for, else bars on a terminal that
    can draw them, else plain lines.
    """
    if args.json:
        return JsonLines(stdout)
    if args.quiet:
        return Quiet(stdout)
    if draws_bars(stdout, environ):
        from xferd.ctl.display.bars import Bars  # noqa: PLC0415 - rich is slow to import

        return Bars(stdout)
    return PlainLines(stdout)


def pull(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl pull} was told.
    """
    _move(args, session, (args.reference,), platform=args.platform)


def push(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl push} was told.
    """
    names = (args.target or args.reference,)
    _move(args, session, names, stored=True, target=args.target, tags=args.tag, platform=args.platform)


def copy(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl copy} was told.
    """
    # Where both are on one host, the target's credentials are brought: its rights are the rarer ones.
    names = (args.target, args.reference)
    _move(args, session, names, target=args.target, platform=args.platform, referrers=args.referrers)


def credentials(
    args: Namespace, session: Session, names: Sequence[str], *, stored: bool = False
) -> Mapping[str, str]:
    """
    The user's own credentials for what a command needs, as headers of its request.

    @param names: references in the registries that it needs.
    @param stored: whether it also needs the registry that an image of the
        store, C{args.reference}, came from.
    """
    if args.no_credentials:
        return {}
    from xferd.ctl.user_credentials import own_credentials  # noqa: PLC0415 - others need not wait for it

    return own_credentials(session, names, args.reference if stored else None)


def _move(
    args: Namespace, session: Session, names: Sequence[str], *, stored: bool = False, **more: object
) -> None:
    """
    Begin the job that the arguments ask for, and follow it.

    If the user leaves before the job has ended, or the output breaks, it is
    cancelled.

    @param names: see L{credentials}.
    @param stored: see L{credentials}.
    @param more: what only this kind of job is told.
    @raise JobFailed: the job failed, or somebody cancelled it.
    @raise Interrupted: the user wants no more; the text says what became of
        the job.
    """
    daemon, stdout = session.daemon, session.stdout
    display = choose_display(args, stdout, session.environ)
    job: dict[str, object] | None = None
    try:
        headers = credentials(args, session, names, stored=stored)
        # Between question and answer there is a job whose name we do not know.
        with session.interrupts.held():
            job = daemon.start(args.command, args.reference, headers, priority=args.priority, **more)
        if args.detach:
            print(json_line(job) if args.json else clean(job.get("id")), file=stdout)
            return
        follow(daemon, job, display)
    except KeyboardInterrupt as e:
        raise Interrupted(abandon(daemon, args.command, job)) from e
    except OSError:
        abandon(daemon, args.command, job)
        raise


def look_on(args: Namespace, session: Session) -> None:
    """
    Show a job that somebody began, until it has ended.  Who leaves before that
    leaves it running.

    @raise JobFailed: the job failed, or somebody cancelled it.
    @raise Interrupted: the user has seen enough.
    """
    args.quiet = False
    display = choose_display(args, session.stdout, session.environ)
    try:
        follow(session.daemon, session.daemon.job(args.job), display)
    except KeyboardInterrupt as e:
        raise Interrupted(f"interrupted; job {clean(args.job)} goes on") from e


def follow(daemon: Daemon, job: dict[str, object], display: Display) -> JobView:
    """
    Show a job until it has ended.

    @return: the job, done.
    @raise JobFailed: it is not.
    """
    view = JobView(job)
    with display:
        for event in daemon.events(str(job.get("id"))):
            display.show(view, event, view.take(event))
    display.warn(view)
    if view.state == "failed":
        raise JobFailed(view.error or f"job {clean(job.get('id'))} failed")
    if view.state == "cancelled":
        raise JobFailed(f"job {clean(job.get('id'))} was cancelled")
    display.finish(view)
    return view


def abandon(daemon: Daemon, kind: str, job: dict[str, object] | None) -> str:
    """
    Cancel the job, if there is one.

    @param kind: what it was to do.
    @return: what became of it, in a sentence.
    """
    if job is None:
        return f"interrupted before the {kind} began"
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
