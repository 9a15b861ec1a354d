# -*- test-case-name: tests.jobs.test_content -*-
"""
From the partial file to the unpacker: what is known of a blob's bytes.
"""

from __future__ import annotations

from zope.interface import implementer

from xferd.interfaces import IFollower


@implementer(IFollower)
class Feed:
    """
    Relays the growth of one blob's file to those who unpack it.

    The download that fills the file and the unpackings that read it come and
    go independently: a download may fail and a second one go on with the same
    file, an unpacking may begin before the first byte or after the last.
    """

    def __init__(self) -> None:
        self._followers: list[IFollower] = []
        self._path: str | None = None
        self._size = 0
        self._sealed = False

    def follow(self, follower: IFollower) -> None:
        """
        Tell C{follower} of all that is here now and of all that comes.
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
        Tell it nothing more.  Idempotent.
        """
        if follower in self._followers:
            self._followers.remove(follower)

    def grown(self, path: str, size: int) -> None:
        """
        The first C{size} bytes of the file are there.
        """
        self._path, self._size, self._sealed = path, size, False
        for follower in tuple(self._followers):
            follower.grown(path, size)

    def restarted(self) -> None:
        """
        The bytes are void; others will come.
        """
        self._path, self._size, self._sealed = None, 0, False
        for follower in tuple(self._followers):
            follower.restarted()

    def sealed(self, path: str, size: int) -> None:
        """
        The blob is whole and verified.  Idempotent.
        """
        if self._sealed:
            return
        self._path, self._size, self._sealed = path, size, True
        for follower in tuple(self._followers):
            follower.sealed(path, size)
