# -*- test-case-name: tests.testing.test_fake_registry -*-
"""
All registries in memory, with the daemon's credentials or a client's, for tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import maxsize
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.errors import Denied
from xferd.interfaces.registry import (
    IRegistries,
)
from xferd.names import Repository
from xferd.testing.fake_registry import FakeRegistry, FakeRepository
from xferd.testing.gate import Gate

T = TypeVar("T")


@implementer(IRegistries)
class FakeRegistries:
    """
    All registries, by host; each is empty at first.

    @ivar closed: whether C{close} was called.
    @ivar private_hosts: the hosts without a public address.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.private_hosts: set[str] = set()
        self._registries: dict[tuple[str, str], FakeRegistry] = {}
        self.gate = Gate(clock)
        self.closed = False

    def registry(self, host: str, user: str = "") -> FakeRegistry:
        """
        The registry of this name, the same one each time.

        @param user: a client with credentials of its own, with content of its own.
        """
        if (host, user) not in self._registries:
            self._registries[host, user] = FakeRegistry(host, self._clock, user)
        return self._registries[host, user]

    def refusing(self, host: str) -> FakeRegistry:
        """
        A registry that is not reached, as its address is not public.
        """
        registry = FakeRegistry(host, self._clock)
        for call in (
            "manifest",
            "resolve",
            "document",
            "open",
            "confirm",
            "push",
            "put_manifest",
            "referrers",
            "check",
        ):
            registry.gate.fail(call, Denied(f"{host} has no public address", host=host), times=maxsize)
        return registry

    def repository(self, name: Repository) -> FakeRepository:
        return FakeRepository(self.registry(name.host), name)

    def check(self, host: str) -> Deferred[None]:
        return self.registry(host).check()

    def seen_by(self, credentials: Mapping[str, Credentials]) -> FakeRegistriesOfClient:
        return FakeRegistriesOfClient(self, credentials)

    def anonymous(self) -> FakeRegistriesOfClient:
        return FakeRegistriesOfClient(self, {}, anonymous=True)

    def public_only(self) -> FakeRegistriesOfClient:
        return FakeRegistriesOfClient(self, {}, public_only=True)

    def close(self) -> Deferred[None]:
        self.closed = True
        return self.gate.enter("close")


@implementer(IRegistries)
class FakeRegistriesOfClient:
    """
    All registries of the world, as one client sees them.
    """

    def __init__(
        self,
        registries: FakeRegistries,
        credentials: Mapping[str, Credentials],
        *,
        anonymous: bool = False,
        public_only: bool = False,
    ) -> None:
        """
        @param anonymous: whether the client has no other credentials.
        @param public_only: whether only hosts with public addresses are reached.
        """
        self._public_only = public_only
        self._registries = registries
        self._credentials = credentials
        self._anonymous = anonymous

    def repository(self, name: Repository) -> FakeRepository:
        anonymous = self._anonymous and name.host not in self._credentials
        return FakeRepository(self._registry(name.host), name, anonymous=anonymous)

    def check(self, host: str) -> Deferred[None]:
        return self._registry(host).check()

    def seen_by(self, credentials: Mapping[str, Credentials]) -> FakeRegistriesOfClient:
        known = {**self._credentials, **credentials}
        return FakeRegistriesOfClient(
            self._registries, known, anonymous=self._anonymous, public_only=self._public_only
        )

    def anonymous(self) -> FakeRegistriesOfClient:
        return FakeRegistriesOfClient(self._registries, {}, anonymous=True, public_only=self._public_only)

    def public_only(self) -> FakeRegistriesOfClient:
        return FakeRegistriesOfClient(
            self._registries, self._credentials, anonymous=self._anonymous, public_only=True
        )

    def close(self) -> Deferred[None]:
        return self._registries.close()

    def _registry(self, host: str) -> FakeRegistry:
        if self._public_only and host in self._registries.private_hosts:
            return self._registries.refusing(host)
        brought = self._credentials.get(host)
        return self._registries.registry(host, "" if brought is None else brought.username)
