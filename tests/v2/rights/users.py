"""
Users with passwords, for tests.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

import bcrypt


def write_htpasswd(path: str, users: Mapping[str, str]) -> str:
    """
    Write a file of passwords, and return its path.  The hashes are cheap ones.
    """
    lines = [
        f"{user}:{bcrypt.hashpw(p.encode()[:72], bcrypt.gensalt(4)).decode()}\n" for user, p in users.items()
    ]
    Path(path).write_text("".join(lines))
    return path


def basic(user: str, password: str) -> dict[str, str]:
    """
    The header of Basic credentials.
    """
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def bearer(token: str) -> dict[str, str]:
    """
    The header of a token.
    """
    return {"Authorization": f"Bearer {token}"}
