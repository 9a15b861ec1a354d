# -*- test-case-name: tests.ctl.commands.test_steering -*-
"""
C{xferctl pause}, C{resume}, C{priority}, C{retry} and C{drain}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.client import LOST
from xferd.ctl.commands.arguments import Command, add_no_credentials, add_printing, add_progress
from xferd.ctl.commands.filters import add_registries
from xferd.ctl.errors import ClientError, UsageError
from xferd.ctl.text import clean

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Mapping

    from xferd.ctl.session import Session

_NAMES: Final = ("all", "downloads", "uploads")
"""The pauses of more than a registry, and their options."""

_LOOK: Final = 1.0
"""Seconds between two requests for the progress of a drain."""


def _add_what(parser: ArgumentParser, verb: str) -> None:
    parser.add_argument(
        "jobs",
        metavar="JOB",
        nargs="*",
        help="a job's ID, as 'xferctl jobs' lists it, or its first characters",
    )
    parser.add_argument("--all", action="store_true", help=f"{verb} everything, manifests included")
    parser.add_argument("--downloads", action="store_true", help=f"{verb} the downloads of blobs")
    parser.add_argument("--uploads", action="store_true", help=f"{verb} the uploads of blobs")
    add_registries(parser, f"{verb} this registry")


def _pause_arguments(parser: ArgumentParser) -> None:
    _add_what(parser, "pause")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the pause after restarts of the daemon (default: until it stops); not for jobs",
    )
    add_printing(parser)


def _resume_arguments(parser: ArgumentParser) -> None:
    _add_what(parser, "resume")
    add_printing(parser)


def pause(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl pause}.
    """
    names = list(_names(args))
    if args.keep and not names:
        raise UsageError(
            "--keep needs --all, --downloads, --uploads or --host; a paused job stays paused after restarts"
        )
    for name in names:
        _show_pause(session, session.daemon.pause_more(name, args.keep), "paused")
    _change(args, session, paused=True)


def resume(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl resume}.
    """
    for name in _names(args):
        _show_pause(session, session.daemon.resume_more(name), "resumed")
    _change(args, session, paused=False)


def _names(args: Namespace) -> Iterator[str]:
    """
    The pauses that the options name.

    @raise UsageError: they name nothing, and no job.
    """
    names = [name for name in _NAMES if getattr(args, name)]
    names += [f"hosts/{host}" for host in getattr(args, "registries", ())]
    if not names and not args.jobs:
        raise UsageError(
            "name a job, or use --all, --downloads, --uploads or --host "
            f"(see 'xferctl {args.command} --help')"
        )
    yield from names


def _show_pause(session: Session, found: dict[str, Any], verb: str) -> None:
    what = clean(found.get("host") or found.get("what"))
    facts = [(verb, what), ("by", clean(found.get("by"))), ("since", session.printer.ago(found.get("since")))]
    if found.get("keep"):
        facts.append(("after restarts", "yes"))
    session.printer.facts(found, facts)


def _change(args: Namespace, session: Session, **changes: object) -> None:
    for job in args.jobs:
        found = session.daemon.job_named(job, lambda job_id: session.daemon.change_job(job_id, changes))
        facts = [
            ("job", clean(found.get("id"))),
            ("state", clean(found.get("state"))),
            ("paused", "yes" if found.get("paused") else "no"),
            ("priority", clean(found.get("priority"))),
        ]
        session.printer.facts(found, facts)


def _priority_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "jobs",
        metavar="JOB",
        nargs=1,
        help="the job's ID, as 'xferctl jobs' lists it, or its first characters",
    )
    parser.add_argument("priority", metavar="N", type=int, help="the priority, from -1000 to 1000")
    add_printing(parser)


def priority(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl priority}.
    """
    _change(args, session, priority=args.priority)


def _retry_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "jobs",
        metavar="JOB",
        nargs="+",
        help="a job's ID, as 'xferctl jobs --all' lists it, or its first characters",
    )
    parser.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="show the progress of each job until it ends, one after the other",
    )
    add_progress(parser)
    add_no_credentials(parser)
    add_printing(parser)


