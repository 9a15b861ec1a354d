# -*- test-case-name: tests.test_names -*-
"""
Digests, repositories and references.

Pure.  A parsed name is safe in a URL or a path: the grammars of the OCI
distribution-spec ("Pulling manifests") and image-spec ("Digests") exclude C{..},
slashes and control characters.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256, sha512
from ipaddress import ip_address
from typing import TYPE_CHECKING

from attrs import field, frozen

from xferd.errors import BadDigest, BadReference

if TYPE_CHECKING:
    from collections.abc import Iterable
    from hashlib import _Hash

_HASHES = {"sha256": sha256, "sha512": sha512}
_ENCODED = {"sha256": re.compile(r"[a-f0-9]{64}"), "sha512": re.compile(r"[a-f0-9]{128}")}

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:.]+\])(?::[0-9]{{1,5}})?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_PORT = re.compile(r":([0-9]+)\Z")

_TAG_RULE = "a tag is up to 128 letters, digits, '_', '.' and '-', and starts with neither '.' nor '-'"

DOCKER_HUB = "docker.io"
"""The registry that a reference without a host names."""

HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
"""The names of Docker Hub."""


@frozen(order=True, cache_hash=True)
class Digest:
    """
    The digest of some bytes: C{sha256:<64 hex>} or C{sha512:<128 hex>}.

    @ivar algorithm: C{sha256} or C{sha512}.
    @ivar hex: the hash in lower-case hexadecimal.
    """

    algorithm: str
    hex: str

    def __attrs_post_init__(self) -> None:
        """
        Check the digest before it becomes part of a path or a URL.

        @raise BadDigest: the algorithm is unknown, or length or characters are
            wrong.
        """
        grammar = _ENCODED.get(self.algorithm)
        if grammar is None or grammar.fullmatch(self.hex) is None:
            raise BadDigest(f"{self.algorithm}:{self.hex}")

    @classmethod
    def parse(cls, text: str) -> Digest:
        """
        Read C{algorithm:hex}.

        @raise BadDigest: C{text} is not a digest, or xferd cannot verify its
            algorithm.
        """
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise BadDigest(text)
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """
        Compute the digest of some bytes.
        """
        return cls(algorithm, _HASHES[algorithm](data).hexdigest())

    def hasher(self) -> _Hash:
        """
        Start a running hash of this digest's algorithm.
        """
        return _HASHES[self.algorithm]()

    @property
    def short(self) -> str:
        """
        The first twelve hexadecimal digits.
        """
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def chain_id(diff_ids: Iterable[Digest], parent: Digest | None = None) -> Digest | None:
    """
    The chain ID of a stack of layers (OCI image-spec, "Layer ChainID").

    @param diff_ids: the layers to put on top, the bottom one first.
    @param parent: the chain to put them on, or L{None} for the empty stack.
    @return: the chain ID, or L{None} for a stack without layers.
    """
    for diff_id in diff_ids:
        parent = diff_id if parent is None else Digest.of(f"{parent} {diff_id}".encode())
    return parent


@frozen(order=True, cache_hash=True)
class Repository:
    """
    A repository of a registry.

    @ivar host: the registry, C{host} or C{host:port}; C{docker.io} for Docker
        Hub.
    @ivar path: the repository's path on that host, C{library/alpine}.
    """

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"


@frozen(order=True, cache_hash=True)
class Reference:
    """
    The name of one image: a repository with a tag or a digest or both.

    References normalise as docker's do: C{alpine} is
    C{docker.io/library/alpine:latest}.

    @ivar repository: the repository.
    @ivar tag: the tag, or L{None} if the reference names a digest only.
    @ivar digest: the digest that the image must have, or L{None}.
    """

    repository: Repository
    tag: str | None = None
    digest: Digest | None = field(default=None)

    @classmethod
    @lru_cache(maxsize=1024)
    def parse(cls, text: str) -> Reference:
        """
        Read a reference, normalised as docker does.  Recent ones are remembered: each
        request of a mirror's client names the same few.

        @raise BadReference: C{text} is not a reference; the message has the
            reason.
        """
        rest, at, digest_text = text.partition("@")
        digest = None
        if at:
            try:
                digest = Digest.parse(digest_text)
            except BadDigest as e:
                raise BadReference(text, str(e)) from e
        name, tag = _split_tag(rest)
        if tag is not None and _TAG.fullmatch(tag) is None:
            raise BadReference(text, _TAG_RULE)
        host, path = _split_host(name)
        if _HOST.fullmatch(host) is None:
            raise BadReference(text, "the part before the first '/' is not the host name of a registry")
        if host.startswith("[") and not _is_address(host[1 : host.index("]")]):
            raise BadReference(text, "the part in brackets is not an IPv6 address")
        if is_disguised(_PORT.sub("", host)):
            raise BadReference(
                text, "its registry is a number, but not an IPv4 address in dotted decimal form"
            )
        port = _PORT.search(host)
        if port is not None and not 0 < int(port[1]) < 1 << 16:
            raise BadReference(text, "the port of its registry is not between 1 and 65535")
        if _PATH.fullmatch(path) is None:
            raise BadReference(
                text,
                "a repository is lower-case letters and digits, separated by '/', '.', '_', '__' or '-'",
            )
        if len(host) + 1 + len(path) > 255:
            raise BadReference(text, "host and repository are longer than 255 characters")
        if tag is None and digest is None:
            tag = "latest"
        return cls(Repository(host, path), tag, digest)

    @property
    def wanted(self) -> str:
        """
        The digest, if there is one, else the tag: the C{<reference>} of a request
        (OCI distribution-spec, "Pulling manifests").
        """
        if self.digest is not None:
            return str(self.digest)
        assert self.tag is not None
        return self.tag

    def familiar(self) -> str:
        """
        The shortest form of this reference, as docker prints it.
        """
        text = str(self)
        for prefix in (f"{DOCKER_HUB}/library/", f"{DOCKER_HUB}/"):
            if text.startswith(prefix) and self._is_named_by(short := text[len(prefix) :]):
                return short
        return text

    def _is_named_by(self, text: str) -> bool:
        """
        Whether a text is a form of this reference.  The short forms of
        C{docker.io/library/library/x} and C{docker.io/localhost/x} name others.
        """
        try:
            return Reference.parse(text) == self
        except BadReference:
            return False

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.repository}{tag}{digest}"


def parse_tag(text: str) -> str:
    """
    Check a tag.

    @raise BadReference: C{text} is not a tag.
    """
    if _TAG.fullmatch(text) is None:
        raise BadReference(text, _TAG_RULE)
    return text


def parse_target(text: str) -> Reference:
    """
    Parse a reference under which content will be stored or pushed.

    @raise BadReference: it is no reference, or has a digest: what goes there
        has its own.
    """
    target = Reference.parse(text)
    if target.digest is not None:
        raise BadReference(text, "a target has a tag, not a digest")
    return target


def _split_tag(text: str) -> tuple[str, str | None]:
    """
    Split a name and its tag.  A colon before the last slash belongs to a port.
    """
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        return text, None
    return name, tag


def _split_host(name: str) -> tuple[str, str]:
    """
    Split host and path by docker's rule: the first component is a host if it
    has a dot or a colon, is C{localhost}, or has a capital letter.
    """
    first, slash, rest = name.partition("/")
    plain = "." not in first and ":" not in first and first.lower() != "localhost"
    if not slash or (plain and first == first.lower()):
        return DOCKER_HUB, name if slash else f"library/{name}"
    if first.lower() in HUB_NAMES:
        return DOCKER_HUB, rest if "/" in rest else f"library/{rest}"
    # Lower case would make a plain name a path of Docker Hub's.
    return first if plain else first.lower(), rest


def _is_address(text: str) -> bool:
    """
    Whether a text is an IPv6 address.
    """
    try:
        return ip_address(text).version == 6
    except ValueError:
        return False


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """
    Whether C{host}, with or without a port, is a loopback address, where plain
    HTTP reveals nothing.
    """
    name = host if host.count(":") > 1 and "[" not in host else re.sub(r":[0-9]+$", "", host).strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def is_disguised(host: str) -> bool:
    """
    Whether resolvers read a host as an IPv4 address although it is not one of
    four decimal numbers: C{2130706433}, C{0x7f.1} or C{0177.0.0.1}.
    """
    if _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) is None:
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False
