# -*- test-case-name: tests.fleet.etcd.test_client -*-
"""
Requests to etcd's JSON gateway: to any of its members, within bounds of time and
size, with a user's token where there is a user.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from xferd.errors import CoordinationUnavailable, XferdError
from xferd.fleet.etcd.answers import (
    Answer,
    Lines,
    MemberFailed,
    TokenRefused,
    bad_answer,
    parse,
    refusal,
)
from xferd.fleet.etcd.login import LOGIN_SECONDS, Login
from xferd.fleet.etcd.messages import BadAnswer, Message, number
from xferd.fleet.etcd.race import NEXT_SECONDS, Race
from xferd.fleet.etcd.settings import Endpoint, EtcdSettings
from xferd.interfaces.fleet import CALL_SECONDS
from xferd.json_encoding import encode
from xferd.registry.transport.connections import Connections, TransportConfig
from xferd.registry.transport.exchange import Exchange
from xferd.registry.transport.request_body import BytesBody
from xferd.registry.transport.response_body import pump, read_whole
from xferd.registry.transport.timeouts import Timeouts, within
from xferd.registry.transport.tls import TLSConfig

MAX_ANSWER: Final = 4 << 20
"""Bytes of a response at most."""

_TOKEN: Final = re.compile(r"[!-~]{1,8192}")
_LOGIN: Final = "/v3/auth/authenticate"
_STATUS: Final = "/v3/maintenance/status"

STREAM_SECONDS: Final = 300.0
"""Seconds after which a stream ends, to begin again: a broken connection without
traffic may not show otherwise."""

_TIMEOUTS: Final = Timeouts(
    connect=CALL_SECONDS, tls=CALL_SECONDS, headers=CALL_SECONDS, silence=CALL_SECONDS, close=1.0
)
_LOGIN_TIMEOUTS: Final = evolve(_TIMEOUTS, headers=LOGIN_SECONDS)
_STREAM_TIMEOUTS: Final = Timeouts(
    connect=CALL_SECONDS,
    tls=CALL_SECONDS,
    headers=CALL_SECONDS,
    silence=2 * STREAM_SECONDS,
    window=2 * STREAM_SECONDS,
)


class EtcdClient:
    """
    Makes requests to etcd.

    @ivar requests: the requests that were made.
    """

    def __init__(
        self,
        reactor: Any,
        settings: EtcdSettings,
        *,
        agent: Callable[[TLSConfig | None, bool], IAgent] | None = None,
        random: Random | None = None,
    ) -> None:
        """
        @param reactor: makes connections, and measures time.
        @param agent: returns the agent for a server's TLS, given whether it uses
            new connections only; by default one with a pool of its own.
        @param random: spreads logins.
        """
        self._clock: IReactorTime = reactor
        self._settings = settings
        # etcd is asked directly, without a proxy.
        self._connections = Connections(reactor, timeouts=_TIMEOUTS, tls_options=_no_tls)
        choose = self._agent if agent is None else agent
        self._exchanges = {
            each: Exchange(_fixed(choose, each.tls), reactor, _TIMEOUTS) for each in settings.endpoints
        }
        # Not to be repeated: etcd computes a login for some time.
        self._logins = {
            each: Exchange(_fixed(choose, each.tls), reactor, _LOGIN_TIMEOUTS) for each in settings.endpoints
        }
        self._current = 0
        names = ", ".join(each.name for each in settings.endpoints)
        self._login = Login(reactor, random or Random(), self._authenticate, self._applied, names)  # noqa: S311
        self.requests = 0

    def close(self) -> Deferred[None]:
        """
        Close all connections; fires within a second.
        """
        self._login.stop()
        return self._connections.close()

    def note_nodes(self, number: int) -> None:
        """
        Note the number of nodes in the fleet, over which logins are spread.
        """
        self._login.nodes = number

    async def call(self, path: str, message: Message) -> Message:
        """
        Make a request.

        @param path: the method, C{/v3/kv/txn} for example.
        @return: the answer, an object.
        @raise CoordinationUnavailable: there is no answer within L{CALL_SECONDS}, or it
            is an error, too large or no JSON.
        """
        return await within(
            self._clock, CALL_SECONDS, Deferred.fromCoroutine(self._authorized(path, message)), self._late
        )

    async def stream(self, path: str, message: Message, each: Callable[[Message], object]) -> None:
        """
        Make a request, and pass on each message of the answer as it arrives.  Ends when
        the answer does, or after L{STREAM_SECONDS}.

        @param each: called with each message; an exception from it ends the stream, and is raised.
        @raise CoordinationUnavailable: the request failed, or the stream broke.
        """
        endpoint = self._settings.endpoints[self._current]
        await within(self._clock, CALL_SECONDS, Deferred.fromCoroutine(self._logged_in()), self._late)
        response = await within(
            self._clock, CALL_SECONDS, Deferred.fromCoroutine(self._send(endpoint, path, message)), self._late
        )
        if response.code != 200:
            await within(
                self._clock, CALL_SECONDS, Deferred.fromCoroutine(self._read(endpoint, response)), self._late
            )
            raise MemberFailed(f"etcd at {endpoint.name} answers {response.code} to a watch")
        lines = Lines(endpoint.name, each)
        pumping = pump(
            response,
            lines.received,
            host=endpoint.name,
            expected=None,
            clock=self._clock,
            timeouts=_STREAM_TIMEOUTS,
        )
        ending = self._clock.callLater(STREAM_SECONDS, lines.end, pumping)
        try:
            await pumping
        except CancelledError:
            if not lines.has_ended:
                raise
        except CoordinationUnavailable:
            raise
        except XferdError as e:
            raise MemberFailed(f"etcd: {e}") from e
        finally:
            if ending.active():
                ending.cancel()

    # ----------------------------------------------------------- the user

    async def _authorized(self, path: str, message: Message) -> Message:
        """
        Make a request, with a new token if the old one is refused.
        """
        await self._logged_in()
        token = self._login.token
        try:
            return await self._anywhere(path, message)
        except TokenRefused:
            if not self._settings.user:
                raise
            self._login.refused(token)
            await self._login.ready()
            return await self._anywhere(path, message)

    async def _logged_in(self) -> None:
        """
        Have a token, if there is a user.
        """
        if self._settings.user:
            await self._login.ready()

    async def _authenticate(self) -> str:
        """
        Log in at one member, or at the next one if it cannot be reached.
        """
        message = {"name": self._settings.user, "password": self._settings.password.reveal()}
        answer = await self._anywhere(_LOGIN, message)
        token = answer.get("token")
        if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
            raise CoordinationUnavailable("etcd answers a login without a token")
        return token

    async def _applied(self) -> int:
        """
        Ask for the number of changes that etcd has made.
        """
        try:
            return number(await self._anywhere(_STATUS, {}), "raftAppliedIndex")
        except BadAnswer as e:
            raise bad_answer(e) from None

    # -------------------------------------------------------- the members

    def _late(self) -> Exception:
        names = ", ".join(each.name for each in self._settings.endpoints)
        if self._login.running:
            return CoordinationUnavailable(
                f"etcd at {names} did not answer a login within {CALL_SECONDS:g} s"
            )
        self._login.doubt()
        return CoordinationUnavailable(f"etcd at {names} did not answer within {CALL_SECONDS:g} s")

    def _anywhere(self, path: str, message: Message) -> Deferred[Message]:
        """
        Make a request to the member that answered last; when that fails, or does not answer
        soon, to the others.
        """
        endpoints = self._settings.endpoints
        order = [endpoints[(self._current + n) % len(endpoints)] for n in range(len(endpoints))]

        def answered(answer: Answer) -> Message:
            self._current = endpoints.index(answer.endpoint)
            return answer.message

        # At last once more the first one by a new connection: the idle one may have been
        # closed since it was used.
        attempts = [(each, False) for each in order] + [(order[0], True)]
        ask = partial(self._ask, path, message)
        patience = LOGIN_SECONDS if path == _LOGIN else NEXT_SECONDS
        race = Race(self._clock, [partial(ask, *each) for each in attempts], patience)
        return race.run().addCallback(answered)

    async def _ask(self, path: str, message: Message, endpoint: Endpoint, fresh: bool) -> Answer:
        """
        Make a request to one member.
        """
        response = await self._send(endpoint, path, message, fresh)
        return Answer(endpoint, await self._read(endpoint, response))

    async def _send(self, endpoint: Endpoint, path: str, message: Message, fresh: bool = False) -> IResponse:
        """
        Send a request, and wait for the head of its response.
        """
        # A member that has no leader fails at once, instead of waiting for one.
        headers = Headers({"Content-Type": ["application/json"], "Grpc-Metadata-Hasleader": ["true"]})
        if self._login.token and path not in (_LOGIN, _STATUS):
            headers.setRawHeaders("Authorization", [self._login.token])
        self.requests += 1
        exchanges = self._logins if path == _LOGIN else self._exchanges
        try:
            return await exchanges[endpoint].request_once(
                b"POST",
                f"{endpoint.url}{path}",
                headers,
                host=endpoint.name,
                body=BytesBody(encode(message)),
                fresh=fresh,
            )
        except XferdError as e:
            raise MemberFailed(f"etcd: {e}") from e

    async def _read(self, endpoint: Endpoint, response: IResponse) -> Message:
        """
        Read a whole answer.

        @raise CoordinationUnavailable: it is an error, or not one of etcd's.
        """
        name = endpoint.name

        def too_long() -> Exception:
            return CoordinationUnavailable(f"etcd at {name} answers more than {MAX_ANSWER} bytes")

        try:
            body = await read_whole(
                response, MAX_ANSWER, too_long, host=name, clock=self._clock, timeouts=_TIMEOUTS
            )
        except (CancelledError, CoordinationUnavailable):
            raise
        except XferdError as e:
            raise MemberFailed(f"etcd: {e}") from e
        message = parse(body, name, response.code)
        error = message.get("error")
        if response.code != 200 or error is not None:
            raise refusal(message, name, response.code)
        return message

    def _agent(self, tls: TLSConfig | None, fresh: bool) -> IAgent:
        return self._connections.agent(TransportConfig(tls), reuse=not fresh)


def _fixed(
    choose: Callable[[TLSConfig | None, bool], IAgent], tls: TLSConfig | None
) -> Callable[[bool, object], IAgent]:
    """
    The choice of an agent for one server.
    """
    return lambda fresh, _: choose(tls, fresh)


def _no_tls(host: str, port: int) -> Any:
    """
    Each member has a TLS of its own.
    """
    raise AssertionError(f"no TLS was set for {host}:{port}")
