# -*- test-case-name: tests.test_access_tokens -*-
"""
The bearer tokens of the API's clients, and their rights.

A file has one token per line, followed by C{read_only} for clients that may
only read.  Without a file, the daemon makes a token of its own.
"""

from __future__ import annotations

import os
import secrets
import stat
from enum import IntEnum
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from xferd.errors import ConfigError
from xferd.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable

READ_ONLY: Final = "read_only"
"""The word behind a token that permits reading only."""

OWN, UNKNOWN = "own", "unknown"

_MOST: Final = 64 * 1024
"""The largest file of tokens, in bytes."""


class Right(IntEnum):
    """
    The rights of a client.
    """

    NONE = 0
    LOOK = 1
    """Read the API, without causing work or the use of credentials."""
    ACT = 2
    """All rights."""


class AccessTokens:
    """
    The tokens of one daemon.
    """

    def __init__(self, tokens: Iterable[tuple[str, Right]] = ()) -> None:
        """
        @param tokens: those of a file, in their order.
        """
        self._tokens = [
            (token.encode("utf-8"), right, str(number))
            for number, (token, right) in enumerate(tokens, 1)
            if token
        ]

    def __bool__(self) -> bool:
        """
        Whether there is any.
        """
        return bool(self._tokens)

    def __repr__(self) -> str:
        return f"<{len(self._tokens)} access tokens>"

    def add(self, token: str, right: Right = Right.ACT) -> None:
        """
        Accept the daemon's own token.
        """
        self._tokens.append((token.encode("utf-8"), right, OWN))

    def right(self, shown: bytes) -> Right:
        """
        The rights of a token: L{Right.NONE} if it is unknown.
        """
        return self.find(shown)[0]

    def find(self, shown: bytes) -> tuple[Right, str]:
        """
        The rights of a token, and its name for the log: its number in the file, L{OWN}, or
        L{UNKNOWN}.
        """
        found = Right.NONE, UNKNOWN
        for token, right, name in self._tokens:
            if compare_digest(token, shown) and right > found[0]:
                found = right, name
        return found


def read_tokens(path: str) -> AccessTokens:
    """
    Read the tokens in a file.

    @raise ConfigError: the file cannot be read, has no token, or has a malformed
        line.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read(_MOST).splitlines()
    except OSError as e:
        raise ConfigError(f"cannot read the token file {path}: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"the token file {path} is not UTF-8") from e
    tokens = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words[1:] not in ([], [READ_ONLY]):
            raise ConfigError(f"the token file {path}, line {number}: expected TOKEN or TOKEN {READ_ONLY}")
        if words:
            tokens.append((words[0], Right.LOOK if words[1:] else Right.ACT))
    if not tokens:
        raise ConfigError(f"the token file {path} is empty")
    return AccessTokens(tokens)


def own_token(path: str) -> str:
    """
    Read the daemon's own token, or make one if the file is missing.

    @param path: the file, which only this user may read.
    @raise ConfigError: another user owns the file or can read it.
    @raise OSError: the file can be neither read nor written.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return _make(path)
    with open(file, encoding="ascii", errors="replace") as opened:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ConfigError(f"{path} must be a file of this user's with mode 0600; remove it")
        token = opened.read(_MOST).strip()
    return token or _make(path)


def _make(path: str) -> str:
    """
    Make a token, and write it to the file.
    """
    token = secrets.token_hex(32)
    write_whole(path, f"{token}\n".encode("ascii"))
    return token
