# -*- test-case-name: tests.registry.auth.test_accounts -*-
"""
The names of clients' accounts: hashes of their credentials, by which pauses and
quotas are remembered, also by the next daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import scrypt
from typing import Final

from xferd.credentials import Credentials
from xferd.expiring import ExpiringDict

_COST: Final = 1024
"""The cost of one guess at a password for an attacker who has the journal: some
5 ms and 1 MiB.  The same credentials are hashed once an hour at most."""


class Accounts:
    """
    Names accounts.
    """

    def __init__(self, salt: Callable[[], bytes], clock: Callable[[], float]) -> None:
        """
        @param salt: returns the salt, which is known when the store is open.
        @param clock: returns monotonic seconds.
        """
        self._salt = salt
        # By fingerprints of this process, so that it has no credentials.
        self._names: ExpiringDict[str, str] = ExpiringDict(clock)

    def name(self, credentials: Credentials) -> str:
        """
        The name of the account to which some credentials belong: 32 hexadecimal
        digits, from which they cannot be computed.
        """
        return self._names.get_or_make(credentials.fingerprint, lambda: self._hash(credentials))

    def _hash(self, credentials: Credentials) -> str:
        return scrypt(credentials.secret_bytes(), salt=self._salt(), n=_COST, r=8, p=1, dklen=16).hex()
