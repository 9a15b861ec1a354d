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

from xferd.engines.snapshotter.trail import LONGEST, NAMED, EngineTrail
from xferd.interfaces.layer_source import WantedLayer
from xferd.interfaces.snapshots import Kind, Snapshot
from xferd.logs.audit_line import MOST_LINES, WINDOW
from xferd.logs.records import record_of, to_json
from xferd.names import Digest, Reference
from xferd.testing.fake_store import FakeStore

LAYERS = [Digest.parse(f"sha256:{n:064x}") for n in range(9)]


class TrailTests(SynchronousTestCase):
    """
    Tests for L{EngineTrail}.
    """

    def setUp(self) -> None:
        """
        Make an engine with snapshots.
        """
        self.clock = Clock()
        self.tables = FakeStore(self.clock).snapshots
        self.trail = EngineTrail(self.tables, self.clock)

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

    def set(self, number: int, kind: Kind | None, key: str = "") -> None:
        """
        Change a snapshot; without a kind it is removed.
        """
        layer = LAYERS[number] if kind is Kind.COMMITTED and not key else None
        made = None if kind is None else Snapshot(number, key or f"k{number}", kind, "", 0, 0, {}, layer)
        self.tables.of("main").set(number, made)

    def read(self) -> list[dict[str, Any]]:
        """
        The lines of a reading.
        """
        return self.written(lambda: self.trail.read("main"))

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
        Layers that have gone have one line; the snapshots of containers, and what was not known
        before, have none.
        """
        for number in range(2):
            self.set(number, Kind.COMMITTED)
        self.set(2, Kind.ACTIVE)
        self.set(3, Kind.COMMITTED, "built\nhere" + "x" * LONGEST)
        self.assertEqual(self.read(), [])
        self.set(4, Kind.COMMITTED)
        self.set(2, None)
        self.assertEqual(self.read(), [])
        for number in (1, 3):
            self.set(number, None)
        (line,) = self.read()
        self.assertEqual(
            (line["action"], line["method"], line["path"]), ("remove_layers", "Remove", "2 layers")
        )
        first, second = json.loads(line["body"])["layers"]
        self.assertEqual((first, second[:10], len(second)), (str(LAYERS[1]), "built\\nher", LONGEST))
        self.assertNotIn("\n", self.texts[0])
        self.assertEqual(self.read(), [])
        self.set(0, None)
        self.assertEqual([line["path"] for line in self.read()], ["1 layer"])

    def test_many(self) -> None:
        """
        A line names few of many layers, and a minute has few lines; the next line has the number of
        those that were left out.
        """
        for number in range(9):
            self.set(number, Kind.COMMITTED)
        self.read()
        for number in range(8):
            self.set(number, None)
        (line,) = self.read()
        self.assertEqual((line["path"], len(json.loads(line["body"])["layers"])), ("8 layers", NAMED))
        lines = [line for n in range(MOST_LINES + 9) for line in self.ask(f"a:{n}")]
        self.assertEqual(len(lines), MOST_LINES - 1)
        self.clock.advance(WINDOW)
        (line,) = self.ask("b:1")
        self.assertEqual(line["left_out"], 10)
        self.assertIn("; 10 lines of engines before it are left out", self.texts[0])
