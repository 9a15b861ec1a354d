# -*- test-case-name: tests.jobs.test_import -*-
"""
A blob that comes out of an archive, as a source like any other: so that it is
shared with whoever wants the same blob from a registry.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import BlobUnknown, DiskFull, SourceError
from xferd.interfaces import IBlobBody, IBlobSource
from xferd.names import Digest


@implementer(IBlobSource, IBlobBody)
class Arrival:
    """
    One blob that passes by, once: a source, and the body that it opens.

    Life cycle: made; C{ready} fires when somebody takes it, or nobody will;
    then C{write} any number of times; then C{finish}ed or C{fail}ed.

    @ivar ready: fires when the bytes may come.
    """

    start = 0
    account: Hashable = None

    def __init__(self, digest: Digest, size: int, label: str) -> None:
        self.host = ""
        self.label = label
        self.total: int | None = size
        self.ready: Deferred[None] = Deferred(lambda _: None)
        self._digest = digest
        self._sink: Callable[[bytes], Deferred[None] | None] | None = None
        self._done: Deferred[None] | None = None
        self._passed: SourceError | None = None

    @property
    def identity(self) -> Hashable:
        """
        No other source is like it.
        """
        return id(self)

    # ------------------------------------------------- for who wants the blob

    def open(
        self,
        digest: Digest,
        offset: int,  # noqa: ARG002 - it begins at 0
        end: int | None = None,  # noqa: ARG002 - and ends where the blob does
    ) -> Deferred[IBlobBody]:
        """
        See L{IBlobSource.open}.
        """
        if self._passed is not None:
            return fail(self._passed)
        # Whatever becomes of it, there is no second time.
        self._passed = BlobUnknown(f"{self.label} had {digest} once, and has passed it")
        return succeed(self)

    def deliver(self, sink: Callable[[bytes], Deferred[None] | None]) -> Deferred[None]:
        """
        See L{IBlobBody.deliver}.  No sink holds back what does not come over
        the network.
        """
        self._sink = sink
        done = self._done = Deferred(self._left)
        self.settle()
        return done

    def abandon(self) -> None:
        """
        See L{IBlobBody.abandon}.
        """
        self.settle()

    def confirm(self, digest: Digest) -> Deferred[None]:  # noqa: ARG002 - it has but one
        """
        See L{IBlobSource.confirm}: who reads the archive holds its bytes
        against the digest.
        """
        return succeed(None)

    def distrust(self, digest: Digest) -> None:
        """
        See L{IBlobSource.distrust}: there is no second time anyway.
        """

    # --------------------------------------------------- for who reads it out

    def settle(self) -> None:
        """
        Let the bytes come: whoever wants them is there.
        """
        if not self.ready.called:
            self.ready.callback(None)

    def write(self, data: memoryview) -> None:
        """
        Some of the bytes.

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

    def finish(self) -> None:
        """
        That was all.
        """
        self._end(None)

    def fail(self, error: SourceError) -> None:
        """
        The rest will not come.  Idempotent, and nothing after C{finish}.
        """
        self._passed = error
        self._end(Failure(error))

    def _end(self, result: Failure | None) -> None:
        done, self._done, self._sink = self._done, None, None
        if done is not None:
            done.callback(result)

    def _left(self, _: Deferred[None]) -> None:
        self._done = self._sink = None
