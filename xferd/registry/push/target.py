# -*- test-case-name: tests.registry.push.test_target -*-
"""
One attempt to push one blob: it is looked for, mounted or sent, in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.logger import Logger

from xferd.errors import (
    BlobUnknown,
    Denied,
    RegistryError,
    RegistryUnavailable,
    SourceError,
    TooManyRequests,
)
from xferd.interfaces.registry import IContent, Pushed, UploadSession
from xferd.names import Digest, Repository
from xferd.registry.access import Access, pull_scope, push_scope
from xferd.registry.push.chunked_upload import Sending
from xferd.registry.push.session import Session, SessionGone, begin_path, learn_least, located
from xferd.registry.transport.errors import Subject, header
from xferd.registry.transport.exchange import Answer
from xferd.registry.transport.request_body import ContentFailed

MAX_MOUNTS: Final = 3
"""Candidates that are tried.  Each is a request, and their number is a guess."""

_NO_SUCH_REQUEST: Final = frozenset({400, 404, 405, 422, 501})


class PushAttempt:
    """
    One attempt to bring one blob into one repository.
    """

    _log = Logger()

    def __init__(self, access: Access, repository: Repository, digest: Digest) -> None:
        self._access = access
        self._repository = repository
        self._digest = digest
        self._what = Subject(access.host, f"{repository}@{digest}", BlobUnknown, push=True)

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
        if await self._exists():
            if session is not None:
                await self._session(session).abort()
                remember(None)
            return Pushed("exists")
        taken = None if session is None else await self._take_up(session, content.size)
        fresh = taken is None
        if taken is None:
            if session is not None:
                remember(None)
            found = await self._mount(candidates)
            if isinstance(found, Pushed):
                return found
            taken = found
        sending = Sending(
            self._what,
            self._digest,
            content,
            self._access.abilities,
            self._access.chunk_sizes,
            begin=self._begin,
            exists=self._exists,
            remember=remember,
            report=report,
        )
        try:
            await sending.send(taken, fresh)
        except ContentFailed as e:
            raise e.error from e
        return Pushed("uploaded")

    async def _exists(self) -> bool:
        """
        Look whether the blob is there.  Where the answer does not show it, the
        push goes on.
        """
        digest = self._digest
        try:
            answer = await self._ask(b"HEAD", f"blobs/{digest}", push_scope(self._repository))
        except Denied:
            return False
        status, headers = answer.response.code, answer.response.headers
        await self._access.excerpt(answer.response)
        if status == 429:
            raise self._access.refusal(answer, self._what, b"")
        told = header(headers, "Docker-Content-Digest")
        return status == 200 and not (told.startswith(f"{digest.algorithm}:") and told != str(digest))

    async def _take_up(self, session: UploadSession, size: int) -> Session | None:
        """
        Continue the session of an earlier attempt.

        @return: L{None} if it is gone.
        """
        taken = self._session(session)
        try:
            await taken.ask()
        except SessionGone as e:
            self._log.info(
                "{host} no longer knows the upload of {name}: {reason}",
                host=self._access.host,
                name=self._what.name,
                reason=str(e),
            )
            return None
        return taken if taken.offset <= size else None

    # ----------------------------------------------------------- to begin

    async def _mount(self, candidates: Sequence[Repository]) -> Pushed | Session | None:
        """
        Try to mount the blob, from each candidate, and from wherever the
        registry has it.

        @return: the session that a registry begins instead, if it does.
        """
        session: Session | None = None
        others = [c for c in candidates if c.host == self._repository.host and c != self._repository]
        for source in others[:MAX_MOUNTS]:
            found = await self._try_mount(source)
            if found and session is not None:
                # The registry does not have it there; it is for this one to say.
                await session.abort()
                session = None
            if found is True:
                return Pushed("mounted", source)
            session = found if isinstance(found, Session) else session
        if session is None and self._access.abilities.finds_blobs:
            found = await self._try_mount(None)
            if found is True:
                return Pushed("mounted")
            if isinstance(found, Session):
                return found
        return session

    async def _try_mount(self, source: Repository | None) -> bool | Session:
        """
        Try one mount.

        @return: whether it was mounted, or the session that was begun instead.
        """
        digest = self._digest
        arguments = self._arguments() | {"mount": str(digest)}
        scope = push_scope(self._repository)
        if source is not None:
            arguments["from"] = source.path
            scope = f"{scope} {pull_scope(source)}"
        try:
            answer = await self._ask(b"POST", begin_path(arguments), scope)
        except Denied:
            # Of the other repository, perhaps; of this one, it will be said again.
            return False
        if answer.response.code == 202 and header(answer.response.headers, "Location"):
            return await self._opened(answer)
        body = await self._access.excerpt(answer.response)
        if answer.response.code == 429:
            raise self._access.refusal(answer, self._what, body)
        if source is None and answer.response.code in _NO_SUCH_REQUEST:
            self._access.abilities.finds_blobs = False
        told = header(answer.response.headers, "Docker-Content-Digest")
        return answer.response.code == 201 and told in ("", str(digest))

    async def _begin(self) -> Session:
        """
        Begin a session.

        @raise SourceError: the registry refuses.
        """
        answer = await self._ask(b"POST", begin_path(self._arguments()), push_scope(self._repository))
        if answer.response.code == 202:
            return await self._opened(answer)
        status, body = answer.response.code, await self._access.excerpt(answer.response)
        raise self._refusal(self._access.refusal(answer, self._what, body), status)

    async def _ask(self, method: bytes, path: str, scope: str) -> Answer:
        return await self._access.ask(method, self._repository, path, self._what, scope=scope)

    def _session(self, session: UploadSession) -> Session:
        return Session(self._access, self._repository, self._what, session.location, session.offset)

    async def _opened(self, answer: Answer) -> Session:
        """
        The session that an answer opens.
        """
        await self._access.excerpt(answer.response)
        location = located(self._what, answer, header(answer.response.headers, "Location"))
        learn_least(self._access.abilities, answer)
        return Session(self._access, self._repository, self._what, location, led_from=answer.zone)

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
            why = f"it takes no {algorithm} digests, it seems"
        else:
            return error
        return RegistryError(
            f"{self._access.host} takes no push to {self._repository}: {why} ({error})",
            host=self._access.host,
            status=status,
        )
