# -*- test-case-name: tests.fleet.test_tags -*-
"""
Tags that a node of the fleet has checked: the others need not check them again.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from xferd.errors import CoordinationUnavailable
from xferd.fleet.accounts import FleetAccounts
from xferd.interfaces.fleet import ICoordination
from xferd.interfaces.mirror import ISharedTags
from xferd.interfaces.registry import IRepository
from xferd.names import Digest
from xferd.realms import PUBLIC, unlisted
from xferd.transfer.eventual import Background


@implementer(ISharedTags)
class FleetTags:
    """
    The tags of public repositories, and of those that the daemon reads with its own
    credentials.  What a client reads with its own is not shared.
    """

    def __init__(self, coordination: ICoordination, accounts: FleetAccounts) -> None:
        self._coordination = coordination
        self._accounts = accounts
        self._background = Background()

    def is_fresh(self, source: IRepository, tag: str, held: Digest) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._is_fresh(source, tag, held))

    def checked(self, source: IRepository, tag: str, digest: Digest, ttl: float) -> None:
        if self._coordination.available and ttl > 0:
            noting = Deferred.fromCoroutine(self._checked(source, tag, digest, ttl))
            self._background.spawn(noting, "while a tag is made known")

    def stop(self) -> Deferred[None]:
        """
        Stop to make tags known.
        """
        return self._background.stop()

    async def _is_fresh(self, source: IRepository, tag: str, held: Digest) -> bool:
        if not self._coordination.available:
            return False
        try:
            for key in await self._keys(source, tag):
                if await self._coordination.fresh_tag(key) == held:
                    return True
            return False
        except CancelledError:
            raise
        except CoordinationUnavailable:
            return False

    async def _checked(self, source: IRepository, tag: str, digest: Digest, ttl: float) -> None:
        for key in (await self._keys(source, tag))[:1]:
            self._coordination.tag_checked(key, digest, ttl)

    async def _keys(self, source: IRepository, tag: str) -> list[str]:
        """
        The keys of a tag: that by which it is made known first; none if it is not shared.
        """
        repository, _ = unlisted(source.name)
        if source.origin == PUBLIC:
            accounts = [PUBLIC]
        elif source.account is None:
            accounts = await self._accounts.names(repository.host, repository.path)
        else:
            accounts = []
        return [f"{account} {repository}:{tag}" for account in accounts]
