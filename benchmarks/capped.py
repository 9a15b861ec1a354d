"""
One large blob from a registry that caps each stream.
"""

from __future__ import annotations

import sys

from attrs import frozen

from benchmarks.figures import Outcome, Row, Series, with_ratios
from benchmarks.images import MB
from benchmarks.peers import ROOT, Peer, Xferd
from benchmarks.places import in_memory
from benchmarks.processes import Program
from benchmarks.rounds import OURS, Setting, started

_RATE = 8 * MB
"""Bytes a second of each stream."""

_SIZE = 128 * 1024 * 1024


@frozen
class _Capped:
    """
    The registry.
    """

    host: str


class _Single(Xferd):
    """
    xferd by one stream for each blob.
    """

    name = "xferd, ranges = 1"
    settings = "[limits]\nranges = 1\n"


class _Four(Xferd):
    """
    xferd with slots for as many streams as there may be.
    """

    name = "xferd, downloads = 4"
    settings = "[limits]\ndownloads = 4\n"


def pull(setting: Setting) -> Outcome:
    """
    Pull an image of one layer: the time of the client's whole process, beside
    that of its bytes by one stream.
    """
    kinds: dict[str, type[Peer]] = {kind.name: kind for kind in setting.peers}
    if OURS in kinds:
        kinds |= {kind.name: kind for kind in (_Single, _Four)}
    argv = ["-m", "xferd.testing", "--sample", "--layers=1", f"--size={_SIZE}", f"--rate={_RATE}"]
    with in_memory() as place:
        program = Program([sys.executable, *argv], place / "registry.log", {"PYTHONPATH": ROOT})
        try:
            registry = _Capped(program.ready("http://").partition("://")[2])

            def once(name: str, _: int) -> float:
                with started(kinds[name], registry) as peer:
                    return peer.pull(f"{registry.host}/sample:latest").finish()

            values, missing = setting.in_rounds(list(kinds), once)
        finally:
            program.stop()
    rows = [
        Row(
            name,
            "s",
            Series(took),
            {"MB/s": _SIZE / MB / Series(took).median, "it / 1 stream": Series(took).median * _RATE / _SIZE},
        )
        for name, took in values.items()
    ]
    subject = f"a blob of {_SIZE / MB:.0f} MB, {_RATE / MB:.0f} MB/s for each stream"
    return Outcome("capped", subject, with_ratios(rows, OURS), missing)
