# -*- test-case-name: tests.ctl.test_main -*-
"""
A command and its arguments: the parser, the layout of C{--help}, and the
options that several commands share.
"""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, RawDescriptionHelpFormatter
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from argparse import Namespace, _ActionsContainer
    from collections.abc import Callable

    from xferd.ctl.session import Session

_COLUMN = 28
"""The column at which the descriptions of options begin, at most."""


class UsageError(Exception):
    """
    The arguments are not those of a command; the text says why.
    """


class Command(NamedTuple):
    """
    One command of C{xferctl}.

    @ivar summary: one sentence without a full stop: verb and object.
    @ivar usage: the positional arguments, as the usage line shows them.
    @ivar add_arguments: adds the command's arguments to its parser.
    @ivar run: runs the command with its parsed arguments.
    @ivar description: paragraphs that follow the summary.
    @ivar examples: command lines.
    @ivar passes_arguments: whether the words after C{--} are kept as
        C{args}, unparsed.
    """

    summary: str
    usage: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, Session], None]
    description: str = ""
    examples: tuple[str, ...] = ()
    passes_arguments: bool = False


class Parser(ArgumentParser):
    """
    A parser that reports wrong use by L{UsageError}.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(formatter_class=Formatter, allow_abbrev=False, add_help=False, **more)
        self.add_argument("-h", "--help", action="help", help="show this help and exit")

    def error(self, message: str) -> NoReturn:
        """
        @raise UsageError: always.
        """
        raise UsageError(f"{message} (see '{self.prog} --help')")


class Formatter(RawDescriptionHelpFormatter):
    """
    Lays out C{--help}: options in one column, their descriptions beside them.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_COLUMN)

    def _format_action_invocation(self, action: Action) -> str:
        # "-u, --username USER", as Python 3.13 has it.
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        metavar = self._format_args(action, action.dest.upper())
        return f"{', '.join(action.option_strings)} {metavar}"


def command_parser(name: str, command: Command) -> Parser:
    """
    The parser of one command.
    """
    paragraphs = [f"{command.summary}.", *command.description.split("\n\n")]
    examples = "\n".join(f"  {line}" for line in command.examples)
    parser = Parser(
        prog=f"xferctl {name}",
        usage=" ".join(filter(None, (f"xferctl {name} [OPTION]...", command.usage))),
        description="\n\n".join(fill(text, 78) for text in paragraphs if text),
        epilog=f"examples:\n{examples}" if examples else None,
    )
    command.add_arguments(parser)
    add_common(parser, brief=True)
    if command.passes_arguments:
        parser.set_defaults(args=[])
    return parser


def add_common(parser: ArgumentParser, *, brief: bool = False) -> None:
    """
    Add the options that may precede or follow the command.

    @param brief: whether the help refers to C{xferctl --help}.
    """
    group = parser.add_argument_group("options of all commands")
    group.add_argument(
        "--host",
        metavar="URL",
        default=SUPPRESS,
        help="the daemon's address; see 'xferctl --help'"
        if brief
        else "the daemon's address: http://HOST:PORT, https://HOST or unix:PATH (default: $XFERD_HOST, else "
        "this user's socket, else root's, else http://127.0.0.1:9337)",
    )
    group.add_argument(
        "--token-file",
        metavar="PATH",
        default=SUPPRESS,
        help="a file with the API's bearer token (default: $XFERD_TOKEN_FILE)",
    )


def add_image(parser: ArgumentParser) -> None:
    """
    Add C{REF}, an image in the store.
    """
    parser.add_argument("reference", metavar="REF", help="the image, as 'xferctl images' lists it")


def add_platform(parser: _ActionsContainer, description: str) -> None:
    """
    Add C{--platform}.
    """
    parser.add_argument("--platform", metavar="PLATFORM", help=description)


def add_required_platform(parser: ArgumentParser) -> None:
    """
    Add C{--platform} for commands that use a stored image.
    """
    add_platform(parser, "fail unless the image is for this platform, OS/ARCH[/VARIANT]")


def add_priority(parser: ArgumentParser) -> None:
    """
    Add C{--priority}.
    """
    parser.add_argument(
        "--priority",
        type=int,
        default=0,
        metavar="N",
        help="start before jobs of lower priority (default: 0)",
    )


def add_no_credentials(parser: ArgumentParser) -> None:
    """
    Add C{--no-credentials}.
    """
    parser.add_argument(
        "--no-credentials",
        action="store_true",
        help="use the daemon's credentials for registries, not your own",
    )


def add_json(parser: _ActionsContainer, description: str = "print one JSON object per line") -> None:
    """
    Add C{--json}.
    """
    parser.add_argument("--json", action="store_true", help=description)


def add_output(parser: ArgumentParser, json: str, quiet: str) -> None:
    """
    Add C{--json} and C{--quiet}, which exclude one another.

    @param json: the description of C{--json}.
    @param quiet: the description of C{--quiet}.
    """
    output = parser.add_mutually_exclusive_group()
    add_json(output, json)
    output.add_argument("-q", "--quiet", action="store_true", help=quiet)
