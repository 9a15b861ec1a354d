# -*- test-case-name: tests.v2.rights.test_passwords -*-
"""
Checks of passwords, which are slow by intent: each in a thread, few at one time, and
each right password once for many requests.
"""

from __future__ import annotations

from functools import partial
from hashlib import blake2b
from secrets import token_bytes
from typing import TYPE_CHECKING, Final

import bcrypt
from twisted.internet.defer import Deferred
from werkzeug.exceptions import ServiceUnavailable

from xferd.single_flight import SingleFlight
from xferd.v2.rights.guesses import Guesses
from xferd.v2.rights.htpasswd import HtpasswdFile

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from xferd.credentials import Credentials
    from xferd.store.threads import Threads

KEEP: Final = 300.0
"""Seconds for which a right password is not checked again."""

AT_ONCE: Final = 2
"""The number of threads."""

WAITING: Final = 64
"""The most checks that run or wait; further ones are refused."""

GUESSES: Final = 10
"""The number of wrong passwords that a peer may send at once for one user."""

GUESS_INTERVAL: Final = 6.0
"""Seconds after which a peer may send one more."""

PEER_GUESSES: Final = 50
"""The number of wrong passwords that a peer may send at once for all users."""

PEER_INTERVAL: Final = 1.0
"""Seconds after which a peer may send one more."""

_MOST: Final = 72
"""The bytes of a password that bcrypt reads."""


class Passwords:
    """
    The passwords of one daemon.
    """

    def __init__(self, file: HtpasswdFile, threads: Threads, clock: IReactorTime) -> None:
        self.file = file
        self._threads = threads
        self._clock = clock
        self._key = token_bytes(32)
        # The hash of right passwords, by keyed digests of user, password and hash.
        self._known: dict[bytes, float] = {}
        self._running: dict[bytes, SingleFlight[bool]] = {}
        self._of_users = Guesses(clock.seconds, GUESSES, GUESS_INTERVAL)
        self._of_peers = Guesses(clock.seconds, PEER_GUESSES, PEER_INTERVAL)

    def check(self, credentials: Credentials, peer: str) -> Deferred[bool]:
        """
        Whether a user has a password.

        @param peer: the client, by whose name wrong passwords are counted.
        @return: cancelling ends the wait alone.
        @raise TooManyRequests: the peer has sent too many wrong passwords.
        @raise ServiceUnavailable: too many checks are waiting.
        """
        return Deferred.fromCoroutine(self._check(credentials, peer))

    def stamp(self, user: str) -> str:
        """
        A text that changes with the user's password; empty if there is no such user.
        """
        hashed = self.file.current().get(user)
        return "" if hashed is None else self._digest(user, hashed).hex()[:16]

    async def _check(self, credentials: Credentials, peer: str) -> bool:
        user, password = credentials.username, credentials.password.reveal()
        users = self.file.current()
        if not users:
            return False
        hashed = users.get(user)
        key = self._digest(user, password, hashed or "")
        now = self._clock.seconds()
        if now < self._known.get(key, 0.0):
            return True
        flight = self._running.get(key)
        if flight is not None:
            return await flight.wait()
        if len(self._running) >= WAITING:
            raise ServiceUnavailable("too many passwords are being checked", retry_after=5)
        # Clients at one address are many: wrong passwords of one do not stop the others soon.
        self._of_peers.take(peer)
        self._of_users.take(f"{peer} {user}")
        flight = self._running[key] = SingleFlight[bool]()
        waiting = flight.wait()
        # A check that has begun ends, whoever waits for it.
        _ = flight.wait().addErrback(lambda _: None)
        # For an unknown user, a check takes as long as for others.
        checking = self._run(key, password, hashed or next(iter(users.values())), hashed is not None)
        flight.start(Deferred.fromCoroutine(checking), partial(self._running.__delitem__, key))
        right = await waiting
        if right:
            self._of_peers.give_back(peer)
            self._of_users.give_back(f"{peer} {user}")
        return right

    async def _run(self, key: bytes, password: str, hashed: str, known: bool) -> bool:
        """
        Check a password in a thread.

        @param known: whether the user exists.
        """
        right = await self._threads.run(_matches, password, hashed) and known
        if right:
            self._remember(key)
        return right

    def _remember(self, key: bytes) -> None:
        now = self._clock.seconds()
        self._known.pop(key, None)
        self._known[key] = now + KEEP
        # The oldest are first.
        while self._known and next(iter(self._known.values())) <= now:
            del self._known[next(iter(self._known))]

    def _digest(self, *texts: str) -> bytes:
        """
        A keyed digest: passwords are not kept.
        """
        return blake2b(repr(texts).encode(), key=self._key, digest_size=32).digest()


def _matches(password: str, hashed: str) -> bool:
    """
    Whether a password has a hash.  Called in a thread.
    """
    data = password.encode("utf-8", "surrogatepass")[:_MOST]
    try:
        return bcrypt.checkpw(data, hashed.encode("ascii"))
    except ValueError:
        # A NUL, which bcrypt cannot hash.
        return False
