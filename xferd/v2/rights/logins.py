# -*- test-case-name: tests.v2.rights.test_logins -*-
"""
The identity of a client: by Basic credentials (RFC 7617) or a bearer token (RFC 6750), and the
challenge that asks for them.
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakKeyDictionary

from werkzeug.exceptions import Unauthorized

from xferd.credentials import Credentials
from xferd.names import is_loopback
from xferd.v2.rights.passwords import Passwords
from xferd.v2.rights.tokens import Login, Tokens
from xferd.web.guard import host_name
from xferd.web.request import header, note, noted

if TYPE_CHECKING:
    from twisted.web.http import Request as HTTPRequest

    from xferd.web.site import BoundedChannel

ANONYMOUS: Final = Login()

TOKEN_PATH: Final = "/v2/token"  # noqa: S105
"""The path of the token server."""


class Logins:
    """
    The logins of one daemon's clients.
    """

    def __init__(self, passwords: Passwords, tokens: Tokens, external_url: str, counts: Counter[str]) -> None:
        """
        @param external_url: the URL by which clients reach the registry, without a
            path; the empty string if it is not known.
        @param counts: counts requests with a login, by C{accepted} and C{refused}.
        """
        self._counts = counts
        self._passwords = passwords
        self._tokens = tokens
        self._external_url = external_url
        # A wrong password is checked once for a request.
        self._users: WeakKeyDictionary[HTTPRequest, str] = WeakKeyDictionary()

    @property
    def has_users(self) -> bool:
        """
        Whether there are users of xferd's own.
        """
        return bool(self._passwords.file.path)

    def foreign(self, login: Login | None) -> Credentials | None:
        """
        The credentials of a login that an upstream may see: those of xferd's own users
        are for xferd alone, right or wrong.
        """
        credentials = None if login is None else login.credentials
        if credentials is None or self._passwords.stamp(credentials.username):
            return None
        return credentials

    def shown(self, request: HTTPRequest) -> Login | None:
        """
        Read the login of a request, without a check of its password.

        @return: L{ANONYMOUS} for no login, L{None} for one that is invalid.
        """
        value = header(request, b"authorization")
        if value is None:
            return ANONYMOUS
        scheme, _, rest = value.partition(" ")
        if scheme.lower() == "bearer":
            return self._tokens.read(rest.strip())
        return _basic(rest.strip()) if scheme.lower() == "basic" else None

    async def user(self, request: HTTPRequest, login: Login) -> str:
        """
        The user of a login, after the check of the password.

        @return: the empty string for an anonymous client, and for a wrong password.
        @raise TooManyRequests: too many wrong passwords came from there.
        @raise ServiceUnavailable: too many passwords are being checked.
        """
        if login.is_token:
            right = bool(login.user) and login.stamp == self._passwords.stamp(login.user)
            return self._noted(request, login.user if right else "")
        if login.credentials is None:
            return ""
        user = self._users.get(request)
        if user is None:
            right = await self._passwords.check(login.credentials, peer_of(request))
            user = self._users[request] = login.credentials.username if right else ""
        return self._noted(request, user)

    def _noted(self, request: HTTPRequest, user: str) -> str:
        """
        Note the user of a request, and count it once.
        """
        if "account" not in noted(request):
            self._counts["accepted" if user else "refused"] += 1
        note(request, "account", user)
        return user

    def token(self, user: str, credentials: Credentials | None) -> str:
        """
        Make a token.

        @param user: the user, after the check of the password.
        @param credentials: what the client sent, if an upstream will check it.
        """
        return self._tokens.make(Login(user, self._passwords.stamp(user) if user else "", credentials))

    def challenge(self, request: HTTPRequest, scope: str = "", error: str = "") -> Unauthorized:
        """
        Make the error for a client that has to log in; its response has a challenge.

        Clients of docker's fail without credentials at a Basic challenge, and fetch an
        anonymous token at a Bearer one.  That needs the registry's URL as the client sees
        it.  The C{Host} is a part of that, except behind a proxy with TLS, where a plain
        URL would lead passwords over the network in clear text.

        @param scope: what a token must permit, C{repository:NAME:pull}.
        @param error: a code of RFC 6750.
        """
        url = self._url(request)
        if url:
            challenge = f'Bearer realm="{url}{TOKEN_PATH}",service="{url.partition("://")[2]}"'
            challenge += f',scope="{scope}"' if scope else ""
            challenge += f',error="{error}"' if error else ""
        else:
            challenge = 'Basic realm="xferd"'
        request.setHeader(b"www-authenticate", challenge.encode("ascii"))
        return Unauthorized("this needs a login")

    def _url(self, request: HTTPRequest) -> str:
        """
        The URL of the registry, as far as it is certain; else the empty string.
        """
        if self._external_url:
            return self._external_url
        host = (header(request, b"host") or "").lower()
        if host_name(host) is None:
            return ""
        if request.isSecure():
            return f"https://{host}"
        return f"http://{host}" if is_loopback(host) else ""


def peer_of(request: HTTPRequest) -> str:
    """
    The name of a client, by which wrong passwords are counted: its address, or its user on
    this machine.
    """
    return cast("BoundedChannel", request.channel).client.name


def _basic(encoded: str) -> Login | None:
    """
    Read user and password.

    containers/image sends empty ones for a client without credentials.
    """
    try:
        text = b64decode(encoded, validate=True).decode("utf-8")
    except ValueError:
        return None
    user, colon, password = text.partition(":")
    if not colon:
        return None
    return Login(credentials=Credentials.of(user, password)) if user or password else ANONYMOUS
