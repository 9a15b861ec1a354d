# -*- test-case-name: tests.jobs.test_steering -*-
"""
Steering: pauses, priorities, drain and retries while the daemon runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.credentials import Credentials
from xferd.interfaces.job_json import DrainJSON, JobDetailsJSON, PauseJSON


class ISteering(Interface):
    """
    Changes that people make while the daemon runs.  Each takes effect within a second.

    C{by} is the author of a change, for people.
    """

    draining: str = Attribute("Why the daemon starts no new work, a sentence; empty if it does.")

    def change(
        job_id: str,
        *,
        paused: bool | None = None,
        priority: int | None = None,
        rates: Mapping[str, Any] | None = None,
        by: str,
    ) -> JobDetailsJSON:
        """
        Change a job that has not ended.

        The transfers that only paused jobs watch stop, and later continue at the same byte.
        Transfers that other jobs watch continue, and so does the unpacking of layers.

        @param paused: whether it is paused from now on; L{None} for no change.
        @param priority: its new priority in the queue for slots; L{None} for no change.
        @param rates: C{download_rate} and C{upload_rate} from now on, as in L{IJobs.change_limits
            <xferd.interfaces.jobs.IJobs.change_limits>}; others do not change.
        @raise BadInput: a value is not a rate.
        @raise NotFound: there is no such job.
        @raise JobEnded: it has ended.
        """

    def pauses() -> Sequence[PauseJSON]:
        """
        The pauses of hosts, of directions and of everything, the oldest first.
        """

    def pause(name: str, *, keep: bool, by: str) -> Deferred[PauseJSON]:
        """
        Pause everything, a direction or a host.

        @param name: C{all}, C{downloads}, C{uploads} or C{hosts/HOST}.
        @param keep: whether the pause persists over a restart of the daemon.
        @return: fires when a pause that persists is in the journal.
        @raise StoreError: the journal cannot be written; the pause holds until the daemon stops.
        """

    def resume(name: str) -> Deferred[PauseJSON]:
        """
        End a pause.

        @return: fires with the pause when it is removed from the journal.
        @raise NotFound: no pause has this name.
        @raise StoreError: the journal cannot be written; the pause begins again after a restart.
        """

    def drain(*, keep: bool, by: str) -> Deferred[DrainJSON]:
        """
        Start no new work, until L{end_drain}; running jobs continue.

        @param keep: whether the drain persists over a restart of the daemon.
        @return: fires when a drain that persists is in the journal.
        @raise StoreError: the journal cannot be written; the drain holds until the daemon stops.
        """

    def end_drain() -> Deferred[DrainJSON]:
        """
        End the drain: accept jobs again.

        @return: fires when it is removed from the journal.
        @raise StoreError: the journal cannot be written; the drain begins again after a restart.
        """

    def drained() -> DrainJSON:
        """
        The progress of the drain.
        """

    def retry(
        job_id: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[JobDetailsJSON]:
        """
        Retry a job that failed or was cancelled, as a new job.

        @param credentials: the client's own, by registry host.
        @return: fires with the new job.
        @raise NotFound: there is no such job.
        @raise JobRunning: it has not ended.
        @raise BadInput: it succeeded, or cannot be retried.
        @raise Draining: the daemon is being drained.
        """
