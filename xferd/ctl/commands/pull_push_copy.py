# -*- test-case-name: tests.ctl.commands.test_pull_push_copy -*-
"""
C{xferctl pull}, C{push}, C{copy} and C{prefetch}: create a job and follow it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import (
    Command,
    add_image,
    add_no_credentials,
    add_output,
    add_platform,
    add_priority,
)
from xferd.ctl.commands.follow import cancel_interrupted, run_job
from xferd.ctl.errors import Refused, UsageError
from xferd.ctl.interrupts import CommandInterrupted
from xferd.ctl.text import clean
from xferd.ctl.user_credentials import credentials_headers

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping, Sequence

    from xferd.ctl.session import Session

MOST_NODES: Final = 1000
"""The nodes that fetch an image for one command, at most."""


def _pull_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "reference", metavar="REF", help="the image: alpine, ghcr.io/owner/app:1.2, HOST/NAME@DIGEST"
    )
    add_platform(parser, "pull this platform, OS/ARCH[/VARIANT] (default: this machine's)")
    _add_job_options(parser, "pulled")


def _push_arguments(parser: ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="the destination, HOST/NAME[:TAG] (default: the image's own name)",
    )
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="TAG",
        help="push this tag as well; may be repeated",
    )
    platforms = parser.add_mutually_exclusive_group()
    add_platform(platforms, "push only this platform of the image's index, OS/ARCH[/VARIANT]")
    platforms.add_argument(
        "--all-platforms",
        action="store_const",
        const="all",
        dest="platform",
        help="push the image's index with all its platforms; the daemon fetches missing ones",
    )
    _add_job_options(parser, "pushed")


def _copy_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("reference", metavar="SRC", help="the image, index or artifact to copy")
    parser.add_argument("target", metavar="DST", help="the destination, HOST/NAME[:TAG]")
    add_platform(parser, "copy only this platform, OS/ARCH[/VARIANT] (default: all)")
    parser.add_argument(
        "--referrers", action="store_true", help="copy its referrers too: signatures, SBOMs, attestations"
    )
    _add_job_options(parser, "copied")


def _prefetch_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", help="the image, index or artifact, as clients name it")
    add_platform(parser, "fetch this platform, OS/ARCH[/VARIANT], or 'all' (default: this machine's)")
    parser.add_argument(
        "--nodes",
        type=int,
        default=1,
        metavar="N",
        help="fetch it on N nodes of the fleet, this one and those with the fewest transfers",
    )
    _add_job_options(parser, "fetched", own_credentials=False)


def _add_job_options(parser: ArgumentParser, past: str, *, own_credentials: bool = True) -> None:
    add_priority(parser)
    parser.add_argument(
        "-d", "--detach", action="store_true", help="print the job's ID and exit; the job continues"
    )
    if own_credentials:
        add_no_credentials(parser)
    add_output(
        parser, "print each event as one line of JSON", f"print only the {past} reference with its digest"
    )


def pull(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl pull}.
    """
    _run(args, session, (args.reference,), platform=args.platform)


def push(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl push}.
    """
    references = (args.target or args.reference,)
    _run(args, session, references, stored=True, target=args.target, tags=args.tag, platform=args.platform)


def copy(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl copy}.
    """
    # If both are on one host, the target's credentials count: the right to push is the rarer one.
    references = (args.target, args.reference)
    _run(args, session, references, target=args.target, platform=args.platform, referrers=args.referrers)


def prefetch(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl prefetch}.
    """
    if not 1 <= args.nodes <= MOST_NODES:
        raise UsageError(f"--nodes must be from 1 to {MOST_NODES}, not {args.nodes}")
    if args.nodes > 1:
        _prefetch_elsewhere(args, session)
    _run(args, session, (), platform=args.platform)


def _prefetch_elsewhere(args: Namespace, session: Session) -> None:
    """
    Have other nodes fetch the image.  Where the fleet does not work, this one still
    does.

    @raise Refused: the daemon is in no fleet.
    """
    wanted = args.nodes - 1
    try:
        begun = session.daemon.prefetch_in_fleet(args.reference, args.platform, wanted)
    except Refused as e:
        if e.status != 503:
            raise
        session.warn(f"no other node fetches it: {e}")
        return
    names = ", ".join(clean(each.get("node")) for each in begun)
    if names:
        print(f"also fetched by {names}", file=session.stderr, flush=True)
    if len(begun) < wanted:
        session.warn(f"other nodes of the fleet that fetch it: {len(begun)}, not {wanted}")


def _run(
    args: Namespace, session: Session, references: Sequence[str], *, stored: bool = False, **more: object
) -> None:
    """
    Create a job with the user's credentials, and follow it: see L{run_job}.

    @param references: see L{credentials_headers}; none for a job without the
        user's credentials.
    @param stored: see L{credentials_headers}.
    @param more: fields of the request for this kind of job.
    """
    try:
        headers = credentials_headers(args, session, references, stored=stored) if references else {}
    except KeyboardInterrupt as e:
        raise CommandInterrupted(cancel_interrupted(session.daemon, args.command, None)) from e
    run_job(args, session, headers, priority=args.priority, **more)


COMMANDS: Final[Mapping[str, Command]] = {
    "pull": Command(
        "REF",
        _pull_arguments,
        pull,
        "Clients that pull the same layers at the same time share their transfers, and layers that the store "
        "has are not transferred.  Interrupting the command cancels its job.",
        (
            "xferctl pull alpine",
            "xferctl pull --platform linux/arm64 ghcr.io/owner/app:1.2",
            "xferctl pull --detach --priority 10 debian:bookworm",
        ),
    ),
    "push": Command(
        "REF [TARGET]",
        _push_arguments,
        push,
        "Layers that the registry has are not transferred.  Interrupting the command cancels its job.",
        (
            "xferctl push registry.example.com/team/app:1.2",
            "xferctl push alpine registry.example.com/team/alpine:3.20 --tag latest",
            "xferctl push --all-platforms alpine registry.example.com/team/alpine",
        ),
    ),
    "copy": Command(
        "SRC DST",
        _copy_arguments,
        copy,
        "The copy has the same digest: an index with all its platforms, unless --platform selects one.  "
        "Interrupting the command cancels its job.",
        (
            "xferctl copy alpine:3.20 registry.example.com/mirror/alpine:3.20",
            "xferctl copy --referrers ghcr.io/owner/app:1.2 registry.example.com/app:1.2",
        ),
    ),
    "prefetch": Command(
        "REF",
        _prefetch_arguments,
        prefetch,
        "Clients that pull the image through the daemon's registry then get it from the store.  Nothing is "
        "unpacked, and 'xferctl images' does not list it.  The daemon fetches what clients without "
        "credentials may pull.  Interrupting the command cancels its job.",
        (
            "xferctl prefetch alpine:3.20",
            "xferctl prefetch --platform all ghcr.io/owner/app:1.2",
            "xferctl prefetch --nodes 3 ghcr.io/owner/app:1.2",
        ),
    ),
}
