# -*- test-case-name: tests.engines.snapshotter.test_trail -*-
"""
What container engines do in the audit trail: the images whose layers they begin to ask
for, and the layers that they remove.  Their other calls have no line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.expiring import ExpiringDict
from xferd.interfaces.layer_source import WantedLayer
from xferd.interfaces.snapshots import ISnapshotTables, Kind
from xferd.log_escapes import escape
from xferd.logs.audit_line import LINE, WINDOW, Allowance, Door

NAMED: Final = 5
"""The number of removed layers that a line names."""

LONGEST: Final = 200
"""Characters of a name that an engine has chosen."""


class EngineTrail:
    """
    Writes the lines of all engines of the daemon.
    """

    _log = Logger()

    def __init__(self, tables: ISnapshotTables, clock: IReactorTime) -> None:
        """
        @param tables: the snapshots of the engines, as they were read last.
        """
        self._tables = tables
        self._asked: ExpiringDict[tuple[str, str], bool] = ExpiringDict(clock.seconds, keep=WINDOW)
        self._allowance = Allowance(clock.seconds)
        self._layers: dict[str, Mapping[str, str]] = {}

    def asked(self, engine: str, wanted: WantedLayer) -> None:
        """
        An engine asks for a layer.  Of one image it asks for many, one after the other: the first
        one within a minute has a line.
        """
        image = str(wanted.image or wanted.named or "an image")
        if (engine, image) in self._asked:
            return
        self._asked[engine, image] = True
        self._write("pull_layers", engine, "Prepare", image, {})

    def read(self, engine: str) -> None:
        """
        The snapshots of an engine were read.  What the daemon has not known before has no line when
        it has gone.
        """
        layers = {
            each.key: str(each.chain_id or each.key)
            for each in self._tables.of(engine).all()
            if each.kind is Kind.COMMITTED
        }
        gone = [name for key, name in self._layers.get(engine, {}).items() if key not in layers]
        self._layers[engine] = layers
        if gone:
            noun = "layer" if len(gone) == 1 else "layers"
            body = {"layers": [escape(name)[:LONGEST] for name in gone[:NAMED]]}
            self._write("remove_layers", engine, "Remove", f"{len(gone)} {noun}", body)

    def _write(self, action: str, engine: str, method: str, path: str, body: Mapping[str, Any]) -> None:
        if not self._allowance.permits():
            return
        left_out = self._allowance.left_out()
        text = json.dumps(body) if body else ""
        details = f"; {text}" if text else ""
        if left_out:
            details += f"; {left_out} lines of engines before it are left out"
        self._log.info(
            LINE,
            event="audit",
            action=action,
            user=f"containerd {engine}",
            uid=None,
            door=Door.ENGINE.value,
            method=method,
            path=escape(path)[:LONGEST],
            status=0,
            body=text,
            details=details,
            **({"left_out": left_out} if left_out else {}),
        )
