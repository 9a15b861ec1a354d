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
from xferd.registry.access import AuthenticatedClient, pull_scope
from xferd.registry.transport.errors import Resource, header, header_values
from xferd.registry.transport.exchange import Response
from xferd.registry.transport.ranges import check_rest, parse_unsatisfied, range_from
from xferd.registry.transport.response_body import BlobBody, discard, length_of, promised_length

_ODD: Final = frozenset({400, 403, 404, 405, 406, 501})
"""The statuses of servers without support for Range, and of servers that lack the
blob."""


class Blobs:
    """
    The blobs of one server, as one client sees them.
    """

    _log = Logger()

    def __init__(self, client: AuthenticatedClient) -> None:
        self._client = client

    async def open(self, repository: Repository, digest: Digest, offset: int, end: int | None) -> IBlobBody:
        """
        Request a part, or the whole where the server cannot send parts.
        """
        resource = self._resource(repository, digest)
        if offset or end is not None:
            body = await self._open_part(repository, digest, offset, end, resource)
            if body is not None:
                return body
        response = await self._get(repository, digest, {}, resource)
        if response.status == 200:
            return self._body(response.raw, 0, length_of(response.raw))
        raise await self._client.refuse(response, resource)

    async def confirm(self, repository: Repository, digest: Digest) -> int | None:
        """
        Look for a blob with HEAD.  Where that leads to a failure, as with URLs
        that are signed for GET alone, the blob is requested and its body dropped.

        @return: the blob's size, if the response has it.
        """
        resource = self._resource(repository, digest)
        response = await self._client.request(
            b"HEAD", repository, f"blobs/{digest}", resource, scope=pull_scope(repository)
        )
        status = response.status
        if status in (405, 501) or (status != 200 and not response.is_own):
            await self._client.excerpt(response.raw)
            body = await self.open(repository, digest, 0, None)
            body.abandon()
            return body.total
        if status != 200:
            raise await self._client.refuse(response, resource)
        size = promised_length(response.headers)
        await self._client.excerpt(response.raw)
        return size

    async def _open_part(
        self, repository: Repository, digest: Digest, offset: int, end: int | None, resource: Resource
    ) -> IBlobBody | None:
        """
        Request a part of a blob.

        @return: the body, which is the whole where the server ignores Range,
            or L{None} where it answers as one that does not know Range.
        @raise SizeMismatch: the blob ends before C{offset}.
        """
        response = await self._get(repository, digest, {"Range": range_from(offset, end)}, resource)
        if response.status == 200:
            return self._body(response.raw, 0, length_of(response.raw))
        if response.status == 206:
            try:
                found = check_rest(
                    header_values(response.headers, "Content-Range"), offset, length_of(response.raw), end
                )
            except ValueError as e:
                discard(response.raw)
                reason = str(e)
            else:
                total = found.last + 1 if end is None else found.total
                return self._body(response.raw, offset, total, found.length)
        elif response.status == 416:
            total = parse_unsatisfied(header(response.headers, "Content-Range"))
            await self._client.excerpt(response.raw)
            if total is not None and total <= offset:
                raise SizeMismatch(
                    f"{resource.name} has {total} bytes; there is nothing from byte {offset} on",
                    host=resource.host,
                    status=416,
                )
            reason = "status 416"
        elif response.status in _ODD:
            await self._client.excerpt(response.raw)
            reason = f"status {response.status}"
        else:
            raise await self._client.refuse(response, resource)
        self._log.info(
            "{where} does not send a part of {name} ({reason}): the whole is requested",
            where=response.where,
            name=resource.name,
            reason=reason,
        )
        return None

    async def _get(
        self, repository: Repository, digest: Digest, headers: Mapping[str, str], resource: Resource
    ) -> Response:
        """
        Make a request that the registry may redirect to its storage; then the
        answer is the storage's.
        """
        response = await self._client.get(repository, f"blobs/{digest}", headers, resource)
        if not response.is_own and response.status in (400, 401, 403):
            # The signed URL was too old (S3 answers 400 where the token in it
            # has expired), or its host's clock is wrong: the registry makes a
            # new one.
            await self._client.excerpt(response.raw)
            response = await self._client.get(repository, f"blobs/{digest}", headers, resource)
        return response

    def _resource(self, repository: Repository, digest: Digest) -> Resource:
        return Resource(self._client.host, f"{repository}@{digest}", BlobUnknown)

    def _body(
        self, response: IResponse, start: int, total: int | None, length: int | None = None
    ) -> BlobBody:
        client = self._client
        return BlobBody(
            response,
            start,
            total,
            length=length,
            host=client.host,
            clock=client.clock,
            timeouts=client.timeouts,
        )
