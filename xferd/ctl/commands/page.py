# -*- test-case-name: tests.ctl.commands.test_page -*-
"""
C{xferctl page}: open the status page in a browser.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import Command, add_json
from xferd.ctl.errors import NotXferd, UsageError
from xferd.ctl.text import json_line

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session

_CODE: Final = re.compile(r"[A-Za-z0-9_-]{20,100}")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--user", metavar="USER", help="the user who runs the browser (default: you, also under sudo)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--print", action="store_true", help="print the address without opening it")
    add_json(output, "print the address as JSON without opening it")


def page(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl page}: print the address, and open it on the user's desktop.
    """
    uid = browsing_user(args.user, session.environ, os.geteuid())
    found = session.daemon.page(uid)
    code, port = found.get("code"), found.get("port")
    # The address is built from checked parts: the daemon's answer is not trusted.
    if not isinstance(code, str) or not _CODE.fullmatch(code) or not isinstance(port, int):
        raise NotXferd("the server does not speak xferd's API")
    address = f"http://xferd.localhost:{port:d}/enter?code={code}"
    print(json_line({"address": address}) if args.json else address, file=session.stdout, flush=True)
    desktop = session.environ.get("DISPLAY") or session.environ.get("WAYLAND_DISPLAY")
    program = shutil.which("xdg-open", path=session.environ.get("PATH"))
    if desktop and program and uid == os.geteuid() and not (args.print or args.json):
        null = subprocess.DEVNULL
        subprocess.Popen(  # noqa: S603 - the address has no more than a number and a code in it
            [program, address], stdin=null, stdout=null, stderr=null, start_new_session=True
        )


def browsing_user(name: str | None, environ: Mapping[str, str], uid: int) -> int:
    """
    The user ID of the browser's user: the named user, else the one who called
    C{sudo}, else the calling user.

    @raise UsageError: there is no such user.
    """
    if name is None:
        calling = environ.get("SUDO_UID", "")
        return int(calling) if uid == 0 and re.fullmatch(r"[0-9]{1,10}", calling) else uid
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        if re.fullmatch(r"[0-9]{1,10}", name):
            return int(name)
        raise UsageError(f"there is no user {name!r}") from None


COMMANDS: Final[Mapping[str, Command]] = {
    "page": Command(
        "",
        _arguments,
        page,
        "It prints the page's address, which is valid for 60 seconds, for one browser of one user.",
        ("xferctl page", "sudo xferctl page --print"),
    )
}
