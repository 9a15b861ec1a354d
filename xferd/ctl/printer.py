# -*- test-case-name: tests.ctl.test_printer -*-
"""
Printing objects of the API: as a table, as JSON or YAML, or by a template.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO, TypeVar

from xferd.ctl.columns import lay_out
from xferd.ctl.errors import UsageError
from xferd.ctl.text import ago, json_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from xferd.ctl.columns import Column

T = TypeVar("T")


class Form(NamedTuple):
    """
    How objects are printed.

    @ivar name: C{table}, C{wide}, C{json}, C{yaml} or C{template}.
    @ivar template: the template of C{--format}.
    @ivar whole: whether tables have whole cells, however long.
    """

    name: str = "table"
    template: str = ""
    whole: bool = False


FORMS: Final = ("table", "wide", "json", "yaml")
"""The names of the forms that need no template."""

TABLE: Final = Form()
"""Tables, the usual form."""


class Printer:
    """
    Prints objects of the API in one form.

    @ivar now: the time that "3 hours ago" counts from.
    @ivar width: the terminal's columns; L{None} if stdout is not a terminal.
    """

    def __init__(self, stdout: TextIO, now: datetime, form: Form = TABLE) -> None:
        """
        @param now: the time that "3 hours ago" counts from.
        """
        self._stdout = stdout
        self._form = form
        self._documents = 0
        self.now = now
        self.width: int | None = None
        if stdout.isatty():
            # A pty without a size reports 0.
            self.width = os.get_terminal_size(stdout.fileno()).columns or None

    def formed(self, name: str) -> Printer:
        """
        A printer of another form.

        @param name: one of L{FORMS}.
        @raise UsageError: it is another word.
        """
        if name not in FORMS:
            raise UsageError(f"-o: the forms are {', '.join(FORMS)}, not {name!r}")
        return Printer(self._stdout, self.now, Form(name))

    def rows(
        self,
        items: Sequence[dict[str, Any]],
        columns: Sequence[Column[T]],
        subjects: Sequence[T] | None = None,
    ) -> None:
        """
        Print a list of objects.

        @param items: the objects, as the API has them.
        @param columns: the columns of a table.
        @param subjects: what the columns show of each object; L{None} for the objects themselves.
        """
        if not self._print_data(items, items):
            form = self._form
            shown: Sequence[Any] = items if subjects is None else subjects
            head, rows = lay_out(columns, shown, self.width, wide=form.name == "wide", whole=form.whole)
            self._print([head, *(line for row in rows for line in row)])

    def facts(self, item: dict[str, Any], facts: Sequence[tuple[str, str]], *, width: int = 12) -> bool:
        """
        Print one object.

        @param facts: names and texts; those with an empty text are left out.
        @param width: the width of the column of names.
        @return: whether text was printed, to which the caller may add.
        """
        if self._print_data(item, [item]):
            return False
        self._print(f"{name + ':':<{width}}{text}" for name, text in facts if text)
        return True

    def ago(self, moment: object) -> str:
        """
        A time of the API in words; empty for L{None}.
        """
        return "" if moment is None else ago(moment, self.now)

    def _print_data(self, value: object, items: Sequence[dict[str, Any]]) -> bool:
        """
        Print objects for programs.

        @param value: the one object, or all.
        @return: whether the form is one for programs.
        """
        if self._form.name == "json":
            self._print(map(json_line, items))
        elif self._form.name == "yaml":
            from xferd.ctl.yaml import yaml_lines  # noqa: PLC0415 - for this form alone

            self._print([*(["---"] if self._documents else []), *yaml_lines(value)])
            self._documents += 1
        elif self._form.name == "template":
            from xferd.ctl.template import render  # noqa: PLC0415 - for this form alone

            self._print(render(self._form.template, items))
        else:
            return False
        return True

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(line, file=self._stdout)
