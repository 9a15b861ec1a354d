# -*- test-case-name: tests.jobs.test_limits -*-
"""
How much happens at once, and how fast: the limits that change while the
daemon runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from attrs import frozen

from xferd.errors import BadInput
from xferd.jobs.download import DownloadManager
from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.slots import Slots


class Bounds(NamedTuple):
    """
    What a limit may be.
    """

    least: int
    most: int


LIMITS: Final[Mapping[str, Bounds]] = {
    "downloads": Bounds(1, 10_000),
    "downloads_per_host": Bounds(0, 10_000),
    "ranges": Bounds(1, 10_000),
    "uploads": Bounds(1, 10_000),
    "workers": Bounds(1, 1_000),
    "download_rate": Bounds(0, 10**15),
    "upload_rate": Bounds(0, 10**15),
}
"""
The limits: blobs at once, streams of one blob, processes, and bytes a second;
0 is no limit.  The configuration, C{PATCH /api/v1/limits} and C{SIGHUP} go by
this table.
"""


def check_limit(name: str, value: object) -> None:
    """
    Make sure that a limit may be set to a value.

    @raise BadInput: there is no such limit, or it cannot be that.
    """
    bounds = LIMITS.get(name)
    if bounds is None:
        raise BadInput(f"there is no limit {name[:40]!r}; there are {', '.join(LIMITS)}")
    # A boolean is an int, too.
    if type(value) is not int or not bounds.least <= value <= bounds.most:
        raise BadInput(f"{name!r} must be a whole number from {bounds.least} to {bounds.most}")


@frozen
class _Limit:
    """
    Where a limit is read and set.
    """

    get: Callable[[], int]
    set: Callable[[int], None]


class LiveLimits:
    """
    The limits of one daemon, where they are in force.
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
        def of(thing: object, name: str) -> _Limit:
            return _Limit(lambda: int(getattr(thing, name)), lambda value: setattr(thing, name, value))

        self._limits: Mapping[str, _Limit] = {
            "downloads": of(downloads, "limit"),
            "downloads_per_host": of(downloads, "per_host"),
            "ranges": of(layers, "ranges"),
            "uploads": of(uploads, "limit"),
            "workers": of(layers, "workers"),
            "download_rate": of(download, "rate"),
            "upload_rate": of(upload, "rate"),
        }

    def present(self) -> dict[str, int]:
        """
        The limits as they are.
        """
        return {name: limit.get() for name, limit in self._limits.items()}

    def change(self, changes: Mapping[str, int]) -> dict[str, int]:
        """
        Set some limits: all of them, or none where one cannot be.

        @return: all limits as they are then.
        @raise BadInput: there is no such limit, or it cannot be that.
        """
        for name, value in changes.items():
            check_limit(name, value)
        for name, value in changes.items():
            self._limits[name].set(value)
        return self.present()
