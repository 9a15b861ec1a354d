# -*- test-case-name: tests.ctl.test_config_file -*-
"""
Configuration files of other programs: printed for the user, or written.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xferd.ctl.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ConfigFile(NamedTuple):
    """
    A configuration file, or lines of one.

    @ivar path: its absolute path.
    @ivar text: its content, with a newline at the end.
    @ivar is_whole: whether it is the whole file; otherwise these are lines for a
        file that may have others.
    @ivar note: when it is needed, in one or more lines; may be empty.
    """

    path: str
    text: str
    is_whole: bool = True
    note: str = ""


def without_present(file: ConfigFile, present: str | None) -> ConfigFile:
    """
    The lines for a file that are not all there already: a table that is there twice is an error.

    @param present: the content of the file, if it exists.
    @return: the same, or no lines and a note.
    """
    if file.is_whole or present is None or not _has_lines(present, file.text):
        return file
    return file._replace(text="", note="It has these lines already.")


def _has_lines(present: str, text: str) -> bool:
    """
    Whether a file has some lines: TOML or JSON in which each setting has the same value, and a list
    at least the same elements; or another format with the same lines in one piece.
    """
    parse = json.loads if text.startswith("{") else tomllib.loads
    try:
        wanted = parse(text)
    except ValueError:
        return f"\n{text}" in f"\n{present}"
    try:
        return _holds(parse(present), wanted)
    except ValueError:
        return False


def _holds(present: object, wanted: object) -> bool:
    """
    Whether one value has all of another one.
    """
    if isinstance(present, dict) and isinstance(wanted, dict):
        return all(name in present and _holds(present[name], value) for name, value in wanted.items())
    if isinstance(present, list) and isinstance(wanted, list):
        return all(any(_holds(each, value) for each in present) for value in wanted)
    return present == wanted


def _printable(files: Sequence[ConfigFile]) -> str:
    """
    Files as one text, each with its path and its note as comments.
    """
    parts = []
    for file in files:
        beside = "" if file.is_whole else ", beside its other settings:"
        note = "".join(f"# {line}\n" for line in file.note.splitlines())
        parts.append(f"# {file.path}{beside}\n{note}{file.text}")
    return "\n".join(parts)


def _write(files: Sequence[ConfigFile], directory: str) -> list[str]:
    """
    Write files below a directory.

    @return: the paths of those that were not there with this content.
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


def show_files(files: Sequence[ConfigFile], directory: str | None) -> str:
    """
    Print files, or write the whole ones below a directory, as if it were the root
    directory, and print the others.

    @param directory: where to write whole files, or L{None}.
    @return: the text to print.
    @raise ClientError: a file exists with another content; then none was written.
    @raise OSError: one cannot be written.
    """
    written = [] if directory is None else _write([file for file in files if file.is_whole], directory)
    left = [file for file in files if directory is None or not file.is_whole]
    return "".join(f"wrote {path}\n" for path in written) + _printable(left)
