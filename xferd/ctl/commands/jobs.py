# -*- test-case-name: tests.ctl.commands.test_jobs -*-
"""
C{xferctl jobs}, C{job} and C{cancel}: the daemon's jobs, of any client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.api import Event
from xferd.ctl.client import ENDED
from xferd.ctl.columns import Column
from xferd.ctl.commands.arguments import Command, add_printing, add_progress
from xferd.ctl.commands.filters import JOB_KINDS, JOB_STATES, Filter, add_filters
from xferd.ctl.display.job_view import JobView, RowView, count
from xferd.ctl.display.lists import job_columns
from xferd.ctl.display.timing import timing_facts
from xferd.ctl.errors import UsageError
from xferd.ctl.interrupts import CommandInterrupted
from xferd.ctl.text import amount, clean, cut_front, portion, seconds, short, size, time_of_day

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping
    from datetime import datetime

    from xferd.ctl.session import Session


def _moved(attempt: dict[str, Any]) -> int:
    return count(attempt, "bytes_done" if attempt.get("bytes_moved") is None else "bytes_moved")


def _outcome(attempt: Mapping[str, Any]) -> str:
    code, error = clean(attempt.get("code")), clean(attempt.get("error"))
    return f"{error} ({code})" if code else "done"


def _layers(noun: str, now: datetime) -> tuple[Column[RowView], ...]:
    """
    The columns of a job's layers or blobs.
    """
    return (
        Column(noun.upper(), lambda row: clean(row.data.get("digest")), short=short),
        Column("STATE", lambda row: row.state),
        Column("PROGRESS", lambda row: amount(row.done, row.total), right=True),
        Column("TRANSFER", lambda row: clean(row.data.get("transfer")), spare=True),
        Column("WHY", lambda row: row.waiting.words(row.why, now), reason=True),
    )


_ATTEMPTS: Final[tuple[Column[dict[str, Any]], ...]] = (
    Column("ATTEMPT", lambda item: str(count(item, "attempt")), right=True),
    Column("KIND", lambda item: clean(item.get("kind"))),
    Column("DIGEST", lambda item: clean(item.get("digest")), short=short),
    Column("ENDED", lambda item: time_of_day(item.get("finished"))),
    Column("TOOK", lambda item: seconds(item.get("started"), item.get("finished")), right=True),
    Column("BYTES", lambda item: size(_moved(item)), right=True),
    Column("SOURCE", lambda item: clean(item.get("source")), crop=cut_front),
    Column("OUTCOME", _outcome, reason=True),
)

_PAST = {
    "pull": "pulled",
    "push": "pushed",
    "copy": "copied",
    "import": "imported",
    "prefetch": "fetched",
}


def _jobs_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="list jobs that have ended too")
    add_filters(parser, JOB_STATES, JOB_KINDS)
    add_printing(parser, table=True)


def jobs(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl jobs}.
    """
    chosen = Filter.of(args, session)
    every = args.all or not chosen.states.isdisjoint(ENDED)
    found = session.daemon.all_jobs() if every else session.daemon.jobs()
    found = [job for job in found if (every or job.get("state") not in ENDED) and chosen.selects_job(job)]
    session.printer.rows(found, job_columns(session.printer.now), list(map(JobView, found)))


def _job_arguments(parser: ArgumentParser) -> None:
    _add_id(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="show its progress until it ends")
    add_progress(parser)
    add_printing(parser, table=True)


def _cancel_arguments(parser: ArgumentParser) -> None:
    _add_id(parser)
    add_printing(parser)


def _add_id(parser: ArgumentParser) -> None:
    parser.add_argument(
        "job", metavar="ID", help="the job's ID, as 'xferctl jobs' lists it, or its first characters"
    )


def job(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl job}.
    """
    if args.follow:
        _follow(args, session)
    else:
        _show(args, session)


def _follow(args: Namespace, session: Session) -> None:
    """
    Show a job until it has ended.  Interrupting this leaves the job running.

    @raise JobFailed: the job failed or was cancelled.
    @raise CommandInterrupted: the user interrupted the command.
    """
    if args.form not in (None, "table", "json") or args.template is not None:
        raise UsageError("--follow prints progress, or events with --json; leave -o and --format out")
    # Listing jobs needs neither.
    from xferd.ctl.commands.follow import follow  # noqa: PLC0415
    from xferd.ctl.display.choose import choose_display  # noqa: PLC0415

    display = choose_display(args, session)
    found = session.daemon.job_named(args.job, session.daemon.job)
    try:
        follow(session.daemon, found, display)
    except KeyboardInterrupt as e:
        raise CommandInterrupted(f"interrupted; job {clean(found.get('id'))} continues") from e


def _show(args: Namespace, session: Session) -> None:
    """
    Print a job with its layers or blobs, and their attempts.
    """
    found = session.daemon.job_named(args.job, session.daemon.job)
    if found.get("transfers"):
        found["attempts"] = session.daemon.attempts(str(found.get("id")))
    view = JobView(found)
    if not view.ended:
        for each in session.daemon.transfers_of(str(found.get("id"))):
            view.update(Event("transfer", each, False))
    facts = [
        ("job", clean(found.get("id"))),
        ("kind", view.kind),
        ("state", view.state),
        ("reference", view.reference),
        ("target", view.target),
        ("platform", clean(found.get("platform"))),
        ("client", clean(found.get("client"))),
        ("priority", clean(found.get("priority") or "")),
        ("retry of", clean(found.get("retry_of") or "")),
        ("created", session.printer.ago(found.get("created"))),
        ("started", session.printer.ago(found.get("started"))),
        ("finished", session.printer.ago(found.get("finished"))),
        ("waits", view.why),
        ("since", session.printer.ago((found.get("reason") or {}).get("since")) if view.why else ""),
        ("progress", portion(view.done, view.total) if view.total else ""),
        ("rate", ", ".join(view.pace)),
        (_PAST.get(view.kind, "result"), view.pinned if view.state == "done" else ""),
        ("error", view.error),
        *timing_facts(found),
        *(("warning", text) for text in view.warnings),
        *(("damage", text) for text in view.findings),
    ]
    if not session.printer.facts(found, facts):
        return
    if view.rows:
        print(file=session.stdout)
        columns = _layers(view.noun, session.printer.now)
        session.printer.rows([row.data for row in view.rows], columns, view.rows)
    attempts = found.get("attempts") or ()
    if attempts:
        print(file=session.stdout)
        session.printer.rows(attempts, _ATTEMPTS)


def cancel(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl cancel}.
    """
    found = session.daemon.job_named(args.job, session.daemon.cancel)
    session.printer.facts(found, [("job", clean(found.get("id"))), ("state", clean(found.get("state")))])


COMMANDS: Final[Mapping[str, Command]] = {
    "jobs": Command(
        "",
        _jobs_arguments,
        jobs,
        examples=(
            "xferctl jobs",
            "xferctl jobs --mine --kind pull --host docker.io",
            "xferctl jobs --state failed -o wide",
            "xferctl jobs --all --format '{{.id}} {{.state}} {{.reference}}'",
        ),
    ),
    "job": Command(
        "ID",
        _job_arguments,
        job,
        examples=("xferctl job 5f3c0a9e1b77", "xferctl job --follow 5f3", "xferctl job 5f3 -o yaml"),
    ),
    "cancel": Command(
        "ID",
        _cancel_arguments,
        cancel,
        "Its transfers end, except those that another job shares.",
        ("xferctl cancel 5f3c0a9e1b77", "xferctl cancel 5f3"),
    ),
}
