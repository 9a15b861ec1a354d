# -*- test-case-name: tests.ctl.commands.test_completion -*-
"""
C{xferctl completion}: completion scripts for shells.

The scripts are a few lines that call C{xferctl} itself for the candidates:
commands and options, images in the store, jobs, limits and registries.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import Command, command_parser
from xferd.ctl.commands.table import MODULES, load_command
from xferd.ctl.errors import ClientError
from xferd.errors import XferdError
from xferd.names import Reference

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Mapping, Sequence

    from xferd.ctl.client import Daemon
    from xferd.ctl.session import Session

SCRIPTS: Final[Mapping[str, str]] = {
    # Bash ends a word at ":" and "=", and replaces only the part after the last of them.
    "bash": """\
_xferctl() {
    local line=${COMP_LINE:0:COMP_POINT} word kept IFS
    local -a words
    IFS=' ' read -ra words <<< "$line"
    [[ $line == *' ' ]] && words+=('')
    word=${words[-1]}
    kept=${word%"${word##*[:=]}"}
    IFS=$'\\n'
    COMPREPLY=($("$1" completion bash -- "${words[@]:1}" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -o default -F _xferctl xferctl
""",
    "zsh": """\
#compdef xferctl
_xferctl() {
    local -a found
    found=(${(f)"$(xferctl completion zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then compadd -a found; else _files; fi
}
# As a file of $fpath, this is the function itself.
if [[ $funcstack[1] == _xferctl ]]; then _xferctl; else compdef _xferctl xferctl; fi
""",
    "fish": """\
complete -c xferctl -a '(xferctl completion fish -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}
"""The script of each shell."""

MIRROR_CLIENTS: Final = ("docker", "containerd", "podman", "buildkit", "k3s", "crane")
"""The clients of C{xferctl mirror}, whose modules are not imported for a list of words."""

ENGINE_TOOLS: Final = ("containerd", "k3s", "docker", "podman", "buildah", "cri-o", "nerdctl")
"""The tools of C{xferctl engine show}."""

_FIRST_IMAGE = frozenset({"push", "inspect", "tag", "export", "unpack", "bundle"})
"""Commands whose first argument is an image in the store."""

_ALL_IMAGES = frozenset({"rm", "pin", "unpin"})
"""Commands whose arguments are images in the store."""

_FIRST_JOB = frozenset({"job", "cancel", "priority"})
"""Commands whose first argument is a job."""

_JOBS = frozenset({"pause", "resume", "retry"})
"""Commands whose arguments are jobs."""

_WITH_VALUE = frozenset({"--host", "--token-file"})
"""The options before the command that take a value."""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SCRIPTS), help="bash, zsh or fish")


def completion(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl completion}: print a shell's script, or the candidates for
    the last word of C{args.args}, one a line.
    """
    if not args.args:
        print(SCRIPTS[args.shell], end="", file=session.stdout)
        return
    *before, word = args.args
    for found in sorted(set(candidates(before, word, session.daemon))):
        print(found, file=session.stdout)


def candidates(before: Sequence[str], word: str, daemon: Daemon) -> Iterable[str]:
    """
    The candidates for a word.

    @param before: the words before it, without C{xferctl} itself.
    @param word: the beginning of the word.
    @return: words with this beginning; none where a file name is expected.
    """
    command, given = _command(before)
    if command is None:
        found: Iterable[str] = [*MODULES, "--host", "--token-file", "--version", "--help"]
    elif command not in MODULES:
        found = []
    elif values := _values(command, before[-1]):
        found = values
    elif word.startswith("-"):
        found = options(command_parser(command, load_command(command)).format_help())
    else:
        found = _words(command, given, daemon)
    return [each for each in found if each.startswith(word) and (word or not each.startswith("-"))]


def options(text: str) -> list[str]:
    """
    The options that a help text describes.
    """
    explained = re.findall(r"(?m)^  (-\S.*?)(?:  |$)", text)
    return [option for line in explained for option in re.findall(r"--[a-z][a-z-]*", line)]


def _values(command: str, option: str) -> Sequence[str]:
    """
    The values of an option that has a fixed number of them; none for another word.
    """
    if not option.startswith("-"):
        return ()
    action = command_parser(command, load_command(command)).action_of(option)
    # Options that take several words have "values".
    values: Iterable[str] | None = getattr(action, "choices", None) or getattr(action, "values", None)
    return tuple(values or ())


def _command(before: Sequence[str]) -> tuple[str | None, list[str]]:
    """
    The command among the words, and its arguments.
    """
    words = iter(before)
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word, [rest for rest in words if not rest.startswith("-")]
    return None, []


def _words(command: str, given: Sequence[str], daemon: Daemon) -> list[str]:
    """
    The candidates for a command's next argument; none without a daemon.
    """
    try:
        if command in _ALL_IMAGES or (command in _FIRST_IMAGE and not given):
            return [_familiar(str(image.get("reference"))) for image in daemon.images()]
        if command in _JOBS or (command in _FIRST_JOB and not given):
            return [str(job.get("id")) for job in daemon.jobs()]
        if command == "hosts":
            return [str(host.get("host")) for host in daemon.hosts()] if given else ["clear"]
        if command == "limits":
            return [f"{name}=" for name, value in daemon.limits().items() if isinstance(value, int)]
    except ClientError:
        return []
    if command == "mirror":
        return list(MIRROR_CLIENTS) if given else ["show", "check"]
    if command == "engine":
        if not given:
            return ["show", "check", "ls"]
        return [] if given[0] == "ls" else list(ENGINE_TOOLS)
    return list(SCRIPTS) if command == "completion" and not given else []


def _familiar(reference: str) -> str:
    """
    An image's name in its short form.
    """
    try:
        return Reference.parse(reference).familiar()
    except XferdError:
        return reference


COMMANDS: Final[Mapping[str, Command]] = {
    "completion": Command(
        "SHELL",
        _arguments,
        completion,
        "The script completes commands, options, images, jobs, limits and registries.",
        ("source <(xferctl completion bash)", "xferctl completion fish | source"),
        passes_arguments=True,
    )
}
