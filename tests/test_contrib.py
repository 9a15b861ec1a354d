"""
Tests for C{contrib/}: the alert rules and the dashboard.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

import xferd
from tests.integration.peers import require
from xferd.web.metrics import METRICS

CONTRIB: Final = Path(xferd.__file__).parents[1] / "contrib"

DATA_SOURCE: Final = {
    "type": "object",
    "required": ["type", "uid"],
    "additionalProperties": False,
    "properties": {"type": {"const": "prometheus"}, "uid": {"const": "${datasource}"}},
}

TARGET: Final = {
    "type": "object",
    "required": ["refId", "datasource", "expr"],
    "properties": {
        "refId": {"type": "string", "pattern": "^[A-Z]$"},
        "datasource": DATA_SOURCE,
        "expr": {"type": "string", "minLength": 1},
        "legendFormat": {"type": "string"},
    },
    "additionalProperties": False,
}

PANEL: Final = {
    "type": "object",
    "required": ["id", "type", "title", "datasource", "gridPos", "targets", "fieldConfig", "options"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "type": {"enum": ["timeseries"]},
        "title": {"type": "string", "minLength": 1},
        "description": {"type": "string"},
        "datasource": DATA_SOURCE,
        "gridPos": {
            "type": "object",
            "required": ["h", "w", "x", "y"],
            "additionalProperties": False,
            "properties": {
                "h": {"type": "integer", "minimum": 1},
                "w": {"type": "integer", "minimum": 1, "maximum": 24},
                "x": {"type": "integer", "minimum": 0, "maximum": 23},
                "y": {"type": "integer", "minimum": 0},
            },
        },
        "targets": {"type": "array", "minItems": 1, "items": TARGET},
        "fieldConfig": {
            "type": "object",
            "required": ["defaults", "overrides"],
            "additionalProperties": False,
            "properties": {
                "defaults": {"type": "object", "required": ["unit"]},
                "overrides": {"type": "array"},
            },
        },
        "options": {
            "type": "object",
            "required": ["legend", "tooltip"],
            "properties": {
                "legend": {
                    "type": "object",
                    "required": ["displayMode", "placement", "showLegend", "calcs"],
                    "properties": {"calcs": {"type": "array"}},
                },
                "tooltip": {"type": "object", "required": ["mode", "sort"]},
            },
        },
    },
    "additionalProperties": False,
}

DASHBOARD: Final = {
    "type": "object",
    "required": ["uid", "title", "schemaVersion", "panels", "templating", "time"],
    "properties": {
        "uid": {"type": "string", "minLength": 8, "maxLength": 40},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "timezone": {"type": "string"},
        "editable": {"type": "boolean"},
        "graphTooltip": {"enum": [0, 1, 2]},
        "schemaVersion": {"type": "integer", "minimum": 36},
        "version": {"type": "integer"},
        "refresh": {"type": "string", "pattern": "^[0-9]+[smhd]$"},
        "time": {
            "type": "object",
            "required": ["from", "to"],
            "additionalProperties": {"type": "string"},
        },
        "templating": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "list": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name", "type"],
                        "properties": {
                            "name": {"type": "string"},
                            "type": {"enum": ["datasource", "query"]},
                            "query": {"type": "string"},
                            "hide": {"enum": [0, 1, 2]},
                        },
                    },
                }
            },
        },
        "annotations": {
            "type": "object",
            "properties": {
                "list": {
                    "type": "array",
                    "items": {"type": "object", "required": ["name", "datasource", "enable", "iconColor"]},
                }
            },
        },
        "links": {"type": "array"},
        "panels": {"type": "array", "minItems": 1, "items": PANEL},
    },
    "additionalProperties": False,
}
"""
The part of Grafana's schema of a dashboard that ours uses: C{dashboard}, C{timeseries} and C{prometheus} of
the JSON schemas in U{https://github.com/grafana/grafana-foundation-sdk}.
"""

_NAME = re.compile(r"\bxferd_[a-z_]+(?=[\[{ )\n]|$)")


def unknown(text: str) -> set[str]:
    """
    The names in a text that are no metric of ours.
    """
    parts = ("bucket", "count", "sum")
    known = set(METRICS) | {f"{name}_{part}" for name in METRICS for part in parts}
    return set(_NAME.findall(text)) - known


class AlertTests(SynchronousTestCase):
    """
    The alert rules for Prometheus.
    """

    rules = CONTRIB / "prometheus" / "xferd-alerts.yml"
    cases = CONTRIB / "prometheus" / "xferd-alerts-test.yml"

    def test_metrics(self) -> None:
        """
        The rules and their tests name metrics that the daemon has.
        """
        for path in (self.rules, self.cases):
            text = path.read_text()
            self.assertGreater(len(_NAME.findall(text)), 10)
            self.assertEqual(unknown(text), set(), path.name)

    def test_cases(self) -> None:
        """
        Each rule has a case in which it fires.
        """
        rules = re.findall(r"- alert: (\w+)", self.rules.read_text())
        self.assertGreater(len(rules), 5)
        fired = re.findall(r"alertname: (\w+)\n +exp_alerts:", self.cases.read_text())
        self.assertEqual(sorted(set(fired)), sorted(rules))

    def test_promtool(self) -> None:
        """
        The rules are valid, and fire as their tests expect.
        """
        promtool = require("promtool")
        for arguments in (["check", "rules", str(self.rules)], ["test", "rules", str(self.cases)]):
            done = subprocess.run([promtool, *arguments], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class DashboardTests(SynchronousTestCase):
    """
    The dashboard for Grafana.
    """

    def setUp(self) -> None:
        """
        Read it.
        """
        self.text = (CONTRIB / "grafana" / "xferd.json").read_text()
        self.dashboard = json.loads(self.text)

    def expressions(self) -> Iterator[str]:
        """
        The queries.
        """
        for panel in self.dashboard["panels"]:
            yield from (target["expr"] for target in panel["targets"])

    def test_schema(self) -> None:
        """
        It follows the part of Grafana's schema that it uses.
        """
        Draft202012Validator.check_schema(DASHBOARD)
        errors = [
            f"{e.json_path}: {e.message}" for e in Draft202012Validator(DASHBOARD).iter_errors(self.dashboard)
        ]
        self.assertEqual(errors, [])

    def test_metrics(self) -> None:
        """
        Its queries name metrics that the daemon has, and each chooses an instance.
        """
        for expression in self.expressions():
            self.assertEqual(unknown(expression), set(), expression)
            self.assertEqual(expression.count("{"), expression.count('instance=~"$instance"'), expression)
        self.assertEqual(
            unknown(" ".join(self.expressions()).replace("xferd_jobs{", "xferd_job{")), {"xferd_job"}
        )

    def test_places(self) -> None:
        """
        Panels have numbers of their own, lie within the width, and do not overlap.
        """

        def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
            place = panel["gridPos"]
            columns, lines = (
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
            self.assertLessEqual(columns.stop, 24)
            return {(x, y) for x in columns for y in lines}

        panels = self.dashboard["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        for one, other in combinations(panels, 2):
            self.assertEqual(cells(one) & cells(other), set(), (one["title"], other["title"]))
