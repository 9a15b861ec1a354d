# -*- test-case-name: tests.ctl.commands.test_engine -*-
"""
C{xferctl engine}: container engines that run images from the daemon's store.
"""

from __future__ import annotations

import os
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.columns import Column
from xferd.ctl.commands.arguments import Command, add_json, add_no_credentials, add_template
from xferd.ctl.config_file import show_files, without_present
from xferd.ctl.display.choose import choose_display
from xferd.ctl.display.job_view import count
from xferd.ctl.display.progress import Progress, Quiet
from xferd.ctl.engine.check import Check
from xferd.ctl.engine.clients import CLIENTS, Unavailable
from xferd.ctl.engine.files import TOOLS
from xferd.ctl.engine.machine import PROGRAMS, Machine, Version, parse_version
from xferd.ctl.engine.served import choose, read_engines
from xferd.ctl.errors import ClientError, UsageError
from xferd.ctl.text import clean, cut_front, cut_reference, json_line, size
from xferd.ctl.user_credentials import credentials_headers
from xferd.errors import BadReference
from xferd.names import Reference
from xferd.platforms import Platform

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping, Sequence

    from xferd.ctl.engine.check import Checked
    from xferd.ctl.engine.served import Engine
    from xferd.ctl.session import Session

_TOOLS: Final = ", ".join(TOOLS)

_COLUMNS: Final[tuple[Column[Sequence[str]], ...]] = (
    Column("KIND", itemgetter(0)),
    Column("ENGINE", itemgetter(1)),
    Column("STATE", itemgetter(2)),
    Column("IMAGE", itemgetter(3), crop=cut_reference),
    Column("LAYERS", itemgetter(4), right=True),
    Column("CONTAINERS", itemgetter(5), right=True),
    Column("ROOT", itemgetter(6), crop=cut_front),
    Column("WHY", itemgetter(7), reason=True),
)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        metavar="ACTION",
        choices=("show", "check", "ls", "fill", "forget"),
        help="show: print configuration files; check: pull an image by a tool, and report whether xferd "
        "fetched it; ls: list engines with the images that they use; fill: write the blobs of an image into "
        "a containerd; forget: remove the containers of a containerd that is not in the daemon's settings",
    )
    parser.add_argument(
        "tools",
        metavar="TOOL",
        nargs="*",
        help=f"for show and check: {_TOOLS}; for fill: the engine's NAME and the image; for forget: NAME",
    )
    parser.add_argument(
        "--engine", metavar="NAME", help="the engine in the daemon's settings; required if there are several"
    )
    parser.add_argument(
        "--for",
        dest="versions",
        action="append",
        default=[],
        metavar="TOOL=VERSION",
        help="the version of a tool; may be repeated (default: the one on this machine)",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="write the files below DIR; / is this machine itself.  For ls: table, wide, json or yaml",
    )
    add_json(output, "print one JSON object per file, check, engine or image")
    add_template(output, "for ls: print each engine")
    parser.add_argument(
        "--image", metavar="REF", help="the image that check pulls (default: a small one that it makes)"
    )
    parser.add_argument(
        "--namespace", metavar="NAME", help="for fill: the only namespace of the engine (default: all)"
    )
    add_no_credentials(parser)


