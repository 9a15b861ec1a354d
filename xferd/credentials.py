# -*- test-case-name: tests.test_credentials -*-
"""
Who somebody is at one registry, and texts that do not show themselves.

Pure values, which cross from room to room.
"""

from __future__ import annotations

from functools import cache
from hmac import compare_digest, digest
from secrets import token_bytes
from typing import Any

from attrs import field, frozen


class Secret:
    """
    A text that neither prints nor formats: only L{reveal} gives it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """
        The text.
        """
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return compare_digest(self._text.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a secret is not to be pickled")


def _nothing() -> Secret:
    return Secret("")


@frozen
class Credentials:
    """
    Who somebody is at one registry.  Equal ones are the same person's,
    wherever they came from.

    @ivar username: the name, or the empty string if there is only a token.
    @ivar password: the password, or a token that serves as one.
    @ivar identity_token: an OAuth2 refresh token, which stands for both.
    @ivar registry_token: a Bearer token for the registry itself, which stands
        for all of them.
    @ivar origin: where they came from, as errors name it: a file, a helper or
        a header.
    @ivar remedy: what to do when they are not accepted; the empty string is to
        log in again.
    """

    username: str
    password: Secret = field(factory=_nothing)
    identity_token: Secret = field(factory=_nothing)
    registry_token: Secret = field(factory=_nothing)
    origin: str = field(default="", eq=False)
    remedy: str = field(default="", eq=False)

    @classmethod
    def of(cls, username: str, password: str, identity_token: str = "", origin: str = "") -> Credentials:
        """
        Read what docker calls a user: C{<token>} says that the password is an
        identity token.
        """
        if username == "<token>":
            username, password, identity_token = "", "", identity_token or password
        return cls(username, Secret(password), Secret(identity_token), origin=origin)

    def __bool__(self) -> bool:
        """
        Whether they say anything at all.
        """
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def fingerprint(self) -> str:
        """
        A text that is equal for equal credentials in this process, and from
        which they cannot be found.
        """
        texts = [
            self.username,
            *(s.reveal() for s in (self.password, self.identity_token, self.registry_token)),
        ]
        return digest(_fingerprint_key(), repr(texts).encode(), "sha256").hex()[:32]


@cache
def _fingerprint_key() -> bytes:
    return token_bytes(32)
