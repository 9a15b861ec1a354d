# -*- test-case-name: tests.webhooks.test_sender -*-
"""
Sends the messages of one receiver, one at a time, until each is accepted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from xferd.errors import SourceError, StoreError
from xferd.interfaces.journal import IJournal
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.webhooks import DELIVERED, DROPPED, FAILED, Delivery
from xferd.registry.transport.errors import header
from xferd.registry.transport.exchange import Exchange
from xferd.registry.transport.request_body import BytesBody
from xferd.registry.transport.response_body import read_excerpt
from xferd.registry.transport.timeouts import Timeouts
from xferd.transfer.retry import RetryPolicy
from xferd.webhooks.settings import WebhookSettings
from xferd.webhooks.signature import signed_headers

TIMEOUTS: Final = Timeouts(connect=5.0, tls=5.0, headers=10.0, silence=5.0, excerpt=2.0, close=2.0)
"""The time that a receiver has: it is meant to accept a message before it acts on it."""

BASE: Final = 5.0
"""Seconds before a message that was not accepted is sent again; doubled each time."""

CAP: Final = 3600.0
"""The largest delay between two attempts, in seconds."""

_POLICY: Final = RetryPolicy(base=BASE, cap=CAP, jitter=0.5)

KEPT: Final = 3 * 24 * 3600.0
"""Seconds after which a message is dropped."""

MOST: Final = 10_000
"""The largest number of messages that wait for one receiver; new ones are then dropped at once."""

QUIET: Final = 60.0
"""Seconds between two lines about messages that are dropped because too many wait."""


class Sender:
    """
    The messages of one receiver.

    The delay of a message that is not accepted doubles each time; other messages are sent before
    it.  After a failure, all messages wait for that delay: most failures are the receiver's.

    Life cycle: made; L{add}ed to at any time; L{start}; L{stop}.

    @ivar settings: the receiver.
    @ivar results: the attempts to send, by their results.
    """

    _log = Logger()

    def __init__(
        self,
        settings: WebhookSettings,
        secrets: Sequence[bytes],
        exchange: Exchange,
        journal: IJournal,
        *,
        clock: IReactorTime,
        wall_clock: WallClock,
        random: Random,
    ) -> None:
        """
        @param secrets: sign the messages.
        @param exchange: makes the requests.
        @param random: the source of jitter.
        """
        self.settings = settings
        self.results: Counter[str] = Counter()
        self._secrets = secrets
        self._exchange = exchange
        self._journal = journal
        self._clock = clock
        self._wall_clock = wall_clock
        self._random = random
        self._numbers = count()
        self._waiting: dict[str, Delivery] = {}
        self._queue: list[tuple[float, int, str]] = []
        self._failures = 0
        self._pause = 0.0
        self._open = False
        self._timer: IDelayedCall | None = None
        self._sending: Deferred[None] | None = None
        self._quiet_until = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room(self) -> bool:
        """
        Whether one more message may wait; otherwise it is counted as dropped.
        """
        if len(self._waiting) < MOST:
            return True
        self.results[DROPPED] += 1
        now = self._clock.seconds()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            self._log.error(
                "{count} messages wait for the webhook of {host}: the end of a job is not sent",
                count=len(self._waiting),
                host=self.settings.host,
            )
        return False

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """
        Have messages sent that are in the journal, or will be.
        """
        for delivery in deliveries:
            if delivery.id not in self._waiting:
                self._waiting[delivery.id] = delivery
                heappush(self._queue, (delivery.due, next(self._numbers), delivery.id))
        self._schedule()

    def start(self) -> None:
        """
        Begin to send.
        """
        self._open = True
        self._schedule()

    def stop(self) -> Deferred[None]:
        """
        Stop sending.  Messages that were not accepted stay in the journal.

        @return: fires when the present request has ended.
        """
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sending = self._sending
        # Needs no canceller: the end of the request fires it.
        ended: Deferred[None] = Deferred()
        if sending is None:
            ended.callback(None)
        else:
            self._on_end = ended
            sending.cancel()
        return ended

    _on_end: Deferred[None] | None = None

    def _schedule(self) -> None:
        """
        Wait for the next message, unless one is being sent.
        """
        if not self._open or self._sending is not None or not self._queue:
            return
        if self._timer is not None:
            self._timer.cancel()
        due = self._queue[0][0] - self._wall_clock()
        # The wall clock may have been set back.
        delay = max(min(due, CAP), self._pause - self._clock.seconds(), 0.0)
        self._timer = self._clock.callLater(delay, self._send_next)

    def _send_next(self) -> None:
        self._timer = None
        _, _, delivery_id = heappop(self._queue)
        # A coroutine may end at once.
        sending = self._sending = Deferred.fromCoroutine(self._send(self._waiting[delivery_id]))
        _ = sending.addErrback(self._broke).addBoth(self._sent)

    def _broke(self, failure: object) -> None:
        self._log.failure("while sending a webhook", failure)  # type: ignore[arg-type]

    def _sent(self, _: object) -> None:
        self._sending = None
        ended, self._on_end = self._on_end, None
        if ended is not None:
            ended.callback(None)
        self._schedule()

    async def _send(self, delivery: Delivery) -> None:
        """
        Send one message; afterwards it is accepted, waits again, or is dropped.
        """
        try:
            # It comes with the end of its job.
            await self._journal.flush()
            body = await self._journal.delivery_body(delivery.id)
            if body is None:
                # The job had ended before, or its end is not in the journal.
                del self._waiting[delivery.id]
                return
            if self._wall_clock() - delivery.created > KEPT:
                self._drop(delivery)
                return
            error, wanted = await self._post(delivery, body.encode())
        except CancelledError:
            # The next daemon sends it.
            return
        except StoreError as e:
            error, wanted = str(e), 0.0
        if error:
            self._failed(delivery, error, wanted)
        else:
            self.results[DELIVERED] += 1
            self._failures, self._pause = 0, 0.0
            self._forget(delivery)

    async def _post(self, delivery: Delivery, body: bytes) -> tuple[str, float]:
        """
        Send a message once.

        @return: why it was not accepted, or an empty string; and the seconds that the
            receiver wants.
        """
        host = self.settings.host
        headers = Headers({"Content-Type": ["application/json"]})
        signed = signed_headers(self._secrets, delivery.id, int(self._wall_clock()), body)
        for name, value in signed.items():
            headers.setRawHeaders(name, [value])
        try:
            response = await self._exchange.request_once(
                b"POST", self.settings.url, headers, host=host, body=BytesBody(body)
            )
            await read_excerpt(response, host=host, clock=self._clock, timeouts=TIMEOUTS)
        except SourceError as e:
            return str(e), 0.0
        if 200 <= response.code < 300:
            return "", 0.0
        wanted = header(response.headers, "Retry-After") or ""
        seconds = min(float(wanted), CAP) if wanted.isascii() and wanted.isdigit() else 0.0
        return f"{host} answers {response.code}", seconds

    def _failed(self, delivery: Delivery, error: str, wanted: float) -> None:
        """
        Have a message wait, and the others, too.
        """
        self.results[FAILED] += 1
        self._failures += 1
        attempts = delivery.attempts + 1
        delay = max(wanted, self._delay(attempts))
        self._pause = self._clock.seconds() + max(wanted, self._delay(self._failures))
        changed = evolve(delivery, attempts=attempts, due=self._wall_clock() + delay)
        self._waiting[delivery.id] = changed
        heappush(self._queue, (changed.due, next(self._numbers), delivery.id))
        self._log.warn(
            "webhook of {host}: message {delivery} was not accepted: {error}; attempt {attempt}, the next in "
            "{seconds} s",
            event="webhook-failed",
            host=self.settings.host,
            delivery=delivery.id,
            error=error,
            attempt=attempts,
            seconds=round(delay),
        )
        _ = self._journal.postpone_delivery(changed).addErrback(self._unrecorded)

    def _drop(self, delivery: Delivery) -> None:
        """
        Drop a message.
        """
        self.results[DROPPED] += 1
        self._log.error(
            "webhook of {host}: message {delivery} is dropped after {attempts} attempts in {days} days",
            event="webhook-dropped",
            host=self.settings.host,
            delivery=delivery.id,
            attempts=delivery.attempts,
            days=round(KEPT / 86400),
        )
        self._forget(delivery)

    def _forget(self, delivery: Delivery) -> None:
        del self._waiting[delivery.id]
        _ = self._journal.forget_delivery(delivery.id).addErrback(self._unrecorded)

    def _unrecorded(self, failure: object) -> None:
        """
        The journal cannot be written: the next daemon sends the message again.
        """
        self._log.warn("cannot record a webhook's message: {error}", error=getattr(failure, "value", failure))

    def _delay(self, attempts: int) -> float:
        return _POLICY.delay(attempts, self._random)
