# -*- test-case-name: tests.ctl.commands.test_mirror -*-
"""
C{xferctl mirror}: other container tools as clients of the daemon's registry.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import Command, UsageError, add_json
from xferd.ctl.errors import ClientError
from xferd.ctl.mirror.files import FILES
from xferd.ctl.mirror.served import read_served
from xferd.ctl.text import json_line

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping, Sequence

    from xferd.ctl.mirror.files import ConfigFile
    from xferd.ctl.session import Session

_CLIENTS: Final = ", ".join(FILES)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", choices=("show",), help="show: print configuration files")
    parser.add_argument("clients", metavar="CLIENT", nargs="*", help=f"one of {_CLIENTS}")
    parser.add_argument(
        "--upstream",
        action="append",
        default=[],
        metavar="HOST",
        help="only this registry; may be repeated (default: all upstreams of the daemon)",
    )
    parser.add_argument("--url", metavar="URL", help="the registry's URL for the client (default: its own)")
    parser.add_argument(
        "--ca", metavar="PATH", help="a file with the certificate authority of the registry, on the client"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "-o", "--output", metavar="DIR", help="write the files below DIR; / is the client itself"
    )
    add_json(output, "print one JSON object per file")


def mirror(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl mirror}.

    @raise UsageError: a client is missing or unknown.
    @raise ClientError: the daemon serves no registry, a client cannot use it, or a
        file exists.
    """
    clients: list[str] = args.clients
    for name in clients or [""]:
        if name not in FILES:
            raise UsageError(f"{name!r} is not a client" if name else "a client is required: " + _CLIENTS)
    served = read_served(
        session.daemon.registry(), url=args.url, upstreams=args.upstream, authorities=args.ca
    )
    found = [(client, file) for client in dict.fromkeys(clients) for file in FILES[client](served)]
    if args.json:
        for client, file in found:
            print(json_line({"client": client, **file._asdict()}), file=session.stdout)
        return
    files = list(dict.fromkeys(file for _, file in found))
    if args.output is not None:
        for path in write_files([file for file in files if file.is_whole], args.output):
            print(f"wrote {path}", file=session.stdout)
        files = [file for file in files if not file.is_whole]
    print("\n".join(map(_shown, files)), end="", file=session.stdout)


def _shown(file: ConfigFile) -> str:
    """
    A file with its path and its note as comments.
    """
    heading = f"# {file.path}" if file.is_whole else f"# {file.path}, beside its other settings:"
    note = f"# {file.note}\n" if file.note else ""
    return f"{heading}\n{note}{file.text}"


def write_files(files: Sequence[ConfigFile], directory: str) -> list[str]:
    """
    Write files below a directory, as if it were the root directory.

    @return: the paths of those that were not there with this content.
    @raise ClientError: one exists with another content; then none was written.
    @raise OSError: one cannot be written.
    """
    wanted = {Path(directory, file.path.lstrip("/")): file.text for file in files}
    missing = {path: text for path, text in wanted.items() if not path.exists()}
    for path, text in wanted.items():
        if path not in missing and path.read_text(encoding="utf-8", errors="replace") != text:
            raise ClientError(f"{path} exists with other content; remove it, or use another directory")
    for path, text in missing.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [str(path) for path in missing]


COMMANDS: Final[Mapping[str, Command]] = {
    "mirror": Command(
        "Configure other tools to use the daemon's registry",
        "ACTION [CLIENT]...",
        _arguments,
        mirror,
        f"The daemon's registry mirrors others for {_CLIENTS} and tools that share their configuration.  "
        "'show' prints the files by which a client uses it.",
        (
            "xferctl mirror show podman",
            "xferctl mirror show containerd --upstream docker.io --upstream ghcr.io",
            "xferctl mirror show docker --url http://mirror.lan:5000",
        ),
    )
}
