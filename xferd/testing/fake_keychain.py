# -*- test-case-name: tests.testing.test_fake_keychain -*-
"""
A keychain for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.interfaces.registry import IKeychain


@implementer(IKeychain)
class FakeKeychain:
    """
    The same credentials for every registry.

    @ivar asked: the requested hosts and repositories.
    @ivar forgotten: the hosts that rejected the credentials.
    @ivar held: the next result of C{lookup}, instead of the credentials.
    """

    def __init__(
        self,
        credentials: Callable[[], Credentials | None] = lambda: None,
        identity: Hashable = None,
        where: str = "",
    ) -> None:
        """
        @param credentials: returns the credentials at each call.
        """
        self.identity = self.account = identity
        self.where = where
        self.asked: list[tuple[str, str]] = []
        self.forgotten: list[str] = []
        self.held: Deferred[Credentials | None] | None = None
        self._credentials = credentials

    def lookup(self, host: str, path: str) -> Deferred[Credentials | None]:
        self.asked.append((host, path))
        held, self.held = self.held, None
        return succeed(self._credentials()) if held is None else held

    def forget(self, host: str) -> None:
        self.forgotten.append(host)
