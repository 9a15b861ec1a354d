# -*- test-case-name: tests.ctl.commands.test_completion -*-
"""
C{xferctl completion}: what may stand where the cursor is.

The shells' scripts are a few lines that ask C{xferctl} itself, so that they
never know less than it does: commands and options, the images of the store,
jobs, limits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from xferd.ctl.errors import ClientError
from xferd.errors import XferdError
from xferd.names import Reference

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from xferd.ctl.client import Daemon
    from xferd.ctl.session import Session

SCRIPTS: Final[Mapping[str, str]] = {
    # A word ends at ":" and "=" for bash, and only what stands behind the last one is to be replaced.
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
compdef _xferctl xferctl
""",
    "fish": """\
complete -c xferctl -a '(xferctl completion fish -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}
"""For each shell what it has to read."""

_OF_IMAGES = frozenset({"push", "inspect", "tag", "export", "unpack", "bundle"})
"""Commands whose first argument is an image of the store."""

_OF_ALL_IMAGES = frozenset({"rm", "pin", "unpin"})
"""Commands whose arguments all are."""

_WITH_VALUE = frozenset({"--host", "--token-file"})
"""The options before the command that take a value."""


def completion(args: Namespace, session: Session, helps: Mapping[str, Callable[[], str]]) -> None:
    """
    Print a shell's script, or what may stand in the place of the last of
    C{args.args}, one a line.

    @param helps: for each command what C{--help} prints of it.
    """
    if not args.args:
        print(SCRIPTS[args.shell], end="", file=session.stdout)
        return
    *before, word = args.args
    for found in sorted(set(candidates(before, word, session.daemon, helps))):
        print(found, file=session.stdout)


def candidates(
    before: Sequence[str], word: str, daemon: Daemon, helps: Mapping[str, Callable[[], str]]
) -> Iterable[str]:
    """
    What may follow.

    @param before: the words that are there, without C{xferctl} itself.
    @param word: the beginning of the one that is being written.
    @return: words that begin so; none where files may follow.
    """
    command, given = _command(before)
    if command is None:
        found: Iterable[str] = [*helps, "--host", "--token-file", "--version", "--help"]
    elif command not in helps:
        found = []
    elif word.startswith("-"):
        found = options(helps[command]())
    else:
        found = _arguments(command, given, daemon)
    return [each for each in found if each.startswith(word) and (word or not each.startswith("-"))]


def options(text: str) -> list[str]:
    """
    The options that a help text explains.
    """
    explained = re.findall(r"(?m)^  (-\S.*?)(?:  |$)", text)
    return [option for line in explained for option in re.findall(r"--[a-z][a-z-]*", line)]


def _command(before: Sequence[str]) -> tuple[str | None, list[str]]:
    """
    The command among the words, and its arguments so far.
    """
    words = iter(before)
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word, [rest for rest in words if not rest.startswith("-")]
    return None, []


def _arguments(command: str, given: Sequence[str], daemon: Daemon) -> list[str]:
    """
    What the next argument of a command may be; nothing where no daemon tells.
    """
    try:
        if command in _OF_ALL_IMAGES or (command in _OF_IMAGES and not given):
            return [_familiar(str(image.get("reference"))) for image in daemon.images()]
        if command in ("job", "cancel") and not given:
            return [str(job.get("id")) for job in daemon.jobs()]
        if command == "limits":
            return [f"{name}=" for name in daemon.limits()]
    except ClientError:
        return []
    return list(SCRIPTS) if command == "completion" and not given else []


def _familiar(reference: str) -> str:
    """
    An image's name as people write it.
    """
    try:
        return Reference.parse(reference).familiar()
    except XferdError:
        return reference
