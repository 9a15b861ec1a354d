# -*- test-case-name: tests.ctl.test_main -*-
"""
The command line: what C{xferctl} understands, and how it ends.

Exit status: 0, done; 1, failed, the reason is the last line on stderr; 2,
wrong use; 130, interrupted; 141, nobody reads the output any more.
"""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TextIO

from xferd._version import __version__
from xferd.ctl.address import candidate_addresses
from xferd.ctl.client import Daemon, client_name
from xferd.ctl.commands import listing, store
from xferd.ctl.commands.jobs import copy, look_on, pull, push
from xferd.ctl.commands.limits import limits, read_changes
from xferd.ctl.commands.watch import watch
from xferd.ctl.errors import BadAddress, ClientError
from xferd.ctl.interrupts import Interrupts
from xferd.ctl.session import Printer, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DONE, FAILED, WRONG, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141


class WrongUse(Exception):
    """
    The arguments make no command; the text says why.
    """


class Command(NamedTuple):
    """
    One word that C{xferctl} understands.

    @ivar summary: what it does, for the list of commands.
    @ivar arguments: names its arguments to a parser.
    @ivar run: does it.
    """

    summary: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, Session], None]


class _Parser(ArgumentParser):
    """
    A parser that leaves it to its caller how to fail.
    """

    def error(self, message: str) -> NoReturn:
        raise WrongUse(f"{message} (see '{self.prog} --help')")


def _pull(parser: ArgumentParser) -> None:
    """
    The arguments of C{pull}.
    """
    parser.add_argument(
        "reference", metavar="REF", help="the image: alpine, ghcr.io/owner/app:1.2, HOST/NAME@DIGEST"
    )
    parser.add_argument("--platform", metavar="OS/ARCH[/VARIANT]", help="default: this machine's")
    _moving(parser, "pulled")


def _push(parser: ArgumentParser) -> None:
    """
    The arguments of C{push}.
    """
    parser.add_argument("reference", metavar="REF", help="the image, as 'xferctl images' lists it")
    parser.add_argument(
        "target", metavar="TARGET", nargs="?", help="where to, HOST/NAME[:TAG]; default: the image's own name"
    )
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="TAG",
        help="another tag to give it there; may be repeated",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="this one of the index that the name stood for"
    )
    which.add_argument(
        "--all-platforms",
        action="store_const",
        const="all",
        dest="platform",
        help="that index with all its platforms; what the store lacks comes from the image's registry",
    )
    _moving(parser, "pushed")


def _copy(parser: ArgumentParser) -> None:
    """
    The arguments of C{copy}.
    """
    parser.add_argument("reference", metavar="SRC", help="the image, index or artifact, in its registry")
    parser.add_argument("target", metavar="DST", help="where to, HOST/NAME[:TAG]")
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="only this one of an index; default: all, as they are"
    )
    parser.add_argument(
        "--referrers", action="store_true", help="also what refers to it: signatures, SBOMs and the like"
    )
    _moving(parser, "copied")


def _moving(parser: ArgumentParser, past: str) -> None:
    """
    The arguments of all commands that begin a job.
    """
    parser.add_argument("--priority", type=int, default=0, metavar="N", help="higher goes first; default: 0")
    parser.add_argument("--detach", action="store_true", help="print the job's ID and leave it running")
    _credentials(parser)
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print every event as one line of JSON")
    output.add_argument("--quiet", "-q", action="store_true", help=f"print only what was {past}, by digest")


def _credentials(parser: ArgumentParser) -> None:
    """
    The argument of all commands for which the daemon may ask a registry.
    """
    parser.add_argument(
        "--no-credentials",
        action="store_true",
        help="do not send your own credentials for registries; the daemon's are used",
    )


