# -*- test-case-name: tests.test_interfaces -*-
"""
The journal: jobs, attempts, idempotency keys, upload sessions and what is known of hosts, which
outlive the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.interfaces.registry import UploadSession
from xferd.interfaces.webhooks import Delivery
from xferd.names import Digest, Repository
from xferd.oci import Descriptor


@frozen
class IdempotencyKey:
    """
    A key that a client sent with a request for a job.

    @ivar client: the client's name: each has its own keys.
    @ivar fingerprint: a hash of the request's body.
    @ivar job_id: the job that the request created.
    @ivar created: the time, in seconds since the epoch.
    """

    client: str
    key: str
    fingerprint: bytes
    job_id: str
    created: float


@frozen
class HostRecord:
    """
    What is known of a host, or of one account there.

    @ivar account: the account, as L{HostMemory<xferd.hosts.memory.HostMemory>}
        names it; never a secret.
    @ivar used: when it was last used, in seconds since the epoch.
    @ivar facts: values for JSON; times are in seconds since the epoch.
    """

    host: str
    account: str
    used: float
    facts: Mapping[str, Any]


@frozen
class UnfinishedJob:
    """
    A job that an earlier daemon left unfinished.

    @ivar record: the job as it was recorded last.
    @ivar request: what begins it again, values for JSON; L{None} for a job that ends
        with its daemon.
    @ivar crashes: how often in a row the daemon has died while the job ran.
    """

    record: Mapping[str, Any]
    request: Mapping[str, Any] | None
    crashes: int = 0


@frozen
class UnfinishedFill:
    """
    A download for clients of the mirror, which continues without them.

    @ivar repository: the upstream's repository, as the catalog names it.
    @ivar begun: how often it was begun again by later daemons.
    """

    repository: Repository
    blob: Descriptor
    begun: int = 0


class IJournal(Interface):
    """
    Records that outlive the daemon, besides the content of the store.
    """

    run: int = Attribute(
        "How many daemons have opened the journal, this one included; readable once the store is open."
    )
    salt: bytes = Attribute(
        "32 random bytes, made with the journal, for the hashes that it has; readable once the store is open."
    )

    announce: Callable[[Mapping[str, Any]], Sequence[Delivery]] = Attribute(
        "Called with the record of each job that has ended: returns the messages of webhooks, which are "
        "recorded in the same transaction, unless the end was recorded before.  Settable; by default, none."
    )

    def record_job(record: Mapping[str, Any], request: Mapping[str, Any] | None = None) -> Deferred[None]:
        """
        Record a job as the API shows it, in place of its earlier record.

        @param request: what begins the job again after a restart, values for JSON;
            L{None} keeps what was recorded before.  It is dropped when the job ends.
        """

    def record_begun(crashes: Mapping[str, int]) -> Deferred[None]:
        """
        Record that unfinished jobs of an earlier daemon run now.

        @param crashes: see L{UnfinishedJob.crashes}, by the ID of each job.
        """

    def flush() -> Deferred[None]:
        """
        Fires when everything that was recorded before is on the disk, or was refused by
        it.  Cancelling ends the wait alone.
        """

    def record_attempt(record: Mapping[str, Any]) -> Deferred[None]:
        """
        Record one attempt of a transfer: C{transfer}, C{kind}, C{digest},
        C{source}, C{attempt}, C{started}, C{finished}, C{bytes_done}, C{bytes_moved},
        C{code}, C{error}.
        """

    def attempts(transfers: Sequence[str], limit: int) -> Deferred[list[dict[str, Any]]]:
        """
        The newest attempts of some transfers, the oldest of them first.

        @param transfers: the IDs of the transfers.
        @param limit: the number of attempts, at most.
        """

    def job(job_id: str) -> Deferred[dict[str, Any] | None]:
        """
        The record of a job, or L{None}.
        """

    def ids(prefix: str, limit: int) -> Deferred[list[str]]:
        """
        The IDs of jobs that begin with some characters, in their order.

        @param prefix: ASCII.
        """

    def jobs(limit: int, before: tuple[str, str] | None = None) -> Deferred[list[dict[str, Any]]]:
        """
        The newest jobs, the newest first, by C{created} and C{id}.

        @param before: only jobs that are older than this C{created} and C{id}.
        """

    def record_key(kept: IdempotencyKey) -> Deferred[None]:
        """
        Record an idempotency key, in place of an older one of the same client
        and name.
        """

    def keys(since: float) -> Deferred[list[IdempotencyKey]]:
        """
        The idempotency keys that were created after C{since}, in seconds
        since the epoch, in the order in which they were recorded.
        """

    def unfinished(reference: str) -> Deferred[list[dict[str, Any]]]:
        """
        The jobs of an image, by its full name, that did not succeed.
        """

    def interrupted() -> Deferred[list[UnfinishedJob]]:
        """
        The jobs that an earlier daemon left queued or running, the oldest first.
        """

    def record_upload(
        repository: Repository, digest: Digest, session: UploadSession | None
    ) -> Deferred[None]:
        """
        Record the session of a blob's upload, in place of an earlier one;
        L{None} removes it.
        """

    def uploads() -> Deferred[dict[tuple[Repository, Digest], UploadSession]]:
        """
        The unfinished uploads.
        """

    def record_host(record: HostRecord) -> Deferred[None]:
        """
        Record what is known of a host or an account, in place of an earlier
        record.
        """

    def forget_host(host: str) -> Deferred[None]:
        """
        Remove the records of a host and of all accounts there.
        """

    def forget_unused_hosts(before: float) -> Deferred[None]:
        """
        Remove the records that were last used before a time, in seconds since
        the epoch.
        """

    def hosts() -> Deferred[list[HostRecord]]:
        """
        The records of hosts and accounts, in the order in which they were
        recorded.
        """

    def record_fill(fill: UnfinishedFill) -> Deferred[None]:
        """
        Record a fill of the mirror, in place of an earlier record.
        """

    def forget_fill(repository: Repository, digest: Digest) -> Deferred[None]:
        """
        Remove the record of a fill.
        """

    def fills() -> Deferred[list[UnfinishedFill]]:
        """
        The fills that were recorded, the oldest first.
        """

    def deliveries() -> Deferred[list[Delivery]]:
        """
        The messages of webhooks that wait, the oldest first, without their bodies.
        """

    def delivery_body(delivery_id: str) -> Deferred[str | None]:
        """
        The body of a message; L{None} if it does not wait.
        """

    def postpone_delivery(delivery: Delivery) -> Deferred[None]:
        """
        Record the attempts of a message that waits, and when it is due.
        """

    def forget_delivery(delivery_id: str) -> Deferred[None]:
        """
        Remove a message.
        """

    def record_setting(name: str, value: Any) -> Deferred[None]:
        """
        Record a setting that a person changed at run time, in place of its earlier value.

        @param value: for JSON; L{None} removes it.
        """

    def settings() -> Deferred[dict[str, Any]]:
        """
        The recorded settings, by name.
        """

    def record_holder(repository: Repository, digest: Digest) -> Deferred[None]:
        """
        Record that a repository has a blob, which may be mounted from there.
        """

    def holders(host: str, digest: Digest) -> Deferred[list[Repository]]:
        """
        The repositories of a registry that had a blob when last seen, the most
        recent first; ten at most.
        """
