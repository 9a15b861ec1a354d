"""
Tests for L{xferd.engines.snapshotter.trail}.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.snapshotter.trail import EngineTrail
from xferd.interfaces.layer_source import WantedLayer
from xferd.logs.audit_line import MOST_LINES, WINDOW
from xferd.logs.records import record_of, to_json
from xferd.names import Digest, Reference

LAYERS = [Digest.parse(f"sha256:{n:064x}") for n in range(9)]


class TrailTests(SynchronousTestCase):
    """
    Tests for L{EngineTrail}.
    """

    def setUp(self) -> None:
        """
        Make the trail.
        """
        self.clock = Clock()
        self.trail = EngineTrail(self.clock)

    def written(self, act: Callable[[], object]) -> list[dict[str, Any]]:
        """
        The lines that something writes, as the log has them in JSON.
        """
        with capturedLogs() as events:
            act()
        self.texts = list(map(formatEvent, events))
        return [to_json(record_of(event)) for event in events]

    def ask(self, name: str, layer: int = 0, engine: str = "main") -> list[dict[str, Any]]:
        """
        The lines of a request for a layer.
        """
        wanted = WantedLayer(LAYERS[layer], Reference.parse(name), name)
        return self.written(lambda: self.trail.asked(engine, wanted))

    def report(self, removed: int, *last: str) -> list[dict[str, Any]]:
        """
        The lines of a report of removed layers.
        """
        return self.written(lambda: self.trail.reported("main", removed, last))

    def test_pull(self) -> None:
        """
        Of all requests for the layers of an image, the first one within a minute has a line, for
        each engine.
        """
        (line,) = self.ask("alpine:3")
        fields = {name: line[name] for name in ("action", "user", "uid", "door", "method", "path", "status")}
        self.assertEqual(
            fields,
            {
                "action": "pull_layers",
                "user": "containerd main",
                "uid": None,
                "door": "engine",
                "method": "Prepare",
                "path": "docker.io/library/alpine:3",
                "status": 0,
            },
        )
        self.assertEqual(self.texts, ["containerd main by engine: Prepare docker.io/library/alpine:3: 0"])
        self.clock.advance(WINDOW / 2)
        self.assertEqual(self.ask("alpine:3", 1), [])
        # The second request was a use.
        self.clock.advance(WINDOW - 1)
        self.assertEqual(self.ask("alpine:3", 2), [])
        self.assertEqual(len(self.ask("alpine:3", engine="other")), 1)
        self.clock.advance(WINDOW + 1)
        self.assertEqual(len(self.ask("alpine:3")), 1)

    def test_without_name(self) -> None:
        """
        An engine need not name the image.
        """
        (line,) = self.written(lambda: self.trail.asked("main", WantedLayer(LAYERS[0])))
        self.assertEqual(line["path"], "an image")

    def test_removed(self) -> None:
        """
        Layers that were removed since the last report have one line; those before the first one have
        none.  A new process of the snapshotter counts from 0.
        """
        self.assertEqual(self.report(7, "old"), [])
        self.assertEqual(self.report(7, "old"), [])
        (line,) = self.report(9, "old", str(LAYERS[0]), "built\nhere")
        self.assertEqual(
            (line["action"], line["method"], line["path"]), ("remove_layers", "Remove", "2 layers")
        )
        self.assertEqual(json.loads(line["body"]), {"layers": [str(LAYERS[0]), "built\\nhere"]})
        self.assertNotIn("\n", self.texts[0])
        self.assertEqual([line["path"] for line in self.report(1, "first")], ["1 layer"])
        self.assertEqual(self.report(0), [])
        self.assertEqual([line["path"] for line in self.report(700, "a", "b")], ["700 layers"])

    def test_many(self) -> None:
        """
        A minute has few lines; the next line has the number of those that were left out.
        """
        lines = [line for n in range(MOST_LINES + 9) for line in self.ask(f"a:{n}")]
        self.assertEqual(len(lines), MOST_LINES)
        self.clock.advance(WINDOW)
        (line,) = self.ask("b:1")
        self.assertEqual(line["left_out"], 9)
        self.assertIn("; 9 lines of engines before it are left out", self.texts[0])
