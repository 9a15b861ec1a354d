# -*- test-case-name: tests.ctl.test_printer -*-
"""
Tests for L{xferd.ctl.printer}.
"""

from __future__ import annotations

import os
import pty
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.columns import Column
from xferd.ctl.errors import UsageError
from xferd.ctl.printer import Form, Printer
from xferd.ctl.text import cut, short

COLUMNS = (
    Column[dict[str, Any]]("ID", lambda item: str(item["id"])),
    Column[dict[str, Any]]("DIGEST", lambda item: str(item["digest"]), short=short),
    Column[dict[str, Any]]("NOTE", lambda item: "x" * 60, crop=cut, wide=True),
)
ITEMS = [{"id": n, "digest": f"sha256:{n:064x}"} for n in (1, 2)]


class PrinterTests(SynchronousTestCase):
    """
    Tests for L{Printer}.
    """

    def printed(self, form: Form) -> str:
        """
        The output for a list in a form.
        """
        out = StringIO()
        Printer(out, datetime.now(UTC), form).rows(ITEMS, COLUMNS)
        return out.getvalue()

    def test_forms(self) -> None:
        """
        A list is printed as a table, with all columns, with whole cells, as JSON, as YAML, or by
        a template.
        """
        self.assertEqual(self.printed(Form()).splitlines()[1], "1   000000000000")
        self.assertEqual(self.printed(Form("wide")).splitlines()[1], "1   000000000000  " + "x" * 60)
        self.assertEqual(self.printed(Form(whole=True)).splitlines()[1], f"1   {ITEMS[0]['digest']}")
        self.assertEqual(
            self.printed(Form("json")).splitlines()[0], '{"id":1,"digest":"' + str(ITEMS[0]["digest"]) + '"}'
        )
        self.assertEqual(
            self.printed(Form("yaml")).splitlines()[:2], ["- id: 1", f"  digest: {ITEMS[0]['digest']}"]
        )
        self.assertEqual(self.printed(Form("template", "{{.id}}!")), "1!\n2!\n")

    def test_facts(self) -> None:
        """
        One object is printed as facts, unless its form is for programs.  Documents of YAML are
        separated.
        """
        for form, expected, text in (
            (Form(), "a:          x\n" * 2, True),
            (Form("yaml"), "a: 1\n---\na: 1\n", False),
            (Form("template", "{{.a}}"), "1\n1\n", False),
        ):
            out = StringIO()
            printer = Printer(out, datetime.now(UTC), form)
            for _ in range(2):
                self.assertEqual(printer.facts({"a": 1}, [("a", "x"), ("b", "")]), text)
            self.assertEqual(out.getvalue(), expected)

    def test_wrong_template(self) -> None:
        """
        A template with an unknown member is wrong use.
        """
        self.assertRaises(UsageError, self.printed, Form("template", "{{.none}}"))

    def test_width(self) -> None:
        """
        A table fits the terminal's width, if it has one.
        """
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        columns = [Column[str](head, lambda item: item * 60, crop=cut) for head in "AB"]
        with open(theirs, "w") as terminal:
            self.assertIsNone(Printer(terminal, datetime.now(UTC)).width)
            os.system(f"stty cols 33 < {os.ttyname(theirs)}")
            printer = Printer(terminal, datetime.now(UTC))
            self.assertEqual(printer.width, 33)
            printer.rows([{}], columns, ["x"])
            terminal.flush()
            shown = b""
            while shown.count(b"\n") < 2:
                shown += os.read(ours, 4096)
        lines = shown.decode().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(len(lines[1]), 33)
