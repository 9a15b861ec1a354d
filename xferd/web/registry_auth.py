# -*- test-case-name: tests.web.test_registry_auth -*-
"""
A client's own registry credentials, in the headers of docker's clients:
C{X-Registry-Auth} for one registry, and C{X-Registry-Config} for several.

They are used for that request alone, and never logged or shown.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen

from xferd.credentials import Credentials, Secret
from xferd.docker_config import host_of, is_unicode, registry_of, unpack_auth
from xferd.errors import BadInput
from xferd.names import Reference
from xferd.web.fields import Body, Field
from xferd.web.request import header, quoted

if TYPE_CHECKING:
    from twisted.web.server import Request

AUTH: Final = "X-Registry-Auth"
CONFIG: Final = "X-Registry-Config"

_TEXTS: Final = ("username", "password", "identitytoken", "registrytoken", "serveraddress", "auth", "origin")

MAX_ORIGIN: Final = 300
"""Characters that say where a client has its credentials from."""


@frozen
class RegistryAuth:
    """
    The credentials of one request.

    @ivar named: credentials, by registry host.
    @ivar unnamed: credentials without the name of a registry.
    """

    named: Mapping[str, Credentials]
    unnamed: Credentials | None = None

    def towards(self, *references: str) -> Mapping[str, Credentials]:
        """
        Select a job's credentials, by host.

        @param references: the sources and the target of the job; the unnamed
            credentials are for their registry, if it is only one.
        @raise BadReference: one of them is not a reference.
        @raise BadInput: the registry of the unnamed credentials is ambiguous.
        """
        if self.unnamed is None:
            return self.named
        hosts = {Reference.parse(reference).repository.host for reference in references}
        if not hosts:
            raise BadInput(f"{AUTH} must name a registry in 'serveraddress', as the request names no image")
        if len(hosts) > 1:
            raise BadInput(
                f"{AUTH} must name one of {' and '.join(sorted(hosts))} in 'serveraddress'; "
                f"{CONFIG} can have both"
            )
        return {hosts.pop(): self.unnamed, **self.named}


def registry_auth(request: Request) -> RegistryAuth:
    """
    Read the credentials of a request.

    Empty ones, which docker's clients send in place of none, are ignored.

    @raise BadInput: a header is not valid; the message quotes nothing of it.
    """
    named: dict[str, Credentials] = {}
    unnamed = None
    config = header(request, CONFIG.lower().encode("ascii"))
    if config is not None:
        for key, entry in _object(CONFIG, config).items():
            credentials, _ = _read(CONFIG, entry)
            if credentials:
                named[registry_of(key)] = credentials
    auth = header(request, AUTH.lower().encode("ascii"))
    if auth is not None:
        credentials, server = _read(AUTH, _object(AUTH, auth))
        if credentials and server:
            named[registry_of(server)] = credentials
        elif credentials:
            unnamed = credentials
    return RegistryAuth(named, unnamed)


def _read_host(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadInput(f"{name!r} must be a registry's host, not {quoted(value)}")
    return host_of(value)


LOGIN: Final = Body(
    "a login",
    Field(
        "host",
        _read_host,
        {"type": "string", "minLength": 1, "description": "The registry's host."},
        required=True,
    ),
)


def read_login(request: Request) -> tuple[str, Credentials]:
    """
    Read a request to try credentials: the body names the host, and the
    header has the credentials.

    @return: the registry's host, and the credentials for it.
    @raise UnsupportedMediaType: its Content-Type is not JSON.
    @raise BadInput: it is not valid, or has no credentials.
    """
    host = str(LOGIN.read(request)["host"])
    found = registry_auth(request)
    credentials = found.named.get(host, found.unnamed)
    if credentials is None:
        raise BadInput(f"send the credentials for {host} in {AUTH}")
    return host, evolve(credentials, origin="", remedy="try others")


def _object(name: str, value: str) -> dict[str, Any]:
    """
    Read a header: a JSON object in base64, in the alphabet for URLs, with
    padding or without; some clients use the other alphabet.
    """
    try:
        text = value.strip().rstrip("=").translate({ord("+"): "-", ord("/"): "_"})
        if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
            raise ValueError
        found = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    # Without the cause, which quotes the text.
    except (ValueError, RecursionError):
        raise BadInput(f"{name} must be a JSON object in base64url") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadInput(f"{name} must be a JSON object in base64url")
    return found


def _read(name: str, entry: object) -> tuple[Credentials | None, str]:
    """
    Read one registry's credentials.

    @return: the credentials, if there are any, and their registry, if it is
        named.
    """
    if not isinstance(entry, dict):
        raise BadInput(f"{name} must have an object for each registry")
    texts: dict[str, str] = {}
    for key in _TEXTS:
        value = entry.get(key)
        if value is not None and not (isinstance(value, str) and is_unicode(value)):
            raise BadInput(f"{name}: {key!r} must be a text")
        texts[key] = value or ""
    username, password = texts["username"], texts["password"]
    if texts["auth"] and not username:
        pair = unpack_auth(texts["auth"])
        if pair is None:
            raise BadInput(f"{name}: 'auth' must be user:password in base64")
        username, password = pair
    token = texts["registrytoken"]
    if not token.isascii() or not (token == "" or token.isprintable()):
        raise BadInput(f"{name}: 'registrytoken' must be ASCII")
    origin = texts["origin"]
    if len(origin) > MAX_ORIGIN or not origin.isprintable():
        raise BadInput(f"{name}: 'origin' must be at most {MAX_ORIGIN} printable characters")
    found = Credentials.of(username, password, texts["identitytoken"])
    credentials = Credentials(
        found.username,
        found.password,
        found.identity_token,
        Secret(token),
        # Who names a file can log in again there.
        origin=origin or f"the {name} header",
        remedy="" if origin else f"send others in {name}",
    )
    return (credentials if credentials else None), texts["serveraddress"]
