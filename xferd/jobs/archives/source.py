# -*- test-case-name: tests.jobs.archives.test_importing -*-
"""
A blob of an archive, as a source of a download, so that it is shared with clients
that pull the same blob from a registry.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import BlobUnknown, DigestMismatch, DiskFull, SourceError
from xferd.interfaces.registry import IBlobBody, IBlobSource
from xferd.names import Digest


@implementer(IBlobSource, IBlobBody)
class ArchiveSource:
    """
    A blob whose bytes are read once: a source, and the body that it opens.

    A transfer that leaves it for another source may return: the bytes wait
    meanwhile, and continue where they were.

    Life cycle: made; C{write} any number of times, each when C{ready} has
    fired; then C{finish}ed or C{fail}ed.

    @ivar ready: fires when bytes may be written: a download takes them, or none
        will.
    """

    def __init__(self, digest: Digest, size: int, label: str) -> None:
        self.host = self.origin = ""
        self.account: Hashable = None
        self.label = label
        self.total: int | None = size
        self.start = 0
        self.ready: Deferred[None] = Deferred(lambda _: None)
        self._digest = digest
        self._sink: Callable[[bytes], Deferred[None] | None] | None = None
        self._done: Deferred[None] | None = None
        self._passed: SourceError | None = None
        self._settled = False

    @property
    def identity(self) -> Hashable:
        """
        Each archive's blob is a source of its own.
        """
        return id(self)

    # ------------------------------------------------------ for the download

    def open(
        self,
        digest: Digest,  # noqa: ARG002 - it has one blob
        offset: int,  # noqa: ARG002 - it starts at its present offset
        end: int | None = None,  # noqa: ARG002 - it ends where the blob does
    ) -> Deferred[IBlobBody]:
        if self._passed is not None:
            return fail(self._passed)
        return succeed(self)

    def deliver(self, sink: Callable[[bytes], Deferred[None] | None]) -> Deferred[None]:
        """
        See L{IBlobBody.deliver}.  The sink returns no Deferred: the bandwidth
        limit does not apply to archives.
        """
        self._sink = sink
        done = self._done = Deferred(self._left)
        self._go_on()
        return done

    def abandon(self) -> None:
        """
        See L{IBlobBody.abandon}.  There is no connection to drop.
        """

    def confirm(self, digest: Digest) -> Deferred[int | None]:  # noqa: ARG002 - it has one blob
        """
        See L{IBlobSource.confirm}.  The reader of the archive verifies the bytes.
        """
        return succeed(None)

    def distrust(self, digest: Digest) -> None:
        """
        See L{IBlobSource.distrust}.  The bytes cannot be read again.
        """
        self._passed = DigestMismatch(f"the bytes of {self.label} for {digest} have another digest")

    # ------------------------------------------- for the reader of the archive

    def settle(self) -> None:
        """
        Let bytes be written, whether a download takes them or not.
        """
        self._settled = True
        self._go_on()

    def write(self, data: memoryview) -> None:
        """
        Pass bytes to the download, if one takes them.

        @raise DiskFull: no space is left; the same bytes may be written again.
        """
        if self._sink is not None:
            try:
                held = self._sink(bytes(data))
                assert held is None
            except DiskFull:
                raise
            except Exception:
                self._end(Failure())
                self._wait()
        self.start += len(data)

    def finish(self) -> None:
        """
        End the blob.
        """
        self._pass_by()
        self._end(None)

    def fail(self, error: SourceError) -> None:
        """
        Fail the blob: the rest will not arrive.  Idempotent, and without effect
        after C{finish}.
        """
        self._pass_by()
        self._end(Failure(error))

    def _pass_by(self) -> None:
        if self._passed is None:
            self._passed = BlobUnknown(f"{self.label} had {self._digest} once, and has passed it")

    def _go_on(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)

    def _end(self, result: Failure | None) -> None:
        done, self._done, self._sink = self._done, None, None
        if done is not None:
            done.callback(result)

    def _left(self, _: Deferred[None]) -> None:
        """
        The transfer continues with another source, or ends.
        """
        self._done = self._sink = None
        self._wait()

    def _wait(self) -> None:
        """
        Have writes wait until a download takes the bytes, or none will.
        """
        if not self._settled:
            self.ready = Deferred(lambda _: None)
