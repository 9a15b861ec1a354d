# -*- test-case-name: tests.engines.grpc.test_server -*-
"""
What a server serves: services, their methods, and what a method learns of its caller.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from xferd.engines.grpc.messages import Message, P, decode

R = TypeVar("R")


@frozen
class Call:
    """
    One call, as its method sees it.

    @ivar path: C{/SERVICE/METHOD}.
    @ivar metadata: the client's headers, but for those of HTTP/2 and gRPC themselves;
        names in lower case.
    @ivar peer_uid: the user of the client's process.
    @ivar timeout: seconds that the client waits, from the call's begin, or L{None}.
    """

    path: str
    metadata: Mapping[str, str] = field(repr=False)
    peer_uid: int
    timeout: float | None = None


Answer = Message | bytes

Unary = Callable[[R, Call], Awaitable[Answer]]
"""
Answers one message with one: a coroutine function, or a function that returns a
Deferred.  It is cancelled when the client resets the stream or leaves, when the
client's time is over, and when the server stops.
"""

Streaming = Callable[[R, Call], AsyncGenerator[Answer, None]]
"""Answers one message with any number: an asynchronous generator.  Cancelled as above;
it is asked for the next message when the client has taken most of those before."""


@frozen
class Method(Generic[R]):
    """
    One method.  Make it by L{unary}, L{streaming}, or for messages that are passed on
    as they come, L{raw_unary} and L{raw_streaming}.

    @ivar read: makes the request of the content of its message.
    @ivar unary: the function of a method with one answer, or L{None}.
    @ivar streaming: the function of a method with any number of answers, or L{None}.
    """

    read: Callable[[bytes], R]
    unary: Unary[R] | None = None
    streaming: Streaming[R] | None = None


def unary(request: type[P], function: Unary[P]) -> Method[P]:
    """
    A method with one answer.

    @param request: the class of its requests.
    """
    return Method(lambda content: decode(request, content), unary=function)


def streaming(request: type[P], function: Streaming[P]) -> Method[P]:
    """
    A method with a stream of answers.

    @param request: the class of its requests.
    """
    return Method(lambda content: decode(request, content), streaming=function)


def raw_unary(function: Unary[bytes]) -> Method[bytes]:
    """
    A method with one answer, whose requests are not read.
    """
    return Method(_same, unary=function)


def raw_streaming(function: Streaming[bytes]) -> Method[bytes]:
    """
    A method with a stream of answers, whose requests are not read.
    """
    return Method(_same, streaming=function)


@frozen
class GrpcService:
    """
    One service.

    @ivar name: with its package: C{containerd.services.snapshots.v1.Snapshots}.
    @ivar methods: by name: C{Prepare}.
    @ivar other: serves the methods that are not in C{methods}; without it they are
        unimplemented.
    """

    name: str
    methods: Mapping[str, Method[Any]]
    other: Method[Any] | None = None

    def method(self, name: str) -> Method[Any] | None:
        """
        The method of a name.
        """
        return self.methods.get(name, self.other)


def _same(content: bytes) -> bytes:
    return content
