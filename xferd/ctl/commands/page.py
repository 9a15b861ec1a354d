# -*- test-case-name: tests.ctl.commands.test_page -*-
"""
C{xferctl page}: an address that opens the status page.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from xferd.ctl.errors import ClientError, NotXferd
from xferd.ctl.text import json_line

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session

_CODE: Final = re.compile(r"[A-Za-z0-9_-]{20,100}")


def page(args: Namespace, session: Session) -> None:
    """
    Print the address, and open it where there is a desktop of that user's.
    """
    uid = browsing_user(args.user, session.environ, os.geteuid())
    found = session.daemon.page(uid)
    code, port = found.get("code"), found.get("port")
    # What is opened is put together here: a daemon may say anything.
    if not isinstance(code, str) or not _CODE.fullmatch(code) or not isinstance(port, int):
        raise NotXferd("what answers does not speak xferd's API")
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
    Whose browser it is: that of the named user, else of who called C{sudo},
    else of who calls.

    @raise ClientError: there is no such user.
    """
    if name is None:
        calling = environ.get("SUDO_UID", "")
        return int(calling) if uid == 0 and re.fullmatch(r"[0-9]{1,10}", calling) else uid
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        if re.fullmatch(r"[0-9]{1,10}", name):
            return int(name)
        raise ClientError(f"there is no user {name!r}") from None
