# -*- test-case-name: tests.ctl.commands.test_archives -*-
"""
C{xferctl import} and C{xferctl export}: images from files, and to files.

The archive is sent over the HTTP API.  The daemon, which may run on another
machine and is often root, opens no path that a client names.
"""

from __future__ import annotations

import os
import shutil
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import (
    Command,
    add_image,
    add_no_credentials,
    add_output,
    add_platform,
    add_priority,
)
from xferd.ctl.commands.follow import JobFailed, cancel_interrupted, follow
from xferd.ctl.display.choose import choose_display
from xferd.ctl.display.progress import Progress, Result
from xferd.ctl.errors import ClientError, Refused, UsageError
from xferd.ctl.image.archive_sender import Sender, open_source
from xferd.ctl.image.layout import write_layout
from xferd.ctl.interrupts import CommandInterrupted
from xferd.ctl.output_file import output_file
from xferd.ctl.text import clean, size
from xferd.ctl.user_credentials import credentials_headers

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Mapping

    from xferd.ctl.api import Download
    from xferd.ctl.display.progress import ProgressDisplay
    from xferd.ctl.session import Session


def _import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", help="an archive, the directory of an OCI layout, or '-' for stdin"
    )
    parser.add_argument(
        "reference",
        metavar="REF",
        nargs="?",
        help="the image's name, or the one to import of several (default: all names in the archive)",
    )
    add_platform(parser, "import this platform, OS/ARCH[/VARIANT] (default: this machine's)")
    add_priority(parser)
    add_output(parser, "print each event as one line of JSON", "print only the imported references")


def _export_arguments(parser: ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a file, '-' for stdout, or a directory: one that exists, or a path that ends with a slash",
    )
    parser.add_argument(
        "--format",
        choices=("docker", "oci"),
        help="docker: an archive that docker, podman and skopeo load; oci: an OCI layout "
        "(default: docker, for a directory oci)",
    )
    add_no_credentials(parser)
    add_output(parser, "print progress and result as lines of JSON", "print only the path")


def import_(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl import}.  The job is cancelled if the user interrupts the
    command, or the archive cannot be read to its end.

    @raise JobFailed: the job failed or was cancelled.
    @raise CommandInterrupted: the user interrupted the command.
    """
    daemon = session.daemon
    source = open_source(args.path)
    display = choose_display(args, session)
    job: dict[str, object] | None = None
    sender: Sender | None = None
    try:
        # Until the answer arrives, the daemon may have a job whose ID is unknown here.
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
        raise CommandInterrupted(cancel_interrupted(daemon, "import", job)) from e
    except JobFailed as e:
        # The sender's refusal is a consequence of the job's end, not its cause.
        if sender is not None and sender.error is not None and not isinstance(sender.error, Refused):
            raise sender.error from e
        raise
    except OSError:
        if sender is not None:
            sender.stop()
        cancel_interrupted(daemon, "import", job)
        raise


def export(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl export}.  The file or directory appears under its name when
    it is complete.

    @raise ClientError: the daemon refuses, or the file cannot be written.
    """
    path = args.path
    if path == "-":
        _to_stdout(args, session)
        return
    display = choose_display(args, session, transient=True)
    try:
        if path.endswith("/") or os.path.isdir(path):
            _to_directory(args, session, display, path.rstrip("/") or "/")
        else:
            _to_file(args, session, display)
    except OSError as e:
        raise ClientError(f"cannot write {path!r}: {e.strerror or e}") from e


def _archive(args: Namespace, session: Session, form: str) -> Download:
    headers = credentials_headers(args, session, (), stored=True)
    return session.daemon.archive(args.reference, form, headers)


def _to_stdout(args: Namespace, session: Session) -> None:
    if session.stdout.isatty():
        raise UsageError("an archive is not printed on a terminal; name a file, or use a pipe")
    output = session.stdout.buffer
    with _archive(args, session, args.format or "docker") as download:
        for piece in download:
            output.write(piece)
        output.flush()


def _to_file(args: Namespace, session: Session, display: ProgressDisplay) -> None:
    """
    Write the archive to a temporary file beside its path, and rename that.
    """
    with (
        _archive(args, session, args.format or "docker") as download,
        output_file(args.path, session.interrupts) as file,
    ):
        for piece in _shown(download, display):
            file.write(piece)
        os.fchmod(file.fileno(), 0o666 & ~_umask())
    display.finish(_saved(args.reference, args.path, download.size))


def _to_directory(args: Namespace, session: Session, display: ProgressDisplay, path: str) -> None:
    """
    Write a layout to a temporary directory beside its path, and rename that.
    """
    if args.format == "docker":
        raise UsageError("--format docker needs a file; a directory is always an OCI layout")
    if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise ClientError(f"{path!r} is not empty; name an empty directory, or one that does not exist")
    temporary = None
    with _archive(args, session, "oci") as download:
        try:
            # An interrupt here would leave a directory that is not removed.
            with session.interrupts.held():
                folder, name = os.path.split(path)
                temporary = mkdtemp(prefix=f".{name}.", suffix=".part", dir=folder or ".")
            write_layout(temporary, _shown(download, display))
            os.chmod(temporary, 0o777 & ~_umask())
            with session.interrupts.held():
                # This replaces a directory only if it is still empty.
                os.rename(temporary, path)
                temporary = None
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
    display.finish(_saved(args.reference, path, download.size))


def _shown(download: Download, display: ProgressDisplay) -> Iterator[bytes]:
    """
    Yield a download's pieces and show its progress.
    """
    done, total = 0, download.size

    def progress() -> Progress:
        counts = {"bytes_done": done, "bytes_total": total}
        return Progress("saving", done, total, done / total if total else 1.0, counts=counts)

    with display:
        display.show(progress())
        for piece in download:
            yield piece
            done += len(piece)
            display.show(progress())


def _saved(reference: str, path: str, total: int) -> Result:
    data = {"reference": reference, "path": path, "bytes_done": total, "bytes_total": total}
    return Result(path, (f"{clean(reference)}: {size(total)} saved",), data)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


COMMANDS: Final[Mapping[str, Command]] = {
    "import": Command(
        "PATH [REF]",
        _import_arguments,
        import_,
        "It reads OCI archives, OCI layouts and the archives of 'docker save', compressed or not.  "
        "Interrupting the command cancels its job.",
        (
            "xferctl import app.tar",
            "docker save app:1.2 | xferctl import -",
            "xferctl import ./layout app:1.2",
        ),
    ),
    "export": Command(
        "REF PATH",
        _export_arguments,
        export,
        "The daemon fetches layers that the store lacks from the image's registry.",
        (
            "xferctl export alpine alpine.tar",
            "xferctl export alpine - | docker load",
            "xferctl export alpine ./layout/",
        ),
    ),
}
