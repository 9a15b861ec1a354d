# -*- test-case-name: tests.jobs.mirror.test_keeper -*-
"""
The keeper of mirrored content: it applies the rules, once an hour, and decides
what the quota spares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from xferd.errors import NotFound, StoreError
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.store import IStore
from xferd.jobs.mirror.keep_rules import KeepRule, Kept, expired, rule_for, tags_by_digest
from xferd.names import Digest, Repository

INTERVAL: Final = 3600.0
"""Seconds between two looks at all mirrored content."""


class Keeper:
    """
    The keeper of one store.

    Life cycle: made; C{start}ed, when the store is open; C{reload}ed any number of times;
    C{stop}ped.
    """

    _log = Logger()

    def __init__(
        self, store: IStore, rules: Sequence[KeepRule], *, clock: IReactorTime, wall_clock: WallClock
    ) -> None:
        """
        @param wall_clock: measures ages.
        """
        self.rules = tuple(rules)
        self._store = store
        self._wall_clock = wall_clock
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._apply()))
        self._loop.clock = clock
        self._looping: Deferred[LoopingCall] | None = None
        self._started = False
        self._applying = False

    def start(self) -> None:
        """
        Apply the rules now, and once an hour.
        """
        self._started = True
        if any(rule.days or rule.size for rule in self.rules):
            self._looping = self._loop.start(INTERVAL)

    def reload(self, rules: Sequence[KeepRule]) -> None:
        """
        Replace the rules, and apply the new ones as soon as nothing is being removed.
        """
        if tuple(rules) == self.rules:
            return
        self.rules = tuple(rules)
        # What is being applied is followed by the new rules.
        if self._started and not self._applying:
            if self._looping is not None:
                self._loop.stop()
                self._looping = None
            self.start()

    def stop(self) -> Deferred[None]:
        """
        Stop.

        @return: fires when nothing is being removed.
        """
        return Deferred.fromCoroutine(self._stop())

    def spared(self) -> Callable[[Repository, Digest], bool]:
        """
        A look at the catalog as it is now.

        @return: whether the quota spares a manifest.
        """
        if not any(rule.always for rule in self.rules):
            return lambda *_: False
        tags: dict[Repository, Mapping[Digest, Set[str]]] = {}

        def keeps(repository: Repository, digest: Digest) -> bool:
            if repository not in tags:
                tags[repository] = self._tags(repository)
            number = rule_for(self.rules, repository, tags[repository].get(digest, ()))
            return number is not None and self.rules[number].always

        return keeps

    def kept(self) -> Iterator[Kept]:
        """
        The manifests of all mirrored repositories.
        """
        catalog = self._store.catalog
        for repository in catalog.repositories():
            if repository.host == LOCAL_HOST:
                continue
            tags = self._tags(repository)
            for manifest in catalog.manifests(repository):
                digest = manifest.descriptor.digest
                rule = rule_for(self.rules, repository, tags.get(digest, ()))
                yield Kept(repository, manifest, catalog.last_used(repository, digest), rule)

    async def expire(self) -> None:
        """
        Remove what the rules remove, and free its bytes.
        """
        try:
            gone = expired(self.rules, self.kept(), self._wall_clock())
            for each in gone:
                digest = each.manifest.descriptor.digest
                self._log.info("removed {name}@{digest}, by a rule", name=each.repository, digest=digest)
                try:
                    await self._store.catalog.remove_manifest(each.repository, digest)
                except NotFound:
                    continue  # The quota has removed it.
            if gone:
                await self._store.gc.collect(False)
        except StoreError as e:
            self._log.error("cannot apply the rules of the mirror: {error}", error=e)

    async def _apply(self) -> None:
        self._applying = True
        try:
            applied: Sequence[KeepRule] | None = None
            while applied is not self.rules:
                applied = self.rules
                await self.expire()
        finally:
            self._applying = False

    async def _stop(self) -> None:
        self._started = False
        looping, self._looping = self._looping, None
        if looping is not None:
            self._loop.stop()
            await looping

    def _tags(self, repository: Repository) -> Mapping[Digest, Set[str]]:
        catalog = self._store.catalog
        found = {tag: catalog.tag(repository, tag) for tag in catalog.tags(repository)}
        tags = {tag: tagged.digest for tag, tagged in found.items() if tagged is not None}
        return tags_by_digest(catalog.manifests(repository), tags)
