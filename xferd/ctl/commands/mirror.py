# -*- test-case-name: tests.ctl.commands.test_mirror -*-
"""
C{xferctl mirror}: other container tools as clients of the daemon's registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xferd.ctl.columns import Column
from xferd.ctl.commands.arguments import Command, add_json, add_template
from xferd.ctl.config_file import show_files
from xferd.ctl.errors import ClientError, UsageError
from xferd.ctl.mirror.check import check
from xferd.ctl.mirror.files import FILES
from xferd.ctl.mirror.requests import SCRIPTS
from xferd.ctl.mirror.served import read_served
from xferd.ctl.text import clean, cut_front, json_line, size
from xferd.errors import BadReference
from xferd.names import DOCKER_HUB, Reference
from xferd.platforms import Platform

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.mirror.served import Served
    from xferd.ctl.session import Session

_CLIENTS: Final = ", ".join(FILES)
_IMAGE: Final = "docker.io/library/hello-world:latest"


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        metavar="ACTION",
        choices=("show", "check"),
        help="show: print configuration files; check: make the requests of clients",
    )
    parser.add_argument(
        "clients", metavar="CLIENT", nargs="*", help=f"{_CLIENTS}; for check also crane (default: all)"
    )
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
        "-o",
        "--output",
        metavar="DIR",
        help="write the files below DIR; / is the client itself.  For check: table, wide, json or yaml",
    )
    add_json(output, "print one JSON object per file or request")
    add_template(output, "for check: print each request")
    parser.add_argument(
        "--image",
        metavar="REF",
        default=_IMAGE,
        help="the image that check pulls (default: docker.io/library/hello-world)",
    )


def mirror(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl mirror}.

    @raise UsageError: a client is missing or unknown.
    @raise ClientError: the daemon serves no registry, a client cannot use it, or a
        file exists.
    """
    known = FILES if args.action == "show" else SCRIPTS
    for name in args.clients:
        if name not in known:
            raise UsageError(f"{name!r} is not a client; the clients are {', '.join(known)}")
    if args.action == "show" and not args.clients:
        raise UsageError(f"a client is required: {_CLIENTS}")
    if args.action == "show" and args.template is not None:
        raise UsageError("--format belongs to 'check'")
    if args.action == "check" and args.upstream:
        raise UsageError("--upstream belongs to 'show'")
    found = session.daemon.registry()
    served = read_served(found, url=args.url, upstreams=args.upstream, authorities=args.ca)
    if args.action == "show":
        _show(args, session, served)
    else:
        _check(args, session, served)


def _show(args: Namespace, session: Session, served: Served) -> None:
    """
    Print or write the files.
    """
    clients: list[str] = args.clients
    found = [(client, file) for client in dict.fromkeys(clients) for file in FILES[client](served)]
    if args.json:
        for client, file in found:
            print(json_line({"client": client, **file._asdict()}), file=session.stdout)
        return
    files = list(dict.fromkeys(file for _, file in found))
    print(show_files(files, args.output), end="", file=session.stdout)


def _check(args: Namespace, session: Session, served: Served) -> None:
    """
    Make the requests of clients, and print what became of each.

    @raise ClientError: a client cannot use an answer.
    """
    printer = session.printer if args.output is None else session.printer.formed(args.output)
    reference, problems, rows = _reference(args.image), [], []
    for client in dict.fromkeys(args.clients or SCRIPTS):
        hub = reference.repository.host == DOCKER_HUB and served.serves_classic_docker
        if not args.clients and client == "docker" and not hub:
            continue
        for done in check(client, served, reference, Platform.local()):
            rows.append(done)
            if done.problem:
                problems.append(f"{client} cannot use the mirror: {done.method} {done.path}: {done.problem}")
    printer.rows(
        [row._asdict() for row in rows],
        (
            Column("CLIENT", lambda row: row.client),
            Column("REQUEST", lambda row: f"{row.method} {row.path}", crop=cut_front),
            Column("STATUS", lambda row: str(row.status or ""), right=True),
            Column("SIZE", lambda row: size(row.size), right=True),
            Column("RESULT", lambda row: clean(row.problem) or "ok", reason=True),
        ),
        rows,
    )
    if problems:
        raise ClientError(clean("; ".join(problems)))


def _reference(text: str) -> Reference:
    """
    The image of a check.

    @raise UsageError: it is not a reference.
    """
    try:
        return Reference.parse(text)
    except BadReference as e:
        raise UsageError(str(e)) from e


COMMANDS: Final[Mapping[str, Command]] = {
    "mirror": Command(
        "ACTION [CLIENT]...",
        _arguments,
        mirror,
        f"The daemon's registry mirrors others for {_CLIENTS} and tools that share their configuration.  "
        "'show' prints the files by which a client uses it.  'check' asks the registry as each client would, "
        "with all headers and all forms of paths, and exits with status 1 if a client could not pull.",
        (
            "xferctl mirror show podman",
            "xferctl mirror show containerd --upstream docker.io --upstream ghcr.io",
            "xferctl mirror show docker --url http://mirror.lan:5000",
            "xferctl mirror check",
            "xferctl mirror check podman --image ghcr.io/owner/app:1.2",
        ),
    )
}
