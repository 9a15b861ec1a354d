# -*- test-case-name: tests.ctl.commands.test_export_journal -*-
"""
C{xferctl export-journal}: a copy of the daemon's journal, made while it runs.

SQLite's own backup copies the database as one transaction, with whatever the daemon has
committed by then.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from xferd.ctl.commands.arguments import Command, add_printing
from xferd.ctl.errors import ClientError
from xferd.ctl.output_file import output_file
from xferd.names import is_loopback

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session

PAGES: Final = 1000
"""Pages that are copied at a time; the daemon may write in between."""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE", help="the file to write; an existing one is replaced")
    add_printing(parser)


def export_journal(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl export-journal}.
    """
    address = session.daemon.address()
    if address.scheme != "unix" and not is_loopback(address.name):
        raise ClientError(f"{address} is another machine: run this command on the daemon's own")
    disk = session.daemon.status().get("disk")
    directory = str(disk.get("path")) if isinstance(disk, dict) else ""
    journal = os.path.join(directory, "xferd.db")
    try:
        # SQLite would report neither.
        os.close(os.open(journal, os.O_RDONLY | os.O_CLOEXEC))
        with output_file(args.path, session.interrupts) as file:
            _back_up(journal, file.name)
        _sync_directory(os.path.dirname(args.path) or ".")
    except PermissionError as e:
        raise ClientError(f"cannot copy {journal}: run this command as the daemon's user or root") from e
    except OSError as e:
        raise ClientError(f"cannot copy {journal} to {args.path!r}: {e.strerror or e}") from e
    except sqlite3.Error as e:
        raise ClientError(f"cannot copy {journal}: {e}") from e
    session.printer.facts({"path": args.path}, [("written", args.path)])


def _sync_directory(path: str) -> None:
    """
    Flush the names in a directory to the disk.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _back_up(journal: str, target: str) -> None:
    """
    Copy a database, and check the copy.

    @raise sqlite3.Error: that fails, or the copy is damaged.
    """
    # Its owner's files beside it are there while the daemon runs: this makes none.
    source = sqlite3.connect(f"file:{quote(journal)}?mode=ro", uri=True)
    with closing(source), closing(sqlite3.connect(target)) as copy:
        source.backup(copy, pages=PAGES)
        # One file, without a log beside it.
        copy.execute("PRAGMA journal_mode = DELETE")
        ((found,),) = copy.execute("PRAGMA integrity_check(1)")
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {found}")


COMMANDS: Final[Mapping[str, Command]] = {
    "export-journal": Command(
        "FILE",
        _arguments,
        export_journal,
        "The journal has the jobs and their attempts, the repositories of the registry, and what is "
        "remembered of registries.  Run this on the daemon's machine, as its user or root.",
        ("xferctl export-journal /backup/xferd.db",),
    ),
}
