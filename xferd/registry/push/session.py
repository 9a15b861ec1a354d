# -*- test-case-name: tests.registry.push.test_session -*-
"""
Upload sessions (OCI distribution-spec, "Pushing blobs"): requests to send a
chunk, to query the offset, to commit and to delete.

Each returns, or raises a L{Setback} after which the upload can continue, or any
other error, after which it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.errors import DigestMismatch, RegistryError, RegistryUnavailable, SourceError, TimedOut
from xferd.interfaces.registry import IContent, UploadSession
from xferd.names import Digest, Repository
from xferd.registry.access import AuthenticatedClient, push_scope
from xferd.registry.capabilities import Capabilities
from xferd.registry.transport.errors import ErrorDetails, Resource, header
from xferd.registry.transport.exchange import Response
from xferd.registry.transport.ranges import chunk_range, parse_session_range
from xferd.registry.transport.request_body import ContentBody
from xferd.registry.transport.timeouts import within
from xferd.registry.transport.urls import argument, resolve, with_argument
from xferd.registry.transport.zones import Zone

OCTETS: Final = "application/octet-stream"
_GONE: Final = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
_WRONG_BYTES: Final = frozenset({"DIGEST_INVALID", "SIZE_INVALID"})

SETTLING: Final = 0.5
"""Seconds between two queries of an offset that changes."""

MAX_QUERIES: Final = 240
"""Queries of an offset that changes: some minutes of a slow line."""


class Setback(Exception):
    """
    A request of a session failed, and the upload can continue.

    @ivar error: the error to raise if it does not.
    """

    def __init__(self, error: SourceError) -> None:
        super().__init__(str(error))
        self.error = error


class SessionGone(Setback):
    """
    The registry no longer knows the session.
    """


class OutOfStep(Setback):
    """
    The registry has another offset, or demands a new token: the offset has to be
    queried.
    """


class Moving(OutOfStep):
    """
    The registry has another offset, or is receiving another request of the
    session: probably the rest of one that broke off.
    """


class Missing(OutOfStep):
    """
    A 404 that does not show whether the session or the whole request is
    unknown.
    """


class BodyTooLarge(Setback):
    """
    A 413.

    @ivar length: bytes of the body.
    """

    def __init__(self, error: SourceError, length: int) -> None:
        super().__init__(error)
        self.length = length


class ChunksRefused(Setback):
    """
    The registry does not accept a blob in several requests.
    """


class BytesRefused(Setback):
    """
    The bytes that the registry has received are not the blob.
    """


class Session:
    """
    One upload session.

    Life cycle: begun or resumed; any number of C{patch} and C{query}; then
    C{put}, C{delete} or C{abort}.

    @ivar location: the URL for the next request, which may be signed.
    @ivar offset: bytes that the registry has confirmed.
    """

    _log = Logger()

    def __init__(
        self,
        client: AuthenticatedClient,
        repository: Repository,
        resource: Resource,
        location: str,
        offset: int = 0,
        led_from: Zone | None = None,
    ) -> None:
        """
        @param led_from: the zone of the server that named the location; by
            default that of the registry.
        """
        self.location = location
        self._led_from = client.zone if led_from is None else led_from
        self.offset = offset
        self._client = client
        self._repository = repository
        self._scope = push_scope(repository)
        self._resource = resource

    @property
    def state(self) -> UploadSession:
        """
        The state to store, in order to resume the session.
        """
        return UploadSession(self.location, self.offset)

    async def query(self) -> None:
        """
        Query the offset.

        @raise SessionGone: the session is unknown, or its offset.
        """
        response = await self._client.request(
            b"GET",
            self._repository,
            self.location,
            self._resource,
            scope=self._scope,
            led_from=self._led_from,
        )
        status, body = response.status, await self._client.excerpt(response.raw)
        if status in (200, 202, 204):
            confirmed = parse_session_range(header(response.headers, "Range"))
            if confirmed is not None:
                self._go_on(response, confirmed)
                return
        error = self._client.refusal(response, self._resource, body)
        # A registry of Distribution 2 answers 404 after any break: what it has
        # is not what its signed URL says.  A foreign storage says 403 of an URL
        # that is too old.
        foreign = status in (401, 403) and not await self._is_own(response)
        if foreign or status in (200, 202, 204, 400, 404, 405, 410, 416, 501):
            raise self._gone(error)
        raise error

    async def settle(self) -> None:
        """
        Query the offset until it no longer changes.

        A proxy continues to send what it had received of a request that broke off, and
        registries count its bytes as they arrive.

        @raise SessionGone: the session is unknown.
        """
        before = -1
        for _ in range(MAX_QUERIES):
            await self.query()
            if self.offset == before:
                return
            before = self.offset
            await deferLater(self._client.clock, SETTLING)

    async def patch(
        self, content: IContent, length: int, report: Callable[[int], None], *, alone: bool = False
    ) -> None:
        """
        Send a chunk, from C{offset} on.

        @param alone: whether to use a connection of its own.
        @raise Setback: it was not taken, or not known to be.
        @raise ContentFailed: the bytes cannot be had.
        """
        stop = self.offset + length
        headers = {"Content-Type": OCTETS, "Content-Range": chunk_range(self.offset, length)}
        response = await self._send(b"PATCH", self.location, headers, content, stop, report, alone)
        status, body = response.status, await self._client.excerpt(response.raw)
        if status in (200, 201, 202, 204):
            # Some registries always send 0-0.
            confirmed = parse_session_range(header(response.headers, "Range")) or stop
            if confirmed > stop:
                raise RegistryError(
                    f"{self._resource.host} confirms {confirmed} bytes of {self._resource.name}; "
                    f"{stop} were sent",
                    host=self._resource.host,
                    status=status,
                )
            self._go_on(response, confirmed)
            return
        details = self._client.details(response, body)
        await self._raise_setback(response, body, details, length)
        error = self._client.refusal(response, self._resource, body)
        raise ChunksRefused(error) if status in (400, 405, 501) else error

    async def put(
        self,
        digest: Digest,
        content: IContent,
        stop: int,
        report: Callable[[int], None],
        *,
        alone: bool = False,
    ) -> None:
        """
        Send the bytes from C{offset} to C{stop}, which may be none, and commit
        the blob.

        @param alone: whether to use a new connection.
        @raise Setback: the blob is not committed, as far as is known.
        @raise ContentFailed: the bytes cannot be read.
        @raise DigestMismatch: the registry committed another blob.
        """
        length = stop - self.offset
        headers = {"Content-Type": OCTETS}
        url = with_argument(self.location, "digest", str(digest))
        response = await self._send(b"PUT", url, headers, content, stop, report, alone)
        status, body = response.status, await self._client.excerpt(response.raw)
        if status in (200, 201, 204):
            check_digest(self._resource, header(response.headers, "Docker-Content-Digest"), digest)
            return
        details = self._client.details(response, body)
        wrong = wrong_bytes(self._resource, status, details)
        if wrong is not None:
            raise BytesRefused(wrong)
        await self._raise_setback(response, body, details, length)
        raise self._client.refusal(response, self._resource, body)

    async def delete(self) -> None:
        """
        Delete the session.  The response is ignored.
        """
        response = await self._client.request(
            b"DELETE",
            self._repository,
            self.location,
            self._resource,
            scope=self._scope,
            led_from=self._led_from,
        )
        await self._client.excerpt(response.raw)

    def abort(self) -> Deferred[None]:
        """
        Delete the session.  Fires within a bounded time; never fails.
        """
        host, seconds = self._client.host, self._client.timeouts.close
        deleting = within(
            self._client.clock,
            seconds,
            Deferred.fromCoroutine(self.delete()),
            lambda: TimedOut(f"no answer within {seconds:g} s", phase="headers", host=host),
        )

        def ignore(failure: Failure) -> Deferred[None]:
            self._log.debug(
                "an upload session of {host} is not deleted: {reason}",
                host=host,
                reason=failure.getErrorMessage(),
            )
            return succeed(None)

        return deleting.addErrback(ignore)

    # -------------------------------------------------------------- requests

    async def _send(
        self,
        method: bytes,
        url: str,
        headers: Mapping[str, str],
        content: IContent,
        stop: int,
        report: Callable[[int], None],
        alone: bool,
    ) -> Response:
        """
        Send a part of the blob.
        """
        client, start = self._client, self.offset

        def body() -> ContentBody:
            return ContentBody(
                content,
                start,
                stop,
                report,
                host=client.host,
                clock=client.clock,
                timeouts=client.timeouts,
            )

        return await client.send(
            method, url, self._resource, headers, self._scope, body, alone, self._led_from
        )

    async def _raise_setback(
        self, response: Response, body: bytes, details: ErrorDetails, length: int
    ) -> None:
        """
        Raise the setback that a response means, if it means one.

        @param length: bytes of the request's body.
        """
        status = response.status
        error = self._client.refusal(response, self._resource, body)
        if status == 401 and await self._is_own(response):
            await self._client.refused(response, body, self._scope, self._resource)
            raise OutOfStep(error)
        if status in (401, 403) and not await self._is_own(response):
            raise self._gone(error)
        if status == 413:
            raise BodyTooLarge(
                RegistryError(
                    f"{self._resource.host} does not take {length} bytes of {self._resource.name} at once, "
                    "nor fewer ('client_max_body_size' or a similar setting of a proxy before it)",
                    host=self._resource.host,
                    status=413,
                ),
                length,
            )
        if status == 416:
            raise Moving(error)
        if status == 409:
            raise Moving(
                RegistryUnavailable(
                    f"{self._resource.host} is still receiving another request of the upload of "
                    f"{self._resource.name}",
                    host=self._resource.host,
                    status=409,
                )
            )
        if _GONE.intersection(details.codes):
            raise self._gone(error)
        if await self._is_own(response) and await self._client.expired(response, self._scope):
            raise OutOfStep(error)
        if status == 404:
            raise Missing(error)

    def _gone(self, error: SourceError) -> SessionGone:
        return SessionGone(
            RegistryUnavailable(
                f"{self._resource.host} knows the upload of {self._resource.name} no more ({error.status})",
                host=self._resource.host,
                status=error.status,
            )
        )

    def _go_on(self, response: Response, confirmed: int) -> None:
        """
        Note the location and the offset of the next request.
        """
        location = header(response.headers, "Location")
        if location:
            self.location = located(self._resource, response, location)
            self._led_from = response.zone
        self.offset = confirmed
        learn_least(self._client.capabilities, response)

    async def _is_own(self, response: Response) -> bool:
        """
        Whether the registry itself sent a response.
        """
        return await self._client.is_own(response.url)


def located(resource: Resource, response: Response, location: str) -> str:
    """
    The URL of a session.

    @raise RegistryError: it must not be requested.
    """
    try:
        return resolve(response.url, location, response.zone)
    except ValueError as e:
        raise RegistryError(
            f"{resource.host} wants {resource.name} sent to a place that is refused: {e}",
            host=resource.host,
            status=response.status,
        ) from None


def learn_least(capabilities: Capabilities, response: Response) -> None:
    """
    Note the least size of chunks (OCI distribution-spec, "Pushing a blob in
    chunks": C{OCI-Chunk-Min-Length}).
    """
    text = header(response.headers, "OCI-Chunk-Min-Length").strip()
    if text.isascii() and text.isdigit() and len(text) < 16:
        capabilities.learn(least=int(text))


def wrong_bytes(resource: Resource, status: int, details: ErrorDetails) -> DigestMismatch | None:
    """
    The error for a refusal because the bytes that the registry received are not the
    blob, or L{None} for another refusal.
    """
    if not _WRONG_BYTES.intersection(details.codes):
        return None
    return DigestMismatch(
        f"{resource.host} did not get what {resource.name} should be "
        f"({status}{f': {details.text}' if details.text else ''})",
        host=resource.host,
        status=status,
    )


def check_digest(resource: Resource, text: str, digest: Digest) -> None:
    """
    Compare the digest that the registry reports with that of the blob.

    @raise DigestMismatch: they differ.
    """
    # Digests of different algorithms cannot be compared.
    if text.startswith(f"{digest.algorithm}:") and text != str(digest):
        raise DigestMismatch(f"{resource.host} got {text[:140]!r} for {resource.name}", host=resource.host)


def begin_path(arguments: Mapping[str, str]) -> str:
    """
    The path, below the repository, that begins an upload.
    """
    return "blobs/uploads/" + (
        f"?{'&'.join(argument(*each) for each in arguments.items())}" if arguments else ""
    )
