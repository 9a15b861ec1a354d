# -*- test-case-name: tests.v2.rights.test_tokens -*-
"""
The bearer tokens of the registry's clients.

A token is read only by the daemon that made it, and is opaque: Fernet, encrypted and
signed with a key that lives as long as the process.  It says who the client is; the
rules say what that client may do, at each request.  A change of the rules or of a
password therefore counts at once, for tokens that are out, too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from attrs import field, frozen
from cryptography.fernet import Fernet, InvalidToken

from xferd.credentials import Credentials

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

LIFE: Final = 300
"""Seconds for which a token is valid; clients assume at least 60."""


@frozen
class Login:
    """
    What a client has shown.

    @ivar user: the user of a token; the empty string for none.
    @ivar stamp: of the user's password: see
        L{Passwords.stamp<xferd.v2.rights.passwords.Passwords.stamp>}.
    @ivar credentials: user and password as received, which may be those of an
        upstream; L{None} for an anonymous client.
    @ivar is_token: whether this comes from a token.
    """

    user: str = ""
    stamp: str = ""
    credentials: Credentials | None = field(default=None, repr=False)
    is_token: bool = field(default=False, eq=False)


class Tokens:
    """
    The tokens of one daemon.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._key = Fernet(Fernet.generate_key())

    def make(self, login: Login) -> str:
        """
        Make a token.
        """
        shown = login.credentials
        pair = None if shown is None else [shown.username, shown.password.reveal()]
        data = json.dumps([login.user, login.stamp, pair]).encode("ascii")
        return self._key.encrypt_at_time(data, self._now()).decode("ascii")

    def read(self, token: str) -> Login | None:
        """
        Read a token.

        @return: L{None} if it is invalid or too old.
        """
        try:
            data = self._key.decrypt_at_time(token.encode("utf-8"), LIFE, self._now())
        except InvalidToken:
            return None
        user, stamp, pair = json.loads(data)
        return Login(user, stamp, None if pair is None else Credentials.of(*pair), is_token=True)

    def _now(self) -> int:
        return int(self._clock.seconds())