def retry(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl retry}.

    @raise JobFailed: with C{--follow}: a job failed or was cancelled.
    """
    if args.follow and (args.form not in (None, "table", "json") or args.template is not None):
        raise UsageError("--follow prints progress, or events with --json; leave -o and --format out")
    if not args.follow and args.progress:
        raise UsageError("--progress belongs to --follow")
    # Only this command needs them.
    from xferd.ctl.user_credentials import credentials_headers  # noqa: PLC0415

    begun = []
    for job in args.jobs:
        found = session.daemon.job_named(job, session.daemon.job)
        references = [str(found[name]) for name in ("target", "reference") if found.get(name)]
        headers = credentials_headers(args, session, references)
        again = session.daemon.retry(str(found.get("id")), headers)
        begun.append((again, headers))
        if not args.follow:
            facts = [("job", clean(again.get("id"))), ("retry of", clean(again.get("retry_of")))]
            session.printer.facts(again, facts)
    if args.follow:
        _follow(args, session, begun)


def _follow(args: Namespace, session: Session, begun: list[tuple[dict[str, Any], Mapping[str, str]]]) -> None:
    """
    Show jobs until they have ended.  Interrupting this cancels them, as for C{xferctl pull}.
    """
    from xferd.ctl.commands.follow import cancel_interrupted, follow  # noqa: PLC0415
    from xferd.ctl.display.choose import choose_display  # noqa: PLC0415
    from xferd.ctl.interrupts import CommandInterrupted  # noqa: PLC0415

    for number, (job, headers) in enumerate(begun):
        try:
            follow(session.daemon, job, choose_display(args, session), headers)
        except KeyboardInterrupt as e:
            fates = [cancel_interrupted(session.daemon, str(j.get("kind")), j) for j, _ in begun[number:]]
            raise CommandInterrupted("; ".join(fates)) from e


def _drain_arguments(parser: ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--wait", action="store_true", help="wait until all jobs have ended")
    group.add_argument("--end", action="store_true", help="end the drain: accept jobs again")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the drain after restarts of the daemon (default: until it stops)",
    )
    add_printing(parser)


def drain(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl drain}.
    """
    if args.end and args.keep:
        raise UsageError("--end ends the drain: leave --keep out")
    found = session.daemon.end_drain() if args.end else session.daemon.drain(args.keep)
    if args.wait:
        found = _wait(session, found)
    facts = [
        ("draining", "yes" if found.get("draining") else "no"),
        ("by", clean(found.get("by") or "")),
        ("after restarts", "yes" if found.get("keep") else ""),
        ("jobs left", clean(found.get("jobs"))),
        ("paused", clean(found.get("paused") or "")),
    ]
    session.printer.facts(found, facts, width=16)


def _wait(session: Session, found: dict[str, Any]) -> dict[str, Any]:
    """
    Wait until no job is left, also while the daemon is restarted.

    @param found: the drain as it is now; returned as it is then.
    @raise ClientError: the drain was ended, or the daemon does not come back.
    """
    looks = session.daemon.poll(_LOOK)
    said = ""
    while found.get("jobs"):
        if said != (said := _left(found)):
            print(said, file=session.stderr, flush=True)
        status = next(looks)
        while status is None:
            said = LOST
            print(said, file=session.stderr, flush=True)
            status = next(looks)
        found = status.get("drain") or {}
        if not found.get("draining"):
            raise ClientError("the drain was ended meanwhile")
    return found


def _left(found: Mapping[str, Any]) -> str:
    jobs, paused = found.get("jobs"), found.get("paused")
    also = f", {paused} of them paused: 'xferctl resume' lets them continue" if paused else ""
    return f"{jobs} job{'s' * (jobs != 1)} left{also}"


COMMANDS: Final[Mapping[str, Command]] = {
    "pause": Command(
        "[JOB...]",
        _pause_arguments,
        pause,
        "Paused transfers stop within a second, and keep their bytes.  Transfers that another job needs "
        "continue, and so does unpacking.",
        (
            "xferctl pause 5f3c0a9e1b77",
            "xferctl pause --host ghcr.io --host quay.io",
            "xferctl pause --all --keep",
        ),
    ),
    "resume": Command(
        "[JOB...]",
        _resume_arguments,
        resume,
        "Transfers continue at the same byte.",
        ("xferctl resume 5f3c0a9e1b77", "xferctl resume --host ghcr.io", "xferctl resume --all"),
    ),
    "priority": Command(
        "JOB N",
        _priority_arguments,
        priority,
        "A job with a higher priority precedes others in the queue for slots; running transfers keep their "
        "slots.  The default priority is 0.",
        ("xferctl priority 5f3c0a9e1b77 10", "xferctl priority 5f3 -5"),
    ),
    "retry": Command(
        "JOB...",
        _retry_arguments,
        retry,
        "Each retry is a new job, which continues where the failed or cancelled one stopped.  "
        "With --follow, interrupting the command cancels the new jobs.",
        ("xferctl retry 5f3c0a9e1b77", "xferctl retry --follow 5f3"),
    ),
    "drain": Command(
        "",
        _drain_arguments,
        drain,
        "The daemon accepts no new jobs and reports that it is not ready; running jobs continue.  "
        "A restart of the daemon ends the drain, unless it is kept.",
        ("xferctl drain --wait && systemctl stop xferd", "xferctl drain --keep", "xferctl drain --end"),
    ),
}
