# -*- test-case-name: tests.ctl.commands.test_doctor -*-
"""
C{xferctl doctor}: problems of a running installation, with their remedies.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Final

from xferd._version import __version__
from xferd.ctl.commands.arguments import Command, add_printing
from xferd.ctl.errors import ClientError
from xferd.ctl.text import clean, plural
from xferd.docker_config import auth_files

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Mapping

    from xferd.ctl.session import Session


def _arguments(parser: ArgumentParser) -> None:
    add_printing(parser)


def doctor(args: Namespace, session: Session) -> None:  # noqa: ARG001
    """
    Run C{xferctl doctor}.

    @raise ClientError: there is a problem.
    """
    checks = session.daemon.examination()
    version = session.daemon.status().get("version")
    own = [*_own_files(session), *_versions(str(version))]
    checks.append({"name": "xferctl", "problems": own})
    count = 0
    for check in checks:
        problems = [p for p in check.get("problems") or () if isinstance(p, dict)]
        count += len(problems)
        if session.printer.facts(check, ()):
            _print(session, clean(check.get("name")), problems)
    if count:
        raise ClientError(f"{plural(count, 'problem')} found")


def _print(session: Session, name: str, problems: list[dict[str, Any]]) -> None:
    print(
        f"{name + ':':<16}{'ok' if not problems else plural(len(problems), 'problem')}", file=session.stdout
    )
    for problem in problems:
        print(f"  {clean(problem.get('message'))}", file=session.stdout)
        print(f"    -> {clean(problem.get('remedy'))}", file=session.stdout)


def _versions(version: str) -> Iterator[dict[str, str]]:
    if version != __version__:
        yield {
            "message": f"xferctl has version {__version__}, the daemon {version}",
            "remedy": "install the same version, and restart xferd",
        }


def _own_files(session: Session) -> Iterator[dict[str, str]]:
    """
    Check the modes of this user's files with credentials.
    """
    for path in auth_files(session.environ):
        try:
            found = os.stat(path)
        except OSError:
            continue
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o077:
            yield {
                "message": f"others can read {path}, as its mode is {mode:o}",
                "remedy": f"chmod go= {path}",
            }


COMMANDS: Final[Mapping[str, Command]] = {
    "doctor": Command(
        "",
        _arguments,
        doctor,
        "It checks the daemon's directories, sandbox, certificates and credentials, and your own "
        "credential files.  It exits with status 1 if it finds a problem.",
        ("xferctl doctor", "sudo xferctl doctor --json"),
    )
}
