# -*- test-case-name: tests.registry.test_targets -*-
"""
One repository as a place to put blobs into: looked for, mounted or sent, in
this order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import (
    BlobUnknown,
    Denied,
    RegistryError,
    RegistryUnavailable,
    SourceError,
    TimedOut,
    TooManyRequests,
)
from xferd.interfaces.registry import IBlobTarget, IContent, Pushed, UploadSession
from xferd.names import Digest, Repository
from xferd.registry.access import Access, pull_scope, push_scope
from xferd.registry.answers import Subject, header
from xferd.registry.exchange import Answer
from xferd.registry.producer import ContentFailed
from xferd.registry.sending import Sending
from xferd.registry.timeouts import within
from xferd.registry.uploads import Session, SessionGone, begin_path, learn_least, located

MAX_MOUNTS: Final = 3
"""Candidates that are tried.  Each is a request, and their number is a guess."""

_NO_SUCH_REQUEST: Final = frozenset({400, 404, 405, 422, 501})


@implementer(IBlobTarget)
class RepositoryTarget:
    """
    One repository as a place to put blobs into.
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
        return f"<target {self.label}>"

    def push(
        self,
        digest: Digest,
        content: IContent,
        candidates: Sequence[Repository],
        session: UploadSession | None,
        remember: Callable[[UploadSession | None], None],
        report: Callable[[int], None],
    ) -> Deferred[Pushed]:
        """
        See L{IBlobTarget.push}.
        """
        return Deferred.fromCoroutine(self._push(digest, content, candidates, session, remember, report))

    def abort(self, session: UploadSession) -> Deferred[None]:
        """
        See L{IBlobTarget.abort}.
        """
        what = Subject(self.host, f"an upload to {self.label}", BlobUnknown, push=True)
        taken = Session(self._access, self._repository, what, session.location, session.offset)
        seconds = self._access.timeouts.close
        work = within(
            self._access.clock,
            seconds,
            Deferred.fromCoroutine(taken.delete()),
            lambda: TimedOut(f"no answer within {seconds:g} s", phase="headers", host=self.host),
        )

        def ignore(failure: Failure) -> Deferred[None]:
            self._log.debug(
                "an upload session of {host} is left to itself: {reason}",
                host=self.host,
                reason=failure.getErrorMessage(),
            )
            return succeed(None)

        return work.addErrback(ignore)

    async def _push(
        self,
        digest: Digest,
        content: IContent,
        candidates: Sequence[Repository],
        session: UploadSession | None,
        remember: Callable[[UploadSession | None], None],
        report: Callable[[int], None],
    ) -> Pushed:
        """
        Look, mount, send.
        """
        what = Subject(self.host, f"{self.label}@{digest}", BlobUnknown, push=True)
        if await self._exists(digest, what):
            if session is not None:
                await self.abort(session)
                remember(None)
            return Pushed("exists")
        taken = None if session is None else await self._take_up(session, content.size, what)
        fresh = taken is None
        if taken is None:
            if session is not None:
                remember(None)
            found = await self._mount(digest, candidates, what)
            if isinstance(found, Pushed):
                return found
            taken = found
        sending = Sending(
            what,
            digest,
            content,
            self._access.abilities,
            self._access.chunk_sizes,
            begin=lambda: self._begin(digest, what),
            exists=lambda: self._exists(digest, what),
            remember=remember,
            report=report,
        )
        try:
            await sending.send(taken, fresh)
        except ContentFailed as e:
            raise e.error from e
        return Pushed("uploaded")

    async def _exists(self, digest: Digest, what: Subject) -> bool:
        """
        Look whether the blob is there.  A registry that does not say, whatever
        it says instead, is just tried.
        """
        try:
            answer = await self._access.ask(
                b"HEAD", self._repository, f"blobs/{digest}", what, scope=push_scope(self._repository)
            )
        except Denied:
            return False
        status, headers = answer.response.code, answer.response.headers
        await self._access.excerpt(answer.response)
        if status == 429:
            raise self._access.refusal(answer, what, b"")
        told = header(headers, "Docker-Content-Digest")
        return status == 200 and not (told.startswith(f"{digest.algorithm}:") and told != str(digest))

    async def _take_up(self, session: UploadSession, size: int, what: Subject) -> Session | None:
        """
        Go on with what an earlier attempt began.

        @return: L{None} if it is gone.
        """
        taken = Session(self._access, self._repository, what, session.location, session.offset)
        try:
            await taken.ask()
        except SessionGone as e:
            self._log.info(
                "{host} no longer knows the upload of {name}: {reason}",
                host=self.host,
                name=what.name,
                reason=str(e),
            )
            return None
        return taken if taken.offset <= size else None

    # ----------------------------------------------------------- to begin

    async def _mount(
        self, digest: Digest, candidates: Sequence[Repository], what: Subject
    ) -> Pushed | Session | None:
        """
        Try to mount the blob, from each candidate, and from wherever the
        registry has it.

        @return: the session that a registry begins instead, if it does.
        """
        session: Session | None = None
        others = [c for c in candidates if c.host == self.host and c != self._repository]
        for source in others[:MAX_MOUNTS]:
            found = await self._try_mount(digest, source, what)
            if found and session is not None:
                # The registry does not have it there; it is for this one to say.
                await self.abort(session.state)
                session = None
            if found is True:
                return Pushed("mounted", source)
            session = found if isinstance(found, Session) else session
        if session is None and self._access.abilities.finds_blobs:
            found = await self._try_mount(digest, None, what)
            if found is True:
                return Pushed("mounted")
            if isinstance(found, Session):
                return found
        return session

    async def _try_mount(self, digest: Digest, source: Repository | None, what: Subject) -> bool | Session:
        """
        Try one mount.

        @return: whether it was mounted, or the session that was begun instead.
        """
        arguments = self._arguments(digest) | {"mount": str(digest)}
        scope = push_scope(self._repository)
        if source is not None:
            arguments["from"] = source.path
            scope = f"{scope} {pull_scope(source)}"
        try:
            answer = await self._access.ask(
                b"POST", self._repository, begin_path(arguments), what, scope=scope
            )
        except Denied:
            # Of the other repository, perhaps; of this one, it will be said again.
            return False
        if answer.response.code == 202 and header(answer.response.headers, "Location"):
            return await self._opened(answer, what)
        body = await self._access.excerpt(answer.response)
        if answer.response.code == 429:
            raise self._access.refusal(answer, what, body)
        if source is None and answer.response.code in _NO_SUCH_REQUEST:
            self._access.abilities.finds_blobs = False
        told = header(answer.response.headers, "Docker-Content-Digest")
        return answer.response.code == 201 and told in ("", str(digest))

    async def _begin(self, digest: Digest, what: Subject) -> Session:
        """
        Begin a session.

        @raise SourceError: the registry does not want to.
        """
        arguments = self._arguments(digest)
        answer = await self._access.ask(
            b"POST", self._repository, begin_path(arguments), what, scope=push_scope(self._repository)
        )
        if answer.response.code == 202:
            return await self._opened(answer, what)
        status, body = answer.response.code, await self._access.excerpt(answer.response)
        raise self._refusal(self._access.refusal(answer, what, body), status, digest)

    async def _opened(self, answer: Answer, what: Subject) -> Session:
        """
        The session that an answer is about.
        """
        await self._access.excerpt(answer.response)
        location = located(what, answer, header(answer.response.headers, "Location"))
        learn_least(self._access.abilities, answer)
        return Session(self._access, self._repository, what, location, led_from=answer.zone)

    def _arguments(self, digest: Digest) -> dict[str, str]:
        """
        What to say of the blob that will come.
        """
        return {} if digest.algorithm == "sha256" else {"digest-algorithm": digest.algorithm}

    def _refusal(self, error: SourceError, status: int, digest: Digest) -> SourceError:
        """
        The error for an upload that may not begin.
        """
        if isinstance(error, Denied | TooManyRequests | RegistryUnavailable) and status != 501:
            return error
        if status == 404:
            why = f"there is no repository {self._repository.path}, and pushing does not make one"
        elif status in (405, 501):
            why = "it is read-only"
        elif status == 400 and digest.algorithm != "sha256":
            why = f"it takes no {digest.algorithm} digests, it seems"
        else:
            return error
        return RegistryError(
            f"{self.host} takes no push to {self.label}: {why} ({error})", host=self.host, status=status
        )
