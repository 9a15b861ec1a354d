# -*- test-case-name: tests.ctl.commands.test_archives -*-
"""
C{xferctl import} and C{xferctl export}: images out of files, and into files.

The bytes go over the HTTP API.  The daemon, which may be far away and is often
root, opens no path that a client names.
"""

from __future__ import annotations

import os
import shutil
from tempfile import mkdtemp, mkstemp
from typing import TYPE_CHECKING

from xferd.ctl.commands.jobs import JobFailed, abandon, choose_display, credentials, follow
from xferd.ctl.display.saving import choose_saving
from xferd.ctl.errors import ClientError, Refused
from xferd.ctl.image.archive_sender import Sender, open_source
from xferd.ctl.image.layout import write_layout
from xferd.ctl.interrupts import Interrupted

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from xferd.ctl.api import Download
    from xferd.ctl.display.saving import Saving
    from xferd.ctl.session import Session


def import_(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl import} was told.

    If the user leaves, or the archive cannot be read on, the job is cancelled.

    @raise JobFailed: the job failed, or somebody cancelled it.
    @raise Interrupted: the user wants no more.
    """
    daemon = session.daemon
    source = open_source(args.path)
    display = choose_display(args, session.stdout, session.environ)
    job: dict[str, object] | None = None
    sender: Sender | None = None
    try:
        # Between question and answer there is a job whose name we do not know.
        with session.interrupts.held():
            job = daemon.start(
                "import", args.reference, platform=args.platform, size=source.size, priority=args.priority
            )
        sender = Sender(daemon, str(job.get("id")), source)
        sender.start()
        follow(daemon, job, display)
    except KeyboardInterrupt as e:
        if sender is not None:
            sender.stop()
        raise Interrupted(abandon(daemon, "import", job)) from e
    except JobFailed as e:
        # A refusal tells only that the job has ended before.
        if sender is not None and sender.error is not None and not isinstance(sender.error, Refused):
            raise sender.error from e
        raise
    except OSError:
        if sender is not None:
            sender.stop()
        abandon(daemon, "import", job)
        raise


def export(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl export} was told.

    Under its name a file or a directory is whole, or not there.

    @raise ClientError: the daemon does not give it, or it cannot be written.
    """
    path = args.path
    if path == "-":
        _to_stdout(args, session)
        return
    saving = choose_saving(args, session)
    try:
        if path.endswith("/") or os.path.isdir(path):
            _to_directory(args, session, saving, path.rstrip("/") or "/")
        else:
            _to_file(args, session, saving)
    except OSError as e:
        raise ClientError(f"cannot write {path!r}: {e.strerror or e}") from e


def _archive(args: Namespace, session: Session, form: str) -> Download:
    """
    Open the archive.
    """
    headers = credentials(args, session, (), stored=True)
    return session.daemon.archive(args.reference, form, headers)


def _to_stdout(args: Namespace, session: Session) -> None:
    """
    Write the archive where a pipe is.
    """
    if session.stdout.isatty():
        raise ClientError("an archive is nothing for a terminal; name a file, or pipe it somewhere")
    output = session.stdout.buffer
    with _archive(args, session, args.format or "docker") as download:
        for piece in download:
            output.write(piece)
        output.flush()


def _to_file(args: Namespace, session: Session, saving: Saving) -> None:
    """
    Write the archive beside its name, and give it the name when it is whole.
    """
    path = args.path
    temporary = None
    with _archive(args, session, args.format or "docker") as download:
        try:
            # A signal must not come between the file and our knowing of it.
            with session.interrupts.held():
                fd, temporary = mkstemp(
                    prefix=f".{os.path.basename(path)}.", suffix=".part", dir=_folder(path)
                )
            with open(fd, "wb") as file:
                for piece in _shown(download, saving):
                    file.write(piece)
                file.flush()
                os.fchmod(fd, 0o666 & ~_umask())
                os.fsync(fd)
            with session.interrupts.held():
                os.rename(temporary, path)
                temporary = None
        finally:
            if temporary is not None:
                os.unlink(temporary)
    saving.finish(args.reference, path, download.size)


def _to_directory(args: Namespace, session: Session, saving: Saving, path: str) -> None:
    """
    Write a layout beside its name, and give it the name when it is whole.
    """
    if args.format == "docker":
        raise ClientError("a directory is an OCI layout; only a file can have docker's format")
    if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise ClientError(f"{path!r} is not empty; name a directory that is, or one that is not there")
    temporary = None
    with _archive(args, session, "oci") as download:
        try:
            with session.interrupts.held():
                temporary = mkdtemp(prefix=f".{os.path.basename(path)}.", suffix=".part", dir=_folder(path))
            write_layout(temporary, _shown(download, saving))
            os.chmod(temporary, 0o777 & ~_umask())
            with session.interrupts.held():
                # In place of a directory only if that is empty still.
                os.rename(temporary, path)
                temporary = None
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
    saving.finish(args.reference, path, download.size)


def _shown(download: Download, saving: Saving) -> Iterator[bytes]:
    """
    Show how far a download is.
    """
    with saving:
        done = 0
        saving.show(done, download.size)
        for piece in download:
            yield piece
            done += len(piece)
            saving.show(done, download.size)


def _folder(path: str) -> str:
    return os.path.dirname(path) or "."


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
