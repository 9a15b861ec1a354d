# -*- test-case-name: tests.ctl.test_template -*-
"""
Tests for L{xferd.ctl.template}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.errors import UsageError
from xferd.ctl.template import render

JOB: dict[str, Any] = {
    "id": "5f3c",
    "image_id": "sha256:00",
    "size": 7,
    "pinned": True,
    "error": {"code": "DENIED", "message": "no \x1b[31m"},
    "target": None,
    "layers": [{"index": 0}],
}


class RenderTests(SynchronousTestCase):
    """
    Tests for L{render}.
    """

    def test_members(self) -> None:
        """
        Members are named in upper or lower case, and members of members by a path.
        """
        for template, text in (
            ("{{.id}} {{ .Size }}", "5f3c 7"),
            ("{{.ImageID}}{{.IMAGE_ID}}", "sha256:00sha256:00"),
            ("{{.error.code}}", "DENIED"),
            ("<{{.target}}{{.target.any}}>", "<>"),
            ("{{.pinned}}", "true"),
            ("{{.layers}}", '[{"index":0}]'),
            ("{{json .id}} {{json .target}}", '"5f3c" null'),
            (r"{{.id}}\t{{.size}}\n", "5f3c\t7\n"),
            ("plain", "plain"),
        ):
            self.assertEqual(render(template, [JOB]), [text], template)
        self.assertIn('"target":null', render("{{json .}}", [JOB])[0])
        self.assertEqual(render("{{.id}}", [JOB, JOB]), ["5f3c", "5f3c"])
        self.assertEqual(render("{{.id}}", []), [])

    def test_escaped(self) -> None:
        """
        Control characters of the daemon's text are escaped.
        """
        self.assertEqual(render("{{.error.message}}", [JOB]), [r"no \x1b[31m"])

    def test_table(self) -> None:
        """
        After the word C{table}, tabs separate columns with headings.
        """
        found = render(r"table {{.ImageID}}\t{{.id}} ({{.error.code}})", [JOB, {**JOB, "id": "longer"}])
        self.assertEqual(
            found,
            ["IMAGEID    ID (CODE)", "sha256:00  5f3c (DENIED)", "sha256:00  longer (DENIED)"],
        )

    def test_wrong(self) -> None:
        """
        Unknown members are reported with the known ones, and other actions are refused.
        """
        error = self.assertRaises(UsageError, render, "{{.Name}}", [JOB])
        self.assertIn("no member 'Name' for --format; there are: id, image_id, size", str(error))
        for template in ("{{id}}", "{{range .layers}}{{end}}", "{{.id", "}}", "{{.a-b}}"):
            self.assertIn("--format", str(self.assertRaises(UsageError, render, template, [JOB])))
        self.assertRaises(UsageError, render, "{{.size.more}}", [JOB])
