# -*- test-case-name: tests.registry.test_blobs -*-
"""
Blobs of one server's repositories, from any offset on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twisted.logger import Logger
from twisted.web.iweb import IResponse

from xferd.errors import BlobUnknown, SizeMismatch
from xferd.interfaces.registry import IBlobBody
from xferd.names import Digest, Repository
from xferd.registry.access import Access, pull_scope
from xferd.registry.transport.errors import Subject, header, header_values
from xferd.registry.transport.exchange import Answer
from xferd.registry.transport.ranges import check_rest, parse_unsatisfied, range_from
from xferd.registry.transport.response_body import BlobBody, discard, length_of

_ODD: Final = frozenset({400, 403, 404, 405, 406, 501})
"""What servers that do not know Range answer to it, and servers that do not
have the blob, too."""


class Blobs:
    """
    The blobs of one server, as one client sees them.
    """

    _log = Logger()

    def __init__(self, access: Access) -> None:
        self._access = access

    async def open(self, repository: Repository, digest: Digest, offset: int, end: int | None) -> IBlobBody:
        """
        Request a part, or the whole where the server cannot send parts.
        """
        what = self._subject(repository, digest)
        if offset or end is not None:
            body = await self._open_part(repository, digest, offset, end, what)
            if body is not None:
                return body
        answer = await self._get(repository, digest, {}, what)
        if answer.response.code == 200:
            return self._body(answer.response, 0, length_of(answer.response))
        raise await self._access.refuse(answer, what)

    async def confirm(self, repository: Repository, digest: Digest) -> None:
        """
        Look for a blob with HEAD.  Where that leads to a failure, as with URLs
        that are signed for GET alone, the blob is requested and its body dropped.
        """
        what = self._subject(repository, digest)
        answer = await self._access.ask(
            b"HEAD", repository, f"blobs/{digest}", what, scope=pull_scope(repository)
        )
        status = answer.response.code
        if status in (405, 501) or (status != 200 and not answer.is_own):
            await self._access.excerpt(answer.response)
            (await self.open(repository, digest, 0, None)).abandon()
        elif status != 200:
            raise await self._access.refuse(answer, what)
        else:
            await self._access.excerpt(answer.response)

    async def _open_part(
        self, repository: Repository, digest: Digest, offset: int, end: int | None, what: Subject
    ) -> IBlobBody | None:
        """
        Request a part of a blob.

        @return: the body, which is the whole where the server ignores Range,
            or L{None} where it answers as one that does not know Range.
        @raise SizeMismatch: the blob ends before C{offset}.
        """
        answer = await self._get(repository, digest, {"Range": range_from(offset, end)}, what)
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
                    host=what.host,
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

    async def _get(
        self, repository: Repository, digest: Digest, headers: Mapping[str, str], what: Subject
    ) -> Answer:
        """
        Make a request that the registry may redirect to its storage; then the
        answer is the storage's.
        """
        answer = await self._access.get(repository, f"blobs/{digest}", headers, what)
        if not answer.is_own and answer.response.code in (400, 401, 403):
            # The signed URL was too old (S3 answers 400 where the token in it
            # has expired), or its host's clock is wrong: the registry makes a
            # new one.
            await self._access.excerpt(answer.response)
            answer = await self._access.get(repository, f"blobs/{digest}", headers, what)
        return answer

    def _subject(self, repository: Repository, digest: Digest) -> Subject:
        return Subject(self._access.host, f"{repository}@{digest}", BlobUnknown)

    def _body(
        self, response: IResponse, start: int, total: int | None, length: int | None = None
    ) -> BlobBody:
        access = self._access
        return BlobBody(
            response,
            start,
            total,
            length=length,
            host=access.host,
            clock=access.clock,
            timeouts=access.timeouts,
        )
