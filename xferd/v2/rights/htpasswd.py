# -*- test-case-name: tests.v2.rights.test_htpasswd -*-
"""
The users of the registry: a file with passwords as C{htpasswd -B} writes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from twisted.logger import Logger

from xferd.errors import ConfigError

MAX_COST: Final = 14
"""The highest cost of a bcrypt hash: a check takes about a second of CPU time."""

_HASH: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_MOST: Final = 1024 * 1024
"""The largest file, in bytes."""


def parse_htpasswd(text: str, path: str) -> Mapping[str, str]:
    """
    Read the hashes of the users.

    @param path: the name of the file, for errors.
    @raise ConfigError: a line is malformed, or its hash is not of bcrypt.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, colon, hashed = line.strip().partition(":")
        if not colon or not user:
            raise ConfigError(f"{path}, line {number}: expected USER:HASH")
        match = _HASH.fullmatch(hashed)
        if match is None:
            raise ConfigError(
                f"{path}, line {number}: the password of {user!r} is not hashed by bcrypt; "
                f"'htpasswd -B {path} {user}' does that"
            )
        if not 4 <= int(match[1]) <= MAX_COST:
            raise ConfigError(
                f"{path}, line {number}: the bcrypt cost of {user!r} is {int(match[1])}; "
                f"it must be from 4 to {MAX_COST}"
            )
        users[user] = hashed
    return users


class HtpasswdFile:
    """
    A file of passwords, which may change while the daemon runs.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        """
        @param path: the file; the empty string for no users.
        """
        self.path = path
        self._stamp: tuple[int, ...] | None = None
        self._users: Mapping[str, str] = {}

    def load(self) -> Mapping[str, str]:
        """
        The hashes of all users, read again if the file has changed.

        @raise ConfigError: the file cannot be used; the previous users remain.
        """
        if not self.path:
            return self._users
        try:
            found = os.stat(self.path)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return self._users
            self._stamp = stamp
            with open(self.path, encoding="utf-8") as file:
                text = file.read(_MOST + 1)
        except OSError as e:
            raise ConfigError(f"cannot read the passwords in {self.path}: {e.strerror}") from e
        except UnicodeDecodeError as e:
            raise ConfigError(f"the passwords in {self.path} are not UTF-8") from e
        if len(text) > _MOST:
            raise ConfigError(f"the passwords in {self.path} are more than {_MOST} bytes")
        self._users = parse_htpasswd(text, self.path)
        return self._users

    def current(self) -> Mapping[str, str]:
        """
        The hashes of all users.  If the file has become unusable, that is logged and
        its previous content is used.
        """
        try:
            return self.load()
        except ConfigError as e:
            self._log.warn("the previous passwords remain in use: {reason}", reason=str(e))
            return self._users
