# -*- test-case-name: tests.ctl.engine.test_check -*-
"""
The proof that an engine runs images from the store: its own client pulls an image, and the
registry and the daemon report who fetched the layers.
"""

from __future__ import annotations

import json
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xferd.ctl.engine.clients import Unavailable, remedy
from xferd.ctl.engine.files import TOOLS
from xferd.ctl.engine.sample_registry import SampleRegistry, make_image
from xferd.ctl.engine.served import VIEW
from xferd.ctl.errors import ClientError, Refused
from xferd.names import Digest, Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xferd.ctl.client import Daemon
    from xferd.ctl.engine.clients import Client
    from xferd.ctl.engine.served import Engine
    from xferd.platforms import Platform

PATIENCE: Final = 30.0
"""Seconds within which an image that xferd has appears in the view."""

_PAUSE: Final = 0.05


class Checked(NamedTuple):
    """
    The result of a check that found no problem.

    @ivar tool: the tool.
    @ivar engine: the name of the engine; empty for the view.
    @ivar client: the program that pulled.
    @ivar image: the reference.
    @ivar seconds: the time of the pull.
    @ivar by_engine: what the engine requested from the registry; empty if that is not
        known.
    @ivar by_xferd: what xferd requested.
    """

    tool: str
    engine: str
    client: str
    image: str
    seconds: float
    by_engine: tuple[str, ...] = ()
    by_xferd: tuple[str, ...] = ()


class Check:
    """
    Checks a tool by one of its clients.
    """

    def __init__(
        self, tool: str, client: Client, engine: Engine, daemon: Daemon, environ: Mapping[str, str]
    ) -> None:
        """
        @param environ: the environment of the client.
        """
        self._tool = tool
        self._engine = engine
        self._daemon = daemon
        self._environ = environ
        self._client = client

    def with_sample(self, platform: Platform) -> Checked:
        """
        Pull a new image from a registry on loopback, and see who asked for its layer.

        @raise ClientError: the engine is not served; the text has the remedy.
        """
        registry = SampleRegistry(make_image(platform))
        registry.start()
        try:
            return self._pulled_from(registry)
        finally:
            registry.stop()
            self._forget(registry.reference)

    def _pulled_from(self, registry: SampleRegistry) -> Checked:
        if TOOLS[self._tool].kind == VIEW:
            self._bring(registry.reference)
            self._wait_for(registry.reference, str(Digest.of(registry.image.config)))
        checked = self._pull(registry.reference)
        by_engine = tuple(each.kind for each in registry.asked if not each.is_xferd)
        by_xferd = tuple(each.kind for each in registry.asked if each.is_xferd)
        if "layer" in by_engine:
            raise ClientError(self._not_served("fetched the layer from the registry"))
        if "layer" not in by_xferd:
            raise ClientError(self._not_served("has the layer, which xferd did not fetch"))
        return checked._replace(by_engine=by_engine, by_xferd=by_xferd)

    def with_image(self, reference: str) -> Checked:
        """
        Pull an image, and see whether the daemon lists its layers as used.

        @raise ClientError: as L{with_sample}.
        """
        if TOOLS[self._tool].kind == VIEW:
            self._bring(reference)
            self._wait_for(reference, str(self._daemon.image(reference).get("image_id")))
        return self._pull(reference)

    def _bring(self, reference: str) -> None:
        """
        Have xferd pull an image, as engines with the view expect it there.
        """
        job = self._daemon.start_followed("pull", reference)
        last: dict[str, Any] = {}
        for event in self._daemon.events(str(job.get("id"))):
            if event.kind == "job":
                last = event.data
        if last.get("state") != "done":
            error = last.get("error")
            why = error.get("message") if isinstance(error, dict) else last.get("state")
            raise ClientError(f"xferd cannot pull {reference}: {why}")

    def _forget(self, reference: str) -> None:
        """
        Remove an image's name from the store, if it is there.
        """
        try:
            self._daemon.remove(reference)
        except Refused as e:
            if e.status != 404:
                raise

    def _wait_for(self, reference: str, image_id: str) -> None:
        """
        Wait until an image is in the view.
        """
        path = f"{self._engine.path}/overlay-images/images.json"
        until = monotonic() + PATIENCE
        while True:
            try:
                with open(path, encoding="utf-8") as file:
                    listed = {str(each.get("id")) for each in json.load(file)}
            except (OSError, ValueError, AttributeError):
                listed = set()
            if image_id.partition(":")[2] in listed:
                return
            if monotonic() > until:
                raise ClientError(
                    f"the image is not in the view {self._engine.path} within {PATIENCE:.0f} s: "
                    + (self._left_out(reference) or "see the daemon's log")
                )
            sleep(_PAUSE)

    def _pull(self, reference: str) -> Checked:
        """
        Pull by the engine's client, look for the image in the daemon's list, and remove
        it again.
        """
        began = monotonic()
        try:
            self._client.run(self._client.pull, reference, self._environ)
        except Unavailable:
            raise
        except ClientError as e:
            raise ClientError(f"{e}; {remedy(str(e), self._tool)}") from e
        took = monotonic() - began
        is_used = TOOLS[self._tool].kind == VIEW or self._uses(reference)
        self._client.run(self._client.remove, reference, self._environ)
        if not is_used:
            raise ClientError(self._not_served("uses no layer of xferd's"))
        return Checked(self._tool, self._engine.name, self._client.name, reference, took)

    def _uses(self, reference: str) -> bool:
        """
        Whether the engine uses layers of an image, by the daemon's list.
        """
        return bool(self._listed("images", reference))

    def _left_out(self, reference: str) -> str:
        """
        Why the view does not show an image; empty if that is not known.
        """
        return next((str(each.get("reason")) for each in self._listed("left_out", reference)), "")

    def _listed(self, member: str, reference: str) -> list[dict[str, Any]]:
        """
        What the daemon's description of the engine lists of an image.
        """
        name = str(Reference.parse(reference))
        return [
            item
            for each in self._daemon.engines()
            if (each.get("kind"), each.get("name")) == (self._engine.kind, self._engine.name)
            for item in each.get(member) or []
            if isinstance(item, dict) and item.get("image") in (name, reference)
        ]

    def _not_served(self, what: str) -> str:
        return (
            f"{self._tool} {what}: it does not use xferd; compare its configuration with "
            f"'xferctl engine show {self._tool}', and see the daemon's log"
        )
