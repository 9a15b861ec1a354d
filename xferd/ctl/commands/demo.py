# -*- test-case-name: tests.ctl.demo.test_run -*-
"""
The command C{xferctl demo}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import Command
from xferd.ctl.demo.run import demo

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Mapping


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="exit after the pull, without waiting for Ctrl-C")


COMMANDS: Final[Mapping[str, Command]] = {
    "demo": Command(
        "",
        _arguments,
        demo,
        "It starts a registry and a daemon with a temporary store, shows that the image is transferred "
        "once, and removes everything at the end.  It needs no network.",
        ("xferctl demo", "xferctl demo --once"),
    )
}
