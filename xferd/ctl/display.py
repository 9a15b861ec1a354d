# -*- test-case-name: tests.ctl.test_display -*-
"""
The ways to show a pull that need no terminal: JSON lines, plain lines, and
silence.  L{xferd.ctl.bars} has the one that does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from xferd.ctl.text import json_line, size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from xferd.ctl.client import Event
    from xferd.ctl.view import LayerView, PullView


def draws_bars(stdout: TextIO, environ: Mapping[str, str]) -> bool:
    """
    Whether this is a terminal that can draw in place.
    """
    return stdout.isatty() and environ.get("TERM", "dumb") != "dumb"


class Display:
    """
    Shows a pull while it runs, and what came of it; this one shows nothing.

    Life cycle: it is entered, C{show} is called with each event, it is left,
    and if the pull was done, C{finish} is called.
    """

    def __init__(self, stdout: TextIO) -> None:
        """
        @param stdout: where to show it.
        """
        self.stdout = stdout

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, view: PullView, event: Event, layers: list[LayerView]) -> None:
        """
        Show what an event brought.

        @param view: the pull, which knows the event already.
        @param layers: those that the event says something of.
        """

    def finish(self, view: PullView) -> None:
        """
        Say what the pull gave.
        """


class Quiet(Display):
    """
    Only the digest that was pulled, as a reference.
    """

    def finish(self, view: PullView) -> None:
        """
        Print the reference.
        """
        print(view.pinned, file=self.stdout)


class JsonLines(Display):
    """
    Every event as it came, one JSON object on each line.
    """

    def show(self, view: PullView, event: Event, layers: list[LayerView]) -> None:  # noqa: ARG002
        """
        Print the event.
        """
        line: dict[str, Any] = {"kind": event.kind, "data": event.data, "final": event.final}
        print(json_line(line), file=self.stdout, flush=True)


class PlainEnd(Display):
    """
    What people are told at the end.
    """

    def finish(self, view: PullView) -> None:
        """
        Print the sum, and the reference on the last line.
        """
        print(summary(view), file=self.stdout)
        print(view.pinned, file=self.stdout)


class PlainLines(PlainEnd):
    """
    One line for each change of a layer's state, each new attempt, and when
    others begin to share it: fit for a log.
    """

    def __init__(self, stdout: TextIO) -> None:
        super().__init__(stdout)
        self._said: dict[int, tuple[str, int, bool]] = {}

    def show(self, view: PullView, event: Event, layers: list[LayerView]) -> None:  # noqa: ARG002
        """
        Print what is new.
        """
        for layer in layers:
            old_state, old_attempt, old_shared = self._said.get(layer.index, ("", 1, False))
            shared = old_shared or bool(layer.sharing)
            self._said[layer.index] = (layer.state, layer.attempt, shared)
            total = ""
            if layer.state != old_state:
                said, total = layer.state, size(layer.total) if layer.state == "downloading" else ""
            elif layer.attempt > old_attempt:
                said = f"attempt {layer.attempt}"
            elif shared > old_shared:
                said = layer.state
            else:
                continue
            detail = ", ".join(filter(None, (total, layer.why, layer.sharing)))
            line = f"{layer.name}: {said} ({detail})" if detail else f"{layer.name}: {said}"
            print(line, file=self.stdout, flush=True)


def summary(view: PullView) -> str:
    """
    A pull that is done, in one line.
    """
    layers = view.layers
    here = sum(layer.data.get("state") == "exists" for layer in layers)
    parts = [f"{len(layers)} layer{'' if len(layers) == 1 else 's'}"]
    if here:
        number = "" if len(layers) == 1 else "all of " if here == len(layers) else f"{here} of "
        parts.append(f"{number}which already existed")
    parts.append(size(view.total))
    return f"{view.reference}: {', '.join(parts)}"
