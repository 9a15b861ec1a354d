"""
Tests for L{xferd.engines.snapshotter.daemon_link}.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.engines.grpc.pipe import Pipe
from xferd.credentials import Credentials, Secret
from xferd.engines.grpc.server import GrpcFactory
from xferd.engines.grpc.service import Call, GrpcService, raw_streaming, raw_unary
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.snapshotter.daemon_link import LAG, PATIENCE, RETRY, DaemonLink
from xferd.engines.snapshotter.wire import (
    SERVICE,
    EngineReport,
    Hello,
    Provided,
    Report,
    Served,
    ServedEngine,
    Wanted,
    decode,
    encode,
)
from xferd.interfaces.layer_source import PULLED, ILayerSource, NotProvided, Promise, WantedLayer
from xferd.names import Digest, Reference

CHAIN, BELOW = Digest.of(b"chain"), Digest.of(b"below")
IMAGE = Reference.parse(f"r.example/app@{Digest.of(b'manifest')}")
LAYER = WantedLayer(CHAIN, IMAGE, "r.example/app:1")
SERVED = Served("1.0", False, {"main": ServedEngine("/run/a.sock", "/run/c.sock", False)})


class DaemonEnd:
    """
    A daemon, which answers when the test wants.

    @ivar attached: the snapshotters that were there.
    @ivar asked: the layers that were asked for, each with its answer.
    @ivar held: the leases.
    """

    def __init__(self, clock: MemoryReactorClock) -> None:
        self.attached: list[Hello] = []
        self.asked: list[tuple[Wanted, Deferred[Provided]]] = []
        self.reports: list[Report] = []
        self.held = 0
        methods = {
            "Attach": raw_streaming(self.attach),
            "Report": raw_unary(self.report),
            "Provide": raw_streaming(self.provide),
        }
        self.factory = GrpcFactory([GrpcService(SERVICE, methods)], clock, lambda _: 0)

    async def attach(self, request: bytes, _: Call) -> AsyncGenerator[bytes, None]:
        """
        Say what to serve.
        """
        self.attached.append(decode(Hello, request))
        yield encode(SERVED)
        await Deferred(lambda _: None)

    async def report(self, request: bytes, _: Call) -> bytes:
        """
        Take a report.
        """
        self.reports.append(decode(Report, request))
        return b""

    async def provide(self, request: bytes, _: Call) -> AsyncGenerator[bytes, None]:
        """
        Provide a layer.
        """
        answer: Deferred[Provided] = Deferred(lambda _: None)
        self.asked.append((decode(Wanted, request), answer))
        self.held += 1
        try:
            yield encode(await answer)
            await Deferred(lambda _: None)
        finally:
            self.held -= 1


class DaemonLinkTests(SynchronousTestCase):
    """
    The snapshotter's end.
    """

    def setUp(self) -> None:
        """
        Make both ends.
        """
        self.clock = MemoryReactorClock()
        self.served: list[Served] = []
        self.serving: Deferred[None] | None = None
        self.link = DaemonLink("/run/d.sock", self.clock, self.serve, self.report)  # type: ignore[arg-type]
        self.addCleanup(self.link.stop)
        self.pipe: Pipe | None = None
        self.count = 0

    def serve(self, served: Served) -> Deferred[None]:
        """
        What the daemon wants served.
        """
        self.served.append(served)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def report(self) -> Report:
        """
        The state.
        """
        return Report({"main": EngineReport(None, {PULLED: self.count})})

    def daemon(self) -> DaemonEnd:
        """
        Start a daemon, and wait until the snapshotter has found it.
        """
        daemon = DaemonEnd(self.clock)
        self.refuse_old()
        self.clock.advance(RETRY)
        self.connect(daemon)
        return daemon

    def connect(self, daemon: DaemonEnd) -> None:
        """
        Accept the connection.
        """
        self.pipe = Pipe.accept(self.clock, daemon.factory)
        self.addCleanup(self.pipe.lose)
        self.exchange()

    def refuse_old(self) -> None:
        """
        Refuse the connections that were tried before.
        """
        while self.clock.unixClients:
            Pipe.refuse(self.clock)

    def exchange(self) -> None:
        """
        Deliver until nothing moves.
        """
        assert self.pipe is not None
        self.pipe.exchange()

    def kill(self) -> None:
        """
        The daemon is killed.
        """
        assert self.pipe is not None
        self.pipe.lose()
        self.pipe = None

    def away_for(self, seconds: float) -> None:
        """
        No daemon is there for some time.
        """
        while seconds > 0:
            self.refuse_old()
            self.clock.advance(min(RETRY, seconds))
            seconds -= RETRY
        self.refuse_old()

    def ask(self) -> Deferred[Promise]:
        """
        Ask for a layer.
        """
        credentials = {"r.example": Credentials("ann", Secret("secret"))}
        asked = self.link.obtain("main", LAYER, BELOW, credentials)
        if self.pipe is not None:
            self.exchange()
        return asked

    def answer(self, daemon: DaemonEnd, provided: Provided, at: int = -1) -> None:
        """
        Answer a call.
        """
        daemon.asked[at][1].callback(provided)
        self.exchange()

    def test_interface(self) -> None:
        """
        It provides its Interface.
        """
        verifyObject(ILayerSource, self.link)

    def test_attached(self) -> None:
        """
        The daemon says what to serve, and gets a report then and after changes, not too often.
        """
        self.link.start()
        self.assertTrue(self.link.away)
        daemon = self.daemon()
        self.assertEqual((self.served, len(daemon.attached), self.link.away), ([SERVED], 1, False))
        self.assertEqual(daemon.reports, [Report({"main": EngineReport(None, {PULLED: 0})})])
        for self.count in range(1, 20):
            self.link.changed()
        self.clock.advance(LAG)
        self.exchange()
        self.assertEqual(daemon.reports[1:], [Report({"main": EngineReport(None, {PULLED: 19})})])

    def test_provided(self) -> None:
        """
        A layer is provided, with the lease on it until it is released.
        """
        self.link.start()
        daemon = self.daemon()
        asked = self.ask()
        ((wanted, _),) = daemon.asked
        credentials = {"r.example": Credentials("ann", Secret("secret"))}
        self.assertEqual(wanted, Wanted("main", LAYER, BELOW, credentials))
        self.assertEqual(wanted.credentials, credentials)
        self.answer(daemon, Provided(None, 3, 7, PULLED))
        promise = self.successResultOf(asked)
        self.assertEqual((promise.number, promise.size, promise.how, daemon.held), (3, 7, PULLED, 1))
        promise.release()
        self.exchange()
        self.assertEqual(daemon.held, 0)

    def test_declined(self) -> None:
        """
        The daemon's reason is the reason.
        """
        self.link.start()
        daemon = self.daemon()
        asked = self.ask()
        self.answer(daemon, Provided("the disk is full"))
        self.assertEqual(str(self.failureResultOf(asked, NotProvided).value), "the disk is full")
        asked = self.ask()
        daemon.asked[-1][1].errback(GrpcError(Status.INTERNAL, "a bug"))
        self.exchange()
        self.assertEqual(str(self.failureResultOf(asked, NotProvided).value), "a bug")

    def test_killed(self) -> None:
        """
        Calls that wait for layers when the daemon is killed are sent again to the next one.
        """
        self.link.start()
        self.daemon()
        asked = [self.ask() for _ in range(3)]
        self.kill()
        self.assertTrue(self.link.away)
        self.away_for(PATIENCE - 1)
        for each in asked:
            self.assertNoResult(each)
        daemon = self.daemon()
        self.assertEqual(len(daemon.asked), 3)
        for at in range(3):
            self.answer(daemon, Provided(None, 4, 7, PULLED), at)
        for each in asked:
            self.assertEqual(self.successResultOf(each).number, 4)

    def test_killed_for_good(self) -> None:
        """
        If no daemon comes in time, the engine has to unpack the layers, and those that it asks
        for afterwards at once; a later daemon provides layers again.
        """
        self.link.start()
        self.daemon()
        asked = self.ask()
        self.kill()
        self.away_for(PATIENCE - 1)
        late = self.ask()
        self.away_for(0.5)
        self.assertNoResult(late)
        self.away_for(1)
        for each in (asked, late, self.ask()):
            self.failureResultOf(each, NotProvided)
        daemon = self.daemon()
        again = self.ask()
        self.answer(daemon, Provided(None, 4, 7, PULLED))
        self.successResultOf(again)

    def test_never_there(self) -> None:
        """
        The same from the beginning, as when the machine starts.
        """
        self.link.start()
        asked = self.ask()
        self.away_for(PATIENCE - 1)
        self.assertNoResult(asked)
        self.away_for(2)
        self.failureResultOf(asked, NotProvided)

    def test_stopping_daemon(self) -> None:
        """
        A daemon that stops in an orderly way ends the calls with C{UNAVAILABLE}: they wait for
        the next one.
        """
        self.link.start()
        daemon = self.daemon()
        asked = self.ask()
        _ = daemon.factory.stop(0)
        self.clock.advance(0)
        self.exchange()
        self.assertNoResult(asked)
        self.assertTrue(self.link.away)
        daemon = self.daemon()
        self.answer(daemon, Provided(None, 4, 7, PULLED))
        self.successResultOf(asked)

    def test_cancelled(self) -> None:
        """
        Whoever does not wait any more ends the call at the daemon, or the wait for it.
        """
        self.link.start()
        daemon = self.daemon()
        asked = self.ask()
        self.assertEqual(daemon.held, 1)
        asked.cancel()
        self.exchange()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(daemon.held, 0)
        waiting = self.ask()
        self.kill()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(len(self.daemon().asked), 0)

    def test_stopped(self) -> None:
        """
        After the end nothing is provided, and no timer is left.
        """
        self.link.start()
        self.daemon()
        asked = self.ask()
        self.kill()
        self.link.stop()
        self.failureResultOf(asked, NotProvided)
        self.failureResultOf(self.ask(), NotProvided)
        self.refuse_old()
        self.assertEqual(self.clock.getDelayedCalls(), [])
