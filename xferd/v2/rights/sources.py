# -*- test-case-name: tests.v2.rights.test_policies -*-
"""
The repositories of upstreams, each with the credentials that its policy demands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from twisted.python.components import proxyForInterface

from xferd.expiring import ExpiringDict
from xferd.interfaces.registry import IRegistries, IRepository
from xferd.patterns import matches_any
from xferd.realms import ACCOUNT, PASS, PUBLIC, listed
from xferd.v2.names import Target
from xferd.v2.rights.proofs import KEEP as PROVEN
from xferd.v2.settings import UpstreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from xferd.credentials import Credentials
    from xferd.interfaces.registry import IKeychain
    from xferd.names import Repository

KEEP: Final = 600.0
"""Seconds for which the upstreams' tokens of a client are kept after their last use."""

_Proxy: Any = proxyForInterface(IRepository)


class ListedRepository(_Proxy):  # type: ignore[misc]  # Twisted makes the class at run time
    """
    A repository that the catalog lists under another name.
    """

    def __init__(self, original: IRepository, name: Repository) -> None:
        super().__init__(original)
        self._name = name

    @property
    def name(self) -> Repository:
        """
        The name in the catalog.
        """
        return self._name

    @property
    def origin(self) -> str:
        """
        The origin of its blobs: that of the policy, unless any client gets them.
        """
        return PUBLIC if self.original.origin == PUBLIC else str(self._name)


class Sources:
    """
    The upstreams of one registry.
    """

    def __init__(self, registries: IRegistries, keychain: IKeychain, clock: Callable[[], float]) -> None:
        """
        @param registries: with the credentials of the daemon's user.
        @param keychain: these credentials.
        @param clock: returns monotonic seconds.
        """
        self._registries = registries
        self._anonymous = registries.anonymous()
        self._unlisted = self._anonymous.public_only()
        self._keychain = keychain
        self._clock = clock
        self._accepted: ExpiringDict[tuple[str, str], float] = ExpiringDict(clock, keep=PROVEN)
        self._of_credentials: ExpiringDict[tuple[str, str], IRegistries] = ExpiringDict(clock, keep=KEEP)

    async def find(self, target: Target, credentials: Credentials | None) -> IRepository:
        """
        The repository of an upstream.

        @param credentials: the client's own, for L{PASS}.
        @raise CredentialsUnavailable: a helper of the daemon's user fails.
        """
        repository, settings = target.repository, target.upstream or UpstreamSettings()
        if settings.policy == ACCOUNT:
            found = await self._of_account(repository, settings)
        elif settings.policy == PASS and credentials is not None:
            found = self._with(self._anonymous, repository, credentials)
        else:
            found = (self._anonymous if target.listed else self._unlisted).repository(repository)
        name = listed(repository, settings.policy)
        return found if name == repository else cast("IRepository", ListedRepository(found, name))

    async def check(self, host: str, credentials: Credentials) -> None:
        """
        Check that an upstream accepts a client's credentials.  A success is
        remembered for a while.

        @raise SourceError: it does not, or cannot be asked.
        """
        key, now = (host, credentials.fingerprint), self._clock()
        if now < (self._accepted.get(key) or 0.0):
            return
        await self._seen_by(self._anonymous, host, credentials).check(host)
        self._accepted[key] = now + PROVEN

    async def _of_account(self, repository: Repository, settings: UpstreamSettings) -> IRepository:
        """
        A repository with the credentials of the daemon's user.
        """
        for account in settings.accounts:
            if matches_any(account.repositories, repository.path):
                host, _, path = account.entry.partition("/")
                credentials = await self._keychain.lookup(host, path)
                if credentials is None:
                    return self._anonymous.repository(repository)
                return self._with(self._registries, repository, credentials)
        return self._registries.repository(repository)

    def _with(self, registries: IRegistries, repository: Repository, credentials: Credentials) -> IRepository:
        return self._seen_by(registries, repository.host, credentials).repository(repository)

    def _seen_by(self, registries: IRegistries, host: str, credentials: Credentials) -> IRegistries:
        """
        Some registries with credentials for one of them, kept with its tokens.
        """
        return self._of_credentials.get_or_make(
            (host, credentials.fingerprint), lambda: registries.seen_by({host: credentials})
        )
