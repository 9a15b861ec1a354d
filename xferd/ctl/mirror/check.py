# -*- test-case-name: tests.ctl.mirror.test_check -*-
"""
The daemon's registry is asked as a container tool would ask it.
"""

from __future__ import annotations

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlencode

from xferd.ctl.api import reason
from xferd.ctl.errors import ClientError
from xferd.ctl.mirror.requests import BY_NAMESPACE, SCRIPTS, Answer, Pull, Request, Unusable
from xferd.http_urls import split_url
from xferd.names import DOCKER_HUB, Digest
from xferd.registry.auth.challenge import parse_challenges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xferd.ctl.mirror.served import Served
    from xferd.names import Reference
    from xferd.platforms import Platform

TIMEOUT: Final = 60.0
"""Seconds of silence after which a request fails: the upstream may be slow."""

_KEPT: Final = 8 * 1024 * 1024
"""Bytes of a body that are kept; only documents and errors are looked at."""

_PIECE: Final = 1024 * 1024


class Checked(NamedTuple):
    """
    One request and what became of it.

    @ivar status: the HTTP status; 0 without an answer.
    @ivar size: the bytes of the body.
    @ivar problem: why the client cannot use the answer; empty if it can.
    """

    client: str
    method: str
    path: str
    status: int
    size: int
    problem: str


class Registry:
    """
    The HTTP side of a check: one connection, and an anonymous token where the
    registry requires one.

    Life cycle: made; any number of requests; C{close}d.
    """

    def __init__(self, served: Served) -> None:
        self._connection: HTTPConnection
        if served.is_plain:
            self._connection = HTTPConnection(served.authority, timeout=TIMEOUT)
        else:
            context = ssl.create_default_context(cafile=served.authorities or None)
            self._connection = HTTPSConnection(served.authority, timeout=TIMEOUT, context=context)
        self._authority = served.authority
        self._token = ""

    def close(self) -> None:
        """
        Close the connection.
        """
        self._connection.close()

    def answer(self, request: Request) -> Answer:
        """
        Send a request.  After a Bearer challenge it is sent again with the token of an
        anonymous client.

        @raise OSError: there is no answer.
        @raise HTTPException: there is no answer.
        """
        answer = self._send(request)
        if answer.status == 401 and request.path.rpartition("/v2/")[2]:
            self._token = self._fetch_token(answer.headers.get("www-authenticate", ""))
            if self._token:
                answer = self._send(request)
        return answer

    def _send(self, request: Request) -> Answer:
        connection = self._connection
        connection.putrequest(request.method, request.path, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        if self._token:
            connection.putheader("Authorization", f"Bearer {self._token}")
        connection.endheaders()
        response = connection.getresponse()
        hasher = (request.digest or Digest.of(b"")).hasher()
        kept, size = b"", 0
        while piece := response.read(_PIECE):
            hasher.update(piece)
            kept += piece[: _KEPT - len(kept)]
            size += len(piece)
        headers = {name.lower(): value for name, value in response.getheaders()}
        digest = None if request.digest is None else Digest(request.digest.algorithm, hasher.hexdigest())
        return Answer(response.status, headers, kept, size, digest)

    def _fetch_token(self, challenge: str) -> str:
        """
        The token of a client without credentials; empty if there is none.
        """
        for found in parse_challenges([challenge]):
            realm = found.parameters.get("realm", "")
            if found.scheme != "bearer" or split_url(realm).netloc != self._authority:
                continue
            query = urlencode({k: v for k, v in found.parameters.items() if k in ("service", "scope")})
            answer = self._send(Request("GET", f"{split_url(realm).path}?{query}"))
            try:
                return str(json.loads(answer.body)["token"]) if answer.status == 200 else ""
            except (ValueError, KeyError, TypeError):
                return ""
        return ""


def check(client: str, served: Served, reference: Reference, platform: Platform) -> Iterator[Checked]:
    """
    Make the requests of one client, until one fails.

    @raise ClientError: this client cannot use the mirror for this reference.
    """
    host = reference.repository.host
    upstream = next((each for each in served.upstreams if each.host == host), None)
    if upstream is None:
        raise ClientError(f"{host} is not one of the daemon's upstreams")
    base, query = f"/v2/{reference.repository.path}", ""
    if client in BY_NAMESPACE:
        query = f"?{urlencode({'ns': host}, safe=':')}"
    elif client == "docker":
        if host != DOCKER_HUB:
            raise ClientError(
                "docker's classic image store mirrors Docker Hub alone; "
                "with the containerd image store it makes the requests of containerd"
            )
        if not served.serves_classic_docker:
            raise ClientError(
                "docker's classic image store asks for names without a registry: "
                f'set registry.default = "{DOCKER_HUB}" in the daemon\'s configuration file'
            )
    elif upstream.component is None:
        raise ClientError(f'{client} needs an alias for {host}: set it in [registry.upstreams."{host}"]')
    else:
        base = f"/v2/{upstream.component}/{reference.repository.path}"
    script = SCRIPTS[client](Pull(base, query, reference, platform))
    registry = Registry(served)
    try:
        request = next(script)
        while True:
            try:
                answer = registry.answer(request)
            except (OSError, HTTPException, ValueError) as e:
                problem = f"no answer: {reason(e)}"
                yield Checked(client, request.method, request.path, 0, 0, problem)
                return
            size = answer.size
            done = Checked(client, request.method, request.path, answer.status, size, "")
            try:
                request = script.send(answer)
            except StopIteration:
                yield done
                return
            except Unusable as e:
                yield done._replace(problem=str(e))
                return
            yield done
    finally:
        registry.close()
