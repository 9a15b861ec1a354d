# -*- test-case-name: tests.ctl.test_view -*-
"""
What is known of one pull, put together from its events, and what to say of
each layer.
"""

from __future__ import annotations

from typing import Any

from xferd.ctl.client import ENDED, Event
from xferd.ctl.text import clean, short

_WORDS = {"exists": "already exists", "done": "complete"}


def count(item: dict[str, Any], name: str) -> int:
    """
    A number out of an object of the API; 0 if it is not there.
    """
    value = item.get(name)
    return value if isinstance(value, int) else 0


class LayerView:
    """
    One layer of a pull, and the transfer that brings it.

    @ivar data: the layer as the API has it.
    @ivar transfer: the transfer as the API has it; empty if there is none.
    """

    def __init__(self, data: dict[str, Any], transfer: dict[str, Any]) -> None:
        self.data = data
        self.transfer = transfer

    @property
    def index(self) -> int:
        """
        Which layer it is; the bottom one is 0.
        """
        return count(self.data, "index")

    @property
    def attempt(self) -> int:
        """
        Which attempt its transfer is at; the first is 1.
        """
        return max(1, count(self.transfer, "attempt"))

    @property
    def name(self) -> str:
        """
        The layer's digest in short.
        """
        return short(self.data.get("digest"))

    @property
    def state(self) -> str:
        """
        The state in words: C{downloading}, C{already exists}.
        """
        state = clean(self.data.get("state"))
        return _WORDS.get(state, state)

    @property
    def ended(self) -> bool:
        """
        Whether nothing more happens to it.
        """
        return self.data.get("state") in ("done", "exists", "failed")

    @property
    def total(self) -> int:
        """
        The blob's bytes.
        """
        return count(self.data, "size")

    @property
    def done(self) -> int:
        """
        How many of them are here, or unpacked, whichever the state is about.
        """
        if self.data.get("state") in ("done", "exists", "registering"):
            return self.total
        return count(self.data, "unpacked" if self.data.get("state") == "unpacking" else "bytes_done")

    @property
    def rate(self) -> float:
        """
        The bytes that come in a second, if it is downloading.
        """
        rate = self.transfer.get("rate")
        return rate if self.data.get("state") == "downloading" and isinstance(rate, int | float) else 0.0

    @property
    def why(self) -> str:
        """
        Why it waits, tries again or has failed.
        """
        return clean(self.data.get("why") or ("" if self.ended else self.transfer.get("why")))

    @property
    def sharing(self) -> str:
        """
        How many share its running transfer, if it is not alone.
        """
        watchers = 0 if self.ended else count(self.transfer, "watchers")
        return f"shared by {watchers}" if watchers > 1 else ""


class PullView:
    """
    One pull, as its events tell it.

    @ivar job: the job as the API has it.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        """
        @param job: the job, with or without layers.
        """
        self._layers: dict[int, dict[str, Any]] = {}
        self._transfers: dict[str, dict[str, Any]] = {}
        self.take(Event("job", job, False))

    def take(self, event: Event) -> list[LayerView]:
        """
        Learn from an event.

        @return: the layers that it says something of.
        """
        data = event.data
        if event.kind == "job":
            self.job = data
            listed = [layer for layer in data.get("layers") or () if isinstance(layer, dict)]
        elif event.kind == "layer":
            listed = [data]
        elif event.kind == "transfer":
            key = _key(data.get("id"))
            self._transfers[key] = data
            listed = [layer for layer in self._layers.values() if _key(layer.get("transfer")) == key]
        else:
            listed = []
        for layer in listed:
            self._layers[count(layer, "index")] = layer
        return [self._view(layer) for layer in listed]

    def _view(self, layer: dict[str, Any]) -> LayerView:
        """
        A layer with its transfer.
        """
        return LayerView(layer, self._transfers.get(_key(layer.get("transfer")), {}))

    @property
    def layers(self) -> list[LayerView]:
        """
        The layers, the bottom one first.
        """
        return [self._view(layer) for _, layer in sorted(self._layers.items())]

    @property
    def reference(self) -> str:
        """
        The image's name.
        """
        return clean(self.job.get("reference"))

    @property
    def state(self) -> str:
        """
        The job's state.
        """
        return clean(self.job.get("state"))

    @property
    def ended(self) -> bool:
        """
        Whether the job has ended.
        """
        return self.state in ENDED

    @property
    def done(self) -> int:
        """
        The bytes that are here, of L{total}.
        """
        return min(self.total, count(self.job, "bytes_done")) if self.state != "done" else self.total

    @property
    def total(self) -> int:
        """
        The bytes of the whole pull; 0 while nobody knows.
        """
        return count(self.job, "bytes_total")

    @property
    def rate(self) -> float:
        """
        The bytes that come in a second.  A transfer that brings two layers of
        the image counts once.
        """
        rates = {_key(layer.data.get("transfer")): layer.rate for layer in self.layers}
        return sum(rates.values())

    @property
    def error(self) -> str:
        """
        Why the job failed, with the code that programs know it by.
        """
        error = self.job.get("error")
        if not isinstance(error, dict):
            return ""
        message, code = clean(error.get("message")), clean(error.get("code"))
        return f"{message} ({code})" if code else message

    @property
    def pinned(self) -> str:
        """
        What was pulled, as a reference that will never mean anything else:
        C{docker.io/library/alpine:3.20@sha256:...}.
        """
        result = self.job.get("result")
        digest = clean(result.get("digest")) if isinstance(result, dict) else ""
        return self.reference if not digest or "@" in self.reference else f"{self.reference}@{digest}"


def _key(value: object) -> str:
    """
    An id, which may be a number or a word.
    """
    return str(value)
