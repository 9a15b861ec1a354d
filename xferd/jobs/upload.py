# -*- test-case-name: tests.jobs.test_push -*-
"""
Blobs: from the store, or from another registry, into a repository.

Shared as downloads are: one upload for each repository and blob, whoever asks
for it, and what became of it is on the transfer for everybody to read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from xferd.errors import StoreError, Truncated
from xferd.interfaces import IBlobTarget, IJournal, IProgressSink, ISource, Pushed, UploadSession
from xferd.jobs.content import BlobContent
from xferd.jobs.pacing import PacedContent
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.eventual import Background
from xferd.transfer.slots import Turn
from xferd.transfer.transfer import Transfer, TransferManager, Watcher


class UploadManager:
    """
    Brings blobs into repositories, for all jobs together.

    @ivar sent: the bytes that went over the network, by registry host.
    """

    _log = Logger()

    def __init__(self, journal: IJournal, uploads: TransferManager, bandwidth: Bandwidth) -> None:
        self._journal = journal
        self._uploads = uploads
        self._bandwidth = bandwidth
        self._sessions: dict[tuple[Repository, Digest], UploadSession] = {}
        self._background = Background()
        self._stopping = False
        self.sent: Counter[str] = Counter()

    async def start(self) -> None:
        """
        Learn which uploads an earlier daemon did not finish.
        """
        self._sessions = await self._journal.uploads()

    async def stop(self) -> None:
        """
        From now on a session whose upload ends is kept, for the next daemon.

        Fires when what is to be remembered is on the disk.
        """
        self._stopping = True
        await self._background.ended()

    def upload(
        self,
        repository: Repository,
        target: IBlobTarget,
        blob: Descriptor,
        content: Callable[[], BlobContent],
        turn: Turn,
        sink: IProgressSink | None = None,
        *,
        origin: Repository | None = None,
    ) -> Watcher[Pushed]:
        """
        Bring a blob into a repository.

        @param content: opens the blob's bytes; called once for each upload.
        @param origin: a repository that has the blob.
        @return: a watcher whose result says how the blob came to be there.  It
            fails with a L{SourceError} of the watcher's own target, or with
            what the content failed with.
        """

        async def work(transfer: Transfer) -> Pushed:
            return await self._upload(transfer, repository, target, blob, content, origin)

        return self._uploads.request(
            ("upload", repository, blob.digest),
            work,
            digest=blob.digest,
            size=blob.size,
            source=target,
            turn=turn,
            sink=sink,
        )

    async def _upload(
        self,
        transfer: Transfer,
        repository: Repository,
        target: IBlobTarget,
        blob: Descriptor,
        content: Callable[[], BlobContent],
        origin: Repository | None,
    ) -> Pushed:
        """
        The work of an upload: any number of attempts on one session.
        """
        transfer.report(bytes_done=0, bytes_total=blob.size)
        candidates = await self._candidates(repository, blob.digest, origin)
        bytes_ = content()
        paced = PacedContent(bytes_, self._bandwidth)

        async def attempt(source: ISource) -> Pushed:
            target = cast("IBlobTarget", source)
            session = self._sessions.get((repository, blob.digest))
            transfer.report(bytes_done=0 if session is None else session.offset)
            try:
                return await target.push(
                    blob.digest,
                    paced,
                    candidates,
                    session,
                    lambda s: self._remember(repository, blob.digest, s),
                    lambda n: self._report(transfer, target, n),
                )
            except Truncated:
                # What the session has are the wrong bytes.
                self._abort(repository, blob.digest, target)
                raise

        try:
            pushed: Pushed = await transfer.attempts(attempt)
        except CancelledError:
            if not self._stopping:
                self._abort(repository, blob.digest, target)
            raise
        finally:
            bytes_.close()
        transfer.report(bytes_done=blob.size)
        self._spawn(self._journal.record_holder(repository, blob.digest), "while noting who has a blob")
        return pushed

    async def _candidates(
        self, repository: Repository, digest: Digest, origin: Repository | None
    ) -> list[Repository]:
        """
        The repositories to mount a blob from, the best first.

        These are hints: without them the blob is sent.
        """
        try:
            known = await self._journal.holders(repository.host, digest)
        except StoreError as e:
            self._log.warn("which repositories have {digest} is not known: {why}", digest=digest, why=str(e))
            known = []
        known = [r for r in known if r not in (repository, origin)]
        known.sort(key=lambda r: -_kinship(r, repository))
        if origin is not None and origin.host == repository.host and origin != repository:
            known.insert(0, origin)
        return known

    def _report(self, transfer: Transfer, target: IBlobTarget, size: int) -> None:
        """
        So many bytes should be there.
        """
        self.sent[target.host] += max(0, size - transfer.bytes_done)
        transfer.report(bytes_done=size)

    def _remember(self, repository: Repository, digest: Digest, session: UploadSession | None) -> None:
        """
        Note how to go on with an upload.
        """
        if session is None:
            self._sessions.pop((repository, digest), None)
        else:
            self._sessions[repository, digest] = session
        self._spawn(self._journal.record_upload(repository, digest, session), "while noting an upload")

    def _abort(self, repository: Repository, digest: Digest, target: IBlobTarget) -> None:
        """
        Have an upload's session deleted: nobody will go on with it.
        """
        session = self._sessions.get((repository, digest))
        if session is not None:
            self._remember(repository, digest, None)
            self._spawn(target.abort(session), "while deleting an upload session")

    def _spawn(self, work: Deferred[None], activity: str) -> None:
        self._background.spawn(work, activity)


def _kinship(one: Repository, other: Repository) -> int:
    """
    How many path components two repositories have in common from the left:
    who may write to the one may probably read the other.
    """
    count = 0
    for a, b in zip(one.path.split("/"), other.path.split("/"), strict=False):
        if a != b:
            break
        count += 1
    return count
