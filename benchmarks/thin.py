# -*- test-case-name: tests.test_benchmarks -*-
"""
A push over a thin line, to a registry that drops slow streams.
"""

from __future__ import annotations

import sys
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
_SIZE = 1_500_000
"""The bytes of a layer: smaller ones have slots of their own."""

_STREAMS = (1, _LAYERS)


@frozen
class _Thin:
    """
    The registry behind the proxy.
    """

    host: str


def push(setting: Setting) -> Outcome:
    """
    Push an image, by one stream and by as many as it has layers: the time of the client's
    whole process.  There is one round, as the link is steady.
    """
    subject = f"{_LAYERS} layers of {_SIZE / MB:.1f} MB over {_MBIT} Mbit/s; {_RATE // 1000} kB/s at least"
    rows: list[Row] = []
    missing: list[str] = []
    try:
        with link(_MBIT, both=True) as line:
            for streams in _STREAMS:
                name = f"{streams} upload{'s' * (streams > 1)} at most"
                try:
                    took, dropped = _push(line, streams)
                except Failed as e:
                    missing.append(f"{name}: {e}")
                    continue
                setting.tell(f"  {name}: {took:.1f} s")
                facts = {"it / 1 stream": took / rows[0].series.median} if rows else {}
                rows.append(Row(name, "s", Series([took]), {**facts, "dropped": dropped}))
    except Failed as e:
        missing.append(str(e))
    return Outcome("thin", subject, rows, missing)


def _push(line: Link, streams: int) -> tuple[float, int]:
    """
    Push the image.

    @return: the seconds, and how many streams were dropped.
    @raise Failed: it was not pushed.
    """
    with ExitStack() as stack:
        place = stack.enter_context(in_memory())

        def program(name: str, *argv: str) -> Program:
            running = Program([*argv], place / f"{name}.log", {"PYTHONPATH": ROOT, "PYTHONSAFEPATH": "1"})
            stack.callback(running.stop)
            return running

        sample = ["--sample", f"--layers={_LAYERS}", f"--size={_SIZE}"]
        source = program("source", *line.near, sys.executable, "-m", "xferd.testing", *sample)
        target = Registry(place, place / "storage", line.address, line.far)
        stack.callback(target.stop)
        dropping = (sys.executable, "-m", "benchmarks.dropping", line.address, target.host, str(_RATE))
        proxy = program("proxy", *line.far, *dropping)
        thin = _Thin(f"{line.address}:{proxy.ready('port ').split()[1]}")
        kind: type[Xferd] = type("Case", (Xferd,), {"settings": f"[limits]\nuploads = {streams}\n"})
        with started(kind, thin, line.near) as peer:
            reference = f"{source.ready('http://').partition('://')[2]}/sample:latest"
            peer.pull(reference).finish()
            took = peer.push(reference, f"{thin.host}/thin/sample:1").finish()
        return took, proxy.text().count("dropped")
