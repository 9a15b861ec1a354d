# -*- test-case-name: tests.jobs.mirror.test_keep_rules -*-
"""
Rules that say how long mirrored content is kept.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final

from attrs import Attribute, define, field, frozen
from attrs.validators import ge

from xferd.interfaces.catalog import CatalogManifest
from xferd.names import Digest, Repository
from xferd.patterns import is_pattern, matches_any
from xferd.realms import unlisted

DAY: Final = 24 * 3600.0


@frozen
class KeepRule:
    """
    A row of C{[[registry.keep]]}.  The first row that matches a manifest counts.

    @ivar repositories: patterns of names: C{docker.io/library/*}, C{ghcr.io/org/**}.
    @ivar tags: patterns of tags; none for every manifest of the repositories.
    @ivar always: whether the quota of the store spares what matches.
    @ivar days: what was not requested for so many days is removed; 0 is no limit.
    @ivar size: the most bytes of the matching content; beyond them, the least
        recently used is removed.  0 is no limit.
    """

    repositories: tuple[str, ...] = field(default=())
    tags: tuple[str, ...] = field(default=())
    always: bool = False
    days: float = field(default=0.0, validator=ge(0.0))
    size: int = field(default=0, validator=ge(0))

    @repositories.validator
    def _check_repositories(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        for pattern in value:
            if not is_pattern(pattern):
                raise ValueError(
                    f"'repositories' must be patterns such as 'docker.io/library/*', not {pattern!r}"
                )

    @tags.validator
    def _check_tags(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        for pattern in value:
            if not is_pattern(pattern):
                raise ValueError(f"'tags' must be patterns such as 'v1.*', not {pattern!r}")

    def matches(self, repository: Repository, tags: Iterable[str]) -> bool:
        """
        Whether the rule is for a manifest.

        @param tags: the tags that stand for it, or for an index that names it.
        """
        if not matches_any(self.repositories, str(unlisted(repository)[0])):
            return False
        return not self.tags or any(matches_any(self.tags, tag) for tag in tags)

    def __str__(self) -> str:
        return ", ".join(self.repositories) + (f" with tags {', '.join(self.tags)}" if self.tags else "")


@define(eq=False)
class Kept:
    """
    A manifest of a mirrored repository, with what the rules look at.

    @ivar used: the time of its last use, in seconds since the epoch.
    @ivar rule: the number of the rule for it, from 0, or L{None}.
    """

    repository: Repository
    manifest: CatalogManifest
    used: float
    rule: int | None


def rule_for(rules: Sequence[KeepRule], repository: Repository, tags: Iterable[str]) -> int | None:
    """
    The number of the rule for a manifest, from 0, or L{None}.
    """
    names = tuple(tags)
    return next((n for n, rule in enumerate(rules) if rule.matches(repository, names)), None)


def tags_by_digest(
    manifests: Iterable[CatalogManifest], tags: Mapping[str, Digest]
) -> Mapping[Digest, Set[str]]:
    """
    The tags that stand for each manifest of a repository, or for an index that
    leads to it.

    @param tags: the digest of each tag.
    """
    children = {m.descriptor.digest: [child.digest for child in m.manifests] for m in manifests}
    found: dict[Digest, set[str]] = {}
    for tag, digest in tags.items():
        waiting, seen = [digest], {digest}
        while waiting:
            current = waiting.pop()
            found.setdefault(current, set()).add(tag)
            new = [child for child in children.get(current, ()) if child not in seen]
            seen.update(new)
            waiting += new
    return found


def expired(rules: Sequence[KeepRule], kept: Iterable[Kept], now: float) -> list[Kept]:
    """
    What the rules remove, because of its age, or of the size of a rule's content.

    @param now: the time in seconds since the epoch.
    """
    gone: list[Kept] = []
    by_rule: dict[int, list[Kept]] = {}
    for each in kept:
        if each.rule is None:
            continue
        days = rules[each.rule].days
        if days and each.used < now - days * DAY:
            gone.append(each)
        else:
            by_rule.setdefault(each.rule, []).append(each)
    for number, some in by_rule.items():
        if rules[number].size:
            gone += _beyond(some, rules[number].size)
    return gone


def _beyond(kept: list[Kept], size: int) -> list[Kept]:
    """
    The least recently used, so that the others have at most so many bytes.  A blob
    that several manifests share counts once.
    """
    kept.sort(key=lambda each: each.used, reverse=True)
    blobs: dict[Digest, int] = {}
    total = 0
    for position, each in enumerate(kept):
        manifest = each.manifest
        for blob in (manifest.descriptor, *manifest.blobs):
            if blob.digest not in blobs:
                blobs[blob.digest] = blob.size
                total += blob.size
        if total > size:
            return kept[position:]
    return []
