# -*- test-case-name: tests.test_benchmarks -*-
"""
Pushes and pulls over a thin line, with a registry that drops slow streams.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from attrs import frozen

from benchmarks.figures import Outcome, Row, Series
from benchmarks.images import MB
from benchmarks.link import Link, link
from benchmarks.peers import ROOT, Xferd
from benchmarks.places import in_memory
from benchmarks.processes import Failed, Program
from benchmarks.registry import Registry
from benchmarks.rounds import Setting, started

_MBIT = 1
_RATE = 30_000
"""Bytes per second below which a stream is dropped: a quarter of the line."""

_LAYERS = 5
_SIZE = 5_000_000
"""The bytes of a layer: five streams that are not reduced fail to push it."""

_FIXED = (
    "from twisted.scripts.twistd import run; from xferd.transfer.host_streams import HostStreams;"
    "HostStreams.failed = lambda *_: False; run()"
)
"""The program of a daemon that does not reduce its streams."""


@frozen
class _Thin:
    """
    The registry behind the proxy.
    """

    host: str


class _Ends:
    """
    What runs at the ends of the line, for the time of a block.
    """

    def __init__(self, line: Link) -> None:
        self._line = line
        self._stack = ExitStack()

    def __enter__(self) -> _Ends:
        self._place = self._stack.enter_context(in_memory())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def source(self, end: Sequence[str]) -> str:
        """
        Start a registry that has the image.

        @return: its host.
        """
        sample = ["--sample", f"--layers={_LAYERS}", f"--size={_SIZE}"]
        source = self._program("source", *end, sys.executable, "-m", "xferd.testing", *sample)
        return source.ready("http://").partition("://")[2]

    def target(self) -> str:
        """
        Start an empty registry at the far end.

        @return: its host.
        """
        registry = Registry(self._place, self._place / "storage", self._line.address, self._line.far)
        self._stack.callback(registry.stop)
        return registry.host

    def behind(self, host: str) -> _Thin:
        """
        Start the proxy that drops slow streams, in front of a registry at the far end.
        """
        dropping = (sys.executable, "-m", "benchmarks.dropping", self._line.address, host, str(_RATE))
        self._proxy = self._program("proxy", *self._line.far, *dropping)
        return _Thin(f"{self._line.address}:{self._proxy.ready('port ').split()[1]}")

    def peer(self, thin: _Thin, limit: str, fixed: bool) -> Xferd:
        """
        Start a daemon at the near end.

        @param limit: the setting of its limit.
        @param fixed: whether it does not reduce its streams.
        """
        kind: type[Xferd] = type("Case", (Xferd,), {"settings": f"[limits]\n{limit}\n"})
        if fixed:
            kind.twistd = (sys.executable, "-c", _FIXED)
        return self._stack.enter_context(started(kind, thin, self._line.near))

    @property
    def dropped(self) -> int:
        """
        How many streams the proxy has dropped.
        """
        return self._proxy.text().count("dropped")

    def _program(self, name: str, *argv: str) -> Program:
        log = self._place / f"{name}.log"
        running = Program([*argv], log, {"PYTHONPATH": ROOT, "PYTHONSAFEPATH": "1"})
        self._stack.callback(running.stop)
        return running


def thin(setting: Setting) -> Outcome:
    """
    Push and pull an image, by one stream and by as many as it has layers: the time of the client's
    whole process.  There is one round, as the link is steady.  A push by a fixed number of streams fails.
    """
    subject = f"{_LAYERS} layers of {_SIZE / MB:.1f} MB over {_MBIT} Mbit/s; {_RATE // 1000} kB/s at least"
    rows: list[Row] = []
    missing: list[str] = []
    try:
        with link(_MBIT, both=True) as line:
            for case, once, streams, fixed in (
                ("push, 1 stream", _push, 1, False),
                (f"push, {_LAYERS} streams, fixed", _push, _LAYERS, True),
                (f"push, {_LAYERS} streams at most", _push, _LAYERS, False),
                ("pull, 1 stream", _pull, 1, False),
                (f"pull, {_LAYERS} streams at most", _pull, _LAYERS, False),
            ):
                try:
                    took, dropped = once(line, streams, fixed)
                except Failed as e:
                    setting.tell(f"  {case}: failed")
                    missing.append(f"{case}: {e}")
                    continue
                setting.tell(f"  {case}: {took:.1f} s")
                alone = [row.series.median for row in rows if row.who == f"{case[:4]}, 1 stream"]
                facts = {"it / 1 stream": took / alone[0]} if alone else {}
                rows.append(Row(case, "s", Series([took]), {**facts, "dropped": dropped}))
    except Failed as e:
        missing.append(str(e))
    return Outcome("thin", subject, rows, missing)


def _push(line: Link, streams: int, fixed: bool) -> tuple[float, int]:
    """
    Push the image.

    @return: the seconds, and how many streams were dropped.
    @raise Failed: it was not pushed.
    """
    with _Ends(line) as ends:
        reference = f"{ends.source(line.near)}/sample:latest"
        target = ends.behind(ends.target())
        peer = ends.peer(target, f"uploads = {streams}", fixed)
        peer.pull(reference).finish()
        took = peer.push(reference, f"{target.host}/thin/sample:1").finish()
        return took, ends.dropped


def _pull(line: Link, streams: int, fixed: bool) -> tuple[float, int]:
    """
    Pull the image.

    @return: the seconds, and how many streams were dropped.
    @raise Failed: it was not pulled.
    """
    with _Ends(line) as ends:
        source = ends.behind(ends.source(line.far))
        peer = ends.peer(source, f"downloads = {streams}", fixed)
        took = peer.pull(f"{source.host}/sample:latest").finish()
        return took, ends.dropped
