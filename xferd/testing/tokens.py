# -*- test-case-name: tests.testing.test_tokens -*-
"""
Access rights of a registry for tests: by Basic credentials, or by a bearer token
of a token server (Docker's token specification, "Token Authentication").
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any

from attrs import frozen
from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from xferd.testing.answers import Answer, as_json, problem
from xferd.testing.server import Server, answering, arguments

_FORM = ("grant_type", "username", "password", "refresh_token")


def credentials(authorization: str | None) -> tuple[str, str] | None:
    """
    Read a Basic Authorization header (RFC 7617).

    @return: user and password, or L{None} if it is something else.
    """
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (user, password) if colon else None


class BasicGuard:
    """
    Admits all requests with a valid password, as an htpasswd file does.

    @ivar refused: the number of refused requests.
    """

    def __init__(self, users: Mapping[str, str], realm: str = "test registry") -> None:
        """
        @param users: passwords by user.
        """
        self.refused = 0
        self._users = dict(users)
        self._realm = realm

    def challenge(self, authorization: str | None, scope: str) -> str | None:  # noqa: ARG002
        """
        Look at the credentials.
        """
        given = credentials(authorization)
        if given is not None and self._users.get(given[0]) == given[1]:
            return None
        self.refused += 1
        return f'Basic realm="{self._realm}"'


@frozen
class TokenRequest:
    """
    One fetch of a token.

    @ivar method: C{GET} or C{POST}.
    @ivar user: the user, or L{None} for an anonymous request.
    @ivar service: the value of C{service}.
    @ivar scopes: the requested scopes, one by one.
    @ivar granted: the granted scopes.
    """

    method: str
    user: str | None
    service: str | None
    scopes: tuple[str, ...]
    granted: tuple[str, ...]


@frozen
class _Token:
    """
    The rights of a token.
    """

    scopes: frozenset[str]
    expires: float


class TokenServer(Server):
    """
    A token server, and the L{Guard<xferd.testing.registry.Guard>} of the
    registries that trust it.

    @ivar users: passwords by user.
    @ivar anonymous: whether anonymous clients may pull.
    @ivar lifetime: the lifetime of a token in seconds.
    @ivar field: the fields with the token: C{token}, C{access_token} or C{both}.
    @ivar tell_lifetime: whether the answer has C{expires_in} and C{issued_at};
        without them, a client assumes 60 seconds.
    @ivar realm: the URL in the challenge; by default the server's own, once it
        listens.
    @ivar refuse_oauth: the status of a server that lacks the OAuth 2 form, or
        L{None}.
    @ivar fetches: the requests for tokens.
    """

    app = Klein()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        users: Mapping[str, str] | None = None,
        anonymous: bool = True,
        lifetime: int = 300,
        service: str = "registry.test",
    ) -> None:
        super().__init__(clock)
        self.users = dict(users or {})
        self.anonymous = anonymous
        self.lifetime = lifetime
        self.service = service
        self.field = "token"
        self.tell_lifetime = True
        self.realm = ""
        self.refuse_oauth: int | None = None
        self.fetches: list[TokenRequest] = []
        self._tokens: dict[str, _Token] = {}
        self._refresh: dict[str, str] = {}

    # ------------------------------------------------------------- as the guard

    def challenge(self, authorization: str | None, scope: str) -> str | None:
        """
        Look at a bearer token.
        """
        scheme, _, text = (authorization or "").partition(" ")
        token = self._tokens.get(text) if scheme.lower() == "bearer" else None
        error = ""
        if token is not None and token.expires > self._clock.seconds():
            if not scope or _atoms([scope]) <= token.scopes:
                return None
            error = ',error="insufficient_scope"'
        elif authorization is not None:
            error = ',error="invalid_token"'
        wanted = f',scope="{scope}"' if scope else ""
        realm = self.realm or f"{self.url}/token"
        return f'Bearer realm="{realm}",service="{self.service}"{wanted}{error}'

    def revoke(self) -> None:
        """
        Revoke all tokens.
        """
        self._tokens.clear()

    # ------------------------------------------------------------- as the server

    @app.route("/token", methods=["GET"])
    @answering
    def get_token(self, request: Request) -> Answer:
        """
        The older form: Basic or no credentials, and a query.
        """
        header = request.getHeader("Authorization")
        user = None
        if header is not None:
            given = credentials(header)
            if given is None:
                raise problem(401, "UNAUTHORIZED", "no user and password")
            name, password = given
            # An identity token is as good as a password.
            user = name if self.users.get(name) == password else self._refresh.get(password)
            if user is None:
                raise problem(401, "UNAUTHORIZED", "wrong user or password")
        extra = {}
        if user is not None and arguments(request, "offline_token") == ["true"]:
            extra = {"refresh_token": self.refresh_token(user)}
        return self._grant(request, user, extra)

    @app.route("/token", methods=["POST"])
    @answering
    def post_token(self, request: Request) -> Answer:
        """
        The OAuth 2 form: a password or a refresh token in a form.
        """
        if self.refuse_oauth is not None:
            raise problem(self.refuse_oauth, "UNSUPPORTED", "there is no such form here")
        user: str | None = None
        match {name: arguments(request, name) for name in _FORM}:
            case {"grant_type": ["password"], "username": [name], "password": [password]}:
                user = name if self.users.get(name) == password else None
            case {"grant_type": ["refresh_token"], "refresh_token": [text]}:
                user = self._refresh.get(text)
        if user is None:
            raise problem(401, "UNAUTHORIZED", "wrong user, password or refresh token")
        return self._grant(request, user, {"refresh_token": self.refresh_token(user)})

    def new_token(self, user: str | None, granted: tuple[str, ...]) -> str:  # noqa: ARG002
        """
        The text of a new token: an opaque one.

        @param granted: see L{TokenRequest}.
        """
        return token_urlsafe(24)

    def refresh_token(self, user: str) -> str:
        """
        Make an identity token, as C{docker login} stores it.
        """
        text = token_urlsafe(16)
        self._refresh[text] = user
        return text

    def _grant(self, request: Request, user: str | None, extra: dict[str, Any]) -> Answer:
        """
        Make a token of the permitted scopes: an anonymous client may only pull.
        """
        service = arguments(request, "service")
        scopes = [scope for value in arguments(request, "scope") for scope in value.split()]
        wanted = _atoms(scopes)
        if user is None:
            wanted = {atom for atom in wanted if self.anonymous and atom.endswith(":pull")}
        granted = tuple(sorted(wanted))
        method = request.method.decode("ascii")
        self.fetches.append(
            TokenRequest(method, user, service[0] if service else None, tuple(scopes), granted)
        )
        text = self.new_token(user, granted)
        self._tokens[text] = _Token(frozenset(granted), self._clock.seconds() + self.lifetime)
        names = ["token", "access_token"] if self.field == "both" else [self.field]
        value = dict.fromkeys(names, text) | extra
        if self.tell_lifetime:
            issued = datetime.fromtimestamp(self._clock.seconds(), UTC)
            value |= {"expires_in": self.lifetime, "issued_at": issued.strftime("%Y-%m-%dT%H:%M:%SZ")}
        return as_json(value)


def _atoms(scopes: list[str]) -> set[str]:
    """
    Scopes with one action each: C{repository:a:pull,push} is two.
    """
    atoms: set[str] = set()
    for scope in scopes:
        resource, _, actions = scope.rpartition(":")
        atoms.update(f"{resource}:{action}" for action in actions.split(","))
    return atoms
