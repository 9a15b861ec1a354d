# -*- test-case-name: tests.registry.test_blobs -*-
"""
One repository as a source of blobs, from any offset on.
"""

from __future__ import annotations

from collections.abc import Hashable

from twisted.internet.defer import Deferred
from twisted.web.iweb import IResponse
from zope.interface import implementer

from xferd.errors import BlobUnknown, RegistryError, SizeMismatch
from xferd.interfaces import IBlobBody, IBlobSource
from xferd.names import Digest, Repository
from xferd.registry.access import Access, pull_scope
from xferd.registry.answers import Subject, header, header_values
from xferd.registry.body import BlobBody, discard, length_of
from xferd.registry.ranges import check_rest, parse_unsatisfied, range_from


@implementer(IBlobSource)
class RepositoryBlobs:
    """
    One repository as a source of blobs.
    """

    def __init__(self, access: Access, repository: Repository) -> None:
        self._access = access
        self._repository = repository
        self.host = access.host
        self.label = str(repository)
        self.identity: Hashable = (access.host, repository.path, access.identity)

    def __repr__(self) -> str:
        return f"<blobs of {self.label}>"

    def open(self, digest: Digest, offset: int, end: int | None = None) -> Deferred[IBlobBody]:
        """
        See L{IBlobSource.open}.
        """
        return Deferred.fromCoroutine(self._open(digest, offset, end))

    def confirm(self, digest: Digest) -> Deferred[None]:
        """
        See L{IBlobSource.confirm}.
        """
        return Deferred.fromCoroutine(self._confirm(digest))

    def distrust(self, digest: Digest) -> None:
        """
        See L{IBlobSource.distrust}: there is no other place.
        """

    async def _open(self, digest: Digest, offset: int, end: int | None) -> IBlobBody:
        """
        Ask the registry, which may send us to its storage; that has the last
        word.
        """
        what = Subject(self.host, f"{self.label}@{digest}", BlobUnknown)
        headers = {"Range": range_from(offset, end)} if offset or end is not None else {}
        answer = await self._access.get(self._repository, f"blobs/{digest}", headers, what)
        if not answer.is_own and answer.response.code in (401, 403):
            # The signed URL was too old, or its host's clock is wrong: the
            # registry makes a new one.
            await self._access.excerpt(answer.response)
            answer = await self._access.get(self._repository, f"blobs/{digest}", headers, what)
        response = answer.response
        if response.code == 200:
            return self._body(response, 0, length_of(response))
        if response.code == 206 and headers:
            try:
                found = check_rest(
                    header_values(response.headers, "Content-Range"), offset, length_of(response), end
                )
            except ValueError as e:
                discard(response)
                raise RegistryError(
                    f"{answer.where} sent another part of {what.name} than was asked for: {e}",
                    host=self.host,
                    status=206,
                ) from e
            return self._body(response, offset, found.last + 1 if end is None else found.total, found.length)
        if response.code == 416:
            total = parse_unsatisfied(header(response.headers, "Content-Range"))
            await self._access.excerpt(response)
            has = f"has {total} bytes" if total is not None else "is shorter"
            raise SizeMismatch(
                f"{what.name} {has}; there is nothing from byte {offset} on", host=self.host, status=416
            )
        raise await self._access.refuse(answer, what)

    async def _confirm(self, digest: Digest) -> None:
        """
        Look for the blob.  Where a HEAD leads to nothing, as with URLs that
        are signed for GET alone, the blob is asked for and left.
        """
        access, repository = self._access, self._repository
        what = Subject(self.host, f"{self.label}@{digest}", BlobUnknown)
        answer = await access.ask(b"HEAD", repository, f"blobs/{digest}", what, scope=pull_scope(repository))
        status = answer.response.code
        if status in (405, 501) or (status != 200 and not answer.is_own):
            await access.excerpt(answer.response)
            (await self._open(digest, 0, None)).abandon()
        elif status != 200:
            raise await access.refuse(answer, what)
        else:
            await access.excerpt(answer.response)

    def _body(
        self, response: IResponse, start: int, total: int | None, length: int | None = None
    ) -> BlobBody:
        access = self._access
        return BlobBody(
            response,
            start,
            total,
            length=length,
            host=self.host,
            clock=access.clock,
            timeouts=access.timeouts,
        )
