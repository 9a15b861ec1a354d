# -*- test-case-name: tests.fleet.test_proofs -*-
"""
The proofs by which the nodes of a fleet know each other.

All nodes have one secret, or two while it is replaced.  A request has an HMAC-SHA256
(RFC 2104) over its method and path, the names and URLs of both nodes, and a nonce that
the answering node has issued: it can be neither replayed, nor used at another node, nor
passed on by a server at another URL.  The answer has one over the asking node's own
nonce.  No wall clocks are compared, so they may differ by hours.

The proofs do not hide anything and do not protect the bytes, which are verified by
their digest.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from hmac import compare_digest
from hmac import digest as hmac_digest
from secrets import token_bytes, token_urlsafe
from typing import Final

from attrs import field, frozen

from xferd.interfaces.fleet import MAX_URL, Peer, is_node_name

SCHEME: Final = "Xferd-Peer"
"""The authentication scheme of requests between nodes (RFC 9110, section 11)."""

NONCE_SECONDS: Final = 60.0
"""Seconds for which a nonce can be used, once."""

MIN_SECRET: Final = 16
"""Bytes of the shortest secret."""

MOST_USED: Final = 100_000
"""Used nonces that are remembered, at most.  Only nodes that know the secret can use
one."""

_FIELD = re.compile(r'([a-z]+)="([^"\\\x00-\x1f\x7f]{0,2048})"')
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,128}")
_TAG = 16


@frozen
class Proof:
    """
    The C{Authorization} of a request to a peer.

    @ivar sender: the asking node, and where it can be reached.
    @ivar nonce: the nonce of the answering node.
    @ivar own: a nonce of the asking node, for the proof of the answer.
    @ivar tag: the HMAC, in hexadecimal digits.
    """

    sender: Peer
    nonce: str
    own: str
    tag: str = field(repr=False)

    def __str__(self) -> str:
        fields = {
            "name": self.sender.name,
            "url": self.sender.url,
            "nonce": self.nonce,
            "own": self.own,
            "tag": self.tag,
        }
        return f"{SCHEME} " + ", ".join(f'{name}="{value}"' for name, value in fields.items())

    @classmethod
    def parse(cls, text: str) -> Proof:
        """
        Read the value of an C{Authorization} header.

        @raise ValueError: it is not one of a peer.
        """
        scheme, _, rest = text.strip().partition(" ")
        if scheme.lower() != SCHEME.lower():
            raise ValueError(f"it is not of the scheme {SCHEME}")
        fields = dict(_fields(rest))
        if set(fields) != {"name", "url", "nonce", "own", "tag"}:
            raise ValueError("its fields are not those of a peer")
        if not is_node_name(fields["name"]) or len(fields["url"]) > MAX_URL:
            raise ValueError("it does not name a node")
        if not all(map(_NONCE.fullmatch, (fields["nonce"], fields["own"]))):
            raise ValueError("its nonces are malformed")
        return cls(Peer(fields["name"], fields["url"]), fields["nonce"], fields["own"], fields["tag"].lower())


def challenge(nonce: str) -> str:
    """
    The C{WWW-Authenticate} header of a 401.
    """
    return f'{SCHEME} nonce="{nonce}"'


def challenged(text: str) -> str | None:
    """
    Read the nonce in a C{WWW-Authenticate} header.

    @return: L{None} if there is none.
    """
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != SCHEME.lower():
        return None
    try:
        nonce = dict(_fields(rest)).get("nonce", "")
    except ValueError:
        return None
    return nonce if _NONCE.fullmatch(nonce) else None


def is_nonce(text: str) -> bool:
    """
    Whether a text has the form of a nonce.
    """
    return _NONCE.fullmatch(text) is not None


def _fields(text: str) -> Iterable[tuple[str, str]]:
    """
    The fields of a header: C{name="value"}, separated by commas.

    @raise ValueError: it has another form.
    """
    at = 0
    while at < len(text):
        found = _FIELD.match(text, at)
        if found is None:
            raise ValueError("its fields are malformed")
        yield found[1], found[2]
        at = found.end()
        while at < len(text) and text[at] in ", \t":
            at += 1


class Secrets:
    """
    The secrets of a fleet: the first signs, and all verify, so that nodes can replace
    theirs one after the other.

    @ivar all: the secrets, of at least L{MIN_SECRET} bytes each.
    """

    def __init__(self, *secrets: bytes) -> None:
        self.replace(secrets)

    def replace(self, secrets: Sequence[bytes]) -> None:
        """
        Use other secrets from now on.
        """
        if not secrets or min(map(len, secrets)) < MIN_SECRET:
            raise ValueError(f"the secret of a fleet has at least {MIN_SECRET} bytes")
        self.all = tuple(secrets)

    def sign(self, text: str) -> str:
        """
        The HMAC of a text, in hexadecimal digits.
        """
        return _hmac(self.all[0], text)

    def verify(self, text: str, tag: str) -> bool:
        """
        Whether a tag is the HMAC of a text by any of the secrets.
        """
        given = tag.encode("utf-8", "replace")
        return any(compare_digest(_hmac(secret, text).encode(), given) for secret in self.all)


class Prover:
    """
    Makes and checks the proofs of one node.
    """

    def __init__(self, secrets: Secrets, own: Peer, clock: Callable[[], float]) -> None:
        """
        @param own: this node.
        @param clock: returns monotonic seconds.
        """
        self.own = own
        self._secrets = secrets
        self._nonces = Nonces(clock)

    def prove(self, method: str, path: str, target: Peer, nonce: str) -> Proof:
        """
        Make the proof of a request to a peer.

        @param target: the peer, with the URL at which it is asked.
        @param nonce: what the peer has issued.
        """
        own = token_urlsafe(16)
        text = _request(method, path, target, self.own, nonce, own)
        return Proof(self.own, nonce, own, self._secrets.sign(text))

    def check(self, method: str, path: str, authorization: str) -> Proof:
        """
        Check the proof of a request from a peer.  Its nonce cannot be used again.

        @raise ValueError: it proves nothing.
        """
        proof = Proof.parse(authorization)
        text = _request(method, path, self.own, proof.sender, proof.nonce, proof.own)
        if not self._secrets.verify(text, proof.tag):
            raise ValueError("the secrets of the two nodes differ, or it was made for another request")
        if not self._nonces.use(proof.nonce):
            raise ValueError("its nonce was used before, or is too old")
        return proof

    def challenge(self) -> str:
        """
        Issue a nonce.
        """
        return self._nonces.issue()

    def prove_answer(self, proof: Proof, facts: Iterable[str]) -> str:
        """
        Make the proof of an answer.

        @param proof: that of the request.
        @param facts: what the answer states, without line feeds.
        """
        return self._secrets.sign(_text("answer", self.own.name, proof.sender.name, proof.own, *facts))

    def check_answer(self, proof: Proof, target: str, facts: Iterable[str], tag: str) -> bool:
        """
        Whether the answer to a request comes from the node that was asked.
        """
        return self._secrets.verify(_text("answer", target, proof.sender.name, proof.own, *facts), tag)


def _request(method: str, path: str, target: Peer, sender: Peer, nonce: str, own: str) -> str:
    """
    What the tag of a request is over.
    """
    url = target.url.rstrip("/")
    return _text("request", method, path, target.name, url, sender.name, sender.url, nonce, own)


def _text(*parts: str) -> str:
    return "\n".join(("xferd-fleet-1", *parts))


def _hmac(secret: bytes, text: str) -> str:
    return hmac_digest(secret, text.encode(), "sha256").hex()


class Nonces:
    """
    Nonces that can be used once.

    A nonce has its time and a signature, so that only used ones are remembered:
    those who ask for many nonces take no memory.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._key = token_bytes(32)
        self._used: OrderedDict[str, float] = OrderedDict()
        self._oldest = 0
        """Milliseconds at which a nonce must have been issued, at least."""

    def __len__(self) -> int:
        return len(self._used)

    def issue(self) -> str:
        """
        Make a nonce.
        """
        facts = int(self._clock() * 1000).to_bytes(8) + token_bytes(24)
        return urlsafe_b64encode(facts + self._sign(facts)).decode("ascii")

    def use(self, nonce: str) -> bool:
        """
        Use a nonce.

        @return: whether it was issued here, less than L{NONCE_SECONDS} ago, and not
            used before.
        """
        now = self._clock()
        while self._used and (
            len(self._used) > MOST_USED or next(iter(self._used.values())) + NONCE_SECONDS <= now
        ):
            # What is forgotten while it is valid must not be used again, nor what is older.
            forgotten, _ = self._used.popitem(last=False)
            self._oldest = max(self._oldest, _issued(urlsafe_b64decode(forgotten)) + 1)
        try:
            data = urlsafe_b64decode(nonce)
        except (NotBase64, ValueError):
            return False
        facts, signature = data[:-_TAG], data[-_TAG:]
        # Base64 has several forms of some values.
        if urlsafe_b64encode(data).decode("ascii") != nonce or nonce in self._used:
            return False
        if not compare_digest(signature, self._sign(facts)):
            return False
        if _issued(facts) < self._oldest or _issued(facts) / 1000 + NONCE_SECONDS <= now:
            return False
        self._used[nonce] = now
        return True

    def _sign(self, facts: bytes) -> bytes:
        return hmac_digest(self._key, facts, "sha256")[:_TAG]


def _issued(data: bytes) -> int:
    """
    When a nonce was issued, in milliseconds.
    """
    return int.from_bytes(data[:8])
