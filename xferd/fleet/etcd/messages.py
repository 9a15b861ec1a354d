# -*- test-case-name: tests.fleet.etcd.test_messages -*-
"""
The messages of etcd's JSON gateway: operations of a transaction, and their
responses.

Pure.  Keys and values are in base64, 64-bit numbers are strings, and members that
are 0, false or empty are absent (etcd, "API reference"; protobuf's JSON mapping).
Responses are checked member by member: etcd may be anything that listens there.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from attrs import frozen

Message: TypeAlias = "dict[str, Any]"
"""A message as JSON has it."""

_MAX_INTEGER: Final = 1 << 63


class BadAnswer(ValueError):
    """
    A response that etcd does not send.  The message is a part of a sentence.
    """


@frozen
class KeyValue:
    """
    A key with its value.

    @ivar lease: the number of its lease; 0 for none.
    @ivar revision: the revision of etcd at which it was set last.
    """

    key: str
    value: bytes
    lease: int
    revision: int


def encoded(text: str | bytes) -> str:
    """
    A key or a value in base64.
    """
    return b64encode(text.encode() if isinstance(text, str) else text).decode("ascii")


def end_of(prefix: str) -> str:
    """
    The first key after those that begin with a prefix, which ends with an ASCII
    character.
    """
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


# ---------------------------------------------------------------- operations


def get(key: str) -> Message:
    """
    Read one key.
    """
    return {"request_range": {"key": encoded(key)}}


def get_all(prefix: str, most: int) -> Message:
    """
    Read the keys that begin with a prefix, in their order.

    @param most: the most keys that are returned.
    """
    return {"request_range": _range(prefix) | {"limit": str(most)}}


def count(prefix: str) -> Message:
    """
    Count the keys that begin with a prefix.
    """
    return {"request_range": _range(prefix) | {"count_only": True}}


def put(key: str, value: bytes, lease: int) -> Message:
    """
    Set a key, bound to a lease.
    """
    return {"request_put": {"key": encoded(key), "value": encoded(value), "lease": str(lease)}}


def delete(key: str) -> Message:
    """
    Remove a key.
    """
    return {"request_delete_range": {"key": encoded(key)}}


def either(condition: Message, then: Message, otherwise: Message | None = None) -> Message:
    """
    Do one of two things, or nothing, as one operation.
    """
    other = {} if otherwise is None else {"failure": [otherwise]}
    return {"request_txn": {"compare": [condition], "success": [then], **other}}


def is_absent(key: str) -> Message:
    """
    The condition that a key is not set.
    """
    return {"key": encoded(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}


def is_unchanged(key: str, revision: int) -> Message:
    """
    The condition that a key was not set again since a revision.
    """
    return {"key": encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def is_bound(key: str, lease: int) -> Message:
    """
    The condition that a key is bound to a lease.
    """
    return {"key": encoded(key), "target": "LEASE", "result": "EQUAL", "lease": str(lease)}


def _range(prefix: str) -> Message:
    return {"key": encoded(prefix), "range_end": encoded(end_of(prefix))}


# ----------------------------------------------------------------- responses


def member(message: Mapping[str, Any], name: str) -> Message:
    """
    A member that is an object; an empty one if it is absent.

    @raise BadAnswer: it is something else.
    """
    value = message.get(name, {})
    if not isinstance(value, dict):
        raise BadAnswer(f"{name!r} is not an object")
    return value


def members(message: Mapping[str, Any], name: str, most: int) -> Sequence[Message]:
    """
    A member that is a list of objects; an empty one if it is absent.

    @raise BadAnswer: it is something else, or longer than C{most}.
    """
    value = message.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise BadAnswer(f"{name!r} is not a list of objects")
    if len(value) > most:
        raise BadAnswer(f"{name!r} has {len(value)} items, where at most {most} are expected")
    return value


def number(message: Mapping[str, Any], name: str) -> int:
    """
    A member that is a 64-bit number; 0 if it is absent.

    @raise BadAnswer: it is something else.
    """
    value = message.get(name, 0)
    if (
        isinstance(value, str)
        and len(value) <= 20
        and value.removeprefix("-").isdecimal()
        and value.isascii()
    ):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MAX_INTEGER:
        raise BadAnswer(f"{name!r} is not a number")
    return value


def flag(message: Mapping[str, Any], name: str) -> bool:
    """
    A member that is true or false; false if it is absent.

    @raise BadAnswer: it is something else.
    """
    value = message.get(name, False)
    if not isinstance(value, bool):
        raise BadAnswer(f"{name!r} is not true or false")
    return value


def text(message: Mapping[str, Any], name: str) -> str:
    """
    A member that is a text; an empty one if it is absent.

    @raise BadAnswer: it is something else.
    """
    value = message.get(name, "")
    if not isinstance(value, str):
        raise BadAnswer(f"{name!r} is not a text")
    return value


def key_value(message: Mapping[str, Any], prefix: str) -> KeyValue:
    """
    A key and its value.

    @param prefix: what the key must begin with.
    @raise BadAnswer: it does not, or something is not in base64.
    """
    try:
        key = _decoded(message, "key").decode("ascii")
    except UnicodeDecodeError:
        raise BadAnswer("a key is not ASCII") from None
    if not key.startswith(prefix):
        raise BadAnswer("a key was not requested")
    return KeyValue(
        key, _decoded(message, "value"), number(message, "lease"), number(message, "mod_revision")
    )


def key_values(response: Mapping[str, Any], prefix: str, most: int) -> list[KeyValue]:
    """
    The keys that an operation has read.

    @param response: the response to the operation.
    @param prefix: what each key must begin with.
    @param most: the most keys that were asked for.
    @raise BadAnswer: the response is to something else.
    """
    found = members(member(response, "response_range"), "kvs", most)
    return [key_value(each, prefix) for each in found]


def counted(response: Mapping[str, Any]) -> int:
    """
    The number of keys by L{count}.

    @raise BadAnswer: the response is to something else.
    """
    return number(member(response, "response_range"), "count")


def responses(message: Mapping[str, Any], expected: int) -> Sequence[Message]:
    """
    The responses to the operations of a transaction.

    @param expected: the number of operations.
    @raise BadAnswer: there are more or fewer.
    """
    found = members(message, "responses", expected)
    if len(found) != expected:
        raise BadAnswer(f"a transaction of {expected} operations has {len(found)} responses")
    return found


def branch(response: Mapping[str, Any]) -> tuple[bool, Message]:
    """
    Which thing L{either} did.

    @return: whether the condition held, and the response to what was done; an empty one if
        nothing was.
    @raise BadAnswer: the response is to something else.
    """
    done = response.get("response_txn")
    if not isinstance(done, dict):
        raise BadAnswer("'response_txn' is not an object")
    found = members(done, "responses", 1)
    return flag(done, "succeeded"), dict(found[0]) if found else {}


def revision(response: Mapping[str, Any]) -> int:
    """
    The revision at which L{put} has set its key.

    @raise BadAnswer: the response is to something else.
    """
    found = number(member(member(response, "response_put"), "header"), "revision")
    if found < 1:
        raise BadAnswer("a key was set at no revision")
    return found


def _decoded(message: Mapping[str, Any], name: str) -> bytes:
    try:
        return b64decode(text(message, name), validate=True)
    except (Base64Error, ValueError):
        raise BadAnswer(f"{name!r} is not base64") from None
