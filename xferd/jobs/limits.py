# -*- test-case-name: tests.jobs.test_limits -*-
"""
The limits on concurrency and bandwidth, which change while the daemon runs:
one table for the configuration, C{PATCH /api/v1/limits}, C{SIGHUP} and the
API's schema.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from attrs import Attribute, evolve, field, fields, frozen

from xferd.errors import BadInput
from xferd.jobs.blobs.download import DownloadManager
from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.slots import Slots


class Bounds(NamedTuple):
    """
    The smallest and the largest value of a limit.
    """

    least: int
    most: int


AT_ONCE: Final = 10_000
"""The largest number of blobs or requests at the same time."""

RATE: Final = 10**15
"""The largest number of bytes a second."""


def _limit(default: int, bounds: Bounds, description: str) -> int:
    value: int = field(
        default=default,
        validator=_within_bounds,
        metadata={"bounds": bounds, "description": description},
    )
    return value


def _within_bounds(_: object, attribute: Attribute[int], value: object) -> None:
    least, most = attribute.metadata["bounds"]
    # A boolean is an int, too.
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{attribute.name!r} must be a whole number from {least} to {most}, not {value!r}")


@frozen
class Limits:
    """
    A value for each limit.  A field's metadata has its C{bounds} and its
    C{description}.

    @raise ValueError: a value is out of its bounds.
    """

    downloads: int = _limit(3, Bounds(1, AT_ONCE), "Blobs downloaded at the same time, by all jobs together.")
    downloads_per_host: int = _limit(
        0, Bounds(0, AT_ONCE), "Blobs downloaded from one registry at the same time; 0 is no limit."
    )
    ranges: int = _limit(
        4,
        Bounds(1, AT_ONCE),
        "Requests for parts of one large blob at the same time; 1 is one for each blob.",
    )
    uploads: int = _limit(5, Bounds(1, AT_ONCE), "Blobs uploaded at the same time, by all jobs together.")
    workers: int = _limit(0, Bounds(0, 1_000), "Layers unpacked at the same time; 0 is one for each core.")
    download_rate: int = _limit(
        0, Bounds(0, RATE), "Bytes a second downloaded by all jobs together; 0 is no limit."
    )
    upload_rate: int = _limit(
        0, Bounds(0, RATE), "Bytes a second uploaded by all jobs together; 0 is no limit."
    )

    def resolved(self) -> Limits:
        """
        These limits, with the number of cores in place of C{workers = 0}.
        """
        return self if self.workers else evolve(self, workers=len(os.sched_getaffinity(0)))


def bounds() -> dict[str, Bounds]:
    """
    The bounds of each limit, by name.
    """
    return {limit.name: limit.metadata["bounds"] for limit in fields(Limits)}


class LiveLimits:
    """
    The limits in force in one daemon.
    """

    def __init__(
        self,
        *,
        downloads: Slots,
        layers: DownloadManager,
        uploads: Slots,
        download: Bandwidth,
        upload: Bandwidth,
    ) -> None:
        self._places: Mapping[str, tuple[Any, str]] = {
            "downloads": (downloads, "limit"),
            "downloads_per_host": (downloads, "per_host"),
            "ranges": (layers, "ranges"),
            "uploads": (uploads, "limit"),
            "workers": (layers, "workers"),
            "download_rate": (download, "rate"),
            "upload_rate": (upload, "rate"),
        }

    def present(self) -> Limits:
        """
        The limits as they are.
        """
        return Limits(**{name: int(getattr(*place)) for name, place in self._places.items()})

    def change(self, changes: Mapping[str, int]) -> Limits:
        """
        Set all these limits, or none of them where one is refused.

        @return: all limits as they are then.
        @raise BadInput: there is no such limit, or a value is out of bounds.
        """
        for name in changes:
            if name not in self._places:
                raise BadInput(f"there is no limit {name[:40]!r}; there are {', '.join(self._places)}")
        try:
            limits = evolve(self.present(), **changes).resolved()
        except ValueError as e:
            raise BadInput(str(e)) from e
        for name in changes:
            setattr(*self._places[name], getattr(limits, name))
        return limits
