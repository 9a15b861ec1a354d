# -*- test-case-name: tests.test_interfaces -*-
"""
Unpacking a layer into a tree, as the jobs use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.compression import MAX_RATIO
from xferd.interfaces.blobs import IFollower
from xferd.interfaces.store import Unpacked


@frozen
class UnpackLimits:
    """
    How much one layer may ask for.  The defaults let every sane image pass.

    @ivar entries: entries in the tar.
    @ivar size: bytes of the uncompressed tar.
    @ivar header: bytes of one entry's extended headers, and of its xattrs.
    @ivar depth: components in one path.
    @ivar ratio: uncompressed bytes for each compressed byte; looked at only
        above 64 MiB.
    """

    entries: int = 2_000_000
    size: int = 128 * 1024**3
    header: int = 1024 * 1024
    depth: int = 256
    ratio: int = MAX_RATIO


@frozen
class UnpackProgress:
    """
    How far a layer's unpacking is.

    @ivar consumed: compressed bytes read.
    @ivar entries: entries written.
    """

    consumed: int = 0
    entries: int = 0


class Displaced(Exception):
    """
    The process that unpacked a layer whose bytes had ceased to arrive made
    room for another layer: unpack it again once bytes arrive.
    """


class ILayerTask(IFollower):
    """
    The unpacking of one layer, which follows the blob's growing file.

    Life cycle: made; C{grown} any number of times; then C{sealed}, after
    which C{result} fires with the layer's facts, or with what is wrong with
    it.  C{restarted}, or cancelling C{result}, ends the work at once, and
    C{result} fails with CancelledError once no process touches the staging
    directory any more.
    """

    result: Deferred[Unpacked] = Attribute(
        "Fires with Unpacked; fails with BadLayer, StoreError, DiskFull, WorkerLost, Displaced or "
        "CancelledError. It may fail before the blob is sealed: then the bytes may be wrong, not the layer."
    )
    progress: UnpackProgress = Attribute("The newest progress.")


class IUnpacker(Interface):
    """
    The worker processes that unpack layers.
    """

    workers: int = Attribute("How many layers unpack at a time, at least 1.  May be set at any time.")
    busy: int = Attribute("How many do now.")
    least: int = Attribute("Bytes of a growing blob with which its unpacking begins.")
    sandbox: Mapping[str, str] | None = Attribute(
        "The measures of the sandbox of layers' processes, each with the reason why it is not in force, "
        "which is empty if it is; None until the worker has reported."
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

        With more layers than workers, the first asked is the first begun.

        @param staged: an empty directory, which becomes the tree.
        @param compression: C{tar}, C{gzip} or C{zstd}: what the media type
            says.  What the bytes say wins.
        @param notify: called with newer progress, at most ten times a second.
        @param algorithm: the algorithm of the diff ID.
        @param moving: reports whether bytes of the blob are arriving.  While
            they are not, a process that has read all there is may be ended to
            make room for another.
        """

    def start() -> None:
        """
        Begin to work.  Processes may start now or with the first layer.
        """

    def stop() -> Deferred[None]:
        """
        End all processes; fires when they are gone.
        """
