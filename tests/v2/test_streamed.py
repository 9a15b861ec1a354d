"""
Tests for L{xferd.v2.streamed}: bodies that are accepted or refused by the headers.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Request

from tests.v2.case import HERE, PEER
from tests.web.connection import Connection
from xferd.errors import DiskFull, NotFound, XferdError
from xferd.v2.responses import respond_error
from xferd.v2.streamed import LEAST, Receiver, RegistrySite, StreamingRequest, accepted
from xferd.web.client_limits import ClientLimits
from xferd.web.peer_trust import Trust
from xferd.web.site import ARRIVAL, LINGER


@define(eq=False)
class Sink:
    """
    A receiver.

    @ivar pieces: what it received.
    @ivar released: how often it was released.
    @ivar error: raised by the next C{write}.
    """

    pieces: list[bytes] = field(factory=list)
    released: int = 0
    error: Exception | None = None

    def write(self, data: bytes) -> None:
        """
        Receive.
        """
        if self.error is not None:
            raise self.error
        self.pieces.append(data)

    def release(self) -> None:
        """
        Count.
        """
        self.released += 1


class Root(Resource):
    """
    Answers with the number of bytes.
    """

    isLeaf = True

    def render(self, request: Request) -> bytes:
        """
        Answer.
        """
        if request.path == b"/buffered":
            assert request.content is not None
            return b"%d" % len(request.content.read())
        try:
            sink = accepted(request)
        except XferdError as e:
            return respond_error(request, e)
        assert isinstance(sink, Sink)
        return b"%d" % sum(map(len, sink.pieces))


class StreamedTests(SynchronousTestCase):
    """
    Requests with bodies.
    """

    def setUp(self) -> None:
        """
        Make a site that waits for the test's decision.
        """
        self.clock = Clock()
        self.sink = Sink()
        self.cancelled = 0
        self.decision: Deferred[Receiver] = Deferred(self.cancel)
        self.seen: list[tuple[bytes, bytes]] = []
        site = RegistrySite(
            Root(),
            self.clock,
            admit_body=self.admit,
            places=ClientLimits(lambda: 10),
            trust=Trust.ALL,
            route=lambda _: ("", {}),
        )
        self.connection = Connection(site, PEER, HERE)
        # StringTransport has no timers of its own.
        self.connection.protocol.callLater = self.clock.callLater  # type: ignore[attr-defined]
        self.addCleanup(self.connection.lose)

    def cancel(self, _: object) -> None:
        """
        Count a cancelled decision.
        """
        self.cancelled += 1

    def admit(self, request: StreamingRequest) -> Deferred[Receiver] | None:
        """
        Decide, or leave it.
        """
        self.seen.append((request.method, request.uri))
        return None if request.path == b"/buffered" else self.decision

    def send(self, body: bytes = b"", path: str = "/x?a=b", **headers: str) -> None:
        """
        Send a request.
        """
        fields = {"Host": "localhost", **{k.replace("_", "-"): v for k, v in headers.items()}}
        fields.setdefault("Content-Length", str(len(body)))
        self.connection.send("PUT", path, fields, body)

    def more(self, data: bytes) -> None:
        """
        Send more.
        """
        self.connection.protocol.dataReceived(data)

    @property
    def paused(self) -> bool:
        """
        Whether nothing is read.
        """
        return self.connection.transport.producerState == "paused"

    def test_passed_on(self) -> None:
        """
        The site knows method and path by the headers; each piece is passed on as it
        arrives, and the request is routed after the last one.
        """
        self.decision = succeed(self.sink)
        self.send(Content_Length="6")
        self.assertEqual(self.seen, [(b"PUT", b"/x?a=b")])
        self.more(b"abc")
        self.assertEqual(self.sink.pieces, [b"abc"])
        self.assertEqual((self.connection.received(), self.sink.released), (b"", 0))
        self.more(b"def")
        self.assertEqual(self.connection.answer().body, b"6")
        self.assertEqual(self.sink.released, 1)

    def test_held(self) -> None:
        """
        Until the site has decided, nothing further is read; bytes that are here
        already are kept.
        """
        self.send(b"abc", Content_Length="6")
        self.assertTrue(self.paused)
        self.assertEqual(self.sink.pieces, [])
        self.clock.advance(1000.0)
        self.decision.callback(self.sink)
        self.assertFalse(self.paused)
        self.assertEqual(self.sink.pieces, [b"abc"])
        self.more(b"def")
        self.assertEqual(self.connection.answer().body, b"6")

    def test_held_to_the_end(self) -> None:
        """
        A body that is here before the decision waits for it; the next request on
        the connection is served, and still has its idle timeout.
        """
        self.send(b"abc")
        self.assertEqual(self.connection.received(), b"")
        self.decision.callback(self.sink)
        self.assertEqual(self.connection.answer().body, b"3")
        self.decision = succeed(Sink())
        self.send(b"defg")
        self.assertEqual(self.connection.answer().body, b"4")
        self.clock.advance(61.0)
        self.assertTrue(self.connection.transport.disconnecting)

    def test_output_read(self) -> None:
        """
        That the client reads output does not resume a held body.
        """
        self.send(b"abc", Content_Length="6")
        self.connection.protocol.resumeProducing()  # type: ignore[attr-defined]
        self.assertTrue(self.paused)

    def test_empty(self) -> None:
        """
        The site decides about an empty body, too.
        """
        self.decision = succeed(self.sink)
        self.send()
        self.assertEqual(self.connection.answer().body, b"0")

    def test_short_refused(self) -> None:
        """
        The rest of a short body is read, the route reports the error, and the
        connection stays.
        """
        self.decision = fail(NotFound("nothing here"))
        self.send(b"abc", Content_Length="6")
        self.assertEqual(self.connection.received(), b"")
        self.more(b"def")
        self.assertEqual(self.connection.answer().status, 404)
        self.decision = succeed(self.sink)
        self.send(b"abc")
        self.assertEqual(self.connection.answer().body, b"3")

    def test_long_refused(self) -> None:
        """
        A long body is refused at once; what the client still sends is dropped, and
        not for ever.
        """
        self.send(b"abc", Content_Length=str(10 << 30))
        self.decision.errback(NotFound("nothing here"))
        answer = self.connection.answer()
        self.assertEqual((answer.status, answer.headers["connection"]), (404, "close"))
        self.assertEqual(answer.json()["errors"][0]["message"], "nothing here")
        self.more(bytes(LINGER // 2))
        self.assertFalse(self.connection.transport.disconnecting)
        self.more(bytes(LINGER))
        self.assertTrue(self.connection.transport.disconnecting)

    def test_bug(self) -> None:
        """
        A bug in the decision is an internal error, and logged.
        """
        self.send(Content_Length=str(10 << 30))
        self.decision.errback(ZeroDivisionError())
        self.assertEqual(self.connection.answer().status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_invited(self) -> None:
        """
        A client that expects an invitation gets it when its body is accepted.
        """
        self.send(Content_Length="3", Expect="100-continue")
        self.assertEqual(self.connection.received(), b"")
        self.decision.callback(self.sink)
        self.assertEqual(self.connection.received(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.more(b"abc")
        self.assertEqual(self.connection.answer().body, b"3")

    def test_not_invited(self) -> None:
        """
        A client that expects an invitation gets the error instead, also for a short
        body.
        """
        self.send(Content_Length="3", Expect="100-continue")
        self.decision.errback(NotFound("nothing here"))
        self.assertEqual(self.connection.answer().status, 404)

    def test_write_fails(self) -> None:
        """
        An error of the receiver ends a long body, and releases the receiver.
        """
        self.decision = succeed(self.sink)
        self.send(b"abc", Content_Length=str(10 << 30))
        self.sink.error = DiskFull("the disk is full")
        self.more(b"def")
        self.assertEqual(self.connection.answer().status, 507)
        self.assertEqual(self.sink.released, 1)
        self.more(b"ghi")
        self.assertEqual(self.sink.pieces, [b"abc"])

    def test_write_fails_at_the_end(self) -> None:
        """
        An error within a short body is reported by the route.
        """
        self.decision = succeed(self.sink)
        self.sink.error = DiskFull("the disk is full")
        self.send(b"abc", Content_Length="6")
        self.more(b"def")
        self.assertEqual(self.connection.answer().status, 507)

    def test_early_write_fails(self) -> None:
        """
        The same for bytes that came before the decision.
        """
        self.sink.error = DiskFull("the disk is full")
        self.send(b"abc", Content_Length=str(10 << 30))
        self.decision.callback(self.sink)
        self.assertEqual(self.connection.answer().status, 507)

    def test_lost_while_held(self) -> None:
        """
        A client that leaves cancels the decision; a receiver that is there
        nevertheless is released.
        """
        self.decision = Deferred(lambda decision: decision.callback(self.sink))
        self.send(b"abc", Content_Length="6")
        self.connection.lose()
        self.assertEqual((self.sink.pieces, self.sink.released), ([], 1))

    def test_cancelled(self) -> None:
        """
        A decision that is cancelled is no error.
        """
        decision = self.decision
        self.send(b"abc", Content_Length="6")
        self.connection.lose()
        self.assertEqual(self.cancelled, 1)
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])
        self.successResultOf(decision)

    def test_lost(self) -> None:
        """
        A client that leaves within its body releases the receiver.
        """
        self.decision = succeed(self.sink)
        self.send(b"abc", Content_Length="6")
        self.connection.lose()
        self.assertEqual(self.sink.released, 1)

    def test_slow(self) -> None:
        """
        A streamed body may take longer than others, as long as it makes progress.
        """
        self.decision = succeed(self.sink)
        self.send(Content_Length=str(10 << 30))
        for _ in range(20):
            for _ in range(10):
                self.more(bytes(LEAST // 5))
                self.clock.advance(ARRIVAL / 10)
        self.assertFalse(self.connection.transport.disconnecting)
        for _ in range(20):
            if not self.connection.transport.disconnecting:
                self.more(b"x")
                self.clock.advance(ARRIVAL / 10)
        self.assertTrue(self.connection.transport.disconnecting)

    def test_silent(self) -> None:
        """
        A client that sends nothing is disconnected.
        """
        self.decision = succeed(self.sink)
        self.send(Content_Length="10")
        self.clock.advance(61.0)
        self.assertTrue(self.connection.transport.disconnecting)

    def test_buffered(self) -> None:
        """
        A body that the site leaves to its route is read into memory, up to a limit.
        """
        self.send(bytes(1000), "/buffered")
        self.assertEqual(self.connection.answer().body, b"1000")
        self.send(b"", "/buffered", Content_Length="20000")
        answer = self.connection.answer()
        self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (413, "SIZE_INVALID"))

    def test_tls(self) -> None:
        """
        A TLS handshake is refused at once, so that clients go on to plain HTTP.
        """
        self.more(b"\x16\x03\x01\x02\x00")
        self.assertTrue(self.connection.received().startswith(b"HTTP/1.1 400 "))
        self.assertTrue(self.connection.transport.disconnecting)
