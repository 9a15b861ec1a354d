# -*- test-case-name: tests.jobs.test_push -*-
"""
Blobs are uploaded from the store, or from another registry, into a repository.

Uploads are shared as downloads are: one for each repository and blob.  In
isolated mode there is one upload, and one upload session, for each repository,
blob and account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final, cast

from attrs import field, frozen
from twisted.internet.defer import CancelledError, succeed
from twisted.logger import Logger

from xferd.errors import StoreError, causes
from xferd.expiring import ExpiringDict
from xferd.interfaces.journal import IJournal
from xferd.interfaces.registry import IRepository, Pushed, UploadSession
from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.jobs.blobs.reader import Restarted
from xferd.jobs.blobs.throttled import ThrottledContent
from xferd.jobs.blobs.upload_source import UploadContent, UploadSource
from xferd.jobs.isolation import ISOLATED, SHARED, SharingScope
from xferd.lookups import Lookups
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.transfer.attempts import Postponed, Unusable
from xferd.transfer.bandwidth import Bandwidth, Flow
from xferd.transfer.eventual import Background
from xferd.transfer.fair_queue import Turn
from xferd.transfer.file_descriptors import is_shortage
from xferd.transfer.manager import TransferManager
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

KEPT: Final = 24 * 3600.0
"""Seconds for which an unused upload session is remembered."""

_LOOK: Final = 600.0
"""Seconds between two searches for such sessions."""


@frozen
class _Key:
    """
    The key of an upload session.

    @ivar account: the account at the repository's host, see L{ISource.account};
        L{None} for the daemon's, or where all clients share sessions.
    """

    repository: Repository
    digest: Digest
    account: Hashable = field(repr=False)


class UploadManager:
    """
    Uploads blobs for all jobs together.

    @ivar sent: the bytes sent over the network, by registry host.
    """

    _log = Logger()

    def __init__(
        self,
        journal: IJournal,
        uploads: TransferManager,
        bandwidth: Bandwidth,
        wall_clock: Callable[[], float],
        sharing: str = SHARED,
        *,
        moved: Callable[[str, int, float], object],
    ) -> None:
        """
        @param wall_clock: the seconds since the epoch.
        @param moved: called at the end of each attempt with its host, its bytes
            and its seconds.
        @param sharing: C{shared} or C{isolated}.
        """
        self._moved = moved
        self._isolated = sharing == ISOLATED
        self._journal = journal
        self._wall_clock = wall_clock
        self._uploads = uploads
        self._bandwidth = bandwidth
        self._sessions: dict[_Key, UploadSession] = {}
        self._lookups: ExpiringDict[Repository, Lookups] = ExpiringDict(uploads.clock.seconds)
        self._background = Background()
        self._stopping = False
        self._drop_at = 0.0
        self.sent: Counter[str] = Counter()

    async def start(self) -> None:
        """
        Read the sessions of the uploads that an earlier daemon did not finish.
        """
        for (repository, digest), session in (await self._journal.uploads()).items():
            key = _Key(repository, digest, None)
            self._sessions[key] = session
            if self._isolated and not session.isolated:
                # It may belong to any client.
                self._remember(key, None)
        self._drop_unused()

    def keep_sessions(self) -> None:
        """
        Keep the sessions of uploads that end from now on, for the next daemon.
        """
        self._stopping = True

    async def stop(self) -> None:
        """
        Keep the sessions of uploads that end from now on, and wait until all are in the
        journal.
        """
        self.keep_sessions()
        await self._background.ended()

    @property
    def limit(self) -> int:
        """
        The number of slots for uploads of large blobs.
        """
        return self._uploads.slots.limit

    def is_small(self, blob: Descriptor) -> bool:
        """
        Whether the upload of a blob waits for the slots of small ones.
        """
        return self._uploads.is_small(blob.size)

    def upload(
        self,
        upload_source: UploadSource,
        blob: Descriptor,
        turn: Turn,
        sink: IProgressSink | None = None,
        *,
        origin: Repository | None = None,
    ) -> Watcher[Pushed]:
        """
        Push a blob.

        @param upload_source: the repository that gets it, and the blob's
            bytes, which are opened when they are needed.
        @param origin: a repository that has the blob.
        @return: a watcher whose result is how the blob came to be there.  It
            fails with a L{SourceError} of the watcher's own target, or with the
            error of its own content.
        """

        self._drop_unused()

        target = upload_source.target
        repository = target.name
        key = _Key(repository, blob.digest, target.account if self._isolated else None)

        async def work(transfer: Transfer) -> Pushed:
            return await self._upload(transfer, key, blob, origin)

        shared = ("upload", repository, blob.digest)
        return self._uploads.request(
            (*shared, SharingScope.of(target)) if self._isolated else shared,
            work,
            digest=blob.digest,
            size=blob.size,
            source=upload_source,
            turn=turn,
            sink=sink,
        )

    async def _upload(
        self, transfer: Transfer, key: _Key, blob: Descriptor, origin: Repository | None
    ) -> Pushed:
        """
        The work of an upload: any number of attempts on one session.
        """
        transfer.report(bytes_done=0, bytes_total=blob.size)
        repository = key.repository
        candidates = await self._candidates(repository, blob, origin)
        contents: dict[Hashable, UploadContent] = {}
        target: IRepository | None = None

        async def attempt(source: ISource) -> Pushed:
            nonlocal target
            upload_source = cast("UploadSource", source)
            target = upload_source.target
            wanted = {source.identity, *(source.identity for source in transfer.sources)}
            for identity in contents.keys() - wanted:
                # The client has released the transfer.
                contents.pop(identity).close()
            content = contents.get(upload_source.identity)
            if content is None:
                content = contents[upload_source.identity] = upload_source.content()
            return await self._attempt(transfer, key, upload_source.target, content, candidates)

        try:
            pushed: Pushed = await transfer.attempts(attempt)
        except CancelledError:
            if target is not None and not self._stopping:
                self._abort(key, target)
            raise
        finally:
            for content in contents.values():
                content.close()
        transfer.report(bytes_done=blob.size)
        self._background.spawn(
            self._journal.record_holder(repository, blob.digest), "while recording the holder of a blob"
        )
        return pushed

    async def _attempt(
        self,
        transfer: Transfer,
        key: _Key,
        target: IRepository,
        content: UploadContent,
        candidates: list[Repository],
    ) -> Pushed:
        """
        Make one attempt.

        @raise Postponed: the content has no bytes now.
        @raise Unusable: the content failed, not the target.
        """
        session = self._sessions.get(key)
        transfer.report(bytes_done=0 if session is None else session.offset)
        began, before = self._uploads.clock.seconds(), transfer.bytes_done
        flow = Flow(self._bandwidth, target.host, lambda: transfer.turns)
        transfer.activity.limit = flow.reason
        paced = ThrottledContent(content, flow)
        try:
            return await target.push(
                key.digest,
                paced,
                candidates,
                session,
                lambda s: self._remember(key, s, recorded=not transfer.small),
                lambda n: self._report(transfer, target, n),
            )
        except Exception as e:
            error = paced.error
            if error is None or error not in causes(e):
                raise
            if isinstance(error, Restarted):
                # The session has the wrong bytes.
                self._abort(key, target)
                raise Postponed(str(error), succeed(None)) from e
            if isinstance(error, Postponed) or is_shortage(error):
                raise
            raise Unusable(error) from error
        finally:
            content.rest()
            seconds = self._uploads.clock.seconds() - began
            self._moved(target.host, transfer.bytes_done - before, seconds)

    async def _candidates(
        self, repository: Repository, blob: Descriptor, origin: Repository | None
    ) -> list[Repository]:
        """
        The repositories from which a blob may be mounted, the best first.  Without
        any, the blob is sent.
        """
        known: list[Repository] = []
        lookups = self._lookups.get_or_make(repository, Lookups)
        if lookups.worthwhile(blob.size):
            try:
                known = await self._journal.holders(repository.host, blob.digest)
            except StoreError as e:
                self._log.warn(
                    "the repositories that have {digest} are not known: {why}",
                    digest=blob.digest,
                    why=str(e),
                )
            known = [r for r in known if r not in (repository, origin)]
            lookups.note(bool(known))
        known.sort(key=lambda r: -_kinship(r, repository))
        if origin is not None and origin.host == repository.host and origin != repository:
            known.insert(0, origin)
        return known

    def _report(self, transfer: Transfer, target: IRepository, size: int) -> None:
        """
        Count the bytes that the registry should have.
        """
        sent = max(0, size - transfer.bytes_done)
        self.sent[target.host] += sent
        transfer.report(bytes_done=size, moved=sent)

    def _remember(self, key: _Key, session: UploadSession | None, *, recorded: bool = True) -> None:
        """
        Remember an upload session, or that it has ended.

        Sessions of isolated clients with credentials of their own are not in the
        journal, which stores nothing by which such clients could be identified.

        @param recorded: whether it is in the journal, for the next daemon: of a
            small blob, which is sent in one request, there is nothing to resume.
        """
        if session is None:
            self._sessions.pop(key, None)
        else:
            session = UploadSession(session.location, session.offset, self._wall_clock(), self._isolated)
            self._sessions[key] = session
        if recorded and key.account is None:
            recording = self._journal.record_upload(key.repository, key.digest, session)
            self._background.spawn(recording, "while recording an upload session")

    def _drop_unused(self) -> None:
        """
        Drop sessions that no upload has used for a day.  Registries end them by
        themselves.
        """
        now = self._wall_clock()
        if now < self._drop_at:
            return
        self._drop_at = now + _LOOK
        for key, session in list(self._sessions.items()):
            if session.used < now - KEPT:
                self._remember(key, None)

    def _abort(self, key: _Key, target: IRepository) -> None:
        """
        Delete an upload's session, which is not continued.
        """
        session = self._sessions.get(key)
        if session is not None:
            self._remember(key, None)
            self._background.spawn(target.abort(session), "while deleting an upload session")


def _kinship(one: Repository, other: Repository) -> int:
    """
    The number of leading path components that two repositories have in common: a
    client with write access to the one can probably read the other.
    """
    count = 0
    for a, b in zip(one.path.split("/"), other.path.split("/"), strict=False):
        if a != b:
            break
        count += 1
    return count
