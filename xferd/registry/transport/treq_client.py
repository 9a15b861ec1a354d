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
from typing import Any, cast
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
_USER_AGENT = USER_AGENT.encode()
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
    return requesting.addCallback(identity.restore)


@implementer(IAgent)
class _IdentityAgent:
    """
    Requests content without an encoding, and hides C{Content-Encoding} from
    treq's decoder, which reads one member of a gzip file only, and ends a
    truncated one without an error.

    Serves one request.
    """

    def __init__(self, agent: IAgent, url: bytes) -> None:
        """
        @param url: the URL of the request, of which treq knows the server.
        """
        self._agent = agent
        self._url = url
        self._encodings: list[bytes] | None = None

    def request(
        self,
        method: bytes,
        uri: bytes,  # noqa: ARG002 - that of the server
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        assert headers is not None
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        headers.setRawHeaders(b"User-Agent", [_USER_AGENT])
        return self._agent.request(method, self._url, headers, bodyProducer).addCallback(self._hide)

    def _hide(self, response: IResponse) -> IResponse:
        self._encodings = response.headers.getRawHeaders(b"Content-Encoding")
        if self._encodings is not None:
            response.headers.removeHeader(b"Content-Encoding")
        return response

    def restore(self, wrapped: Any) -> IResponse:
        """
        Restore C{Content-Encoding}, as the body is still encoded.

        @param wrapped: treq's response, which reads each attribute through a proxy.
        @return: the response in it.
        """
        response: IResponse = wrapped.original
        if self._encodings is None:
            response.headers.removeHeader(b"Content-Encoding")
        else:
            response.headers.setRawHeaders(b"Content-Encoding", self._encodings)
        return response


class _OwnHeaders(Headers):
    """
    A copy of a request's headers, which treq's agents may change: they make no further
    one.
    """

    def __init__(self, headers: Headers) -> None:
        super().__init__()
        self._rawHeaders.update((name, list(values)) for name, values in headers.getAllRawHeaders())

    def copy(self) -> _OwnHeaders:
        return self


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
