# -*- test-case-name: tests.jobs.mirror.test_repositories -*-
"""
The repositories of the registry as the API shows them, and why their content is
kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xferd.interfaces.catalog import LOCAL_HOST, CatalogManifest, ICatalog
from xferd.interfaces.job_json import RepositoryJSON
from xferd.jobs.mirror.keep_rules import KeepRule, Kept
from xferd.json_encoding import rfc3339
from xferd.names import Digest, Repository
from xferd.realms import unlisted


def list_repositories(
    catalog: ICatalog, kept: Iterable[Kept], rules: Sequence[KeepRule], quota: int
) -> list[RepositoryJSON]:
    """
    Every repository, in the order of their names.

    @param kept: the manifests of mirrored repositories.
    @param quota: the bytes that the store may take; 0 is no limit.
    """
    numbers: dict[Repository, dict[int | None, None]] = {}
    for each in kept:
        numbers.setdefault(each.repository, {})[each.rule] = None
    found: list[RepositoryJSON] = []
    for repository in catalog.repositories():
        own = repository.host == LOCAL_HOST
        plain, policy = unlisted(repository)
        manifests = catalog.manifests(repository)
        used = max(catalog.last_used(repository, m.descriptor.digest) for m in manifests)
        found.append(
            {
                "name": plain.path if own else str(plain),
                "own": own,
                "policy": "" if own else policy,
                "tags": len(catalog.tags(repository)),
                "manifests": len(manifests),
                "size": _size(manifests),
                "used": rfc3339(used) if used else None,
                "kept": ["it was pushed here"]
                if own
                else [_why(rules, number, quota) for number in numbers.get(repository, {None: None})],
            }
        )
    return found


def _size(manifests: Iterable[CatalogManifest]) -> int:
    """
    The bytes of some manifests and their blobs, each blob once.
    """
    sizes: dict[Digest, int] = {}
    for manifest in manifests:
        sizes.update({each.digest: each.size for each in (manifest.descriptor, *manifest.blobs)})
    return sum(sizes.values())


def _why(rules: Sequence[KeepRule], number: int | None, quota: int) -> str:
    """
    How long a rule, or the lack of one, keeps content.
    """
    rule = None if number is None else rules[number]
    terms = []
    if rule is not None and rule.days:
        terms.append(f"for {rule.days:g} days after its last use")
    if rule is not None and rule.size:
        terms.append(f"while all content of its rule has at most {rule.size} bytes")
    if quota and not (rule is not None and rule.always):
        terms.append("until the quota needs its space")
    why = " and ".join(terms) or "for good"
    return why if rule is None else f"{why} (rule {rule})"
