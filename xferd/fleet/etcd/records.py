# -*- test-case-name: tests.fleet.etcd.test_records -*-
"""
What etcd knows of a fleet: the keys, and the JSON under them.

    - C{nodes/<name>}: a node;
    - C{blobs/<algorithm>-<hex>/<name>}: the node has the whole blob;
    - C{claims/<algorithm>-<hex>}: the node that fetches the blob;
    - C{tags/<sha256>}: the digest of a tag that was checked lately;
    - C{pauses/<sha256>}: an upstream host that asked for a pause, or how many requests it
      permits.

All begin with L{PREFIX}, whose number changes when they do.  Members that are not
known are ignored, and a record that cannot be read is ignored: another version, or
another program, may have written it.

Pure.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, Final

from attrs import asdict

from xferd.errors import BadDigest
from xferd.fleet.etcd.messages import KeyValue
from xferd.http_urls import split_url
from xferd.interfaces.fleet import MAX_URL, Claim, FleetPause, Node, Peer, is_node_name
from xferd.interfaces.hosts import Quota
from xferd.json_encoding import encode
from xferd.names import Digest

PREFIX: Final = "/xferd/1/"
"""The beginning of every key."""

NODES: Final = f"{PREFIX}nodes/"
CLAIMS: Final = f"{PREFIX}claims/"
PAUSES: Final = f"{PREFIX}pauses/"

MAX_PAUSE: Final = 86400.0
"""The longest pause in seconds that is believed."""

_MAX_RECORD: Final = 8192
_MAX_TEXT: Final = 300
_MAX_SIZE: Final = 1 << 50
_MAX_REQUESTS: Final = 1e9
_MAX_WINDOW: Final = 1e8


def node_key(name: str) -> str:
    """
    The key of a node.
    """
    return f"{NODES}{name}"


def holders_prefix(digest: Digest) -> str:
    """
    What the keys of the nodes begin with that have a blob.
    """
    return f"{PREFIX}blobs/{digest.algorithm}-{digest.hex}/"


def holder_key(digest: Digest, name: str) -> str:
    """
    The key of one of these nodes.
    """
    return f"{holders_prefix(digest)}{name}"


def claim_key(digest: Digest) -> str:
    """
    The key of the claim of a blob.
    """
    return f"{CLAIMS}{digest.algorithm}-{digest.hex}"


def tag_key(key: str) -> str:
    """
    The key of a tag.
    """
    return f"{PREFIX}tags/{sha256(key.encode('utf-8', 'replace')).hexdigest()}"


def pause_key(host: str, account: str) -> str:
    """
    The key of a pause.
    """
    return f"{PAUSES}{sha256(encode([host, account])).hexdigest()}"


# -------------------------------------------------------------------- values


def node_value(node: Node) -> bytes:
    """
    The record of a node.
    """
    return encode(
        {
            "url": node.peer.url,
            "version": node.version,
            "since": round(node.since),
            "load": node.load,
            "saved": node.saved,
        }
    )


def read_node(found: KeyValue) -> Node | None:
    """
    A node, or L{None} where the record cannot be read.
    """
    record = _read(found.value)
    since, load, saved = _number(record, "since", 1e12), record.get("load"), record.get("saved", 0)
    peer = _peer(found.key.removeprefix(NODES), record)
    if peer is None or since is None or not isinstance(load, int) or not 0 <= load < 1e9:
        return None
    if not isinstance(saved, int) or not 0 <= saved < 1e18:
        return None
    return Node(peer, _text(record, "version"), since, load, saved)


def holder_value(peer: Peer) -> bytes:
    """
    The record of a node that has a blob.
    """
    return encode({"url": peer.url})


def read_holder(found: KeyValue, digest: Digest) -> Peer | None:
    """
    A node that has a blob, or L{None} where the record cannot be read.
    """
    return _peer(found.key.removeprefix(holders_prefix(digest)), _read(found.value))


def claim_value(owner: Peer, size: int, source: str) -> bytes:
    """
    The record of a claim.
    """
    return encode({"node": owner.name, "url": owner.url, "source": source[:_MAX_TEXT], "size": size})


def read_claim(found: KeyValue, lease: int) -> Claim | None:
    """
    A claim, or L{None} where the record cannot be read.

    @param lease: the lease of this node.
    """
    record = _read(found.value)
    algorithm, _, encoded = found.key.removeprefix(CLAIMS).partition("-")
    try:
        digest = Digest(algorithm, encoded)
    except BadDigest:
        return None
    owner, size = _peer(record.get("node"), record), record.get("size")
    if owner is None or not isinstance(size, int) or not 0 <= size < _MAX_SIZE:
        return None
    return Claim(digest, owner, _text(record, "source"), size, found.revision, found.lease == lease)


def tag_value(digest: Digest) -> bytes:
    """
    The record of a tag.
    """
    return encode({"digest": str(digest)})


def read_tag(found: KeyValue) -> Digest | None:
    """
    The digest of a tag, or L{None} where the record cannot be read.
    """
    try:
        return Digest.parse(_text(_read(found.value), "digest"))
    except BadDigest:
        return None


def pause_value(pause: FleetPause) -> bytes:
    """
    The record of a pause.
    """
    return encode(
        {
            "host": pause.host,
            "account": pause.account,
            "seconds": round(pause.seconds, 1),
            "reason": pause.reason[:_MAX_TEXT],
            "node": pause.node,
            **({} if pause.quota is None else {"quota": asdict(pause.quota)}),
        }
    )


def read_pause(found: KeyValue) -> FleetPause | None:
    """
    A pause of its full length, or L{None} where the record cannot be read.
    """
    record = _read(found.value)
    host, account, node = (_text(record, name) for name in ("host", "account", "node"))
    seconds = _number(record, "seconds", MAX_PAUSE)
    if not host or seconds is None or found.key != pause_key(host, account):
        return None
    quota = None
    if "quota" in record:
        quota = _quota(record["quota"])
        if quota is None:
            return None
    return FleetPause(host, account, seconds, _text(record, "reason"), node, quota)


def _quota(record: Any) -> Quota | None:
    """
    A quota, or L{None} where the record cannot be read.
    """
    if not isinstance(record, dict):
        return None
    counts = {name: _number(record, name, _MAX_REQUESTS) for name in ("remaining", "limit")}
    times = {name: _number(record, name, _MAX_WINDOW) for name in ("window", "reset")}
    for name, value in (counts | times).items():
        if value is None and record.get(name) is not None:
            return None
    remaining, limit = counts["remaining"], counts["limit"]
    if remaining is None or (limit is not None and limit < 1):
        return None
    return Quota(int(remaining), None if limit is None else int(limit), times["window"], times["reset"])


def _read(value: bytes) -> dict[str, Any]:
    """
    A record; an empty one if it is not a JSON object.
    """
    try:
        record = json.loads(value) if len(value) <= _MAX_RECORD else None
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _text(record: dict[str, Any], name: str) -> str:
    """
    A short text for people or for a comparison; empty if the member is something else.
    """
    value = record.get(name)
    return value if isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable() else ""


def _number(record: dict[str, Any], name: str, most: float) -> float | None:
    """
    A number from 0 up to C{most}, or L{None} if the member is something else.
    """
    value = record.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value <= most else None


def _peer(name: Any, record: dict[str, Any]) -> Peer | None:
    """
    The node of a record.
    """
    url = record.get("url")
    if not isinstance(name, str) or not is_node_name(name) or not isinstance(url, str):
        return None
    return Peer(name, url) if is_peer_url(url) else None


def is_peer_url(url: str) -> bool:
    """
    Whether a text is the URL of a node: C{http} or C{https}, a host, perhaps a port
    and a path, and nothing else.
    """
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = split_url(url)
    except ValueError:
        return False
    is_plain = parts.username is None and not parts.query and not parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and is_plain
