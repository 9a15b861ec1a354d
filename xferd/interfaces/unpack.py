# -*- test-case-name: tests.test_interfaces -*-
"""
Unpacking a layer into a tree, as the jobs use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import field, frozen
from attrs.validators import ge
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.compression import MAX_RATIO
from xferd.interfaces.blobs import IFollower
from xferd.interfaces.store import Unpacked


@frozen
class UnpackLimits:
    """
    Limits of one layer.  The defaults accept every ordinary image.

    @ivar entries: entries in the tar.
    @ivar size: bytes of the uncompressed tar.
    @ivar header: bytes of one entry's extended headers, and of its xattrs.
    @ivar depth: components in one path.
    @ivar ratio: uncompressed bytes for each compressed byte; checked above
        64 MiB only.
    """

    entries: int = field(default=2_000_000, validator=ge(1))
    size: int = field(default=128 * 1024**3, validator=ge(1))
    header: int = field(default=1024 * 1024, validator=ge(1))
    depth: int = field(default=256, validator=ge(1))
    ratio: int = field(default=MAX_RATIO, validator=ge(1))


@frozen
class UnpackProgress:
    """
    The progress of a layer's unpacking.

    @ivar consumed: compressed bytes read.
    @ivar entries: entries written.
    """

    consumed: int = 0
    entries: int = 0


class Displaced(Exception):
    """
    The process of a layer whose bytes had stopped arriving was ended to make
    space for another layer.  Unpack the layer again once bytes arrive.
    """


class ILayerTask(IFollower):
    """
    The unpacking of one layer, which follows the blob's growing file.

    Life cycle: made; C{grown} any number of times; then C{sealed}, after which
    C{result} fires with the layer's facts or an error.  C{restarted}, or
    cancelling C{result}, ends the work; C{result} then fails with
    CancelledError after the process that writes to the staging directory has
    ended.
    """

    result: Deferred[Unpacked] = Attribute(
        "Fires with Unpacked; fails with BadLayer, StoreError, DiskFull, WorkerLost, Displaced or "
        "CancelledError. If it fails before the blob is sealed, the bytes may be wrong, not the layer."
    )
    progress: UnpackProgress = Attribute("The newest progress.")
    queued: bool = Attribute("Whether it has bytes to read, and waits for a worker.")


class IUnpacker(Interface):
    """
    The worker processes that unpack layers.
    """

    workers: int = Attribute("Layers that may compute at a time, at least 1.  May be set at any time.")
    busy: int = Attribute("Layers that compute now.")
    least: int = Attribute("Bytes of a growing blob that its unpacking needs to begin.")
    sandbox: Mapping[str, str] | None = Attribute(
        "The measures of the sandbox of layers' processes, each with the reason why it is not in force, "
        "or an empty string; None until the worker has reported."
    )

    def unpack(
        staged: str,
        compression: str,
        notify: Callable[[UnpackProgress], None],
        algorithm: str = "sha256",
        moving: Callable[[], bool] = lambda: True,
    ) -> ILayerTask:
        """
        Begin to unpack a layer.

        With more layers than workers, layers begin in the order of requests.

        @param staged: an empty directory, which becomes the tree.
        @param compression: C{tar}, C{gzip} or C{zstd}, by the media type.  The
            magic number of the bytes has precedence.
        @param notify: called with newer progress, at most ten times a second.
        @param algorithm: the algorithm of the diff ID.
        @param moving: returns whether bytes of the blob are arriving.  While
            none arrive, a process that has read all bytes may be ended to make
            space for another.
        """

    def start() -> None:
        """
        Accept work.  Processes start now or with the first layer.
        """

    def stop() -> Deferred[None]:
        """
        End all processes; fires when they are gone.
        """
