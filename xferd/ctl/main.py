# -*- test-case-name: tests.ctl.test_main -*-
"""
The entry point of C{xferctl}.

Exit status: 0, success; 1, failure, with the reason on the last line of
stderr; 2, wrong use; 130, interrupted; 141, the output's reader is gone.
"""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, Namespace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from xferd._version import __version__
from xferd.ctl.address import candidate_addresses
from xferd.ctl.client import Daemon, client_name
from xferd.ctl.commands.arguments import Parser, add_common, command_parser
from xferd.ctl.commands.table import GROUPS, MODULES, SUMMARIES, load_command
from xferd.ctl.errors import ClientError, Refused, UsageError
from xferd.ctl.interrupts import Interrupts
from xferd.ctl.printer import Form, Printer
from xferd.ctl.session import Session
from xferd.ctl.text import clean
from xferd.paths import user_of_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DONE, FAILED, WRONG, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141

_BAD_REQUEST = 400
"""The HTTP status of a request with wrong arguments, such as an invalid reference."""


_EXAMPLES = (
    "  xferctl pull alpine",
    "  xferctl copy alpine registry.example.com/team/alpine",
    "  xferctl watch",
    "  xferctl --host unix:/run/xferd/xferd.sock jobs --all",
)


class _TopParser(Parser):
    """
    The parser of everything before the command; its help lists the commands.
    """

    def __init__(self) -> None:
        super().__init__(
            prog="xferctl",
            usage="xferctl [OPTION]... COMMAND [ARGUMENT]...",
            epilog="\n".join(["examples:", *_EXAMPLES, "", "'xferctl COMMAND --help' describes a command."]),
        )
        self.add_argument(
            "--version", action="version", version=f"xferctl {__version__}", help="show the version and exit"
        )
        add_common(self)
        self.add_argument("command", metavar="COMMAND", nargs="?", help=SUPPRESS)
        self.add_argument("rest", nargs="...", help=SUPPRESS)

    def format_help(self) -> str:
        """
        The help, with the commands.
        """
        self.description = "\n".join(_description())
        return super().format_help()


def _description() -> Iterator[str]:
    yield "Pull, push and copy container images through an xferd daemon."
    width = max(map(len, MODULES))
    for heading, names in GROUPS.items():
        yield ""
        yield f"{heading}:"
        for name in names:
            yield f"  {name:<{width}}  {SUMMARIES[name]}"


def parse(argv: Sequence[str]) -> Namespace:
    """
    Parse the arguments.

    @return: the arguments; C{command} is the command's name, and C{run} runs it.
    @raise UsageError: they are not those of a command.
    @raise SystemExit: help or version was printed.
    """
    top = _TopParser()
    args = top.parse_args(argv)
    if args.command is None:
        top.error("a command is required: " + ", ".join(MODULES))
    if args.command not in MODULES:
        from difflib import get_close_matches  # noqa: PLC0415 - slow to import, and for this alone

        near = get_close_matches(args.command, MODULES, 1, 0.5)
        hint = f"did you mean '{near[0]}'?" if near else "the commands are " + ", ".join(MODULES)
        top.error(f"there is no command {args.command!r}; {hint}")
    command = load_command(args.command)
    rest, after = args.rest, None
    if command.passes_arguments and "--" in rest:
        # argparse would parse options among them.
        at = rest.index("--")
        rest, after = rest[:at], rest[at + 1 :]
    given = {k: v for k, v in vars(args).items() if k != "rest"}
    parsed = command_parser(args.command, command).parse_args(rest, Namespace(**given))
    if after is not None:
        parsed.args = after
    parsed.run = command.run
    return parsed


def main(
    argv: Sequence[str],
    *,
    stdout: TextIO,
    stderr: TextIO,
    environ: Mapping[str, str],
    interrupts: Interrupts | None = None,
) -> int:
    """
    Run a command.

    @param interrupts: raises signals as exceptions; by default, signals are
        left to the caller.
    @return: the exit status.
    """

    def fail(message: str, status: int) -> int:
        print(f"xferctl: {message}", file=stderr, flush=True)
        return status

    try:
        args = parse(argv)
        session = _session(args, stdout, stderr, environ, Interrupts() if interrupts is None else interrupts)
        args.run(args, session)
        stdout.flush()
    except UsageError as e:
        return fail(str(e), WRONG)
    except Refused as e:
        return fail(str(e), WRONG if e.status == _BAD_REQUEST else FAILED)
    except ClientError as e:
        return fail(str(e), FAILED)
    except KeyboardInterrupt as e:
        return fail(str(e) or "interrupted", INTERRUPTED)
    except BrokenPipeError:
        return UNREAD
    except OSError as e:
        path = "" if e.filename is None else f": {clean(e.filename)}"
        return fail(f"{e.strerror or e}{path}", FAILED)
    return DONE


def _session(
    args: Namespace, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str], interrupts: Interrupts
) -> Session:
    """
    Prepare what a command needs.

    @raise BadAddress: the daemon's address cannot be parsed.
    @raise ClientError: the token file holds no token.
    """
    uid = os.geteuid()
    host = getattr(args, "host", None) or environ.get("XFERD_HOST")
    daemon = Daemon(
        candidate_addresses(host, environ, user_of_paths(uid)),
        client=client_name(uid),
        token=_token(getattr(args, "token_file", None) or environ.get("XFERD_TOKEN_FILE")),
    )
    printer = Printer(stdout, datetime.now(UTC), _form(args))
    return Session(daemon, printer, stdout, stderr, environ, interrupts)


def _form(args: Namespace) -> Form:
    """
    The form of the output that the options select.
    """
    template = getattr(args, "template", None)
    name = getattr(args, "form", None) or ("json" if getattr(args, "json", False) else "table")
    return Form(name if template is None else "template", template or "", getattr(args, "no_trunc", False))


def _token(path: str | None) -> str | None:
    """
    The bearer token in a file; L{None} without a file.

    @raise ClientError: the file cannot be read, or holds no token.
    """
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read(8192).strip()
    except (OSError, ValueError) as e:
        raise ClientError(f"cannot read the token file: {e}") from e
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ClientError(f"{path!r} holds no token; it must hold one word of ASCII characters")
    return token


def console() -> int:
    """
    Run C{xferctl} with the process's arguments, streams and signals.
    """
    interrupts = Interrupts()
    interrupts.install()
    for stream in (sys.stdout, sys.stderr):
        # Characters that the terminal's encoding lacks are escaped.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    status = main(
        sys.argv[1:], stdout=sys.stdout, stderr=sys.stderr, environ=os.environ, interrupts=interrupts
    )
    if status == UNREAD:
        # The interpreter flushes stdout at its end, and would report the failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
