# -*- test-case-name: tests.ctl.commands.test_verify -*-
"""
C{xferctl verify}: check content of the store, and replace what is damaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import Command, add_no_credentials, add_output, add_priority
from xferd.ctl.commands.follow import run_job
from xferd.ctl.user_credentials import credentials_headers

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "reference",
        metavar="REF",
        nargs="?",
        help="an image, as 'xferctl images' lists it (default: all content of the store)",
    )
    add_priority(parser)
    parser.add_argument(
        "-d", "--detach", action="store_true", help="print the job's ID and exit; the job continues"
    )
    add_no_credentials(parser)
    add_output(parser, "print each event as one line of JSON", "print only the result")


def verify(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl verify}.
    """
    headers: Mapping[str, str] = {}
    if args.reference is not None:
        headers = credentials_headers(args, session, (args.reference,), stored=True)
    run_job(args, session, headers, priority=args.priority)


COMMANDS: Final[Mapping[str, Command]] = {
    "verify": Command(
        "[REF]",
        _arguments,
        verify,
        "The daemon reads all blobs and compares them with their digests.  What is damaged is fetched again "
        "from where it came; what cannot be fetched is moved aside.  The exit status is 0 if all content is "
        "whole, or whole again.  Interrupting the command cancels its job.",
        ("xferctl verify alpine", "xferctl verify --json"),
    ),
}
