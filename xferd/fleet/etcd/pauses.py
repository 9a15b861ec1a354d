# -*- test-case-name: tests.fleet.etcd.test_pauses -*-
"""
Pauses and quotas of upstream hosts, which one node reports and all others follow.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from math import ceil
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.answers import bad_answer
from xferd.fleet.etcd.client import EtcdClient
from xferd.fleet.etcd.messages import (
    BadAnswer,
    KeyValue,
    Message,
    encoded,
    end_of,
    flag,
    get_all,
    key_value,
    key_values,
    member,
    members,
    number,
    put,
    responses,
    text,
)
from xferd.fleet.etcd.records import PAUSES, pause_key, pause_value, read_pause
from xferd.fleet.etcd.session import Session
from xferd.interfaces.fleet import FleetPause
from xferd.transfer.eventual import Background

MAX_PAUSES: Final = 100
"""Pauses that are read at most."""

_MAX_EVENTS: Final = 1000
_AGAIN_SECONDS: Final = 1.0
_CROWDED_SECONDS: Final = 30.0


class _Compacted(Exception):
    """
    etcd has forgotten the revision from which on the watch was to begin.
    """


class _Crowded(Exception):
    """
    There are more events than a fleet makes.
    """


class Pauses:
    """
    Reports pauses and quotas, and follows those of other nodes by a watch.

    The watch is open while etcd is available.  Its end shows at once that a member was
    lost: then the lease is checked.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, client: EtcdClient, session: Session, node: str) -> None:
        """
        @param node: the name of this node.
        """
        self._clock = clock
        self._client = client
        self._session = session
        self._node = node
        self._callbacks: list[Callable[[FleetPause], None]] = []
        self._following: Deferred[None] | None = None
        self._revision = 0
        self._events = 0
        self._background = Background()
        session.on_available(self._available)

    def pause(self, pause: FleetPause) -> None:
        """
        Report a pause to all nodes, if etcd is available.
        """
        if self._session.available:
            self._spawn(self._report(pause))

    def follow(self, callback: Callable[[FleetPause], None]) -> Callable[[], None]:
        """
        Call a function with each pause of other nodes.

        @return: ends that.
        """
        self._callbacks.append(callback)
        if self._session.available:
            self._spawn(self._read_all([callback]))
        return lambda: self._callbacks.remove(callback)

    def stop(self) -> None:
        """
        Follow no longer.
        """
        if self._following is not None:
            self._following.cancel()
        _ = self._background.stop()

    # -------------------------------------------------------------- reports

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """
        Run work in the background.
        """

        def failed(failure: Failure) -> None:
            failure.trap(CoordinationUnavailable)
            self._session.failed(failure.value)

        self._background.spawn(Deferred.fromCoroutine(work).addErrback(failed), "while a pause was shared")

    async def _report(self, pause: FleetPause) -> None:
        try:
            granted = await self._client.call("/v3/lease/grant", {"TTL": str(max(1, ceil(pause.seconds)))})
            operation = put(pause_key(pause.host, pause.account), pause_value(pause), number(granted, "ID"))
        except BadAnswer as e:
            raise bad_answer(e) from None
        await self._client.call("/v3/kv/txn", {"success": [operation]})

    # ------------------------------------------------------------ the watch

    def _available(self, is_new: bool) -> None:  # noqa: ARG002
        """
        Begin to follow.
        """
        if self._following is None:
            self._revision = 0
            self._following = Deferred.fromCoroutine(self._follow())
            _ = self._following.addBoth(self._ended)

    def _ended(self, result: Failure | None) -> None:
        self._following = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("while pauses were followed", failure=result)

    async def _follow(self) -> None:
        """
        Follow while etcd is available.
        """
        while self._session.available:
            try:
                if self._revision == 0:
                    self._revision = await self._read_all(self._callbacks)
                self._events = 0
                await self._client.stream("/v3/watch", self._watch(), self._event)
            except _Compacted:
                self._revision = 0
            except _Crowded:
                # A fleet that is very large, or not etcd: nothing else depends on these.
                self._log.warn(
                    "etcd reports more than {most} pauses and quotas in some minutes; they are read "
                    "again in {seconds} s",
                    most=_MAX_EVENTS,
                    seconds=_CROWDED_SECONDS,
                )
                self._revision = 0
                await self._rest(_CROWDED_SECONDS)
            except BadAnswer as e:
                self._session.failed(bad_answer(e))
            except CoordinationUnavailable:
                # Perhaps this member alone is lost.
                self._session.check()
                await self._rest(_AGAIN_SECONDS)

    def _watch(self) -> Message:
        return {
            "create_request": {
                "key": encoded(PAUSES),
                "range_end": encoded(end_of(PAUSES)),
                "start_revision": str(self._revision + 1),
                "filters": ["NODELETE"],
            }
        }

    def _event(self, message: Message) -> None:
        """
        Receive a message of the watch.
        """
        result = member(message, "result")
        if number(result, "compact_revision"):
            raise _Compacted
        if flag(result, "canceled"):
            raise CoordinationUnavailable(f"etcd ended a watch: {text(result, 'cancel_reason')[:100]}")
        events = members(result, "events", _MAX_EVENTS)
        self._events += max(1, len(events))
        if self._events > _MAX_EVENTS:
            raise _Crowded
        for event in events:
            found = key_value(member(event, "kv"), PAUSES)
            self._revision = max(self._revision, found.revision)
            if text(event, "type") in ("", "PUT"):
                self._tell(read_pause(found), self._callbacks)

    async def _read_all(self, callbacks: Iterable[Callable[[FleetPause], None]]) -> int:
        """
        Report the pauses that are known, with the seconds that are left of them.

        @return: the revision after which the watch continues.
        """
        try:
            answer = await self._client.call("/v3/kv/txn", {"success": [get_all(PAUSES, MAX_PAUSES)]})
            (found,) = responses(answer, 1)
            for each in key_values(found, PAUSES, MAX_PAUSES):
                pause = await self._rest_of(each)
                self._tell(pause, callbacks)
            return number(member(answer, "header"), "revision")
        except BadAnswer as e:
            raise bad_answer(e) from None

    async def _rest_of(self, found: KeyValue) -> FleetPause | None:
        """
        A pause, with the seconds that are left of it by its lease.
        """
        pause = read_pause(found)
        if pause is None or pause.node == self._node or not found.lease:
            return None
        answer = await self._client.call("/v3/lease/timetolive", {"ID": str(found.lease)})
        left = min(pause.seconds, float(number(answer, "TTL")))
        return evolve(pause, seconds=left, age=pause.seconds - left) if left > 0 else None

    def _tell(self, pause: FleetPause | None, callbacks: Iterable[Callable[[FleetPause], None]]) -> None:
        if pause is not None and pause.node != self._node:
            for callback in list(callbacks):
                callback(pause)

    def _rest(self, seconds: float) -> Deferred[None]:
        """
        Wait a little.
        """
        resting: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(seconds, resting.callback, None)
        return resting