def _import(parser: ArgumentParser) -> None:
    """
    The arguments of C{import}.
    """
    parser.add_argument(
        "path", metavar="PATH", help="the archive, or the directory of an OCI layout; '-' for stdin"
    )
    parser.add_argument(
        "reference",
        metavar="REF",
        nargs="?",
        help="what to call the image, or which one to take of several; default: the archive's own names",
    )
    parser.add_argument("--platform", metavar="OS/ARCH[/VARIANT]", help="default: this machine's")
    parser.add_argument("--priority", type=int, default=0, metavar="N", help="higher goes first; default: 0")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print every event as one line of JSON")
    output.add_argument("--quiet", "-q", action="store_true", help="print only what was imported")


def _export(parser: ArgumentParser) -> None:
    """
    The arguments of C{export}.
    """
    parser.add_argument("reference", metavar="REF", help="the image, as 'xferctl images' lists it")
    parser.add_argument(
        "path",
        metavar="PATH",
        help="where to: a file, '-' for stdout, or a directory (there already, or with a slash at its end)",
    )
    parser.add_argument(
        "--format",
        choices=("docker", "oci"),
        help="docker, which docker, podman and skopeo load, or an OCI layout alone; default: docker, "
        "and oci for a directory",
    )
    _credentials(parser)
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print progress and result as lines of JSON")
    output.add_argument("--quiet", "-q", action="store_true", help="print only the path")


def _run_import(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl import} was told.
    """
    from xferd.ctl.commands.archives import import_  # noqa: PLC0415 - others need not wait for what it imports

    import_(args, session)


def _run_export(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl export} was told.
    """
    from xferd.ctl.commands.archives import export  # noqa: PLC0415 - others need not wait for what it imports

    export(args, session)


def _json(parser: ArgumentParser) -> None:
    """
    The argument of all commands that look.
    """
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def _image(parser: ArgumentParser) -> None:
    """
    The arguments of C{inspect}.
    """
    parser.add_argument("reference", metavar="REF", help="the image's name")
    _wanted(parser)
    _json(parser)


def _tag(parser: ArgumentParser) -> None:
    """
    The arguments of C{tag}.
    """
    parser.add_argument("reference", metavar="REF", help="the image's name; it must be in the store")
    parser.add_argument("name", metavar="NEW", help="its other name, [HOST/]NAME[:TAG]")
    _json(parser)


def _references(parser: ArgumentParser) -> None:
    """
    The arguments of C{rm}, C{pin} and C{unpin}.
    """
    parser.add_argument("references", metavar="REF", nargs="+", help="an image's name")
    _json(parser)


def _collect(parser: ArgumentParser) -> None:
    """
    The arguments of C{gc}.
    """
    parser.add_argument("--dry-run", action="store_true", help="only say what would be freed")
    parser.add_argument(
        "--partials", action="store_true", help="also free partial blobs that no transfer uses"
    )
    _json(parser)


def _wanted(parser: ArgumentParser) -> None:
    """
    The argument of all commands that use what was pulled.
    """
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="fail if the store has it for another platform"
    )


def _copied(parser: ArgumentParser) -> None:
    """
    The arguments of C{unpack}, which C{bundle} has too.
    """
    parser.add_argument("reference", metavar="REF", help="the image's name; it must be in the store")
    parser.add_argument("directory", metavar="DIR", help="where to make it: not there yet, or empty")
    _wanted(parser)
    parser.add_argument("--mount", action="store_true", help="mount the layers instead of copying (root)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print progress and result as lines of JSON")
    output.add_argument("--quiet", "-q", action="store_true", help="print only the path")


def _unpack(parser: ArgumentParser) -> None:
    """
    The arguments of C{unpack}.
    """
    _copied(parser)
    parser.add_argument("--read-only", action="store_true", help="with --mount: let nothing be changed")


def _bundle(parser: ArgumentParser) -> None:
    """
    The arguments of C{bundle}.
    """
    _copied(parser)
    parser.add_argument("--read-only", action="store_true", help="let the container change nothing")
    parser.usage = f"{parser.prog} [options] REF DIR [-- ARGS ...]"
    parser.epilog = "ARGS are run in place of the image's own arguments (Cmd)."
    parser.set_defaults(args=[])


