# -*- test-case-name: tests.ctl.test_main -*-
"""
A command and its arguments: the parser, the layout of C{--help}, and the
options that several commands share.
"""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from xferd.ctl.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace, _ActionsContainer
    from collections.abc import Callable

    from xferd.ctl.session import Session

_COLUMN = 28
"""The column at which the descriptions of options begin, at most."""


class Command(NamedTuple):
    """
    One command of C{xferctl}.

    @ivar usage: the positional arguments, as the usage line shows them.
    @ivar add_arguments: adds the command's arguments to its parser.
    @ivar run: runs the command with its parsed arguments.
    @ivar description: paragraphs that follow the summary.
    @ivar examples: command lines; each command has one.
    @ivar passes_arguments: whether the words after C{--} are kept as
        C{args}, unparsed.
    @ivar summary: what it does, from the table of commands.
    """

    usage: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, Session], None]
    description: str = ""
    examples: tuple[str, ...] = ()
    passes_arguments: bool = False
    summary: str = ""


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

    def action_of(self, option: str) -> Action | None:
        """
        The action of an option; L{None} for an unknown one.
        """
        return self._option_string_actions.get(option)


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


class _CommandParser(Parser):
    """
    The parser of one command.
    """

    def __init__(self, name: str, command: Command) -> None:
        super().__init__(
            prog=f"xferctl {name}",
            usage=" ".join(filter(None, (f"xferctl {name} [OPTION]...", command.usage))),
        )
        self._command = command

    def format_help(self) -> str:
        """
        The help, with the description and the examples.
        """
        from textwrap import fill  # noqa: PLC0415 - slow to import, and for this alone

        command = self._command
        paragraphs = [f"{command.summary}.", *command.description.split("\n\n")]
        self.description = "\n\n".join(fill(text, 78) for text in paragraphs if text)
        self.epilog = "\n".join(["examples:", *(f"  {line}" for line in command.examples)])
        return super().format_help()


def command_parser(name: str, command: Command) -> Parser:
    """
    The parser of one command.
    """
    parser = _CommandParser(name, command)
    command.add_arguments(parser)
    add_common(parser, brief=True)
    if command.passes_arguments:
        parser.set_defaults(args=[])
    return parser


def add_common(parser: Parser, *, brief: bool = False) -> None:
    """
    Add the options that may precede or follow the command.

    @param brief: whether the help refers to C{xferctl --help}.
    """
    group = parser.add_argument_group("options of all commands")
    if parser.action_of("--host") is None:
        group.add_argument(
            "--host",
            metavar="URL",
            default=SUPPRESS,
            help="the daemon's address; see 'xferctl --help'"
            if brief
            else "the daemon's address: http://HOST:PORT, https://HOST or unix:PATH (default: $XFERD_HOST, "
            "else this user's socket, else root's, else http://127.0.0.1:9337)",
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


def add_json(parser: _ActionsContainer, description: str) -> None:
    """
    Add C{--json}, for commands that print events or files.
    """
    parser.add_argument("--json", action="store_true", help=description)


def add_template(forms: _ActionsContainer, description: str) -> None:
    """
    Add C{--format}.
    """
    forms.add_argument(
        "--format",
        metavar="TEMPLATE",
        dest="template",
        help=f"{description} by a template of its members, as '{{{{.id}}}} {{{{json .error}}}}'",
    )


def add_printing(parser: ArgumentParser, *, table: bool = False) -> None:
    """
    Add the options of a L{Form<xferd.ctl.printer.Form>}, for commands that print objects.

    @param table: whether the objects are printed in columns.
    """
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "-o",
        "--output",
        metavar="FORM",
        dest="form",
        choices=("table", "wide", "json", "yaml") if table else ("table", "json", "yaml"),
        help="table (default), wide with all columns, json (one object per line) or yaml"
        if table
        else "table (default), json or yaml",
    )
    forms.add_argument("--json", action="store_const", const="json", dest="form", help="the same as -o json")
    add_template(forms, "print each object")
    if table:
        parser.add_argument(
            "--no-trunc", action="store_true", help="print whole names and digests, in lines of any length"
        )


def add_progress(group: _ActionsContainer) -> None:
    """
    Add C{--progress}.
    """
    group.add_argument(
        "--progress",
        choices=("bars", "plain", "none"),
        help="show bars, plain lines, or no progress (default: bars on a terminal, else plain)",
    )


def add_output(parser: ArgumentParser, json: str, quiet: str) -> None:
    """
    Add C{--json}, C{--quiet} and C{--progress}, which exclude one another.

    @param json: the description of C{--json}.
    @param quiet: the description of C{--quiet}.
    """
    output = parser.add_mutually_exclusive_group()
    add_json(output, json)
    output.add_argument("-q", "--quiet", action="store_true", help=quiet)
    add_progress(output)
