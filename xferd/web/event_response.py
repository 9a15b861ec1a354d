# -*- test-case-name: tests.web.test_event_response -*-
"""
Events as they happen, over one HTTP response that ends when they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from werkzeug.exceptions import ServiceUnavailable

from xferd.errors import BadInput
from xferd.web.backpressure import Backpressure
from xferd.web.client_limits import ClientLimits
from xferd.web.request import header, quoted
from xferd.web.site import admitted

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.web.server import Request

    from xferd.interfaces.jobs import Event, IEventStream
    from xferd.web.client_limits import Client
    from xferd.web.status_events import StatusEvents

MAX_STREAMS: Final = 512
"""How many event streams may be open at a time, of all clients."""

GRACE: Final = 2.0
"""Seconds that clients have to read the last events when the daemon stops."""

PIECE: Final = 32 * 1024
"""
How many bytes are written before the transport is asked whether it can take
more.  The present state of a busy daemon is some hundred kilobytes.
"""


@frozen
class EventTimes:
    """
    The times of an event stream, in seconds.

    @ivar heartbeat: from one heartbeat to the next.
    @ivar stall: after how long a client that reads nothing is dropped.
    """

    heartbeat: float = 15.0
    stall: float = 60.0


@frozen
class EventFormat:
    """
    The encoding of events.

    @ivar media_type: the Content-Type.
    @ivar opening: is written first, so that the headers are sent.
    @ivar heartbeat: an empty message, which shows that the daemon is alive.
    @ivar encode: encodes one event, with its id.
    """

    media_type: bytes
    opening: bytes
    heartbeat: bytes
    encode: Callable[[Event, str], bytes]


def _as_sse(event: Event, position: str) -> bytes:
    """
    Encode an event for an C{EventSource}.
    """
    where = b"id: %s\n" % position.encode("ascii") if position else b""
    return b"%sevent: %s\ndata: %s\n\n" % (where, event.kind.encode("ascii"), event.json)


def _as_line(event: Event, position: str) -> bytes:
    """
    Encode an event as a line of JSON.
    """
    final = b"true" if event.final else b"false"
    where = b',"id":"%s"' % position.encode("ascii") if position else b""
    return b'{"kind":"%s","data":%s,"final":%s%s}\n' % (event.kind.encode("ascii"), event.json, final, where)


SERVER_SENT = EventFormat(b"text/event-stream; charset=utf-8", b"retry: 2000\n\n", b":\n\n", _as_sse)
"""Server-sent events (HTML Living Standard, "Server-sent events")."""

JSON_LINES = EventFormat(b"application/x-ndjson", b"", b"\n", _as_line)
"""JSON lines; an empty line is a heartbeat."""


class EventResponse:
    """
    The body of one response that streams events.

    The stream is read only while the transport can take more: a slow client
    costs no memory and misses intermediate states, never the last one.

    Life cycle: made; C{run}; over when the stream has ended, the client has
    left, or it was dropped.  The stream is closed in each case.
    """

    _log = Logger()

    def __init__(
        self,
        request: Request,
        stream: IEventStream,
        form: EventFormat,
        *,
        clock: IReactorTime,
        times: EventTimes,
        over: Callable[[EventResponse], None],
    ) -> None:
        """
        @param over: called once, when the response holds nothing any more.
        """
        self._flow = Backpressure(request, clock, stall=times.stall, noun="event")
        self._stream = stream
        self._form = form
        self._clock = clock
        self._times = times
        self._over = over
        self._beat: IDelayedCall | None = None
        self._shown: Event | None = None

    def run(self) -> Deferred[None]:
        """
        Write events until the stream ends.

        @return: fires when the response is over, whatever ended it.  Cancelling
            reports that the client has left.
        """
        return Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        """
        See L{run}.
        """
        self._flow.begin()
        self._flow.write(self._form.opening)
        self._beat = self._clock.callLater(self._times.heartbeat, self._heartbeat)
        broken = False
        try:
            await self._follow()
        except CancelledError:
            self._flow.gone = True
            raise
        except Exception:
            self._log.failure("while sending events")
            broken = True
        finally:
            self._stream.close()
            if self._beat.active():
                self._beat.cancel()
            self._flow.end()
            self._over(self)
        if broken:
            self.abort()
            # Returning would end the response as if it were whole.
            await Deferred()

    async def _follow(self) -> None:
        """
        Send batch after batch from the stream to the client.
        """
        flow = self._flow
        while True:
            if flow.paused:
                await flow.writable()
            before = self._stream.position
            events = await self._stream.get()
            if not events:
                return
            for piece in _pieces(self._encoded(events, before)):
                if flow.paused:
                    await flow.writable()
                flow.write(piece)

    def _encoded(self, events: list[Event], before: str) -> Iterator[bytes]:
        """
        Encode a batch.

        The id of an event is a position from which a client can resume: only the
        last one of a batch has the position after the batch.
        """
        position = self._stream.position
        for event in events[:-1]:
            yield self._form.encode(event, before)
        yield self._form.encode(events[-1], position)

    def show(self, event: Event) -> None:
        """
        Write the state of the daemon, unless it was written, or the client does not keep up.
        """
        if event is not self._shown and not self._flow.paused:
            self._shown = event
            self._flow.write(self._form.encode(event, ""))

    def end(self) -> None:
        """
        Write the remaining events, and finish.
        """
        self._stream.close()

    def abort(self) -> None:
        """
        Abort the connection.
        """
        self._flow.abort()

    def _heartbeat(self) -> None:
        """
        Write a heartbeat, unless the client does not keep up.
        """
        self._beat = self._clock.callLater(self._times.heartbeat, self._heartbeat)
        if not self._flow.paused:
            self._flow.write(self._form.heartbeat)


class EventResponses:
    """
    The open event streams of one daemon.

    Life cycle: made; C{send} for each request that C{admit} admits; C{stop}
    ends the open ones and refuses new ones.

    @ivar stopping: whether the daemon stops.
    """

    def __init__(self, clock: IReactorTime, times: EventTimes, status: StatusEvents) -> None:
        """
        @param status: the state of the daemon.
        """
        self._clock = clock
        self._times = times
        self._status = status
        self._limits = ClientLimits(lambda: MAX_STREAMS)
        self._open: dict[EventResponse, Client] = {}
        self.stopping = False
        self._stops: list[Deferred[None]] = []
        self._grace: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, request: Request) -> Client:
        """
        Check that the client may open one more stream.

        @return: the client.
        @raise ServiceUnavailable: the daemon is stopping, or too many streams
            are open, of this client or of all.
        """
        if self.stopping:
            raise ServiceUnavailable("xferd is stopping")
        client = admitted(request)
        if not self._limits.has_room(client):
            raise self._too_many()
        return client

    def has_room(self, request: Request) -> bool:
        """
        Whether the client may open one more stream.
        """
        return not self.stopping and self._limits.has_room(admitted(request))

    async def send(
        self, request: Request, stream: IEventStream, client: Client, *, status: bool = False
    ) -> bytes | None:
        """
        Answer a request with a stream, until that ends or the client leaves.

        @param status: whether the client wants the state of the daemon, too.
        @raise ServiceUnavailable: too many streams were opened since L{admit}.
        """
        form = _accepted_format(request) or SERVER_SENT
        request.setHeader(b"content-type", form.media_type)
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"xferd-resumed", b"true" if stream.resumed else b"false")
        if request.method == b"HEAD":
            stream.close()
            return b""
        if not self._limits.enter(client):
            stream.close()
            raise self._too_many()
        response = EventResponse(request, stream, form, clock=self._clock, times=self._times, over=self._over)
        self._open[response] = client
        if self.stopping:
            response.end()
        over = response.run()
        if status and not over.called:
            self._status.add(response)
        await over
        return None

    def stop(self) -> Deferred[None]:
        """
        End the open streams and refuse new ones.

        @return: fires when the last one has ended, within L{GRACE} seconds
            and a turn of the reactor.
        """
        self.stopping = True
        if not self._open:
            return succeed(None)
        # No canceller: whoever stops the daemon has no way back.
        stopped: Deferred[None] = Deferred()
        self._stops.append(stopped)
        if self._grace is None:
            self._grace = self._clock.callLater(GRACE, self._abort)
        for response in list(self._open):
            response.end()
        return stopped

    def _abort(self) -> None:
        """
        Cut the connections of clients that have not read the last events.
        """
        for response in list(self._open):
            response.abort()

    def _over(self, response: EventResponse) -> None:
        """
        Forget a response; the last one ends the wait of L{stop}.
        """
        self._limits.leave(self._open.pop(response))
        self._status.remove(response)
        if self._open:
            return
        if self._grace is not None and self._grace.active():
            self._grace.cancel()
        stops, self._stops = self._stops, []
        for stopped in stops:
            stopped.callback(None)

    def _too_many(self) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"{self._limits.taken} event streams are open, and this client can have no more; "
            "close some, or try again later"
        )


def accepts_events(request: Request) -> bool:
    """
    Whether the client names a format of events in C{Accept}.
    """
    return _accepted_format(request) is not None


def wants_only_jobs(request: Request) -> bool:
    """
    Whether the client wants the events of the job alone: C{events=job}.

    @raise BadInput: the parameter has another value.
    """
    return _events_are(request, "job")


def wants_status(request: Request) -> bool:
    """
    Whether the client wants the state of the daemon besides all else: C{events=status}.

    @raise BadInput: the parameter has another value.
    """
    return _events_are(request, "status")


def _events_are(request: Request, wanted: str) -> bool:
    asked = (request.args or {}).get(b"events")
    if asked is None:
        return False
    value = asked[-1].decode("utf-8", "replace")
    if value != wanted:
        raise BadInput(f"'events' must be '{wanted}' or be left out, not {quoted(value)}")
    return True


def _accepted_format(request: Request) -> EventFormat | None:
    accept = header(request, b"accept") or ""
    for form, name in ((JSON_LINES, "application/x-ndjson"), (SERVER_SENT, "text/event-stream")):
        if name in accept:
            return form
    return None


def _pieces(encoded: Iterable[bytes]) -> Iterator[bytes]:
    """
    Join small items to pieces of about L{PIECE} bytes.
    """
    piece: list[bytes] = []
    size = 0
    for item in encoded:
        piece.append(item)
        size += len(item)
        if size >= PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)
