# -*- test-case-name: tests.fleet.test_accounts -*-
"""
The names of the daemon's own accounts: equal on all nodes that have the same
credentials.
"""

from __future__ import annotations

from hmac import digest
from typing import Final

from twisted.internet.defer import CancelledError

from xferd.errors import XferdError
from xferd.fleet.proofs import Secrets
from xferd.interfaces.registry import IKeychain

_DIGITS: Final = 32


class FleetAccounts:
    """
    Names accounts.  A name is an HMAC: without the secret of the fleet, a password can
    neither be computed from it nor guessed by it.
    """

    def __init__(self, secrets: Secrets | None, keychain: IKeychain) -> None:
        """
        @param secrets: those of the fleet; without them no account has a name.
        @param keychain: the credentials of the daemon's user.
        """
        self._secrets = secrets
        self._keychain = keychain

    async def names(self, host: str, path: str = "") -> list[str]:
        """
        The names of the account that the daemon has at a registry: that by which it makes
        things known first, then those by which nodes with an older or a newer secret do.

        @param path: a repository, which may have credentials of its own.
        @return: 32 hexadecimal digits each; none where the daemon has no credentials, or
            cannot read them.
        """
        if self._secrets is None:
            return []
        try:
            credentials = await self._keychain.lookup(host, path)
        except CancelledError:
            raise
        except XferdError:
            return []
        if not credentials:
            return []
        text = b"\n".join((b"xferd-fleet-account-1", host.encode(), credentials.secret_bytes()))
        return [digest(secret, text, "sha256").hex()[:_DIGITS] for secret in self._secrets.all]
