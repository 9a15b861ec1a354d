# -*- test-case-name: tests.v2.test_listing -*-
"""
Lists in pages: the tags of a repository, all repositories, and the referrers of a
manifest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Late
from twisted.logger import Logger

from xferd.errors import BadInput, NotFound, TimedOut, XferdError
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.json_encoding import encode
from xferd.media_types import OCI_INDEX
from xferd.names import Digest, Repository
from xferd.realms import PUBLIC, unlisted
from xferd.v2.names import Target
from xferd.v2.request import query
from xferd.v2.responses import add_warning
from xferd.web.request import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from xferd.interfaces.registry import IRepository
    from xferd.interfaces.store import IStore
    from xferd.oci import Descriptor
    from xferd.v2.rights.rights import Rights

MOST: Final = 10_000
"""The most names in one page."""

MOST_BYTES: Final = 2 * 1024 * 1024
"""
The bytes of descriptors after which a page of referrers ends: clients read at most 4
MiB, and a descriptor has all annotations of its manifest.
"""

PATIENCE: Final = 5.0
"""Seconds for which an upstream is waited for that lists referrers."""


class Listing:
    """
    The lists of one registry.
    """

    _log = Logger()

    def __init__(
        self, store: IStore, find: Callable[[str], Target], rights: Rights, clock: IReactorTime
    ) -> None:
        self._store = store
        self._find = find
        self._rights = rights
        self._clock = clock

    async def tags(self, request: Request, target: Target, source: IRepository) -> bytes:
        """
        The tags of a repository ("Listing Tags", end-8); of a mirrored one, those of
        its upstream, too, and those of images that jobs pulled, if the client may have
        them.

        @param source: the repository.
        @raise NotFound: there is no such repository.
        @raise SourceError: the upstream does not answer, and no tag is known.
        """
        repository, wanted = target.repository, _wanted(request)
        catalog = self._store.catalog
        known, error = set(catalog.tags(repository)), None
        if target.images:
            images = (image.reference for image in self._store.images.all())
            known.update(each.tag for each in images if each.repository == repository and each.tag)
        if target.upstream is not None:
            listed, error = await self._tags_of_upstream(source)
            known.update(listed)
        if not known and not catalog.manifests(repository):
            raise error or NotFound(f"there is no repository {repository}")
        if error is not None:
            add_warning(request, f"only the tags that are here are listed: {error}")
        tags, more = page(sorted(known), *wanted)
        if more:
            _link(request, last=tags[-1], n=str(len(tags)))
        name = repository.path if target.upstream is None else str(unlisted(repository)[0])
        return _respond(request, {"name": name, "tags": tags})

    async def repositories(self, request: Request) -> bytes:
        """
        The repositories that the client may read (C{_catalog} of docker's registry).
        """
        most, last = _wanted(request)
        found: list[str] = []
        async for name in self._readable(request, last):
            if len(found) == most:
                if found:
                    _link(request, last=found[-1], n=str(most))
                break
            found.append(name)
        return _respond(request, {"repositories": found})

    async def referrers(self, request: Request, target: Target, digest: str, source: IRepository) -> bytes:
        """
        The manifests that have another one as their subject ("Listing Referrers",
        end-12); of a mirrored one, those that its upstream lists, too.

        @param source: the repository.
        @raise BadDigest: C{digest} is malformed.
        """
        subject, kind = Digest.parse(digest), query(request, "artifactType")
        known = {each.digest: each for each in self._store.catalog.referrers(target.repository, subject)}
        if target.upstream is not None:
            known.update({each.digest: each for each in await self._of_upstream(source, subject)})
        found: Sequence[Descriptor] = list(known.values())
        if kind:
            request.setHeader(b"oci-filters-applied", b"artifactType")
            found = [each for each in found if each.artifact_type == kind]
        found, more = _page_of_referrers(found, query(request, "last"))
        if more:
            _link(request, last=str(found[-1].digest), **({"artifactType": kind} if kind else {}))
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [each.to_json() for each in found]}
        return _respond(request, index, OCI_INDEX)

    async def _readable(self, request: Request, last: str) -> AsyncIterator[str]:
        """
        The names of all repositories after one, in their order, that the client may
        read.
        """
        named: dict[str, Repository] = {}
        images = set(self._names_of_images(request))
        for repository in self._store.catalog.repositories():
            plain, policy = unlisted(repository)
            name = plain.path if plain.host == LOCAL_HOST else str(plain)
            try:
                target = self._find(name)
            except XferdError:
                continue  # It is of an upstream that is no longer listed.
            now = PUBLIC if target.upstream is None else target.upstream.policy
            if target.repository == plain and policy == now:
                named[name] = repository
        names = sorted(images.union(named))
        for name in names[bisect_right(names, last) :]:
            if name in images or await self._rights.readable(request, [named[name]]):
                yield name

    def _names_of_images(self, request: Request) -> Iterator[str]:
        """
        The names of the upstreams' repositories of which jobs pulled images that the client
        may have.
        """
        for repository in {image.reference.repository for image in self._store.images.all()}:
            try:
                target = self._find(str(repository))
            except XferdError:
                continue  # It is of no upstream that is listed.
            public = target.upstream is not None and target.upstream.policy == PUBLIC
            if public and target.repository == repository and self._rights.has_images(request, repository):
                yield str(repository)

    async def _tags_of_upstream(self, source: IRepository) -> tuple[Sequence[str], XferdError | None]:
        """
        The tags that an upstream lists, or the error in their place.
        """
        asking: Deferred[Any] = source.tags().addTimeout(PATIENCE, self._clock)
        try:
            found: tuple[str, ...] = await asking
        except XferdError as e:
            return (), e
        except Late:
            return (), TimedOut(
                f"{source.host} did not list the tags of {source.label} within {PATIENCE:g} s",
                phase="headers",
                host=source.host,
            )
        return found, None

    async def _of_upstream(self, source: IRepository, subject: Digest) -> Sequence[Descriptor]:
        """
        The referrers that an upstream lists; none if it does not answer.
        """
        asking: Deferred[Any] = source.referrers(subject).addTimeout(PATIENCE, self._clock)
        try:
            found: tuple[Descriptor, ...] = await asking
        except (XferdError, Late) as e:
            self._log.warn("the referrers of {subject} are not known: {why}", subject=subject, why=str(e))
            return ()
        return found


def page(names: Sequence[str], most: int, last: str) -> tuple[Sequence[str], bool]:
    """
    Some of sorted names.

    @param most: how many.
    @param last: the name that they come after; the empty string for the first page.
    @return: these, and whether there are more.
    """
    start = bisect_right(names, last) if last else 0
    return names[start : start + most], 0 < most < len(names) - start


def _page_of_referrers(found: Sequence[Descriptor], last: str | None) -> tuple[Sequence[Descriptor], bool]:
    """
    Some descriptors, and whether there are more.

    @param last: the digest that they come after.
    """
    start = next((number for number, each in enumerate(found, 1) if str(each.digest) == last), 0)
    size, stop = 0, start
    while stop < len(found) and (stop == start or size < MOST_BYTES) and stop - start < MOST:
        size += len(encode(found[stop].to_json()))
        if size > MOST_BYTES and stop > start:
            break
        stop += 1
    return found[start:stop], stop < len(found)


def _wanted(request: Request) -> tuple[int, str]:
    """
    The size of a page, and the name that it comes after.

    @raise BadInput: the size is no number.
    """
    n = query(request, "n")
    if n is not None and not (n.isascii() and n.isdecimal() and len(n) < 10):
        raise BadInput(f"'n' is the number of names of a page, not {quoted(n)}")
    return MOST if n is None else min(int(n), MOST), query(request, "last") or ""


def _link(request: Request, **values: str) -> None:
    """
    Set the header that leads to the next page (RFC 5988), of the same upstream.
    """
    path, namespace = request.path.decode("latin-1"), query(request, "ns")
    if namespace:
        values["ns"] = namespace
    request.setHeader(b"link", f'<{path}?{urlencode(values)}>; rel="next"'.encode("latin-1"))


def _respond(request: Request, value: object, media_type: str = "application/json") -> bytes:
    body = encode(value)
    request.setHeader(b"content-type", media_type.encode("ascii"))
    request.setHeader(b"content-length", b"%d" % len(body))
    return body
