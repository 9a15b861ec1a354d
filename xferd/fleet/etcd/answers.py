# -*- test-case-name: tests.fleet.etcd.test_client -*-
"""
Answers of etcd's members, whole or as streams of messages, and the errors among them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred

from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.messages import BadAnswer, Message
from xferd.fleet.etcd.settings import Endpoint
from xferd.registry.transport.errors import clean

_MAX_LINE: Final = 1 << 20

# Codes of gRPC (grpc/codes), as the gateway passes them on.
_UNKNOWN: Final = 2
_DEADLINE_EXCEEDED: Final = 4
_NOT_FOUND: Final = 5
_PERMISSION_DENIED: Final = 7
_RESOURCE_EXHAUSTED: Final = 8
_UNAVAILABLE: Final = 14
_UNAUTHENTICATED: Final = 16
_NEXT_MAY_HELP: Final = frozenset({_UNKNOWN, _DEADLINE_EXCEEDED, _UNAVAILABLE})


class EtcdRefused(CoordinationUnavailable):
    """
    etcd answered with an error.
    """


class LeaseGone(EtcdRefused):
    """
    The lease has expired or was revoked.
    """


class TokenRefused(EtcdRefused):
    """
    etcd does not accept the token: it has expired, or etcd was restarted.
    """


class MemberFailed(CoordinationUnavailable):
    """
    One member does not answer, or cannot serve now; another one may.
    """


@frozen
class Answer:
    """
    The answer of one member.
    """

    endpoint: Endpoint
    message: Message


class Lines:
    """
    Reads a stream of messages, one a line.

    @ivar has_ended: whether L{end} ended it.
    """

    def __init__(self, name: str, each: Callable[[Message], object]) -> None:
        self._name = name
        self._each = each
        self._buffer = bytearray()
        self.has_ended = False

    def received(self, piece: bytes) -> None:
        """
        Receive a piece of the stream.
        """
        *lines, rest = piece.split(b"\n")
        if lines:
            # What is held is looked through once, however small the pieces are.
            lines[0] = bytes(self._buffer) + lines[0]
            self._buffer.clear()
        self._buffer += rest
        if len(self._buffer) > _MAX_LINE:
            raise CoordinationUnavailable(f"etcd at {self._name} sends a message that is too long")
        for line in lines:
            if line.strip():
                message = parse(line, self._name, 200)
                if message.get("error") is not None:
                    raise refusal(message, self._name, 200)
                self._each(message)

    def end(self, pumping: Deferred[None]) -> None:
        """
        End the stream.
        """
        self.has_ended = True
        pumping.cancel()


def parse(body: bytes, name: str, status: int) -> Message:
    """
    Read a JSON object.

    @raise CoordinationUnavailable: it is malformed.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict):
        return message
    said = clean(body.decode("utf-8", "replace"))
    if status >= 500:
        raise MemberFailed(f"etcd at {name} answers {status}: {said}")
    if status == 400 and said.startswith("CommonName of client"):
        raise CoordinationUnavailable(
            f"etcd at {name} refuses fleet.etcd_certificate, as it has a CommonName: with a login, "
            "etcd's gateway accepts only client certificates without one"
        )
    raise CoordinationUnavailable(f"etcd at {name} answers {status} with something else than etcd's JSON")


def refusal(message: Message, name: str, status: int) -> CoordinationUnavailable:
    """
    The error of an answer that is one.
    """
    error = message.get("error")
    inner = error if isinstance(error, dict) else message
    words = inner.get("message") or inner.get("error")
    said = clean(words) if isinstance(words, str) else f"status {status}"
    code = inner.get("code", inner.get("grpc_code"))
    if "database space exceeded" in said or (code == _RESOURCE_EXHAUSTED and "NOSPACE" in said):
        return EtcdRefused(
            f"etcd at {name} is full and read-only ({said}): compact and defragment it, and disarm its alarm"
        )
    if code == _UNAUTHENTICATED or "invalid auth token" in said or "revision of auth store is old" in said:
        return TokenRefused(f"etcd at {name} does not accept the login ({said})")
    if "user name is empty" in said:
        return EtcdRefused(
            f"etcd at {name} wants a login ({said}): set fleet.etcd_user and fleet.etcd_password_file"
        )
    if (
        "authentication failed" in said
        or code == _PERMISSION_DENIED
        or "authentication is not enabled" in said
    ):
        return EtcdRefused(f"etcd at {name} refuses the user of fleet.etcd_user ({said})")
    if code == _NOT_FOUND and "lease not found" in said:
        return LeaseGone(f"etcd at {name} has ended the lease ({said})")
    if status == 404:
        return CoordinationUnavailable(
            f"etcd at {name} has no JSON gateway: it is older than 3.4, or not etcd"
        )
    if code in _NEXT_MAY_HELP or (code is None and status >= 500):
        return MemberFailed(f"etcd at {name} cannot serve now: {said}")
    return EtcdRefused(f"etcd at {name} refuses a request: {said}")


def bad_answer(error: BadAnswer) -> CoordinationUnavailable:
    """
    The error of an answer that etcd does not send.
    """
    return CoordinationUnavailable(f"etcd sent an unexpected answer: {error}")
