# -*- test-case-name: tests.test_credentials -*-
"""
A client's credentials at one registry, and secrets that never print.

Pure values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hmac import compare_digest, digest
from secrets import token_bytes
from typing import Any

from attrs import field, frozen


class Secret:
    """
    A text that neither prints nor formats; only L{reveal} returns it.
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
        raise TypeError("a secret cannot be pickled")


def _nothing() -> Secret:
    return Secret("")


@frozen
class Credentials:
    """
    A client's credentials at one registry.  Equal ones belong to the same
    account, whatever their origin.

    @ivar username: the name, or the empty string if there is only a token.
    @ivar password: the password, or a token that serves as one.
    @ivar identity_token: an OAuth2 refresh token, which replaces both.
    @ivar registry_token: a Bearer token for the registry itself, which replaces
        all others.
    @ivar origin: the file, helper or header of the credentials, for errors.
    @ivar remedy: the action if the registry rejects them; the empty string is to
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
        Read a user name and a password as docker stores them: the name
        C{<token>} marks the password as an identity token.
        """
        if username == "<token>":
            username, password, identity_token = "", "", identity_token or password
        return cls(username, Secret(password), Secret(identity_token), origin=origin)

    def __bool__(self) -> bool:
        """
        Whether there is a name or a token.
        """
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def fingerprint(self) -> str:
        """
        A keyed hash: equal for equal credentials in this process.
        """
        return digest(_fingerprint_key(), self.secret_bytes(), "sha256").hex()[:32]

    def reveal(self) -> dict[str, str]:
        """
        All members as text, the secrets among them: for a file or a connection that this
        user alone can read.
        """
        return {
            "username": self.username,
            "password": self.password.reveal(),
            "identity_token": self.identity_token.reveal(),
            "registry_token": self.registry_token.reveal(),
            "origin": self.origin,
            "remedy": self.remedy,
        }

    @classmethod
    def revealed(cls, value: Mapping[str, Any]) -> Credentials:
        """
        Read what L{reveal} returned.

        @raise KeyError: a member is missing.
        @raise TypeError: it is no mapping.
        """
        return cls(
            str(value["username"]),
            Secret(str(value["password"])),
            Secret(str(value["identity_token"])),
            Secret(str(value["registry_token"])),
            str(value["origin"]),
            str(value["remedy"]),
        )

    def secret_bytes(self) -> bytes:
        """
        All of it, to be hashed: equal for equal credentials only.
        """
        texts = [
            self.username,
            *(s.reveal() for s in (self.password, self.identity_token, self.registry_token)),
        ]
        return repr(texts).encode()


@cache
def _fingerprint_key() -> bytes:
    return token_bytes(32)
