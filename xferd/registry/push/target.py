# -*- test-case-name: tests.registry.push.test_target -*-
"""
One attempt to push one blob: look for it, mount it, or upload it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import evolve
from twisted.logger import Logger

from xferd.errors import (
    BlobUnknown,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    RegistryError,
    RegistryUnavailable,
    SourceError,
    TimedOut,
    TooManyRequests,
    Truncated,
)
from xferd.interfaces.registry import IContent, Pushed, UploadSession
from xferd.lookups import SMALL, Lookups
from xferd.names import Digest, Repository
from xferd.registry.access import AuthenticatedClient, pull_scope, push_scope
from xferd.registry.push.chunked_upload import ChunkedUpload, ready
from xferd.registry.push.session import (
    OCTETS,
    Session,
    SessionGone,
    begin_path,
    learn_least,
    located,
    wrong_bytes,
)
from xferd.registry.transport.errors import Resource, header
from xferd.registry.transport.exchange import Response
from xferd.registry.transport.request_body import ContentBody, ContentFailed
from xferd.waits import CONFIRMATION, MOUNT, waiting_for

MAX_MOUNTS: Final = 3
"""Candidates for a mount that are tried, each with a request."""

_NO_SUCH_REQUEST: Final = frozenset({400, 404, 405, 422, 501})


class PushAttempt:
    """
    One attempt to push one blob to one repository.
    """

    _log = Logger()

    def __init__(
        self,
        client: AuthenticatedClient,
        repository: Repository,
        digest: Digest,
        lookups: Lookups,
        mounts: Lookups,
    ) -> None:
        """
        @param lookups: the lookups in the repository so far.
        @param mounts: the lookups in all other repositories so far, by mounts without C{from}.
        """
        self._client = client
        self._repository = repository
        self._digest = digest
        self._lookups = lookups
        self._mounts = mounts
        self._resource = Resource(client.host, f"{repository}@{digest}", BlobUnknown, push=True)

    async def run(
        self,
        content: IContent,
        candidates: Sequence[Repository],
        session: UploadSession | None,
        remember: Callable[[UploadSession | None], None],
        report: Callable[[int], None],
    ) -> Pushed:
        """
        Push the blob: see L{IRepository.push<xferd.interfaces.registry.IRepository.push>}.
        """
        try:
            if await self._is_there(content.size, session):
                if session is not None:
                    await self._session(session).abort()
                    remember(None)
                return Pushed("exists")
            current = None if session is None else await self._resume(session, content.size)
            fresh, resumed = current is None, current is not None
            if current is None:
                if session is not None:
                    remember(None)
                found = await self._mount(candidates, content.size)
                if found is None:
                    found = await self._send_whole(content, report)
                    fresh = found is None
                if isinstance(found, Pushed):
                    return found
                current = found
            upload = ChunkedUpload(
                self._resource,
                self._digest,
                content,
                self._client.capabilities,
                self._client.chunk_sizes,
                begin=self._begin,
                exists=self._exists,
                remember=remember,
                report=report,
            )
            await upload.send(current, fresh, resumed)
            return Pushed("uploaded")
        except ContentFailed as e:
            # The content's own error is that of the push.
            raise e.error from e

    async def _is_there(self, size: int, session: UploadSession | None) -> bool:
        """
        Check whether the registry has the blob, unless that is hardly worth a request.
        """
        if session is None and not self._lookups.worthwhile(size):
            return False
        found = await self._exists()
        self._lookups.note(found)
        return found

    async def _exists(self) -> bool:
        """
        Check whether the registry has the blob.  If the response does not show
        it, the push continues.
        """
        digest = self._digest
        try:
            with waiting_for(CONFIRMATION, self._client.host):
                response = await self._request(b"HEAD", f"blobs/{digest}", push_scope(self._repository))
        except Denied:
            return False
        status, headers = response.status, response.headers
        await self._client.excerpt(response.raw)
        if status == 429:
            raise self._client.refusal(response, self._resource, b"")
        reported = header(headers, "Docker-Content-Digest")
        return status == 200 and not (reported.startswith(f"{digest.algorithm}:") and reported != str(digest))

    async def _resume(self, session: UploadSession, size: int) -> Session | None:
        """
        Resume the session of an earlier attempt.

        @return: L{None} if it is gone.
        """
        resumed = self._session(session)
        try:
            await resumed.query()
        except SessionGone as e:
            self._log.info(
                "{host} no longer knows the upload of {name}: {reason}",
                host=self._client.host,
                name=self._resource.name,
                reason=str(e),
            )
            return None
        return resumed if resumed.offset <= size else None

    # ----------------------------------------------------------- to begin

    async def _mount(self, candidates: Sequence[Repository], size: int) -> Pushed | Session | None:
        """
        Try to mount the blob from each candidate, and from any repository, unless that
        is hardly worth a request: a single POST can send a small blob at once.

        @return: the session that the registry began instead, if it did.
        """
        session: Session | None = None
        others = [c for c in candidates if c.host == self._repository.host and c != self._repository]
        for source in others[:MAX_MOUNTS]:
            found = await self._try_mount(source)
            if found and session is not None:
                # The new session replaces the one of the previous candidate.
                await session.abort()
                session = None
            if found is True:
                return Pushed("mounted", source)
            session = found if isinstance(found, Session) else session
        if session is None and self._looks_elsewhere(size):
            found = await self._try_mount(None)
            self._mounts.note(found is True)
            if found is True:
                return Pushed("mounted")
            if isinstance(found, Session):
                return found
        return session

    def _looks_elsewhere(self, size: int) -> bool:
        """
        Whether to try a mount without C{from} for a blob of so many bytes.
        """
        if not self._client.capabilities.finds_blobs:
            return False
        return not self._may_send_whole(size) or self._mounts.worthwhile(size)

    async def _try_mount(self, source: Repository | None) -> bool | Session:
        """
        Try to mount the blob.

        @return: whether it was mounted, or the session that was begun instead.
        """
        digest = self._digest
        arguments = self._arguments() | {"mount": str(digest)}
        scope = push_scope(self._repository)
        if source is not None:
            arguments["from"] = source.path
            scope = f"{scope} {pull_scope(source)}"
        try:
            with waiting_for(MOUNT, self._client.host):
                response = await self._request(b"POST", begin_path(arguments), scope)
        except Denied:
            # Perhaps for the other repository; if for this one, the upload fails.
            return False
        if response.status == 202 and header(response.headers, "Location"):
            return await self._opened(response)
        body = await self._client.excerpt(response.raw)
        if response.status == 429:
            raise self._client.refusal(response, self._resource, body)
        if source is None and response.status in _NO_SUCH_REQUEST:
            self._client.capabilities.learn(finds_blobs=False)
        reported = header(response.headers, "Docker-Content-Digest")
        return response.status == 201 and reported in ("", str(digest))

    def _may_send_whole(self, size: int) -> bool:
        """
        Whether a blob of so many bytes may go in a single POST: it is small, and no
        such request was refused, nor is the first one under way.
        """
        capabilities = self._client.capabilities
        return (
            0 < size <= SMALL
            and capabilities.single_post is not False
            and not capabilities.trying
            and capabilities.accepts(size)
        )

    async def _send_whole(self, content: IContent, report: Callable[[int], None]) -> Pushed | Session | None:
        """
        Send a small blob in the request that begins an upload (OCI distribution-spec,
        "Single POST").

        Distribution begins a session instead (202).  Others refuse the request, or close
        the connection: then the session is begun by a request of its own.

        @return: the session, or L{None} if nothing was sent.
        """
        capabilities, size = self._client.capabilities, content.size
        if not self._may_send_whole(size) or await ready(content, 0, size) < size:
            return None
        if not self._may_send_whole(size):
            # Meanwhile, the request of another upload was refused, or is the first one.
            return None
        known = capabilities.single_post is True
        capabilities.trying = not known
        try:
            result = await self._single_post(content, report, known)
            # The status alone does not prove that the body was read.
            if result is True and (known or await self._exists()):
                capabilities.learn(single_post=True)
                return Pushed("uploaded")
            session = result if isinstance(result, Session) else await self._begin()
            # It was not the right to push that was missing.
            capabilities.learn(single_post=False)
            return session
        finally:
            if not known:
                capabilities.trying = False

    async def _single_post(
        self, content: IContent, report: Callable[[int], None], known: bool
    ) -> bool | Session:
        """
        Make the request.

        @param known: whether the registry is known to support it.
        @return: whether the registry reports that it has the blob, or the session that it
            began instead.
        """
        client = self._client
        # A registry that ignores the body may wait for another request.
        timeouts = client.timeouts if known else evolve(client.timeouts, commit=client.timeouts.headers)

        def body() -> ContentBody:
            return ContentBody(
                content, 0, content.size, report, host=client.host, clock=client.clock, timeouts=timeouts
            )

        path = begin_path(self._arguments() | {"digest": str(self._digest)})
        try:
            response = await client.request(
                b"POST",
                self._repository,
                path,
                self._resource,
                {"Content-Type": OCTETS},
                push_scope(self._repository),
                body,
            )
        except (ConnectionFailed, RegistryError, TimedOut, Truncated):
            if known:
                raise
            return False
        status = response.status
        if status == 202 and header(response.headers, "Location"):
            return await self._opened(response)
        text = await client.excerpt(response.raw)
        if status == 201:
            return header(response.headers, "Docker-Content-Digest") in ("", str(self._digest))
        error: SourceError = client.refusal(response, self._resource, text)
        if known:
            error = wrong_bytes(self._resource, status, client.details(response, text)) or error
        if status == 429 or (known and (status >= 500 or isinstance(error, DigestMismatch))):
            raise error
        return False

    async def _begin(self) -> Session:
        """
        Begin a session.

        @raise SourceError: the registry refuses.
        """
        response = await self._request(b"POST", begin_path(self._arguments()), push_scope(self._repository))
        if response.status == 202:
            return await self._opened(response)
        status, body = response.status, await self._client.excerpt(response.raw)
        raise self._refusal(self._client.refusal(response, self._resource, body), status)

    async def _request(self, method: bytes, path: str, scope: str) -> Response:
        return await self._client.request(method, self._repository, path, self._resource, scope=scope)

    def _session(self, session: UploadSession) -> Session:
        return Session(self._client, self._repository, self._resource, session.location, session.offset)

    async def _opened(self, response: Response) -> Session:
        """
        The session that a response begins.
        """
        await self._client.excerpt(response.raw)
        location = located(self._resource, response, header(response.headers, "Location"))
        learn_least(self._client.capabilities, response)
        return Session(self._client, self._repository, self._resource, location, led_from=response.zone)

    def _arguments(self) -> dict[str, str]:
        """
        The arguments of a POST that begins a session for the blob.
        """
        algorithm = self._digest.algorithm
        return {} if algorithm == "sha256" else {"digest-algorithm": algorithm}

    def _refusal(self, error: SourceError, status: int) -> SourceError:
        """
        The error for an upload that may not begin.
        """
        algorithm = self._digest.algorithm
        if isinstance(error, Denied | TooManyRequests | RegistryUnavailable) and status != 501:
            return error
        if status == 404:
            why = f"there is no repository {self._repository.path}, and pushing does not make one"
        elif status in (405, 501):
            why = "it is read-only"
        elif status == 400 and algorithm != "sha256":
            why = f"it seems not to support {algorithm} digests"
        else:
            return error
        return RegistryError(
            f"{self._client.host} refuses a push to {self._repository}: {why} ({error})",
            host=self._client.host,
            status=status,
        )
