# -*- test-case-name: tests.test_secret_files -*-
"""
Files with the secrets that sign messages: of a fleet, of a webhook.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from xferd.errors import ConfigError

MIN_SECRET: Final = 16
"""The bytes of the shortest secret."""

MAX_SECRET: Final = 4096
"""The bytes of the longest file of secrets."""

MAX_SECRETS: Final = 4
"""The secrets in it, at most."""

OPEN: Final = 0o037
"""The permissions that a file with a secret must not have: a group may read it, as in
a volume of Kubernetes."""


def read_secrets(path: str, whose: str) -> list[bytes]:
    """
    Read secrets: one a line, of which the first signs.

    @param whose: the owner of the secrets, for errors: C{the fleet}.
    @raise ConfigError: the file cannot be read, others can read it, or a secret is
        too short.
    """
    data, mode = _read(path, whose)
    if mode & OPEN:
        raise ConfigError(f"the secret of {whose} in {path} is open to other users: run chmod 0600 {path}")
    secrets = [line.strip() for line in data.splitlines() if line.strip()]
    if len(secrets) > MAX_SECRETS:
        raise ConfigError(f"{path} has {len(secrets)} secrets, and may have {MAX_SECRETS}: remove the oldest")
    shortest = min(map(len, secrets), default=0)
    if shortest < MIN_SECRET:
        raise ConfigError(
            f"a secret of {whose} in {path} has {shortest} bytes, and needs {MIN_SECRET}: "
            "write one with 'openssl rand -hex 32'"
        )
    return secrets


def _read(path: str, whose: str) -> tuple[bytes, int]:
    """
    Read a file with a secret.

    @return: the content, and the permissions.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path} is not a file")
            data = file.read(MAX_SECRET + 1)
    except OSError as e:
        raise ConfigError(f"cannot read the secret of {whose} in {path}: {e.strerror}") from e
    if len(data) > MAX_SECRET:
        raise ConfigError(f"{path} has more than {MAX_SECRET} bytes")
    return data, stat.S_IMODE(status.st_mode)


def _open(path: str, flags: int) -> int:
    # A pipe would block.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