def _run_unpack(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl unpack} was told.
    """
    from xferd.ctl.image.unpack import unpack  # noqa: PLC0415 - others need not wait for what it imports

    if args.read_only and not args.mount:
        raise WrongUse("--read-only is for --mount: what is copied can be changed")
    unpack(args, session)


def _run_bundle(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl bundle} was told.
    """
    from xferd.ctl.image.unpack import bundle  # noqa: PLC0415 - others need not wait for what it imports

    bundle(args, session)


def _jobs(parser: ArgumentParser) -> None:
    """
    The arguments of C{jobs}.
    """
    parser.add_argument("--all", "-a", action="store_true", help="also those that have ended")
    _json(parser)


def _job(parser: ArgumentParser) -> None:
    """
    The arguments of C{job} and C{cancel}.
    """
    parser.add_argument("job", metavar="ID", help="the job's ID, as 'xferctl jobs' lists it")
    _json(parser)


def _login(parser: ArgumentParser) -> None:
    """
    The arguments of C{login}.
    """
    _registry(parser)
    parser.add_argument("--username", "-u", metavar="USER", help="default: asked for on the terminal")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from stdin")
    parser.add_argument(
        "--no-check", action="store_true", help="do not let the daemon try them with the registry first"
    )


def _registry(parser: ArgumentParser) -> None:
    """
    The arguments of C{login} and C{logout}.
    """
    parser.add_argument(
        "registry", metavar="HOST", nargs="?", default="docker.io", help="the registry; default: docker.io"
    )
    parser.add_argument(
        "--auth-file",
        metavar="PATH",
        help="where credentials are kept; default: $REGISTRY_AUTH_FILE, else $DOCKER_CONFIG/config.json, "
        "else ~/.docker/config.json",
    )


def _run_login(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl login} was told.
    """
    from xferd.ctl.commands.login import login  # noqa: PLC0415 - others need not wait for what it imports

    login(args, session)


def _run_logout(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl logout} was told.
    """
    from xferd.ctl.commands.login import logout  # noqa: PLC0415 - others need not wait for what it imports

    logout(args, session)


def _shown_job(parser: ArgumentParser) -> None:
    """
    The arguments of C{job}.
    """
    _job(parser)
    parser.add_argument("--follow", "-f", action="store_true", help="show it until it has ended")


def _run_job(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl job} was told.
    """
    if args.follow:
        look_on(args, session)
    else:
        listing.job(args, session)


def _limits(parser: ArgumentParser) -> None:
    """
    The arguments of C{limits}.
    """
    parser.add_argument(
        "changes",
        metavar="NAME=NUMBER",
        nargs="*",
        help="set a limit, for example downloads=5 or download_rate=2M; 0 is no limit",
    )
    _json(parser)


def _run_limits(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl limits} was told.
    """
    try:
        changes = read_changes(args.changes)
    except ValueError as e:
        raise WrongUse(str(e)) from e
    limits(changes, session)


