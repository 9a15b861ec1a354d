# -*- test-case-name: tests.jobs.test_steering -*-
"""
Steering: what people pause, precede, drain and retry while the daemon runs.
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
    What people change while the daemon runs.  Each change takes effect within a second.

    C{by} is who makes it, for people.
    """

    draining: str = Attribute("Why the daemon begins nothing new, a sentence; empty if it does.")

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

        A job that is paused wants nothing: what it alone transfers stops, and continues
        at the same byte; what others share with it continues.  Its layers are unpacked.

        @param paused: whether it is paused from now on; L{None} leaves that as it is.
        @param priority: its priority from now on, for what waits; L{None} leaves it.
        @param rates: C{download_rate} and C{upload_rate} from now on, as in L{IJobs.change_limits
            <xferd.interfaces.jobs.IJobs.change_limits>}; what is not given stays.
        @raise BadInput: one is no rate.
        @raise NotFound: there is no such job.
        @raise JobEnded: it has ended.
        """

    def pauses() -> Sequence[PauseJSON]:
        """
        The pauses of more than a job, the oldest first.
        """

    def pause(name: str, *, keep: bool, by: str) -> Deferred[PauseJSON]:
        """
        Pause everything, a direction or a host.

        @param name: C{all}, C{downloads}, C{uploads} or C{hosts/HOST}.
        @param keep: whether the pause holds after a restart of the daemon, too.
        @return: fires when the journal has it, if it is to be kept.
        @raise StoreError: the journal refuses; it is paused for this run.
        """

    def resume(name: str) -> Deferred[PauseJSON]:
        """
        End a pause.

        @return: fires with the pause when the journal has it no more.
        @raise NotFound: there is none with this name.
        @raise StoreError: the journal refuses; the pause has ended for this run.
        """

    def drain(*, by: str) -> DrainJSON:
        """
        Begin nothing new, until L{end_drain} or a restart; what was begun continues.
        """

    def end_drain() -> DrainJSON:
        """
        Begin jobs again.
        """

    def drained() -> DrainJSON:
        """
        How far that is.
        """

    def retry(
        job_id: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[JobDetailsJSON]:
        """
        Do a job again that has failed or was cancelled, as a new one.

        @param credentials: the client's own, by registry host.
        @return: fires with the new job.
        @raise NotFound: there is no such job.
        @raise JobRunning: it has not ended.
        @raise BadInput: it is done, or cannot be done again.
        @raise Draining: the daemon begins nothing new.
        """