def engine(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl engine}.

    @raise UsageError: a tool is missing or unknown, or an option belongs to another action.
    @raise ClientError: the daemon serves no such engine, or a tool cannot use it.
    """
    if args.template is not None and args.action != "ls":
        raise UsageError("--format belongs to 'ls'")
    if args.action == "ls":
        if args.tools or args.versions:
            raise UsageError("'ls' takes no arguments but --engine, -o, --json and --format")
    elif args.action == "fill":
        if len(args.tools) != 2 or args.versions or args.engine is not None:
            raise UsageError("'fill' takes the arguments NAME and REF, and neither --engine nor --for")
    elif args.action == "forget":
        if len(args.tools) != 1 or args.versions or args.engine is not None:
            raise UsageError("'forget' takes the argument NAME, and neither --engine nor --for")
    elif not args.tools:
        raise UsageError(f"a tool is required: {_TOOLS}")
    if args.output is not None and args.action not in ("show", "ls"):
        raise UsageError("--output belongs to 'show' and 'ls'")
    if args.image is not None and args.action != "check":
        raise UsageError("--image belongs to 'check'")
    if (args.namespace is not None or args.no_credentials) and args.action != "fill":
        raise UsageError("--namespace and --no-credentials belong to 'fill'")
    for name in args.tools if args.action in ("show", "check") else ():
        if name not in TOOLS:
            raise UsageError(f"{name!r} is not a tool; the tools are {_TOOLS}")
    actions = {"show": _show, "check": _check, "ls": _list, "fill": _fill, "forget": _forget}
    actions[args.action](args, session)


def _show(args: Namespace, session: Session) -> None:
    """
    Print or write the files.
    """
    machine = Machine(session.environ, os.geteuid(), _versions(args.versions))
    platform = str(Platform.local())
    engines = read_engines(session.daemon.engines(), session.daemon.status())
    found = []
    for name in dict.fromkeys(args.tools):
        tool = TOOLS[name]
        chosen = choose(engines, tool.kind, args.engine)
        found += [(name, file) for file in tool.files(chosen, machine, platform)]
    if args.json:
        for name, file in found:
            print(json_line({"tool": name, **file._asdict()}), file=session.stdout)
        return
    files = [without_present(f, machine.read(f.path)) for f in dict.fromkeys(file for _, file in found)]
    print(show_files(files, args.output), end="", file=session.stdout)


def _check(args: Namespace, session: Session) -> None:
    """
    Pull an image by each tool, and print who fetched its layers.
    """
    machine = Machine(session.environ, os.geteuid(), _versions(args.versions))
    engines = read_engines(session.daemon.engines(), session.daemon.status())
    for name in dict.fromkeys(args.tools):
        chosen = choose(engines, TOOLS[name].kind, args.engine)
        if chosen.problem:
            raise ClientError(
                f"the daemon does not serve {chosen.kind} {chosen.name}".rstrip()
                + f": {clean(chosen.problem)}"
            )
        for client in CLIENTS[name](machine):
            check = Check(name, client, chosen, session.daemon, session.environ)
            try:
                done = (
                    check.with_sample(Platform.local())
                    if args.image is None
                    else check.with_image(args.image)
                )
            except Unavailable:
                if client.is_optional:
                    continue
                raise
            if args.json:
                print(json_line(done._asdict()), file=session.stdout)
            else:
                _print_check(done, chosen, session)


def _print_check(done: Checked, engine: Engine, session: Session) -> None:
    lines = [f"{done.tool}: {done.client} pulled {clean(done.image)} in {done.seconds:.2f} s"]
    if done.by_xferd:
        requested = ", ".join(sorted(set(done.by_engine))) or "nothing"
        lines.append(f"  the registry sent the layer to xferd, and to {done.tool} only: {requested}")
    where = f"{engine.kind} {engine.name}".rstrip()
    lines.append(f"  served by {where} at {clean(engine.path)}")
    print("\n".join(lines), file=session.stdout)


def _fill(args: Namespace, session: Session) -> None:
    """
    Give an engine the blobs that it lacks, and print how many these were.
    """
    name, reference = args.tools
    headers = credentials_headers(args, session, (reference,))
    display = Quiet(session.stdout) if args.json else choose_display(args, session, transient=True)
    filled: dict[str, Any] = {}
    with display:
        for filled in session.daemon.fill(name, reference, args.namespace, headers):
            done, total = count(filled, "bytes"), count(filled, "size")
            if total:
                display.show(Progress("filling", done, total, done / total))
    if args.json:
        print(json_line(filled), file=session.stdout)
        return
    where = ", ".join(clean(each) for each in filled.get("namespaces") or ())
    print(
        f"{clean(filled.get('image'))} in {clean(name)} ({where}): {count(filled, 'written')} of "
        f"{count(filled, 'blobs')} blobs were missing, {size(count(filled, 'bytes'))} written",
        file=session.stdout,
    )


def _forget(args: Namespace, session: Session) -> None:
    """
    Remove the containers of an engine that is not in the settings, and print how many
    snapshots these had.
    """
    (name,) = args.tools
    forgotten = session.daemon.forget_engine(name)
    if args.json:
        print(json_line(forgotten), file=session.stdout)
        return
    removed = f"{count(forgotten, 'snapshots')} snapshots of {clean(name)} are removed"
    print(f"{removed}; 'xferctl gc' frees the layers", file=session.stdout)


def _versions(given: Sequence[str]) -> dict[str, Version]:
    """
    The versions of C{--for}.

    @raise UsageError: one is not C{TOOL=VERSION}.
    """
    versions = {}
    for text in given:
        tool, _, value = text.partition("=")
        found = parse_version(value)
        if tool not in PROGRAMS or found is None:
            raise UsageError(f"--for: {text!r} is not TOOL=VERSION, for example containerd=2.1")
        versions[tool] = found
    return versions


def _list(args: Namespace, session: Session) -> None:
    """
    Print each engine with the images that it uses.
    """
    found = session.daemon.engines()
    if args.engine is not None:
        found = [each for each in found if each.get("name") == args.engine]
    rows: list[Sequence[str]] = []
    for each in found:
        images = [image for image in each.get("images") or [] if isinstance(image, dict)]
        rows += [_row(each, image) for image in images] or [_row(each, None)]
        left_out = [image for image in each.get("left_out") or [] if isinstance(image, dict)]
        rows += [_left_out_row(each, image) for image in left_out]
    printer = session.printer if args.output is None else session.printer.formed(args.output)
    printer.rows(found, _COLUMNS, rows)


def _row(each: dict[str, Any], image: dict[str, Any] | None) -> Sequence[str]:
    """
    The row of one image, or of an engine without any.
    """
    return (
        clean(each.get("kind")),
        clean(each.get("name")),
        clean(each.get("state")),
        "" if image is None else _familiar(str(image.get("image"))),
        "" if image is None else str(count(image, "layers")),
        "" if image is None else str(count(image, "containers")),
        "" if image is None else clean(image.get("by")),
        clean(each.get("problem")),
    )


def _left_out_row(each: dict[str, Any], image: dict[str, Any]) -> Sequence[str]:
    """
    The row of an image that an engine does not see.
    """
    kind, name = clean(each.get("kind")), clean(each.get("name"))
    return kind, name, "left out", _familiar(str(image.get("image"))), "", "", "", clean(image.get("reason"))


def _familiar(reference: str) -> str:
    """
    The short name of an image; C{-} if it has none.
    """
    try:
        return clean(Reference.parse(reference).familiar())
    except BadReference:
        return clean(reference) or "-"


COMMANDS: Final[Mapping[str, Command]] = {
    "engine": Command(
        "ACTION [TOOL]... | fill NAME REF | forget NAME",
        _arguments,
        engine,
        "An engine that is named in the daemon's configuration file runs images from the store, without "
        "downloading or unpacking them itself.  'show' prints the files that make a tool use it, for the "
        "version of the tool on this machine.  'check' pulls an image by a tool, and fails unless xferd "
        "fetched its layers.  'ls' lists the engines with the images that they use.  'fill' writes the blobs "
        "of an image into a containerd, which needs them to export or push the image.  'forget' removes what "
        "the daemon keeps for a containerd that its configuration file does not name any more.",
        (
            "xferctl engine show containerd",
            "xferctl engine show podman --output /",
            "xferctl engine show docker --for docker=29.0 --for containerd=2.1",
            "xferctl engine check containerd",
            "xferctl engine ls",
            "xferctl engine fill node docker.io/library/debian:12",
        ),
    )
}
