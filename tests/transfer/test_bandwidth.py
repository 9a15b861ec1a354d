"""
Tests for L{xferd.transfer.bandwidth}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.allowance import BURST
from xferd.transfer.bandwidth import CLIENT, HOST, JOB, Bandwidth, Flow
from xferd.transfer.fair_queue import Turn
from xferd.transfer.reason import NO_REASON, Obstacle, Reason


class BandwidthTests(SynchronousTestCase):
    """
    A bucket that fills with 1000 bytes per second.
    """

    def setUp(self) -> None:
        """
        Make the bucket.
        """
        self.clock = Clock()
        self.bandwidth = Bandwidth(1000, self.clock)

    def waits(self, size: int) -> Deferred[None]:
        """
        Take bytes, and get a Deferred.
        """
        waiting = self.bandwidth.take(size)
        assert waiting is not None
        return waiting

    def test_no_limit(self) -> None:
        """
        Without a limit there is no wait and no count.
        """
        self.bandwidth.rate = 0
        self.assertIsNone(self.bandwidth.take(10**9))
        self.bandwidth.rate = 1000
        self.successful_after(self.waits(500), 0.5)

    def successful_after(self, waiting: Deferred[None], seconds: float) -> None:
        """
        Assert that a wait takes exactly so long.
        """
        self.clock.advance(seconds - 0.01)
        self.assertNoResult(waiting)
        self.clock.advance(0.01)
        self.successResultOf(waiting)

    def test_wait(self) -> None:
        """
        A transfer waits until the bytes it moved are paid for.
        """
        self.successful_after(self.waits(2000), 2.0)

    def test_binding(self) -> None:
        """
        The limit is the reason of a transfer while it waits for it, and a second longer.
        """
        flow = Flow(self.bandwidth)
        self.assertEqual((flow.reason(), self.bandwidth.binding()), (NO_REASON, []))
        waiting = flow.take(2000)
        assert waiting is not None
        bound = Reason(Obstacle.BANDWIDTH, detail="global")
        self.assertEqual((flow.reason(), self.bandwidth.binding()), (bound, ["global"]))
        self.successful_after(waiting, 2.0)
        self.clock.advance(1)
        self.assertEqual(flow.reason(), bound)
        self.clock.advance(0.01)
        self.assertEqual((flow.reason(), self.bandwidth.binding()), (NO_REASON, []))
        _ = flow.take(2000)
        self.bandwidth.rate = 0
        self.assertEqual((flow.reason(), self.bandwidth.binding()), (NO_REASON, []))

    def test_order(self) -> None:
        """
        Several transfers share the rate, in the order of their arrival.
        """
        first, second = self.waits(1000), self.waits(1000)
        self.successful_after(first, 1.0)
        self.successful_after(second, 1.0)

    def test_burst(self) -> None:
        """
        After a pause some bytes may move at once, up to a bound.
        """
        self.clock.advance(1000)
        self.assertIsNone(self.bandwidth.take(int(1000 * BURST)))
        self.successful_after(self.waits(1000), 1.0)

    def test_raised(self) -> None:
        """
        A higher rate takes effect at once for those that wait.
        """
        waiting = self.waits(10_000)
        self.clock.advance(1.0)
        self.bandwidth.rate = 9000
        self.successful_after(waiting, 1.0)

    def test_lowered(self) -> None:
        """
        So does a lower rate; what is paid for stays paid for.
        """
        waiting = self.waits(10_000)
        self.clock.advance(9.0)
        self.bandwidth.rate = 100
        self.successful_after(waiting, 10.0)

    def test_lifted(self) -> None:
        """
        Without a limit, all that wait go on, from a clean turn.
        """
        waiting = [self.waits(10**9), self.waits(10**9)]
        self.bandwidth.rate = 0
        self.assertNoResult(waiting[0])
        self.clock.advance(0)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_negative(self) -> None:
        """
        A negative rate is refused.
        """
        self.assertRaises(ValueError, setattr, self.bandwidth, "rate", -1)

    def test_cancelled(self) -> None:
        """
        A cancelled wait leaves its bytes counted, and no timer.
        """
        first, second = self.waits(1000), self.waits(1000)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.successful_after(second, 2.0)
        third = self.waits(1000)
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled_by_another(self) -> None:
        """
        A waiter that is woken may cancel another one that would be woken with
        it.
        """
        first, second = self.waits(1000), self.waits(0)
        _ = first.addCallback(lambda _: second.cancel())
        _ = second.addErrback(lambda failure: failure.trap(CancelledError))
        self.clock.advance(1.0)
        self.successResultOf(first)
        self.successResultOf(second)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(1, 200_000), min_size=1, max_size=40), st.integers(1000, 10**6))
    def test_rate(self, pieces: list[int], rate: int) -> None:
        """
        Pieces of any size take as long as the rate says.
        """
        clock = Clock()
        bandwidth = Bandwidth(rate, clock)
        for piece in pieces:
            waiting = bandwidth.take(piece)
            while waiting is not None and not waiting.called:
                (timer,) = clock.getDelayedCalls()
                clock.advance(timer.getTime() - clock.seconds())
        self.assertApproximates(clock.seconds(), sum(pieces) / rate, BURST + 0.01)


RATE = 100_000
PIECE = 1000


class FlowTests(SynchronousTestCase):
    """
    Transfers that move as many bytes as the limits permit.
    """

    def setUp(self) -> None:
        """
        Make a bandwidth without a limit.
        """
        self.clock = Clock()
        self.weights: dict[str, int] = {}
        self.bandwidth = Bandwidth(0, self.clock, self.weights)
        self.moved: dict[str, int] = {}
        self.stopped: set[str] = set()

    def stream(self, name: str, flow: Flow, piece: int = PIECE) -> None:
        """
        Move bytes until the name is in C{stopped}.
        """
        self.moved.setdefault(name, 0)

        def go_on(_: object = None) -> None:
            waiting = None
            while waiting is None and name not in self.stopped:
                self.moved[name] += piece
                waiting = flow.take(piece)
            if waiting is not None:
                _ = waiting.addCallback(go_on)

        go_on()

    def flow(self, *turns: Turn, host: str = "one.example") -> Flow:
        """
        Make a flow with these watchers.
        """
        return Flow(self.bandwidth, host, lambda: turns)

    def run_for(self, seconds: float) -> dict[str, int]:
        """
        Let time pass.

        @return: the bytes a second of each stream.
        """
        before = dict(self.moved)
        for _ in range(round(seconds * 1000)):
            self.clock.advance(0.001)
        return {name: round((moved - before[name]) / seconds) for name, moved in self.moved.items()}

    def assert_rates(self, found: dict[str, int], **expected: float) -> None:
        """
        Assert the rates of streams, within 5 %.
        """
        self.assertEqual(set(found), set(expected))
        for name, rate in expected.items():
            self.assertApproximates(found[name], rate, 0.05 * rate, msg=f"{name} of {found}")

    def test_free(self) -> None:
        """
        A limit on something else holds no transfer.
        """
        self.bandwidth.limit(HOST, "two.example", 1)
        self.bandwidth.limit(CLIENT, "bob", 1)
        self.bandwidth.limit(JOB, 2, 1)
        flow = self.flow(Turn("alice", 0, 1, 0))
        self.assertIsNone(flow.take(10**9))
        self.assertEqual((self.bandwidth.binding(), self.clock.getDelayedCalls()), ([], []))

    def test_each(self) -> None:
        """
        Each limit holds its own transfers, and its reason says whose it is.
        """
        cases = (
            (HOST, "one.example", "", "host one.example"),
            (CLIENT, "alice", "", "client alice"),
            (JOB, 1, "f00d", "job f00d"),
        )
        for scope, key, name, whose in cases:
            self.setUp()
            self.bandwidth.limit(scope, key, RATE, name)
            self.assertEqual(self.bandwidth.rate_of(scope, key), RATE)
            flow = self.flow(Turn("alice", 0, 1, 0))
            self.stream("limited", flow)
            self.assert_rates(self.run_for(2), limited=RATE)
            self.assertEqual(flow.reason(), Reason(Obstacle.BANDWIDTH, detail=whose))
            self.assertEqual(self.bandwidth.binding(), [whose])
            self.bandwidth.limit(scope, key, RATE // 10, name)
            self.assert_rates(self.run_for(2), limited=RATE / 10)
            self.stopped.add("limited")
            self.bandwidth.limit(scope, key, 0)
            self.assertEqual(flow.reason(), NO_REASON)
            self.clock.advance(0)
            self.assertIsNone(flow.take(10**9))
            self.assertEqual((self.bandwidth.rate_of(scope, key), self.bandwidth.limited), (0, False))

    def test_streams(self) -> None:
        """
        The streams of a transfer, and the transfers of a job, count together.
        """
        self.bandwidth.limit(JOB, 1, RATE)
        first, second = self.flow(Turn("alice", 0, 1, 0)), self.flow(Turn("alice", 0, 1, 1))
        for name, flow in (("a", first), ("b", first), ("c", second)):
            self.stream(name, flow)
        self.assertApproximates(sum(self.run_for(2).values()), RATE, 0.05 * RATE)

    def test_least(self) -> None:
        """
        Where several limits concern a transfer, the lowest counts.
        """
        self.bandwidth.rate = RATE
        self.bandwidth.limit(HOST, "one.example", RATE // 2)
        self.bandwidth.limit(JOB, 1, RATE // 4)
        for name, job, host in (("a", 1, "one.example"), ("b", 2, "one.example"), ("c", 3, "two.example")):
            self.stream(name, self.flow(Turn("alice", 0, job, 0), host=host))
        self.assert_rates(self.run_for(4), a=RATE / 4, b=RATE / 4, c=RATE / 2)

    def test_shared(self) -> None:
        """
        A shared transfer moves as long as one of its jobs permits it, and is charged
        to those in equal parts.
        """
        one, two, three = (Turn("alice", 0, job, 0) for job in (1, 2, 3))
        self.bandwidth.limit(JOB, 1, RATE)
        self.bandwidth.limit(JOB, 2, RATE)
        self.stream("shared", self.flow(one, two))
        self.assert_rates(self.run_for(2), shared=2 * RATE)
        self.stopped.add("shared")
        self.clock.advance(1)
        free = self.flow(one, three)
        self.assertEqual([free.take(PIECE) for _ in range(100)], [None] * 100)

    def test_shared_free(self) -> None:
        """
        A job whose limit holds another transfer of its own pays for none that moves
        without it.
        """
        one, other = Turn("alice", 0, 1, 0), Turn("bob", 0, 2, 0)
        self.bandwidth.limit(JOB, 1, RATE)
        self.bandwidth.limit(CLIENT, "bob", 10 * RATE)
        self.stream("own", self.flow(one))
        self.stream("shared", self.flow(one, other))
        self.assert_rates(self.run_for(2), own=RATE, shared=10 * RATE)

    def test_watchers_change(self) -> None:
        """
        The jobs that watch a transfer count, whichever they are now.
        """
        turns = [(Turn("alice", 0, 1, 0),)]
        self.bandwidth.limit(JOB, 1, RATE)
        flow = Flow(self.bandwidth, "one.example", lambda: turns[0])
        self.stream("shared", flow)
        self.assert_rates(self.run_for(1), shared=RATE)
        turns[0] = (Turn("bob", 0, 2, 0),)
        self.bandwidth.limit(JOB, 2, 2 * RATE)
        self.assert_rates(self.run_for(1), shared=2 * RATE)

    def test_weights(self) -> None:
        """
        Clients share a limit by their weights while both have work, and each has all of it
        alone.  The numbers of their transfers do not matter.
        """
        for scope, key in ((None, None), (HOST, "one.example")):
            self.setUp()
            self.weights["alice"] = 3
            if scope is None:
                self.bandwidth.rate = RATE
            else:
                self.bandwidth.limit(scope, key, RATE)
            self.stream("a", self.flow(Turn("alice", 0, 1, 0)))
            for number in range(4):
                self.stream(f"b{number}", self.flow(Turn("bob", 0, 2, number)), PIECE + 100 * number)
            found = self.run_for(8)
            self.assertApproximates(found["a"], 0.75 * RATE, 0.02 * RATE)
            self.assertApproximates(sum(found[f"b{n}"] for n in range(4)), 0.25 * RATE, 0.02 * RATE)
            self.weights["alice"] = 1
            self.assertApproximates(self.run_for(8)["a"], 0.5 * RATE, 0.02 * RATE)
            self.stopped.add("a")
            found = self.run_for(4)
            self.assertApproximates(sum(found[f"b{n}"] for n in range(4)), RATE, 0.03 * RATE)
            self.stopped.discard("a")
            self.stream("a", self.flow(Turn("alice", 0, 1, 0)))
            # The time without work is not made up for.
            self.assertApproximates(self.run_for(4)["a"], 0.5 * RATE, 0.05 * RATE)

    def test_late_pieces(self) -> None:
        """
        The shares are the same where timers and pieces come late, as on a machine that lacks
        the processor.
        """
        self.weights["alice"] = 3
        self.bandwidth.rate = 3 * RATE
        moved = {"alice": 0, "bob": 0}

        def go_on(client: str, flow: Flow) -> None:
            moved[client] += PIECE
            waiting = flow.take(PIECE)
            if waiting is None:
                later(client, flow)
            else:
                _ = waiting.addCallback(lambda _: later(client, flow))

        def later(client: str, flow: Flow) -> None:
            self.clock.callLater(0.001, go_on, client, flow)

        for number, client in enumerate(moved):
            go_on(client, self.flow(Turn(client, 0, number, 0)))
        for _ in range(200):
            self.clock.advance(0.02)
            for _ in range(10):
                self.clock.advance(0.001)
        self.assertApproximates(sum(moved.values()) / 6, 3 * RATE, 0.05 * 3 * RATE)
        self.assertApproximates(moved["alice"] / sum(moved.values()), 0.75, 0.05 * 0.75)

    def test_weights_below_a_host(self) -> None:
        """
        A host's limit does not take the shares of those that are at other hosts.
        """
        self.weights.update(alice=3, carol=2)
        self.bandwidth.rate = RATE
        self.bandwidth.limit(HOST, "two.example", RATE // 5)
        self.stream("alice", self.flow(Turn("alice", 0, 1, 0), host="two.example"))
        self.stream("bob", self.flow(Turn("bob", 0, 2, 0), host="two.example"))
        self.stream("carol", self.flow(Turn("carol", 0, 3, 0)))
        self.assert_rates(self.run_for(8), alice=0.15 * RATE, bob=0.05 * RATE, carol=0.8 * RATE)

    def test_evenly(self) -> None:
        """
        Content is sent in pieces of a tenth of a second, if that is not too little.
        """
        flow = self.flow(Turn("alice", 0, 1, 0))
        self.assertEqual(flow.piece(131_072), 131_072)
        self.bandwidth.rate = 500_000
        self.assertEqual(flow.piece(131_072), 50_000)
        self.bandwidth.limit(JOB, 1, 1000)
        self.assertEqual((flow.piece(131_072), flow.piece(100)), (4096, 100))

    def test_cancelled_claim(self) -> None:
        """
        What is cancelled holds nothing else.
        """
        self.bandwidth.limit(CLIENT, "alice", RATE)
        first, second = self.flow(Turn("alice", 0, 1, 0)), self.flow(Turn("alice", 0, 2, 0))
        waiting = first.take(RATE)
        assert waiting is not None
        later = second.take(PIECE)
        assert later is not None
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.clock.advance(1.0)
        self.assertNoResult(later)
        self.clock.advance(0.01)
        self.successResultOf(later)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @settings(max_examples=50, deadline=None)
    @given(st.data())
    def test_nothing_stays(self, data: st.DataObject) -> None:
        """
        Whatever changes, all that waits goes on in the end, and no limit is exceeded.
        """
        self.setUp()
        hosts, jobs = ("one.example", "two.example"), ((1, "alice"), (2, "alice"), (3, "bob"))
        flows = [
            self.flow(*(Turn(client, 0, job, 0) for job, client in watchers), host=host)
            for host in hosts
            for watchers in (jobs[:1], jobs[1:], jobs)
        ]
        waits: list[Deferred[None]] = []
        for _ in range(data.draw(st.integers(1, 30))):
            match data.draw(st.sampled_from(("take", "limit", "rate", "cancel", "advance"))):
                case "take":
                    waiting = data.draw(st.sampled_from(flows)).take(data.draw(st.integers(0, 5000)))
                    if waiting is not None:
                        _ = waiting.addErrback(lambda failure: failure.trap(CancelledError) and None)
                        waits.append(waiting)
                case "limit":
                    scope, key = data.draw(
                        st.sampled_from(((HOST, hosts[0]), (CLIENT, "alice"), (JOB, 1), (JOB, 3)))
                    )
                    self.bandwidth.limit(scope, key, data.draw(st.integers(0, 3000)))
                case "rate":
                    self.bandwidth.rate = data.draw(st.integers(0, 3000))
                case "cancel" if waits:
                    waits[data.draw(st.integers(0, len(waits) - 1))].cancel()
                case _:
                    self.clock.advance(data.draw(st.floats(0, 2)))
        for _ in range(10_000):
            if not self.clock.getDelayedCalls():
                break
            (timer,) = self.clock.getDelayedCalls()
            self.clock.advance(max(0.0, timer.getTime() - self.clock.seconds()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(all(waiting.called for waiting in waits))
        self.assertEqual(self.bandwidth.waiting, 0)
