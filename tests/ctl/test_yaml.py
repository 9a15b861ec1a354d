# -*- test-case-name: tests.ctl.test_yaml -*-
"""
Tests for L{xferd.ctl.yaml}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.yaml import yaml_lines


class YamlTests(SynchronousTestCase):
    """
    Tests for L{yaml_lines}.
    """

    def test_blocks(self) -> None:
        """
        Objects and lists are blocks; empty ones stay in their lines.
        """
        value = {
            "id": "j1",
            "layers": [{"digest": "sha256:0a", "size": 5}, {"digest": "x", "why": []}],
            "error": None,
            "result": {"deep": {"list": [[1, 2], []]}},
            "none": {},
        }
        self.assertEqual(
            list(yaml_lines(value)),
            [
                "id: j1",
                "layers:",
                "  - digest: sha256:0a",
                "    size: 5",
                "  - digest: x",
                "    why: []",
                "error: null",
                "result:",
                "  deep:",
                "    list:",
                "      - - 1",
                "        - 2",
                "      - []",
                "none: {}",
            ],
        )
        self.assertEqual(list(yaml_lines([])), ["[]"])
        self.assertEqual(list(yaml_lines("text")), ["text"])

    def test_text(self) -> None:
        """
        Text that a parser would read as something else is quoted, and so are spaces, signs and
        control characters.
        """
        for text, shown in (
            ("docker.io/library/alpine:latest", "docker.io/library/alpine:latest"),
            ("me@here", "me@here"),
            ("/var/lib", "/var/lib"),
            ("No", '"No"'),
            ("null", '"null"'),
            ("", '""'),
            ("2026-01-02T03:04:05Z", '"2026-01-02T03:04:05Z"'),
            ("1e5", '"1e5"'),
            ("-x", '"-x"'),
            ("a: b", '"a: b"'),
            ("a:", '"a:"'),
            ("a #b", '"a #b"'),
            ("größe", '"größe"'),
            ('"\\', r'"\"\\"'),
            ("a\x1b\n\u2028\x9b", r'"a\u001b\n\u2028\u009b"'),
            ("\U000e0001", r'"\U000e0001"'),
        ):
            self.assertEqual(list(yaml_lines({"k": text})), [f"k: {shown}"])
