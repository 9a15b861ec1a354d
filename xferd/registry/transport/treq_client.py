# -*- test-case-name: tests.registry.transport.test_treq_client -*-
"""
The one place where xferd makes HTTP requests, by treq.

treq parses and normalises URLs, decodes gzip, keeps cookies, buffers bodies and
follows redirects.  A registry client needs none of that: a signed URL is
valid only as it is written, a blob's digest is that of its bytes as stored,
cookies would link clients, and redirects are checked before they are followed
(L{xferd.registry.transport.exchange}).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.cookiejar import Cookie, CookieJar
from typing import Any, Final, cast
from urllib.request import Request

import treq.client
from hyperlink import EncodedURL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from xferd._version import __version__

USER_AGENT = f"xferd/{__version__}"
_OF_EVERY_REQUEST: Final = {b"Accept-Encoding": [b"identity"], b"User-Agent": [USER_AGENT.encode()]}
_SERVER = re.compile(r"https?://[^/?#]+")


def make_request(
    agent: IAgent,
    method: str,
    url: str,
    headers: Headers,
    body: IBodyProducer | None,
    *,
    reactor: IReactorTime,
) -> Deferred[IResponse]:
    """
    Make one request: no redirect is followed, no cookie is kept and no content
    is decoded.

    @param agent: makes the connection, and sends the request.
    @param method: in capitals.
    @param url: percent-encoded ASCII, which is sent as it is.
    @param reactor: treq uses the global reactor unless it receives another one.
    @return: fires when the head of the response has arrived; fails as
        C{agent}'s Deferred does.  Cancelling it cancels that one.
    """
    server = _SERVER.match(url)
    identity = _IdentityAgent(agent, url.encode("ascii"))
    cookies = _NoCookies()
    requesting: Deferred[Any] = treq.client.HTTPClient(identity, cast(Any, cookies)).request(
        method,
        # It is parsed again for cookies: once for each server.
        _ExactURL(url if server is None else server[0]),
        headers=_OwnHeaders(headers),
        data=cast(Any, body),
        cookies=cookies,
        allow_redirects=False,
        unbuffered=True,
        reactor=cast(Any, reactor),
    )
    return requesting.addCallback(lambda _: identity.response)


@implementer(IAgent)
class _IdentityAgent:
    """
    Requests content without an encoding, and keeps the response from treq's decoder, which
    reads one member of a gzip file only, and ends a truncated one without an error.

    Serves one request.

    @ivar response: the response, when there is one.
    """

    response: IResponse

    def __init__(self, agent: IAgent, url: bytes) -> None:
        """
        @param url: the URL of the request, of which treq knows the server.
        """
        self._agent = agent
        self._url = url

    def request(
        self,
        method: bytes,
        uri: bytes,  # noqa: ARG002 - that of the server
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[Any]:
        assert headers is not None
        return self._agent.request(method, self._url, headers, bodyProducer).addCallback(self._keep)

    def _keep(self, response: IResponse) -> _Nothing:
        self.response = response
        return _NOTHING


class _OwnHeaders(Headers):
    """
    A copy of a request's headers, with those of every request.  treq's agents make no
    further one.  The lists of values are shared: nothing adds to them.
    """

    def __init__(self, headers: Headers) -> None:
        super().__init__()
        self._rawHeaders.update(cast("Iterator[tuple[bytes, list[bytes]]]", headers.getAllRawHeaders()))
        self._rawHeaders.update(_OF_EVERY_REQUEST)

    def copy(self) -> _OwnHeaders:
        return self

    def addRawHeader(self, name: str | bytes, value: str | bytes) -> None:
        """
        Add a header, but not the C{Accept-Encoding} of treq's decoder.
        """
        if name != b"Accept-Encoding":
            super().addRawHeader(name, value)


class _NoHeaders(Headers):
    """
    No headers, for treq's decoder, which would change those of the response.
    """

    def __init__(self) -> None:
        super().__init__()

    def getRawHeaders(self, name: Any, default: Any = None) -> Any:  # noqa: ARG002
        return default

    def setRawHeaders(self, name: object, values: object) -> None:
        pass

    def removeHeader(self, name: object) -> None:
        pass


class _Nothing:
    """
    What treq gets in place of a response.
    """

    headers = _NoHeaders()


_NOTHING: Final = _Nothing()


class _ExactURL(EncodedURL):
    """
    An URL that treq passes on unchanged.

    A real C{EncodedURL} drops an empty query and percent-encodes C{[},
    C{|} and others, and refuses hosts such as C{[::1]} and C{my_host}
    (U{https://github.com/python-hyper/hyperlink/issues/68}).
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        # Its query may be a signature.
        return "<an exact URL>"

    def to_uri(self) -> _ExactURL:
        return self

    def to_text(self, with_password: bool = False) -> str:  # noqa: ARG002
        return self._text


class _NoCookies(CookieJar):
    """
    A cookie jar that stores and sends nothing.
    """

    def __init__(self) -> None:
        # Without the lock and the policy of a jar that holds something.
        pass

    def __iter__(self) -> Iterator[Cookie]:
        return iter(())

    def add_cookie_header(self, request: Request) -> None:
        pass

    def extract_cookies(self, response: object, request: Request) -> None:
        pass

    def set_cookie(self, cookie: Cookie) -> None:
        pass
