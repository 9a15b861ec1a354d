# -*- test-case-name: tests.webhooks.test_webhooks -*-
"""
The webhooks of one daemon: the ends of jobs become messages, one for each receiver that
wants it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from attrs import evolve
from twisted.internet.defer import DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IAgent

from xferd.errors import ConfigError, StoreError
from xferd.interfaces.journal import IJournal
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.webhooks import Delivery, WebhookFigures
from xferd.jobs.job import in_short
from xferd.registry.transport.connections import Connections, TransportConfig
from xferd.registry.transport.exchange import Exchange
from xferd.registry.transport.proxies import Proxies
from xferd.registry.transport.tls import TLSConfig
from xferd.webhooks.sender import TIMEOUTS, Sender
from xferd.webhooks.settings import WebhookSettings


class Webhooks:
    """
    All receivers.

    Life cycle: made, from then on the journal requests the messages of jobs; L{start},
    when the journal is open; L{stop}, before it is closed.
    """

    _log = Logger()

    def __init__(
        self,
        settings: Sequence[WebhookSettings],
        journal: IJournal,
        *,
        clock: IReactorTime,
        wall_clock: WallClock,
        proxies: Proxies | None = None,
        agent: IAgent | None = None,
    ) -> None:
        """
        @param clock: also connects (TCP and names), unless there is an C{agent}.
        @param proxies: the proxies for requests.
        @param agent: makes the requests instead of connections of our own.
        @raise ConfigError: a file of the settings cannot be used.
        """
        self._journal = journal
        self._wall_clock = wall_clock
        self._connections = Connections(
            clock,
            timeouts=TIMEOUTS,
            tls_options=lambda host, _: TLSConfig(host).options(host),
            proxies=proxies,
        )
        self._senders: dict[str, Sender] = {}
        for each in settings:
            config = TransportConfig(tls=_tls(each))

            def choose(fresh: bool, _: object, config: TransportConfig = config) -> IAgent:
                return agent or self._connections.agent(config, reuse=not fresh)

            self._senders[each.key] = Sender(
                each,
                each.read_secrets(),
                Exchange(choose, clock, TIMEOUTS),
                journal,
                clock=clock,
                wall_clock=wall_clock,
                random=Random(),  # noqa: S311
            )
        journal.announce = self._announce

    @property
    def figures(self) -> WebhookFigures:
        """
        The present counts.
        """
        attempts: dict[tuple[str, str], int] = {}
        waiting: dict[str, int] = {}
        for each in self._senders.values():
            host = each.settings.host
            waiting[host] = waiting.get(host, 0) + len(each)
            for result, number in each.results.items():
                attempts[host, result] = attempts.get((host, result), 0) + number
        return WebhookFigures(attempts, waiting)

    async def start(self) -> None:
        """
        Read the messages of earlier daemons, and begin to send.

        @raise StoreError: the journal cannot be read.
        """
        unknown: set[str] = set()
        for delivery in await self._journal.deliveries():
            sender = self._senders.get(delivery.hook)
            if sender is None:
                unknown.add(delivery.id)
            else:
                sender.add([delivery])
        if unknown:
            self._log.warn(
                "{count} messages for webhooks that the settings do not name any more are dropped",
                count=len(unknown),
            )
        for delivery_id in unknown:
            try:
                await self._journal.forget_delivery(delivery_id)
            except StoreError as e:
                self._log.warn("cannot drop the message of a webhook: {error}", error=e)
        for sender in self._senders.values():
            sender.start()

    async def stop(self) -> None:
        """
        Stop sending, and close all connections.
        """
        await DeferredList([sender.stop() for sender in self._senders.values()])
        await self._connections.close()

    def _announce(self, record: Mapping[str, Any]) -> Sequence[Delivery]:
        """
        The messages for the end of a job.

        @param record: the job's record.
        """
        made = []
        for key, sender in self._senders.items():
            wanted = record["state"] in sender.settings.states and record["kind"] in sender.settings.kinds
            if wanted and sender.has_room():
                now = self._wall_clock()
                delivery = Delivery(f"{record['id']}-{key}", key, now, 0, now)
                sender.add([delivery])
                made.append(evolve(delivery, body=body_of(record)))
        return made


def body_of(record: Mapping[str, Any]) -> str:
    """
    The message for the end of a job.
    """
    data = in_short(record)
    return json.dumps({"type": f"job.{data['state']}", "timestamp": data["finished"], "data": data})


def _tls(settings: WebhookSettings) -> TLSConfig:
    """
    The TLS of a receiver.  Its certificate is always verified, on loopback, too.

    @raise ConfigError: the file cannot be read.
    """
    authorities: tuple[bytes, ...] = ()
    if settings.ca_file:
        try:
            authorities = (Path(settings.ca_file).read_bytes(),)
        except OSError as e:
            raise ConfigError(f"cannot read the certificates in {settings.ca_file}: {e.strerror}") from e
    return TLSConfig(urlsplit(settings.url).hostname or "", authorities, skip_verify=False)
