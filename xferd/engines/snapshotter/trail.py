# -*- test-case-name: tests.engines.snapshotter.test_trail -*-
"""
What container engines do in the audit trail: the images whose layers they begin to ask
for, and the layers that they remove.  Their other calls have no line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.expiring import ExpiringDict
from xferd.interfaces.layer_source import WantedLayer
from xferd.log_escapes import escape
from xferd.logs.audit_line import LINE, WINDOW, Allowance, Door

LONGEST: Final = 300
"""Characters of the name of an image, which a client of the engine has chosen."""


class EngineTrail:
    """
    Writes the lines of all engines of the daemon.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._asked: ExpiringDict[tuple[str, str], bool] = ExpiringDict(clock.seconds, keep=WINDOW)
        self._allowance = Allowance(clock.seconds)
        self._removed: dict[str, int] = {}

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

    def reported(self, engine: str, removed: int, last: Sequence[str]) -> None:
        """
        An engine was reported.  What it removed before the first report has no line.

        @param removed: the number of layers that it has removed since its process started.
        @param last: the names of the last of them.
        """
        known = self._removed.get(engine, removed)
        self._removed[engine] = removed
        # Another process counts from 0.
        number = removed - known if removed >= known else removed
        if number:
            noun = "layer" if number == 1 else "layers"
            body = {"layers": [escape(name) for name in last[-number:]]}
            self._write("remove_layers", engine, "Remove", f"{number} {noun}", body)

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
