"""
Tests for L{xferd.unpack.unpacker} and L{xferd.unpack.layer_task}: layers, the
order in which they read, and the number of their processes.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from zope.interface.verify import verifyObject

from tests.unpack.unpacker.case import DIFF_ID, OWNERS, UnpackerCase
from xferd.errors import BadLayer, DiskFull, StoreError, WorkerLost
from xferd.interfaces.store import Unpacked
from xferd.interfaces.unpack import Displaced, ILayerTask, IUnpacker, UnpackProgress
from xferd.unpack.layer_task import TURN_SIZE, WAKE_SIZE, LayerTask


class UnpackingTests(UnpackerCase):
    """
    One layer.
    """

    def test_interfaces(self) -> None:
        """
        The Interfaces are provided.
        """
        self.assertTrue(verifyObject(IUnpacker, self.unpacker))
        self.assertTrue(verifyObject(ILayerTask, self.unpack()))

    def test_success(self) -> None:
        """
        A layer begins with its first bytes, and fires with its facts after its
        process has ended.
        """
        layer = self.unpack()
        self.assertEqual(self.process.take(), [])
        layer.sealed("/blob", 100)
        limits = {"entries": 2_000_000, "size": 128 << 30, "header": 1 << 20, "depth": 256, "ratio": 1100}
        self.assertEqual(
            self.process.take(),
            [
                (
                    0,
                    "begin",
                    {"staged": "/staged", "compression": "gzip", "algorithm": "sha256", "limits": limits},
                ),
                (0, "grown", {"path": "/blob", "size": 100, "sealed": True}),
            ],
        )
        self.process.says(0, "implied", paths=[".", "a\xff"])
        self.process.says(0, "implied", paths=["b"])
        self.result(0)
        self.assertNoResult(layer.result)
        self.process.says(0, "ended", status=0)
        self.assertEqual(
            self.successResultOf(layer.result), Unpacked(DIFF_ID, 9, 5, 2, (b".", b"a\xff", b"b"), OWNERS)
        )

    def test_progress(self) -> None:
        """
        Progress is handed on and kept.
        """
        layer = self.unpack(100)
        self.assertEqual(layer.progress, UnpackProgress(0, 0))
        self.process.says(0, "progress", consumed=50, entries=3)
        self.assertEqual((self.seen, layer.progress), ([UnpackProgress(50, 3)], UnpackProgress(50, 3)))

    def test_progress_of_the_hungry(self) -> None:
        """
        A process that waits for bytes has read those before them, though it has not reported
        progress since; one that has reported more repeats nothing.
        """
        layer = self.unpack(100)
        self.process.says(0, "hungry", consumed=60)
        self.process.says(0, "progress", consumed=60, entries=3)
        self.process.says(0, "hungry", consumed=60)
        self.process.says(0, "hungry", consumed=0)
        expected = [UnpackProgress(60, 0), UnpackProgress(60, 3)]
        self.assertEqual((self.seen, layer.progress), (expected, expected[-1]))

    def test_failure(self) -> None:
        """
        An error of the process becomes the error of its code, possibly before
        the seal.
        """
        for number, kind in enumerate((BadLayer, StoreError, DiskFull, WorkerLost)):
            layer = self.unpack()
            layer.grown("/blob", WAKE_SIZE)
            self.process.says(number, "error", code=kind.code, message="why it is so")
            self.process.says(number, "ended", status=0)
            error = self.failureResultOf(layer.result, kind).value
            self.assertEqual((type(error), str(error)), (kind, "why it is so"))
            layer.grown("/blob", 9 * WAKE_SIZE)
            layer.sealed("/blob", 9 * WAKE_SIZE)

    def test_unknown_code(self) -> None:
        """
        An unknown code means a lost worker.
        """
        layer = self.unpack(1)
        self.process.says(0, "error", code="NEW", message="why")
        self.process.says(0, "ended", status=0)
        self.failureResultOf(layer.result, WorkerLost)

    def test_death(self) -> None:
        """
        A process that ends without a message is lost; its status is reported.
        """
        for number, (status, text) in enumerate(
            {-9: "short of memory", -31: "its sandbox forbids", -11: "signal 11", 3: "status 3"}.items()
        ):
            layer = self.unpack(1)
            self.process.says(number, "ended", status=status)
            self.assertIn(text, str(self.failureResultOf(layer.result, WorkerLost).value))

    def test_cancelled_before(self) -> None:
        """
        A layer that has no process yet ends at once, and never gets one.
        """
        layer = self.unpack()
        layer.result.cancel()
        self.failureResultOf(layer.result, CancelledError)
        layer.sealed("/blob", 5)
        layer.result.cancel()
        self.assertEqual(self.process.take(), [])

    def test_cancelled_while_running(self) -> None:
        """
        A cancelled layer's process is killed, and the result fires only after
        its end; cancelling again and late messages have no effect.
        """
        layer = self.unpack(5)
        self.process.take()
        layer.result.cancel()
        self.assertEqual(self.process.take(), [(0, "cancel", {})])
        self.assertNoResult(layer.result)
        layer.result.cancel()
        self.process.says(0, "progress", consumed=1, entries=1)
        self.result(0)
        self.assertNoResult(layer.result)
        self.process.says(0, "ended", status=-9)
        self.failureResultOf(layer.result, CancelledError)
        self.assertEqual((self.seen, self.process.take()), ([], []))

    def test_cancelled_late(self) -> None:
        """
        Cancelling what has fired does nothing.
        """
        layer = self.unpack(5)
        self.result(0)
        self.process.says(0, "ended", status=0)
        self.successResultOf(layer.result)
        layer.result.cancel()
        layer.abandon()
        self.assertEqual([verb for _, verb, _ in self.process.take()], ["begin", "grown"])

    def test_restarted(self) -> None:
        """
        Bytes that were wrong end the work just so, begun or not.
        """
        waiting, running = self.unpack(), self.unpack(5)
        waiting.restarted()
        self.failureResultOf(waiting.result, CancelledError)
        running.restarted()
        running.restarted()
        self.assertNoResult(running.result)
        self.assertEqual(self.process.take()[-1], (1, "cancel", {}))
        self.process.says(1, "ended", status=-9)
        self.failureResultOf(running.result, CancelledError)


class TurnTests(UnpackerCase):
    """
    The order in which layers may read.
    """

    def test_mouthfuls(self) -> None:
        """
        A layer is woken for a mouthful and more, never with a word that it
        has not read; at the seal it gets the rest, however little.
        """
        layer = self.unpack()
        layer.grown("/partial", WAKE_SIZE - 1)
        self.assertEqual(self.told(), [])
        layer.grown("/partial", WAKE_SIZE + 5)
        self.assertEqual(self.told(), [(0, WAKE_SIZE + 5, False)])
        layer.grown("/partial", 3 * WAKE_SIZE)
        layer.grown("/partial", 4 * WAKE_SIZE)
        self.assertEqual(self.told(), [])
        self.process.says(0, "hungry", consumed=WAKE_SIZE + 5)
        self.assertEqual(self.told(), [(0, 4 * WAKE_SIZE, False)])
        self.process.says(0, "hungry", consumed=4 * WAKE_SIZE)
        layer.grown("/partial", 4 * WAKE_SIZE + 9)
        self.assertEqual(self.told(), [])
        layer.sealed("/blob", 4 * WAKE_SIZE + 9)
        self.assertEqual(self.told(), [(0, 4 * WAKE_SIZE + 9, True)])
        self.process.says(0, "hungry", consumed=4 * WAKE_SIZE + 9)
        self.assertEqual(self.told(), [])

    def test_seal_without_bytes(self) -> None:
        """
        The seal is sent although all bytes have been.
        """
        layer = self.unpack()
        layer.grown("/partial", WAKE_SIZE)
        layer.sealed("/blob", WAKE_SIZE)
        self.assertEqual(self.told(), [(0, WAKE_SIZE, False)])
        self.process.says(0, "hungry", consumed=WAKE_SIZE)
        self.assertEqual(
            self.process.take(), [(0, "grown", {"path": "/blob", "size": WAKE_SIZE, "sealed": True})]
        )

    def test_workers_change(self) -> None:
        """
        With more workers, waiting layers read at once; with fewer, reading
        ones continue and no other begins.
        """
        for _ in range(4):
            self.unpack().grown("/partial", WAKE_SIZE)
        self.assertEqual([number for number, _, _ in self.told()], [0, 1])
        self.assertEqual((self.unpacker.workers, self.unpacker.busy), (2, 2))
        self.unpacker.workers = 3
        self.assertEqual([number for number, _, _ in self.told()], [2])
        self.unpacker.workers = 1
        self.process.says(0, "hungry", consumed=WAKE_SIZE)
        self.process.says(1, "hungry", consumed=WAKE_SIZE)
        self.assertEqual((self.told(), self.unpacker.busy), ([], 1))
        self.process.says(2, "hungry", consumed=WAKE_SIZE)
        self.assertEqual([number for number, _, _ in self.told()], [3])

    def test_turns(self) -> None:
        """
        At most as many layers as workers read at a time, in turns, and the
        first asked for come first.
        """
        for _ in range(4):
            self.unpack(2 * TURN_SIZE + 5)
        self.assertEqual(self.told(), [(0, TURN_SIZE, False), (1, TURN_SIZE, False)])
        self.process.says(1, "hungry", consumed=TURN_SIZE)
        self.assertEqual(self.told(), [(1, 2 * TURN_SIZE, False)])
        self.process.says(0, "hungry", consumed=TURN_SIZE)
        self.process.says(0, "hungry", consumed=2 * TURN_SIZE)
        self.assertEqual(self.told(), [(0, 2 * TURN_SIZE, False), (0, 2 * TURN_SIZE + 5, True)])
        self.result(0)
        self.assertEqual(self.told(), [])
        self.process.says(0, "ended", status=0)
        self.assertEqual(self.told(), [(2, TURN_SIZE, False)])

    def test_stalled(self) -> None:
        """
        Layers whose bytes stall delay no others, and have precedence when
        bytes arrive again.
        """
        stalled = [self.unpack() for _ in range(3)]
        for layer in stalled:
            layer.grown("/partial", WAKE_SIZE)
        for number in range(3):
            self.process.says(number, "hungry", consumed=WAKE_SIZE)
        self.told()
        self.unpack(2 * TURN_SIZE)
        self.unpack(2 * TURN_SIZE)
        self.assertEqual(self.told(), [(3, TURN_SIZE, False), (4, TURN_SIZE, False)])
        stalled[1].grown("/partial", 2 * WAKE_SIZE)
        self.assertEqual(self.told(), [])
        self.process.says(3, "hungry", consumed=TURN_SIZE)
        self.assertEqual(self.told(), [(1, 2 * WAKE_SIZE, False)])

    def test_cancelled_turn(self) -> None:
        """
        A cancelled layer's turn passes to another after its process has ended.
        """
        first = self.unpack(5)
        self.unpack(5)
        self.unpack(5)
        self.told()
        first.result.cancel()
        self.assertEqual(self.told(), [])
        self.process.says(0, "ended", status=-9)
        self.assertEqual(self.told(), [(2, 5, True)])
        self.failureResultOf(first.result, CancelledError)


class RoomTests(UnpackerCase):
    """
    How many processes there are.
    """

    def setUp(self) -> None:
        """
        No layer's bytes arrive yet.
        """
        super().setUp()
        self.moving: set[int] = set()

    def partial(self, size: int = WAKE_SIZE) -> LayerTask:
        """
        A layer of which so many bytes are here.
        """
        number = self.unpacker._requests
        layer = self.unpack(moving=lambda: number in self.moving)
        layer.grown("/partial", size)
        return layer

    def commands(self, verb: str) -> list[int]:
        """
        The layers with which this was done, since the last time.
        """
        return [number for number, done, _ in self.process.take() if done == verb]

    def test_nothing_moves(self) -> None:
        """
        Layers whose bytes do not arrive have no process, however many bytes
        are here; one of which all are here has one.
        """
        for _ in range(60):
            self.partial()
        self.assertEqual(self.process.take(), [])
        self.unpack(5)
        self.assertEqual(self.commands("begin"), [60])

    def test_bound(self) -> None:
        """
        There are at most as many processes as workers and layers whose bytes
        arrive: to begin another, the idle one that has read least is ended,
        and its layer has to be unpacked again.
        """
        layers = []
        for number in range(4):
            self.moving = {number}
            layers.append(self.partial())
            self.process.says(number, "progress", consumed=WAKE_SIZE - number, entries=1)
            self.process.says(number, "hungry", consumed=WAKE_SIZE - number)
        commands = self.process.take()
        self.assertEqual([n for n, verb, _ in commands if verb == "begin"], [0, 1, 2])
        self.assertEqual([n for n, verb, _ in commands if verb == "cancel"], [2])
        layers[3].grown("/partial", 2 * WAKE_SIZE)
        self.assertEqual(self.process.take(), [])
        self.process.says(2, "ended", status=-9)
        self.failureResultOf(layers[2].result, Displaced)
        self.assertEqual(self.commands("begin"), [3])

    def test_whole_ones_stay(self) -> None:
        """
        A process that has bytes to read is not ended for another.
        """
        self.moving = {0, 1, 2}
        layers = [self.partial() for _ in range(3)]
        for number, layer in enumerate(layers[:2]):
            layer.sealed("/blob", WAKE_SIZE)
            self.process.says(number, "hungry", consumed=WAKE_SIZE)
        self.assertEqual(self.commands("begin"), [0, 1])
        self.moving = set()
        layers[2].sealed("/blob", WAKE_SIZE)
        self.assertEqual(self.process.take(), [])
        self.result(0)
        self.process.says(0, "ended", status=0)
        self.assertEqual(self.commands("begin"), [2])

    def test_displaced_when_done(self) -> None:
        """
        A process that has its result before it is ended keeps it.
        """
        self.moving = {0}
        layer = self.partial()
        layer.displace()
        self.result(0)
        self.process.says(0, "ended", status=-9)
        self.assertEqual(self.successResultOf(layer.result).entries, 2)
