# -*- test-case-name: tests.registry.auth.test_authenticator,tests.registry.auth.test_token_server -*-
"""
Authentication of one client to one registry: none, Basic (RFC 7617), or a Bearer
token from the registry's token server (the Distribution project's token
specification).

The first request has no authorization.  The registry's challenge is remembered,
and later requests are authorized at once.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote, urlencode

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from xferd.credentials import Credentials, Secret
from xferd.errors import (
    CredentialsUnavailable,
    Denied,
    RegistryError,
    RegistryUnavailable,
    TimedOut,
    TooManyRequests,
    XferdError,
)
from xferd.expiring import ExpiringDict
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IKeychain
from xferd.registry.auth.challenge import Challenge
from xferd.registry.auth.counts import CHALLENGED, FAILED, REFUSED, AuthCounts
from xferd.registry.auth.tokens import Token, parse_token
from xferd.registry.transport.errors import (
    CredentialsUsed,
    Resource,
    denied,
    parse_error_details,
    retry_after,
)
from xferd.registry.transport.exchange import Authorization, Exchange
from xferd.registry.transport.limited_endpoint import StaleConnection
from xferd.registry.transport.request_body import BytesBody
from xferd.registry.transport.response_body import read_excerpt, read_whole
from xferd.registry.transport.timeouts import Timeouts, within
from xferd.registry.transport.urls import PRINTABLE, Origin, check_target
from xferd.registry.transport.zones import Zone
from xferd.single_flight import SingleFlight
from xferd.waits import TOKEN, waiting_for

CLIENT_ID: Final = "xferd"

_NO_OAUTH: Final = frozenset({401, 404, 405})
"""
How token servers without OAuth2 refuse its form: GCR by 404, JFrog's Artifactory
by 401, the others by 405 (containerd's resolver handles the same ones).
"""

_CLIENTS_FAULT: Final = frozenset({400, 401, 403, 404, 405})

_YOUNG: Final = 5.0
"""Seconds in which no token expires: a 400 to a younger token has another cause."""

MAX_TOKEN_ANSWER: Final = 256 * 1024
"""Bytes of a token server's answer at most."""


@frozen
class _TokenKey:
    """
    The scope and the credentials of a token.
    """

    credentials: Credentials | None
    realm: str
    service: str
    scopes: tuple[str, ...]


class Authenticator:
    """
    One client at one registry: the registry's challenge, and the tokens.
    """

    def __init__(
        self,
        host: str,
        url: Callable[[], str],
        keychain: IKeychain,
        *,
        exchange: Exchange,
        clock: IReactorTime,
        wall_clock: WallClock,
        timeouts: Timeouts,
        zone: Callable[[], Zone],
        counts: AuthCounts,
    ) -> None:
        """
        @param host: the registry as people write it.
        @param url: returns the registry's URL, against which a realm is checked.
        @param keychain: returns the client's credentials, which are looked up
            when the registry demands them.
        @param clock: measures the age of tokens.
        @param wall_clock: dates in headers are compared with it.
        @param zone: returns the zone of the registry, which limits where its
            token server may be.
        @param counts: counts the results.
        """
        self._host = host
        self._url = url
        self._keychain = keychain
        self._exchange = exchange
        self._clock = clock
        self._wall_clock = wall_clock
        self._timeouts = timeouts
        self._zone = zone
        self._counts = counts
        self._challenge: Challenge | None = None
        self._asked_scopes: ExpiringDict[str, frozenset[str]] = ExpiringDict(clock.seconds)
        self._tokens: ExpiringDict[_TokenKey, Token] = ExpiringDict(clock.seconds)
        self._fetches: dict[_TokenKey, SingleFlight[Token]] = {}

    async def authorization(self, scope: str, resource: Resource) -> Authorization | None:
        """
        The C{Authorization} header for a request, with a token that is valid
        now.

        @param scope: C{repository:library/alpine:pull}; several are separated by
            spaces.
        @param resource: what the request is for.
        @return: L{None} until the registry has demanded authorization, and if
            there are no credentials for it.
        @raise Denied: the token server refuses.
        @raise CredentialsUnavailable: a helper fails.
        @raise TimedOut: the token server does not answer.
        """
        if self._challenge is None:
            return None
        credentials = await self._credentials(scope)
        if self._challenge.scheme == "basic":
            return self._basic(credentials)
        if credentials is not None and credentials.registry_token:
            return self._bearer(credentials.registry_token, credentials)
        token = await self._token(self._key(scope, credentials), resource)
        return self._bearer(token.secret, credentials)

    async def challenged(
        self, challenges: Sequence[Challenge], scope: str, sent: Authorization | None, resource: Resource
    ) -> None:
        """
        Handle a 401: remember the challenge, and drop the token that was
        refused.

        @param sent: the authorization that was refused, if any.
        @param resource: what was requested, for errors.
        @raise Denied: there are no credentials, or they were refused.
        @raise CredentialsUnavailable: a helper fails.
        """
        self._counts.add(self._host, CHALLENGED)
        wanted = self._choose(challenges)
        credentials = await self._credentials(scope)
        if wanted.scheme == "basic":
            proof = self._basic(credentials)
            if proof is None:
                self._keychain.forget(self._host)
                used = self._used(credentials)
                raise denied(resource, "401: it wants a user and a password", 401, used)
            if sent is not None and sent.secret == proof.secret:
                self._keychain.forget(self._host)
                self._counts.add(self._host, REFUSED)
                raise denied(resource, "401", 401, sent.used)
        self._challenge = wanted
        if wanted.scheme == "bearer":
            if credentials is not None and credentials.registry_token:
                if sent is not None:
                    self._counts.add(self._host, REFUSED)
                    raise denied(resource, "401", 401, sent.used)
                return
            asked = frozenset(wanted.parameters.get("scope", "").split())
            self._asked_scopes[scope] = asked | frozenset(scope.split())
            key = self._key(scope, credentials)
            held = self._tokens.get(key)
            # Another request may have fetched a new one in the meantime.
            refused = sent is not None and held is not None and sent.secret == _header(held.secret)
            if refused:
                self._counts.add(self._host, REFUSED)
                self._tokens.pop(key)

    async def renew(self, scope: str, sent: Authorization | None, *, certain: bool = True) -> bool:
        """
        Handle a refusal without a challenge: drop the authorization that was
        sent.

        @param certain: whether the authorization is certainly the reason.
        @return: whether another authorization may be available.
        @raise CredentialsUnavailable: a helper fails.
        """
        if self._challenge is None:
            return False
        if sent is None:
            # Another request has received a challenge in the meantime.
            return True
        if self._challenge.scheme == "basic":
            self._keychain.forget(self._host)
            proof = self._basic(await self._credentials(scope))
            return proof is not None and proof.secret != sent.secret
        for key, token in self._tokens.items():
            if _header(token.secret) == sent.secret:
                if not certain and self._clock.seconds() < token.made + _YOUNG:
                    return False
                self._tokens.pop(key)
                return True
        # Another request has dropped it; a registry token cannot be renewed.
        credentials = await self._credentials(scope)
        return credentials is None or not credentials.registry_token

    async def has_credentials(self, scope: str) -> bool:
        """
        Whether there are credentials that the registry has not demanded yet.
        """
        if self._challenge is not None:
            return False
        try:
            return await self._credentials(scope) is not None
        except CredentialsUnavailable:
            return False

    def _choose(self, challenges: Sequence[Challenge]) -> Challenge:
        """
        The preferred challenge that is supported: Bearer before Basic.
        """
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                return challenge
        if any(c.scheme == "basic" for c in challenges):
            return Challenge("basic")
        schemes = ", ".join(sorted({c.scheme[:40] for c in challenges})[:5]) or "nothing that it would accept"
        raise Denied(
            f"{self._host} wants another kind of proof than xferd knows: {schemes}",
            host=self._host,
            status=401,
        )

    async def _credentials(self, scope: str) -> Credentials | None:
        """
        The credentials for the first repository of a scope.
        """
        parts = scope.partition(" ")[0].split(":")
        try:
            return await self._keychain.lookup(self._host, parts[1] if len(parts) == 3 else "")
        except CredentialsUnavailable:
            self._counts.add(self._host, FAILED)
            raise

    def _used(self, credentials: Credentials | None, login: bool = False) -> CredentialsUsed:
        """
        Describe the credentials of a request.

        @param login: whether they are sent themselves, and not a token that was
            issued for them.
        """
        if credentials is None:
            where = self._keychain.where
            return (
                CredentialsUsed(f"without credentials, as {where} has none for it")
                if where
                else CredentialsUsed()
            )
        who = f" of {credentials.username}" if credentials.username else ""
        where = f" from {credentials.origin}" if credentials.origin else ""
        return CredentialsUsed(f"with the credentials{who}{where}", credentials.remedy, login)

    def _basic(self, credentials: Credentials | None) -> Authorization | None:
        """
        The header with a user and a password.
        """
        if credentials is None or not credentials.password:
            return None
        header = f"Basic {_pair(credentials.username, credentials.password)}"
        return Authorization(Secret(header), self._used(credentials, login=True))

    def _bearer(self, token: Secret, credentials: Credentials | None) -> Authorization:
        """
        The header with a token.
        """
        login = credentials is not None and bool(credentials.registry_token)
        return Authorization(_header(token), self._used(credentials, login))

    def _key(self, scope: str, credentials: Credentials | None) -> _TokenKey:
        """
        The key of the token for a scope, by the registry's challenges so far.
        """
        assert self._challenge is not None
        parameters = self._challenge.parameters
        scopes = self._asked_scopes.get(scope) or frozenset(scope.split())
        return _TokenKey(
            credentials, parameters["realm"], parameters.get("service", ""), tuple(sorted(scopes))
        )

    async def _token(self, key: _TokenKey, resource: Resource) -> Token:
        """
        A valid token: the present one, or a new one, which concurrent requests
        share.
        """
        now = self._clock.seconds()
        token = self._tokens.get(key)
        if token is not None and now < token.expires:
            return token
        fetch = self._fetches.get(key)
        if fetch is None:
            for old, expired in self._tokens.items():
                if expired.expires <= now:
                    self._tokens.pop(old)
            fetch = self._fetches[key] = SingleFlight()
            waiting = fetch.wait()
            work = within(
                self._clock,
                self._timeouts.token,
                Deferred.fromCoroutine(self._fetch(key, resource)),
                self._late,
            )
            fetch.start(work.addBoth(self._counts.token, self._host), lambda: self._forget(key, fetch))
        else:
            waiting = fetch.wait()
        with waiting_for(TOKEN, self._host):
            return await waiting

    def _forget(self, key: _TokenKey, fetch: SingleFlight[Token]) -> None:
        """
        Remove a fetch that has ended.
        """
        if self._fetches.get(key) is fetch:
            del self._fetches[key]

    def _late(self) -> TimedOut:
        seconds = self._timeouts.token
        return TimedOut(
            f"the token server of {self._host} gave no token within {seconds:g} s",
            phase="token",
            host=self._host,
        )

    async def _fetch(self, key: _TokenKey, resource: Resource) -> Token:
        """
        Get a token from the token server.
        """
        realm = self._checked(key.realm)
        who = key.credentials
        began = self._clock.seconds()
        if who is not None and who.identity_token:
            response, where = await self._post(realm, key, who.identity_token)
            if response.code in _NO_OAUTH:
                # The older form is tried.  If it is refused, too, this refusal
                # is reported.
                refused = await self._refused(response, where, key, resource)
                response, where = await self._get(realm, key)
                if response.code in _CLIENTS_FAULT:
                    await read_excerpt(response, host=self._host, clock=self._clock, timeouts=self._timeouts)
                    raise refused
        else:
            response, where = await self._get(realm, key)
        if response.code != 200:
            raise await self._refused(response, where, key, resource)
        data = await read_whole(
            response,
            MAX_TOKEN_ANSWER,
            lambda: RegistryError(f"the token server {where} sent more than a token", host=self._host),
            host=self._host,
            clock=self._clock,
            timeouts=self._timeouts,
        )
        token = parse_token(data, began)
        if token is None:
            raise RegistryError(
                f"the token server {where} of {self._host} answered without a token", host=self._host
            )
        self._tokens[key] = token
        return token

    async def _get(self, realm: str, key: _TokenKey) -> tuple[IResponse, str]:
        """
        Request a token with the password, or anonymously.
        """
        query = [("service", key.service)] if key.service else []
        query += [("scope", scope) for scope in key.scopes]
        query.append(("client_id", CLIENT_ID))
        authorization = None
        who = key.credentials
        if who is not None and (password := who.password or who.identity_token):
            # A token server without OAuth2 accepts the identity token as a password.
            header = f"Basic {_pair(who.username, password)}"
            authorization = Authorization(Secret(header), self._used(who, login=True))
        joint = "&" if "?" in realm else "?"
        answer = await self._exchange.get(
            f"{realm}{joint}{urlencode(query)}",
            {"Accept": "application/json"},
            authorization,
            host=self._host,
            led_from=self._led_from(realm),
        )
        return answer.raw, answer.where

    async def _post(self, realm: str, key: _TokenKey, identity: Secret) -> tuple[IResponse, str]:
        """
        Request a token with an identity token (OAuth2, RFC 6749, section 6).
        """
        form = urlencode(
            [
                ("grant_type", "refresh_token"),
                ("service", key.service),
                ("client_id", CLIENT_ID),
                ("scope", " ".join(key.scopes)),
                ("refresh_token", identity.reveal()),
            ]
        )
        headers = Headers(
            {"Content-Type": ["application/x-www-form-urlencoded"], "Accept": ["application/json"]}
        )
        body, led_from = form.encode("ascii"), self._led_from(realm)
        try:
            response = await self._exchange.request_once(
                b"POST", realm, headers, host=self._host, body=BytesBody(body), led_from=led_from
            )
        except StaleConnection:
            response = await self._exchange.request_once(
                b"POST", realm, headers, host=self._host, body=BytesBody(body), fresh=True, led_from=led_from
            )
        return response, Origin.of(realm).host

    def _checked(self, realm: str) -> str:
        """
        A realm that credentials may be sent to: within the zones where the
        registry may lead, and by TLS if the registry is reached by TLS.
        """
        realm = quote(realm.partition("#")[0], safe=PRINTABLE)
        try:
            check_target(Origin.of(self._url()), Origin.of(realm), self._zone())
        except ValueError as e:
            raise RegistryError(
                f"{self._host} names a token server that is refused: {e}", host=self._host
            ) from None
        return realm

    def _led_from(self, realm: str) -> Zone | None:
        """
        The zone of the server that named a realm; L{None} if the token server is
        the registry itself.
        """
        return None if self._is_own(realm) else self._zone()

    def _is_own(self, realm: str) -> bool:
        return Origin.of(realm) == Origin.of(self._url())

    async def _refused(
        self, response: IResponse, where: str, key: _TokenKey, resource: Resource
    ) -> XferdError:
        """
        The error for a token server's refusal.
        """
        body = await read_excerpt(response, host=self._host, clock=self._clock, timeouts=self._timeouts)
        # The registry must not read another server through our errors.
        status, details = response.code, parse_error_details(body if self._is_own(key.realm) else b"")
        said = f"{status}: {details.text}" if details.text else f"{status}"
        wait = retry_after(response.headers, self._wall_clock())
        name = f"the token server {where} of {self._host}"
        if status == 429:
            return TooManyRequests(
                f"{name} limits requests ({said})", host=self._host, status=status, retry_after=wait
            )
        if status >= 500:
            return RegistryUnavailable(
                f"{name} reports a server error ({said})", host=self._host, status=status, retry_after=wait
            )
        if status in (400, 401, 403):
            self._keychain.forget(self._host)
            used = self._used(key.credentials, login=True)
            return denied(resource, f"token server {where}: {said}", status, used)
        return RegistryError(f"{name} answers {said}", host=self._host, status=status)


def _header(token: Secret) -> Secret:
    """
    The C{Authorization} header with a token (RFC 6750).
    """
    return Secret(f"Bearer {token.reveal()}")


def _pair(username: str, password: Secret) -> str:
    """
    User and password in the encoding of Basic (RFC 7617).
    """
    return b64encode(f"{username}:{password.reveal()}".encode()).decode("ascii")
