# -*- test-case-name: tests.jobs.local.test_repository -*-
"""
All registries, with xferd's own repositories among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.interfaces.registry import IRegistries, IRepository
from xferd.interfaces.store import IStore
from xferd.jobs.local.manifests import LocalManifests
from xferd.jobs.local.repository import LocalRepository
from xferd.names import Repository


@implementer(IRegistries)
class LocalRegistries:
    """
    Registries whose own repositories are those of the store.
    """

    def __init__(
        self,
        others: IRegistries,
        store: IStore,
        manifests: LocalManifests,
        prefixes: Callable[[], Sequence[str]],
        clock: IReactorTime,
    ) -> None:
        """
        @param others: all other registries.
        @param prefixes: returns the prefixes of the paths of own repositories.
        """
        self._others = others
        self._store = store
        self._manifests = manifests
        self._prefixes = prefixes
        self._clock = clock

    def repository(self, name: Repository) -> IRepository:
        if name.host == LOCAL_HOST and name.path.startswith(tuple(self._prefixes())):
            return LocalRepository(name, self._store, self._manifests, self._clock)
        return self._others.repository(name)

    def check(self, host: str) -> Deferred[None]:
        return self._others.check(host)

    def seen_by(self, credentials: Mapping[str, Credentials]) -> IRegistries:
        return self._beside(self._others.seen_by(credentials))

    def anonymous(self) -> IRegistries:
        return self._beside(self._others.anonymous())

    def public_only(self) -> IRegistries:
        return self._beside(self._others.public_only())

    def close(self) -> Deferred[None]:
        return self._others.close()

    def _beside(self, others: IRegistries) -> LocalRegistries:
        return LocalRegistries(others, self._store, self._manifests, self._prefixes, self._clock)
