"""
Harnesses for texts of one line: references, challenges, headers.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from tests.fuzz.harness import Broken, Harness, only, same
from tests.fuzz.inputs import SIZES, cut, damaged, texts
from xferd.errors import BadDigest, BadInput, BadPlatform, BadReference
from xferd.names import Digest, Reference, parse_tag
from xferd.platforms import Platform
from xferd.registry.auth.challenge import MAX_CHALLENGES, parse_challenges
from xferd.registry.auth.tokens import parse_token
from xferd.registry.list_pages import next_page
from xferd.registry.transport.errors import parse_error_details, retry_after
from xferd.registry.transport.ranges import (
    check_rest,
    parse_content_range,
    parse_session_range,
    parse_unsatisfied,
    range_from,
)
from xferd.registry.transport.response_head import MAX_HEAD_BYTES, HeadLimit, HeadTooLong
from xferd.registry.transport.urls import Origin, resolve
from xferd.registry.transport.warning_header import MAX_WARNINGS_SIZE, parse_warnings
from xferd.registry.transport.zones import Zone

_HEX: Final = b"ab" * 32

# ---------------------------------------------------------------- references

_HOSTS: Final = st.sampled_from(
    (
        b"",
        b"docker.io/",
        b"index.docker.io/",
        b"localhost/",
        b"localhost:5000/",
        b"127.0.0.1:5000/",
        b"[::1]:5000/",
        b"[::ffff:127.0.0.1]/",
        b"[::..]:5000/",
        b"[1.2.3.4]/",
        b"2130706433/",
        b"0x7f.1/",
        b"r.example:99999/",
        b"R.example/",
        b"FOO/",
    )
)
_PATHS: Final = st.sampled_from((b"alpine", b"library/alpine", b"a/b/c", b"a__b/c--d", b"x" * 250, b"A/b"))
_TAGS: Final = st.sampled_from((b"", b":latest", b":1.0", b":", b":" + b"t" * 128, b"::"))
_DIGESTS: Final = st.sampled_from(
    (b"", b"@sha256:" + _HEX, b"@sha512:" + _HEX * 2, b"@sha256:abc", b"@md5:" + _HEX[:32])
)
_REFERENCES: Final = st.tuples(_HOSTS, _PATHS, _TAGS, _DIGESTS).map(b"".join)


def check_reference(text: str) -> None:
    """
    A reference that is taken is safe to put into a URL, and is the same one
    when it is written and read again, in full and in short.
    """
    with only(BadReference):
        found = Reference.parse(text)
        same(Reference.parse(str(found)), found, "a reference in full")
        same(Reference.parse(found.familiar()), found, "a reference in short")
        host, path = found.repository.host, found.repository.path
        split = urlsplit(f"https://{host}/v2/{path}/manifests/{found.wanted}")
        same(split.netloc, host, "a reference's host")
        same(split.path, f"/v2/{path}/manifests/{found.wanted}", "a reference's path")
        if ".." in path or split.query or split.fragment or split.username:
            raise Broken(f"{text!r} is taken, and leads elsewhere")
        assert split.port is None or 0 < split.port < 65536
    with only(BadReference):
        parse_tag(text)
    with only(BadDigest):
        same(str(Digest.parse(text)), text, "a digest")
    with only(BadPlatform, BadInput):
        platform = Platform.parse(text)
        same(Platform.parse(str(platform)), platform, "a platform")


REFERENCES: Final = Harness(
    "references",
    texts(_REFERENCES) | st.text(max_size=40) | texts(st.sampled_from((b"linux/amd64", b"linux/arm/v7"))),
    check_reference,
)

# ---------------------------------------------------------------- challenges

_VALUES: Final = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
_CHALLENGES: Final = st.sampled_from(
    (
        b'Bearer realm="https://a.example/token",service="r.example",scope="repository:a/b:pull"',
        b'Basic realm="r", Bearer realm="x,y=\\"z\\""',
        b"Negotiate, NTLM abc==, Basic realm=plain",
        b"Bearer " + b'a="b",' * 2000,
        b"Basic," * 5000,
        b'Bearer realm="' + b"\\" * 20000,
    )
)


def check_challenge(given: tuple[list[str], list[tuple[str, dict[str, str]]]]) -> None:
    """
    Any header gives a bounded number of challenges, and never an error; what
    is written by the grammar is read as it was written.
    """
    foreign, own = given
    found = parse_challenges(foreign)
    if len(found) > MAX_CHALLENGES:
        raise Broken(f"{len(found)} challenges are kept")
    if any(not c.scheme or c.scheme != c.scheme.lower() for c in found):
        raise Broken("a challenge has no scheme in lower case")

    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    written = ", ".join(
        f"{scheme} {','.join(f'{k}={quoted(v)}' for k, v in parameters.items())}"
        for scheme, parameters in own
    )
    read = [(c.scheme, dict(c.parameters)) for c in parse_challenges([written])]
    same(read, [(scheme.lower(), parameters) for scheme, parameters in own], "challenges")


CHALLENGES: Final = Harness(
    "challenges",
    st.tuples(
        st.lists(texts(_CHALLENGES), max_size=3),
        st.lists(
            st.tuples(
                st.sampled_from(("Basic", "Bearer", "X-y")),
                st.dictionaries(st.sampled_from(("realm", "service", "scope")), _VALUES, min_size=1),
            ),
            max_size=4,
        ),
    ),
    check_challenge,
)

# ------------------------------------------------------------------- headers

_HEADERS: Final = st.sampled_from(
    (
        b'299 - "deprecated", 299 - "second"',
        b"120",
        b"Wed, 21 Oct 2015 07:28:00 GMT",
        b"Wed, 21 Oct 99999999 07:28:00 +9999",
        b"1e400",
        b"bytes 0-99/100",
        b"bytes */100",
        b"bytes=0-99",
        b"0-99",
        b'</v2/_catalog?n=2&last=b>; rel="next"',
        b"https://blobs.example/path?sig=a%2Fb",
        b"../x?y#z",
        b"//[::ffff:127.0.0.1]/",
        b"http://0x7f.1/",
        b"https://[fe80::1%25eth0]:1/",
        b'{"errors":[{"code":"DENIED","message":"no","detail":{"a":1}}]}',
        b'{"token":"abc","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}',
    )
)


def check_header(text: str) -> None:
    """
    No header, and no body of a refusal, raises anything but C{ValueError};
    what is shown of them prints and is short; where they lead is a server
    that the one that sent them may lead to.
    """
    data = text.encode("latin-1")
    for shown in (*parse_warnings([text]), parse_error_details(data).text, *parse_error_details(data).codes):
        if len(shown) > MAX_WARNINGS_SIZE or (not shown.isprintable() and shown):
            raise Broken(f"{shown!r} is shown")
    wait = retry_after(Headers({"Retry-After": [text], "Date": [text]}), 0.0)
    wait = retry_after(Headers({"Retry-After": [text]}), 1.7e9) if wait is None else wait
    if wait is not None and not 0 <= wait <= 86400:
        raise Broken(f"a wait of {wait} seconds")
    with only(ValueError):
        found = parse_content_range(text)
        same(found.length, found.last - found.first + 1, "a range's length")
        same(parse_content_range(f"bytes {text.strip()[6:]}"), found, "a range")
    with only(ValueError):
        check_rest([text], 0, None)
    for number in (parse_unsatisfied(text), parse_session_range(text)):
        if number is not None and number < 0:
            raise Broken(f"{number} bytes")
    assert range_from(0)
    token = parse_token(data, 0.0)
    if token is not None and not (0 < token.expires < 1e9 and token.secret.reveal().isprintable()):
        raise Broken("a token that cannot be sent is taken")
    link = next_page([text])
    for location in (text, *([link] if link else [])):
        with only(ValueError):
            target = resolve("https://r.example/v2/", location, Zone.PUBLIC)
            origin = Origin.of(target)
            if origin.scheme != "https" or origin.zone not in (None, Zone.PUBLIC):
                raise Broken(f"{location!r} leads to {target!r}")
            if not target.isascii() or not target.isprintable() or " " in target:
                raise Broken(f"{target!r} is asked for")


HEADERS: Final = Harness("headers", texts(_HEADERS), check_header)

_HEADS: Final = st.lists(
    st.sampled_from(
        (
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 103 Early Hints\r\n",
            b"Content-Length: 5\r\n",
            b"\r\n",
            b" continued\r\n",
            b"X: " + b"y" * 16000 + b"\r\n",
            b"a: b\n" * 200,
        )
    ),
    max_size=30,
).map(b"".join)


def check_head(given: tuple[bytes, list[int]]) -> None:
    """
    The limit on a response's head counts the same, however the bytes arrive,
    and no head is taken that is over it.
    """
    data, sizes = given

    def read(pieces: list[bytes]) -> object:
        limit = HeadLimit("r.example")
        try:
            for piece in pieces:
                limit.feed(piece)
        except HeadTooLong as e:
            return str(e)
        if not limit.over and len(data) > MAX_HEAD_BYTES:
            raise Broken(f"a head of {len(data)} bytes is taken")
        return limit.over

    same(read(cut(data, sizes)), read([data]), "a head in pieces and as a whole")


HEADS: Final = Harness("heads", st.tuples(damaged(_HEADS), SIZES), check_head)
