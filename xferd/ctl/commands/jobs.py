# -*- test-case-name: tests.ctl.commands.test_jobs -*-
"""
C{xferctl jobs}, C{job} and C{cancel}: the daemon's jobs, of any client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.client import ENDED
from xferd.ctl.commands.arguments import Command, add_json
from xferd.ctl.commands.follow import follow
from xferd.ctl.display.choose import choose_display
from xferd.ctl.display.job_view import JobView, count
from xferd.ctl.display.timing import timing_facts
from xferd.ctl.interrupts import Interrupted
from xferd.ctl.text import clean, portion, seconds, short, size, time_of_day

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session

_ATTEMPT = ("ATTEMPT", "KIND", "DIGEST", "ENDED", "TOOK", "BYTES", "SOURCE", "OUTCOME")
_PAST = {
    "pull": "pulled",
    "push": "pushed",
    "copy": "copied",
    "import": "imported",
    "prefetch": "fetched",
}


def _jobs_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="list jobs that have ended too")
    add_json(parser)


def jobs(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl jobs}.
    """
    if args.all:
        found = session.daemon.all_jobs()
    else:
        found = [job for job in session.daemon.jobs() if job.get("state") not in ENDED]
    rows = []
    for job in found:
        view = JobView(job)
        code = clean(job["error"].get("code")) if isinstance(job.get("error"), dict) else ""
        rows.append(
            (
                clean(job.get("id")),
                view.kind,
                view.state,
                view.title,
                code or (portion(view.done, view.total) if view.total else ""),
                clean(job.get("client")),
                session.printer.ago(job.get("created")),
            )
        )
    session.printer.rows(found, ("ID", "KIND", "STATE", "REFERENCE", "PROGRESS", "CLIENT", "CREATED"), rows)


def _job_arguments(parser: ArgumentParser) -> None:
    _cancel_arguments(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="show its progress until it ends")


def _cancel_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="ID", help="the job's ID, as 'xferctl jobs' lists it")
    add_json(parser)


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
    @raise Interrupted: the user interrupted the command.
    """
    display = choose_display(args, session)
    try:
        follow(session.daemon, session.daemon.job(args.job), display)
    except KeyboardInterrupt as e:
        raise Interrupted(f"interrupted; job {clean(args.job)} continues") from e


def _show(args: Namespace, session: Session) -> None:
    """
    Print a job with its layers or blobs, and their attempts.
    """
    found = session.daemon.job(args.job)
    if found.get("transfers"):
        found["attempts"] = session.daemon.attempts(args.job)
    view = JobView(found)
    facts = [
        ("job", clean(found.get("id"))),
        ("kind", view.kind),
        ("state", view.state),
        ("reference", view.reference),
        ("target", view.target),
        ("platform", clean(found.get("platform"))),
        ("client", clean(found.get("client"))),
        ("created", session.printer.ago(found.get("created"))),
        ("started", session.printer.ago(found.get("started"))),
        ("finished", session.printer.ago(found.get("finished"))),
        ("progress", portion(view.done, view.total) if view.total else ""),
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
        rows = [
            (row.name, row.state, portion(row.done, row.total), clean(row.data.get("transfer")), row.why)
            for row in view.rows
        ]
        heads = (view.noun.upper(), "STATE", "PROGRESS", "TRANSFER", "WHY")
        session.printer.rows([row.data for row in view.rows], heads, rows)
    attempts = found.get("attempts") or ()
    if attempts:
        print(file=session.stdout)
        session.printer.rows(attempts, _ATTEMPT, list(map(_attempt, attempts)), ("ATTEMPT", "TOOK", "BYTES"))


def _attempt(attempt: dict[str, Any]) -> tuple[str, ...]:
    code, error = clean(attempt.get("code")), clean(attempt.get("error"))
    return (
        str(count(attempt, "attempt")),
        clean(attempt.get("kind")),
        short(attempt.get("digest")),
        time_of_day(attempt.get("finished")),
        seconds(attempt.get("started"), attempt.get("finished")),
        size(count(attempt, "bytes_done" if attempt.get("bytes_moved") is None else "bytes_moved")),
        clean(attempt.get("source")),
        f"{error} ({code})" if code else "done",
    )


def cancel(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl cancel}.
    """
    found = session.daemon.cancel(args.job)
    session.printer.facts(found, [("job", clean(found.get("id"))), ("state", clean(found.get("state")))])


COMMANDS: Final[Mapping[str, Command]] = {
    "jobs": Command(
        "List the jobs that are queued or running",
        "",
        _jobs_arguments,
        jobs,
        examples=("xferctl jobs", "xferctl jobs --all --json"),
    ),
    "job": Command(
        "Show one job, its layers and their attempts",
        "ID",
        _job_arguments,
        job,
        examples=("xferctl job 5f3c0a9e1b77", "xferctl job --follow 5f3c0a9e1b77"),
    ),
    "cancel": Command(
        "Cancel a job",
        "ID",
        _cancel_arguments,
        cancel,
        "Its transfers end, except those that another job shares.",
        ("xferctl cancel 5f3c0a9e1b77",),
    ),
}
