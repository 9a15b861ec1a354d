# -*- test-case-name: tests.jobs.blobs.test_reader -*-
"""
The growth of a blob's file, relayed from the download to those that read the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.interfaces.blobs import IFollower


@implementer(IFollower)
class Growth:
    """
    Relays the growth of one blob's file to the unpackings and readers of it.

    The download that fills the file and its followers are independent: a
    download may fail and another one continue the same file; a follower may
    begin before the first byte or after the last.

    @ivar origins: where the bytes come from, each before its first byte is here: see
        L{IBlobSource<xferd.interfaces.registry.IBlobSource>}; empty strings for unknown
        ones.
    """

    def __init__(self) -> None:
        self.origins: set[str] = set()
        self._followers: list[IFollower] = []
        self._path: str | None = None
        self._size = 0
        self._sealed = self._verified = False
        self._arrivals = 0
        self._flows = False
        self._flow_waits: list[Deferred[None]] = []
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self._observers: list[Callable[[bool], object]] = []

    @property
    def is_whole(self) -> bool:
        """
        Whether the blob is complete and verified.
        """
        return self._sealed

    @property
    def is_verified(self) -> bool:
        """
        Whether all bytes are here and have the blob's digest.  They may not be on the disk yet.
        """
        return self._verified or self._sealed

    @property
    def path(self) -> str | None:
        """
        The path of the blob's file, or L{None} if no byte of it is here.
        """
        return self._path

    @property
    def size(self) -> int:
        """
        The number of bytes reported to followers; 0 once the blob is complete.
        """
        return 0 if self._sealed else self._size

    @property
    def moving(self) -> bool:
        """
        Whether bytes of the blob are arriving.
        """
        return self._arrivals > 0

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """
        Enter while an attempt receives bytes of the blob.
        """
        self._arrivals += 1
        try:
            self._look()
            self._observe()
            yield
        finally:
            self._arrivals -= 1
            if not self._arrivals:
                self._flows = False
                self._observe()

    def on_arrivals(self, observer: Callable[[bool], object]) -> Callable[[], None]:
        """
        Call C{observer} with whether bytes may arrive, whenever that changes: while an
        attempt receives bytes, and when the blob is complete.

        @return: ends that.
        """
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def _observe(self) -> None:
        for observer in tuple(self._observers):
            observer(self.moving or self._sealed)

    def flowing(self) -> Deferred[None]:
        """
        Wait until a source sends bytes.

        @return: fires when bytes of the present attempt have arrived, or when the
            blob is complete.  Cancelling ends the wait.
        """
        waiting: Deferred[None] = Deferred(self._forget_flow)
        self._flow_waits.append(waiting)
        self._look_at_flow()
        return waiting

    def flow(self) -> None:
        """
        Report that a source has sent bytes.
        """
        if not self._flows:
            self._flows = True
            self._look_at_flow()

    def _look_at_flow(self) -> None:
        if self._flows or self._sealed:
            waits, self._flow_waits = self._flow_waits, []
            for waiting in waits:
                waiting.callback(None)

    def _forget_flow(self, waiting: Deferred[None]) -> None:
        self._flow_waits = [each for each in self._flow_waits if each is not waiting]

    def ready(self, least: int) -> Deferred[None]:
        """
        Wait until unpacking can begin.

        @param least: the number of bytes with which it begins while more arrive.
        @return: fires when the blob is complete, or when so many bytes are here
            and more arrive.  Cancelling ends the wait.
        """
        waiting: Deferred[None] = Deferred(self._forget)
        self._waiting.append((least, waiting))
        self._look()
        return waiting

    def _look(self) -> None:
        """
        Fire the waits that are over.
        """
        for least, waiting in tuple(self._waiting):
            if self._sealed or (self.moving and self._path is not None and self._size >= least):
                self._waiting.remove((least, waiting))
                waiting.callback(None)

    def _forget(self, waiting: Deferred[None]) -> None:
        self._waiting = [item for item in self._waiting if item[1] is not waiting]

    def follow(self, follower: IFollower) -> None:
        """
        Report to C{follower} the bytes that are here, and those that arrive.
        """
        self._followers.append(follower)
        if self._path is None:
            return
        if self._sealed:
            follower.sealed(self._path, self._size)
        elif self._size:
            follower.grown(self._path, self._size)

    def unfollow(self, follower: IFollower) -> None:
        """
        Stop reporting to C{follower}.  Idempotent.
        """
        if follower in self._followers:
            self._followers.remove(follower)

    def grown(self, path: str, size: int) -> None:
        """
        The first C{size} bytes of the file are here.
        """
        self._path, self._size, self._sealed = path, size, False
        for follower in tuple(self._followers):
            follower.grown(path, size)
        self._look()

    def verified(self, size: int) -> None:
        """
        All bytes are here and have the blob's digest: followers need not wait for the disk.

        @param size: the blob's size.
        """
        self._verified = True
        # Otherwise no follower knows of the file: the bytes came at once.
        if self._path is not None:
            self.grown(self._path, size)

    def restarted(self) -> None:
        """
        The bytes are void; others will arrive.
        """
        self._path, self._size, self._sealed, self._verified = None, 0, False, False
        self.origins.clear()
        for follower in tuple(self._followers):
            follower.restarted()

    def replaced(self, path: str, size: int) -> None:
        """
        The blob came by another way, as another file than that whose bytes are here.  Idempotent.
        """
        if self._size and not self._sealed:
            # Followers have that file open.
            self.restarted()
            self.origins.add("")
        self.sealed(path, size)

    def sealed(self, path: str, size: int) -> None:
        """
        The blob is complete and verified.  Idempotent.
        """
        if self._sealed:
            return
        self._path, self._size, self._sealed = path, size, True
        for follower in tuple(self._followers):
            follower.sealed(path, size)
        self._observe()
        self._look()
        self._look_at_flow()