def _page(parser: ArgumentParser) -> None:
    """
    The arguments of C{page}.
    """
    parser.add_argument(
        "--user", metavar="USER", help="whose browser it is; default: who calls, or called sudo"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--print", action="store_true", help="do not open it, only print it")
    output.add_argument("--json", action="store_true", help="do not open it, print it as JSON")


def _run_page(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl page} was told.
    """
    from xferd.ctl.commands.page import page  # noqa: PLC0415 - others need not wait for what it imports

    page(args, session)


def _run_doctor(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl doctor} was told.
    """
    from xferd.ctl.commands.doctor import doctor  # noqa: PLC0415 - others need not wait for what it imports

    doctor(args, session)


def _completion(parser: ArgumentParser) -> None:
    """
    The arguments of C{completion}.
    """
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")
    parser.usage = f"{parser.prog} [options] SHELL"
    parser.epilog = "For bash: source <(xferctl completion bash)"
    # Behind "--" stand the words that the shell's script asks about.
    parser.set_defaults(args=[])


def _run_completion(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl completion} was told.
    """
    from xferd.ctl.commands.completion import completion  # noqa: PLC0415 - others need not wait for what it imports

    completion(args, session, {name: _parser(name).format_help for name in COMMANDS})


def _demo(parser: ArgumentParser) -> None:
    """
    The arguments of C{demo}.
    """
    parser.add_argument("--once", action="store_true", help="end when the image is there, not with Ctrl-C")


def _run_demo(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl demo} was told.
    """
    from xferd.ctl.demo.run import demo  # noqa: PLC0415 - others need not wait for what it imports

    demo(args, session)


COMMANDS: Mapping[str, Command] = {
    "pull": Command("pull an image into the store", _pull, pull),
    "push": Command("push an image of the store to a registry", _push, push),
    "copy": Command("copy an image from registry to registry", _copy, copy),
    "import": Command("take images out of an archive into the store", _import, _run_import),
    "export": Command("save an image of the store as an archive", _export, _run_export),
    "images": Command("list the images of the store", _json, listing.images),
    "inspect": Command("show one image of the store", _image, listing.inspect),
    "tag": Command("give an image of the store another name", _tag, store.tag),
    "rm": Command("remove images, and free what no other needs", _references, store.remove),
    "pin": Command("let images stay when the store needs room", _references, store.pin),
    "unpin": Command("let images go when the store needs room", _references, store.unpin),
    "gc": Command("free what nothing in the store names or uses", _collect, store.collect),
    "unpack": Command("make an image's root file system out of the store", _unpack, _run_unpack),
    "bundle": Command("make a bundle of an image, for runc and its like", _bundle, _run_bundle),
    "jobs": Command("list the jobs that are queued or running", _jobs, listing.jobs),
    "job": Command("show one job, layer by layer or blob by blob", _shown_job, _run_job),
    "cancel": Command("cancel a job", _job, listing.cancel),
    "transfers": Command(
        "list what moves at present, for whom, and what it waits for", _json, listing.transfers
    ),
    "login": Command("log in to a registry, in the file that docker uses too", _login, _run_login),
    "logout": Command("forget the credentials for a registry", _registry, _run_logout),
    "watch": Command("see all that the daemon does, as it happens", _json, watch),
    "limits": Command("show or set how much happens at once, and how fast", _limits, _run_limits),
    "page": Command("open the status page in a browser", _page, _run_page),
    "doctor": Command("check the installation, and say what to change", _json, _run_doctor),
    "status": Command("show how the daemon is, and what confines it", _json, listing.status),
    "completion": Command("print what a shell needs to complete words", _completion, _run_completion),
    "demo": Command("see three clients pull one image, on this machine alone", _demo, _run_demo),
}


def parse(argv: Sequence[str]) -> Namespace:
    """
    Read the arguments.

    @return: what they say, with the command's name as C{command}.
    @raise WrongUse: they make no command.
    @raise SystemExit: they ask for help or for the version, which is printed.
    """
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    top = _Parser(
        prog="xferctl",
        description="Pull, push and copy container images through an xferd daemon.",
        epilog=f"commands:\n{listing}\n\n'xferctl COMMAND --help' tells more of each.",
        formatter_class=RawDescriptionHelpFormatter,
        usage="xferctl [--host URL] [--token-file PATH] COMMAND ...",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"xferctl {__version__}")
    _common(top)
    top.add_argument("command", metavar="COMMAND", nargs="?", help=SUPPRESS)
    top.add_argument("rest", nargs="...", help=SUPPRESS)
    args = top.parse_args(argv)
    if args.command is None:
        top.error("which command? " + ", ".join(COMMANDS))
    if args.command not in COMMANDS:
        near = get_close_matches(args.command, COMMANDS, 1, 0.5)
        hint = f"did you mean '{near[0]}'?" if near else "there are " + ", ".join(COMMANDS)
        top.error(f"there is no command {args.command!r}: {hint}")
    parser = _parser(args.command)
    rest, after = args.rest, None
    if parser.get_default("args") is not None and "--" in rest:
        # argparse would take options among them for ours.
        at = rest.index("--")
        rest, after = rest[:at], rest[at + 1 :]
    given = {k: v for k, v in vars(args).items() if k != "rest"}
    parsed = parser.parse_args(rest, Namespace(**given))
    if after is not None:
        parsed.args = after
    return parsed


def _parser(name: str) -> ArgumentParser:
    """
    What reads the arguments of one command.
    """
    command = COMMANDS[name]
    parser = _Parser(prog=f"xferctl {name}", description=command.summary, allow_abbrev=False)
    _common(parser)
    command.arguments(parser)
    return parser


def _common(parser: ArgumentParser) -> None:
    """
    The arguments that may stand before or after the command.
    """
    parser.add_argument(
        "--host",
        metavar="URL",
        default=SUPPRESS,
        help="where the daemon is, http://HOST:PORT or unix:PATH; default: $XFERD_HOST, else this user's or "
        "root's unix socket, else http://127.0.0.1:9337",
    )
    parser.add_argument(
        "--token-file",
        metavar="PATH",
        default=SUPPRESS,
        help="a file with the API's bearer token; default: $XFERD_TOKEN_FILE",
    )


def main(
    argv: Sequence[str],
    *,
    stdout: TextIO,
    stderr: TextIO,
    environ: Mapping[str, str],
    interrupts: Interrupts | None = None,
) -> int:
    """
    Do what the arguments say.

    @param interrupts: tells of signals; by default nothing does.
    @return: the exit status.
    """

    def fail(message: str, status: int) -> int:
        print(f"xferctl: {message}", file=stderr, flush=True)
        return status

    try:
        args = parse(argv)
        session = _session(args, stdout, stderr, environ, Interrupts() if interrupts is None else interrupts)
        COMMANDS[args.command].run(args, session)
        stdout.flush()
    except WrongUse as e:
        return fail(str(e), WRONG)
    except BadAddress as e:
        return fail(str(e), WRONG)
    except ClientError as e:
        return fail(str(e), FAILED)
    except KeyboardInterrupt as e:
        return fail(str(e) or "interrupted", INTERRUPTED)
    except BrokenPipeError:
        return UNREAD
    except OSError as e:
        return fail(str(e), FAILED)
    return DONE


def _session(
    args: Namespace, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str], interrupts: Interrupts
) -> Session:
    """
    Make ready what a command needs.

    @raise BadAddress: what should say where the daemon is does not.
    @raise ClientError: there is no token in the token's file.
    """
    uid = os.geteuid()
    host = getattr(args, "host", None) or environ.get("XFERD_HOST")
    daemon = Daemon(
        candidate_addresses(host, environ, uid),
        client=client_name(uid),
        token=_token(getattr(args, "token_file", None) or environ.get("XFERD_TOKEN_FILE")),
    )
    printer = Printer(stdout, datetime.now(UTC), as_json=getattr(args, "json", False))
    return Session(daemon, printer, stdout, stderr, environ, interrupts)


def _token(path: str | None) -> str | None:
    """
    The bearer token in a file, if a file is named.

    @raise ClientError: it cannot be read, or holds no token.
    """
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read(8192).strip()
    except (OSError, ValueError) as e:
        raise ClientError(f"cannot read the token: {e}") from e
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ClientError(f"{path!r} holds no token: one word of ASCII characters")
    return token


def console() -> int:
    """
    Be the program C{xferctl}.
    """
    interrupts = Interrupts()
    interrupts.install()
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding has no sign for is no reason to fail.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    status = main(
        sys.argv[1:], stdout=sys.stdout, stderr=sys.stderr, environ=os.environ, interrupts=interrupts
    )
    if status == UNREAD:
        # The interpreter would try to flush once more at its end, and say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
