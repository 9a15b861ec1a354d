# -*- test-case-name: tests.registry.test_blobs -*-
"""
One repository as a source of blobs, from any offset on.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.iweb import IResponse
from zope.interface import implementer

from xferd.errors import BlobUnknown, SizeMismatch
from xferd.interfaces.registry import IBlobBody, IBlobSource
from xferd.names import Digest, Repository
from xferd.registry.access import Access, pull_scope
from xferd.registry.answers import Subject, header, header_values
from xferd.registry.body import BlobBody, discard, length_of
from xferd.registry.exchange import Answer
from xferd.registry.ranges import check_rest, parse_unsatisfied, range_from

_ODD: Final = frozenset({400, 403, 404, 405, 406, 501})
"""What servers that do not know Range answer to it, and servers that do not
have the blob, too."""


@implementer(IBlobSource)
class RepositoryBlobs:
    """
    One repository as a source of blobs.
    """

    _log = Logger()

    def __init__(self, access: Access, repository: Repository) -> None:
        self._access = access
        self._repository = repository
        self.host = access.host
        self.label = str(repository)
        self.identity: Hashable = (access.host, repository.path, access.identity)
        self.account = access.account

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
        Ask for a part, or for the whole where the server cannot send parts.
        """
        what = Subject(self.host, f"{self.label}@{digest}", BlobUnknown)
        if offset or end is not None:
            body = await self._open_part(digest, offset, end, what)
            if body is not None:
                return body
        answer = await self._get(digest, {}, what)
        if answer.response.code == 200:
            return self._body(answer.response, 0, length_of(answer.response))
        raise await self._access.refuse(answer, what)

    async def _open_part(
        self, digest: Digest, offset: int, end: int | None, what: Subject
    ) -> IBlobBody | None:
        """
        Ask for a part of a blob.

        @return: the body, which is the whole where the server ignores Range,
            or L{None} where it answers as one that does not know Range.
        @raise SizeMismatch: the blob ends before C{offset}.
        """
        answer = await self._get(digest, {"Range": range_from(offset, end)}, what)
        response = answer.response
        if response.code == 200:
            return self._body(response, 0, length_of(response))
        if response.code == 206:
            try:
                found = check_rest(
                    header_values(response.headers, "Content-Range"), offset, length_of(response), end
                )
            except ValueError as e:
                discard(response)
                reason = str(e)
            else:
                total = found.last + 1 if end is None else found.total
                return self._body(response, offset, total, found.length)
        elif response.code == 416:
            total = parse_unsatisfied(header(response.headers, "Content-Range"))
            await self._access.excerpt(response)
            if total is not None and total <= offset:
                raise SizeMismatch(
                    f"{what.name} has {total} bytes; there is nothing from byte {offset} on",
                    host=self.host,
                    status=416,
                )
            reason = "status 416"
        elif response.code in _ODD:
            await self._access.excerpt(response)
            reason = f"status {response.code}"
        else:
            raise await self._access.refuse(answer, what)
        self._log.info(
            "{where} does not send a part of {name} ({reason}): the whole is requested",
            where=answer.where,
            name=what.name,
            reason=reason,
        )
        return None

    async def _get(self, digest: Digest, headers: Mapping[str, str], what: Subject) -> Answer:
        """
        Ask the registry, which may send us to its storage; that has the last
        word.
        """
        answer = await self._access.get(self._repository, f"blobs/{digest}", headers, what)
        if not answer.is_own and answer.response.code in (400, 401, 403):
            # The signed URL was too old (S3 answers 400 where the token in it
            # has expired), or its host's clock is wrong: the registry makes a
            # new one.
            await self._access.excerpt(answer.response)
            answer = await self._access.get(self._repository, f"blobs/{digest}", headers, what)
        return answer

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
