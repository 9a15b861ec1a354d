# -*- test-case-name: tests.jobs.test_request -*-
"""
What begins a job again: the part of its request that the API does not show, as the
journal keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, fields, frozen

from xferd.archive.contents import Contents


@frozen
class Request:
    """
    What a client asked for, besides the members of a job in the API.

    @ivar priority: a higher one goes first.
    @ivar owner: the user or the machine that asked, as the connection shows it; empty
        where that is unknown.
    @ivar door: how the request came, a L{Door<xferd.logs.audit_line.Door>}; empty where that is
        unknown.
    @ivar traceparent: the trace of the client's request; empty if there was none.
    @ivar hosts: the registries for which the client sent credentials.
    @ivar tags: further tags of a push.
    @ivar referrers: whether a copy has the referrers, too.
    @ivar named: whether a pull gives the image its name.
    @ivar wanted: the name for the only image of an archive, or the image to take.
    @ivar size: the size of an archive in bytes, where it was announced.
    @ivar retry_of: the ID of the job that it does again.
    @ivar rates: the bandwidth limits of the job, C{download_rate} and C{upload_rate}, as
        values for JSON.
    @ivar contents: what an archive has, once all of it is in the store.
    """

    priority: int = 0
    owner: str = ""
    door: str = ""
    traceparent: str = ""
    hosts: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    referrers: bool = False
    named: bool = True
    wanted: str | None = None
    size: int | None = None
    retry_of: str | None = None
    rates: Mapping[str, Any] = field(factory=dict)
    contents: Contents | None = None

    def to_json(self) -> Mapping[str, Any]:
        """
        The request as values for JSON.
        """
        values = {name: getattr(self, name) for name in _NAMES}
        return values if self.contents is None else {**values, "contents": self.contents.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Request:
        """
        Read what L{to_json} has returned; members of a newer xferd are ignored.
        """
        known = {name: values[name] for name in _NAMES if name in values}
        contents = known.get("contents")
        return cls(
            **{
                **known,
                "hosts": tuple(known.get("hosts", ())),
                "tags": tuple(known.get("tags", ())),
                "contents": None if contents is None else Contents.from_json(contents),
            }
        )


_NAMES = tuple(a.name for a in fields(Request))
