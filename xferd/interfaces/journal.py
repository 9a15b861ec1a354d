# -*- test-case-name: tests.test_interfaces -*-
"""
The journal: jobs, attempts, idempotency keys and upload sessions that outlive the daemon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Interface

from xferd.interfaces.registry import UploadSession
from xferd.names import Digest, Repository


@frozen
class IdempotencyKey:
    """
    A key that a client sent with a request for a job.

    @ivar client: the client's name: each has its own keys.
    @ivar fingerprint: stands for the body of the request.
    @ivar job_id: the job that the request began.
    @ivar created: when, in seconds since the epoch.
    """

    client: str
    key: str
    fingerprint: bytes
    job_id: str
    created: float


class IJournal(Interface):
    """
    What is remembered over a restart, besides the content.
    """

    def record_job(record: Mapping[str, Any]) -> Deferred[None]:
        """
        Remember a job as the API shows it (DESIGN: "A job is"), in place of
        what was remembered of it.
        """

    def record_attempt(record: Mapping[str, Any]) -> Deferred[None]:
        """
        Remember one attempt of a transfer: C{transfer}, C{kind}, C{digest},
        C{source}, C{attempt}, C{started}, C{finished}, C{bytes_done}, C{code},
        C{error}.
        """

    def attempts(transfers: Sequence[str], limit: int) -> Deferred[list[dict[str, Any]]]:
        """
        The newest attempts of some transfers, the oldest of them first.

        @param transfers: their ids.
        @param limit: how many attempts at most.
        """

    def job(job_id: str) -> Deferred[dict[str, Any] | None]:
        """
        What is remembered of a job, or L{None}.
        """

    def jobs(limit: int, before: tuple[str, str] | None = None) -> Deferred[list[dict[str, Any]]]:
        """
        The newest jobs, the newest first, by C{created} and C{id}.

        @param before: only jobs that are older than this C{created} and C{id}.
        """

    def record_key(kept: IdempotencyKey) -> Deferred[None]:
        """
        Remember an idempotency key, in place of an older one of that name.
        """

    def keys(since: float) -> Deferred[list[IdempotencyKey]]:
        """
        The idempotency keys that were created after C{since}, in seconds
        since the epoch, in the order in which they were recorded.
        """

    def unfinished(reference: str) -> Deferred[list[dict[str, Any]]]:
        """
        The jobs of an image, by its full name, that did not get done.
        """

    def interrupted() -> Deferred[list[dict[str, Any]]]:
        """
        The jobs that an earlier daemon left queued or running.
        """

    def record_upload(
        repository: Repository, digest: Digest, session: UploadSession | None
    ) -> Deferred[None]:
        """
        Remember how to go on with the upload of a blob, in place of what was
        remembered of it; L{None} forgets it.
        """

    def uploads() -> Deferred[dict[tuple[Repository, Digest], UploadSession]]:
        """
        The uploads that were not finished.
        """

    def record_holder(repository: Repository, digest: Digest) -> Deferred[None]:
        """
        Remember that a repository has a blob, so that it may be mounted from
        there.
        """

    def holders(host: str, digest: Digest) -> Deferred[list[Repository]]:
        """
        The repositories of a registry that had a blob when they were last
        seen, the one that was seen last first; a few at most.
        """
