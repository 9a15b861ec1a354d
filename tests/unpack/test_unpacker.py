"""
Tests for L{xferd.unpack.unpacker}, L{xferd.unpack.layer_task} and
L{xferd.unpack.protocol}: on a fake process, and a few on a real one.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from hashlib import sha256
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as real_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessProtocol
from twisted.internet.task import Clock, deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject
from zstandard import ZstdCompressor

from tests.unpack.tars import END, LIMITS, file, folder, gzipped, listing, pax
from xferd.errors import BadLayer, DiskFull, StoreError, WorkerLost, XferdError
from xferd.interfaces.store import Unpacked
from xferd.interfaces.unpack import Displaced, ILayerTask, IUnpacker, UnpackProgress
from xferd.names import Digest
from xferd.unpack import protocol, sandbox
from xferd.unpack.layer_task import TURN_SIZE, WAKE_SIZE, LayerTask
from xferd.unpack.unpacker import GRACE, IUnpackReactor, Unpacker

DIFF_ID = Digest.of(b"tar")


def children(pid: int) -> list[int]:
    """
    The children of a process.
    """
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def is_hungry(layer: ILayerTask) -> bool:
    """
    Whether a layer's process has read all it may.
    """
    assert isinstance(layer, LayerTask)
    return layer.begun and layer.hungry


class FakeProcess:
    """
    A worker that the test controls.
    """

    def __init__(self, owner: Any) -> None:
        self.protocol = owner
        self.commands: list[tuple[int, str, dict[str, Any]]] = []
        self.signals: list[str] = []
        self.exited = False
        self._lines = protocol.Lines()

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        """
        Take commands.
        """
        assert descriptor == 0
        for line in self._lines.feed(data):
            number, rest = protocol.split(line)
            self.commands.append((number, *protocol.decode(rest)))

    def signalProcess(self, name: str) -> None:
        """
        Remember a signal.
        """
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(name)

    def take(self) -> list[tuple[int, str, dict[str, Any]]]:
        """
        The commands since the last time.
        """
        commands, self.commands = self.commands, []
        return commands

    def says(self, number: int, verb: str, **body: Any) -> None:
        """
        Send a message about a layer.
        """
        self.protocol.outReceived(protocol.address(number, protocol.encode(verb, **body)))

    def ends(self, reason: Exception | None = None) -> None:
        """
        Be gone.
        """
        self.exited = True
        self.protocol.inConnectionLost()
        self.protocol.processEnded(Failure(reason or ProcessDone(0)))


@implementer(IUnpackReactor)
class FakeReactor(Clock):
    """
    A clock that starts such workers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.spawned: list[tuple[Any, ...]] = []

    def spawnProcess(  # type: ignore[override]
        self, protocol: IProcessProtocol, executable: Any, args: Any, env: Any, path: Any, childFDs: Any
    ) -> FakeProcess:
        """
        Start one.
        """
        process = FakeProcess(protocol)
        protocol.transport = process  # type: ignore[attr-defined]
        self.processes.append(process)
        self.spawned.append((executable, args, env, path, childFDs))
        return process


class UnpackerCase(SynchronousTestCase):
    """
    An unpacker on a fake worker.
    """

    def setUp(self) -> None:
        """
        Start one with two workers.
        """
        self.reactor = FakeReactor()
        self.unpacker = Unpacker(self.reactor, workers=2, limits=LIMITS)
        self.unpacker.start()
        [self.process] = self.reactor.processes
        self.seen: list[UnpackProgress] = []

    def unpack(self, size: int | None = None, moving: Callable[[], bool] = lambda: True) -> LayerTask:
        """
        Ask for a layer, of so many bytes that are sealed.
        """
        layer = self.unpacker.unpack("/staged", "gzip", self.seen.append, moving=moving)
        assert isinstance(layer, LayerTask)
        if size is not None:
            layer.sealed("/blob", size)
        return layer

    def result(self, number: int) -> None:
        """
        The worker has unpacked a layer.
        """
        self.process.says(number, "result", diff_id=str(DIFF_ID), tar_size=9, size=5, entries=2)

    def told(self) -> list[tuple[int, int, bool]]:
        """
        The layers that were permitted to read, and how far, since the last
        call.
        """
        return [
            (number, body["size"], body["sealed"])
            for number, verb, body in self.process.take()
            if verb == "grown"
        ]


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
            self.successResultOf(layer.result), Unpacked(DIFF_ID, 9, 5, 2, (b".", b"a\xff", b"b"))
        )

    def test_progress(self) -> None:
        """
        Progress is handed on and kept.
        """
        layer = self.unpack(100)
        self.assertEqual(layer.progress, UnpackProgress(0, 0))
        self.process.says(0, "progress", consumed=50, entries=3)
        self.assertEqual((self.seen, layer.progress), ([UnpackProgress(50, 3)], UnpackProgress(50, 3)))

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
        A process that has something to do is not ended for another.
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


class SilenceTests(UnpackerCase):
    """
    Processes that stand still.
    """

    def wait(self, seconds: int) -> None:
        """
        Let seconds pass, one by one.
        """
        self.reactor.pump([1.0] * seconds)

    def test_silent(self) -> None:
        """
        A process that has something to read and reports nothing for a minute
        is killed, and lost.
        """
        layer = self.unpack(5)
        self.wait(30)
        self.process.says(0, "progress", consumed=1, entries=1)
        self.process.take()
        self.wait(60)
        self.assertEqual(self.process.take(), [])
        self.wait(1)
        self.assertEqual(self.process.take(), [(0, "cancel", {})])
        self.assertNoResult(layer.result)
        self.process.says(0, "ended", status=-9)
        error = self.failureResultOf(layer.result, WorkerLost).value
        self.assertIn("made no progress for 60 s", str(error))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_hungry(self) -> None:
        """
        A process that waits for bytes may wait without limit.
        """
        layer = self.unpack()
        layer.grown("/partial", WAKE_SIZE)
        self.process.says(0, "hungry", consumed=WAKE_SIZE)
        self.process.take()
        self.wait(1000)
        self.assertEqual(self.process.take(), [])
        layer.sealed("/blob", WAKE_SIZE)
        self.wait(60)
        self.assertEqual([verb for _, verb, _ in self.process.take()], ["grown"])

    def test_daemon_stands_still(self) -> None:
        """
        A pause of the daemon does not count as silence of a process.
        """
        self.unpack(5)
        self.process.take()
        self.reactor.advance(3600)
        self.wait(10)
        self.assertEqual(self.process.take(), [])

    def test_worker_does_not_answer(self) -> None:
        """
        A worker that does not see to the end of a cancelled layer is killed.
        Other layers are lost with it, and new ones get another worker.
        """
        cancelled, other = self.unpack(5), self.unpack(5)
        cancelled.result.cancel()
        self.wait(5)
        self.assertEqual(self.process.signals, [])
        self.wait(1)
        self.assertEqual(self.process.signals, ["KILL"])
        late = self.unpack(5)
        self.assertEqual(len(self.reactor.processes), 1)
        self.process.ends(ProcessTerminated(signal=9))
        self.failureResultOf(cancelled.result, CancelledError)
        self.failureResultOf(other.result, WorkerLost)
        [_, self.process] = self.reactor.processes
        self.result(2)
        self.process.says(2, "ended", status=0)
        self.assertEqual(self.successResultOf(late.result).entries, 2)
        self.wait(100)
        self.assertEqual(self.process.signals, [])

    def test_worker_cannot_be_killed(self) -> None:
        """
        A worker that even SIGKILL does not end is abandoned within ten seconds
        and a tick, and its further messages are ignored.
        """
        layer = self.unpack(5)
        layer.result.cancel()
        self.wait(11)
        self.failureResultOf(layer.result, CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        after = self.unpack(5)
        [stuck, self.process] = self.reactor.processes
        stuck.says(0, "ended", status=-9)
        stuck.ends()
        self.result(1)
        self.process.says(1, "ended", status=0)
        self.assertEqual(self.successResultOf(after.result).entries, 2)


class ProcessTests(UnpackerCase):
    """
    The worker process itself.
    """

    def test_spawned(self) -> None:
        """
        It gets nothing of our environment; starting twice starts one.
        """
        self.unpacker.start()
        [(_, args, env, path, descriptors)] = self.reactor.spawned
        self.assertEqual((args[1], env, path, descriptors), ("-I", {}, "/", {0: "w", 1: "r", 2: "r"}))

    def test_lost(self) -> None:
        """
        A worker that dies takes the layers that have begun with it; those
        that wait, and new ones, get another.
        """
        begun = [self.unpack(5), self.unpack(5)]
        waiting = self.unpack(5)
        self.process.protocol.inConnectionLost()
        begun[0].abandon()
        self.process.ends(ProcessTerminated(signal=9))
        self.failureResultOf(begun[0].result, CancelledError)
        self.assertIn("signal 9", str(self.failureResultOf(begun[1].result, WorkerLost).value))
        self.assertEqual(len(self.flushLogged("ended on its own")), 1)
        [_, self.process] = self.reactor.processes
        self.assertEqual(self.told(), [(2, 5, True)])
        self.result(2)
        self.process.says(2, "ended", status=0)
        self.assertEqual(self.successResultOf(waiting.result).entries, 2)

    def flushLogged(self, text: str) -> list[Any]:
        """
        The errors that were logged with this text.
        """
        return [event for event in self.events if text in event["log_format"]]

    def setUp(self) -> None:
        """
        Catch what is logged.
        """
        super().setUp()
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def test_complaints(self) -> None:
        """
        Lines on standard error are logged.
        """
        self.process.protocol.errReceived(b"oh ")
        self.process.protocol.errReceived(b"dear\xff\n")
        [event] = self.flushLogged("worker says")
        self.assertEqual(event["text"], "oh dear\ufffd")

    def test_sandbox(self) -> None:
        """
        The measures in force are kept, and missing ones are logged once, also
        if several workers report them. Landlock counts only without a mount
        namespace.
        """
        self.assertIsNone(self.unpacker.sandbox)
        self.process.says(protocol.WORKER, "sandbox", missing={"seccomp": "no", "ipc": "not either"})
        assert self.unpacker.sandbox is not None
        self.assertEqual(self.unpacker.sandbox["ipc"], "not either")
        self.assertEqual(self.unpacker.sandbox["limits"], "")
        self.assertNotIn("landlock", self.unpacker.sandbox)
        [event] = self.flushLogged("layers are unpacked")
        self.assertEqual(event["lacks"], "ipc (not either); seccomp (no)")
        self.process.says(protocol.WORKER, "sandbox", missing={"seccomp": "no", "ipc": "not either"})
        self.assertEqual(len(self.flushLogged("layers are unpacked")), 1)
        self.process.says(protocol.WORKER, "sandbox", missing={})
        self.assertEqual(len(self.flushLogged("complete")), 1)
        self.process.says(protocol.WORKER, "sandbox", missing={"mounts": "no"})
        self.assertEqual((self.unpacker.sandbox["mounts"], self.unpacker.sandbox["landlock"]), ("no", ""))

    def test_sandbox_by_a_layer(self) -> None:
        """
        A layer's process cannot report for the worker.
        """
        layer = self.unpack(5)
        self.process.says(0, "sandbox", missing={})
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)
        self.assertIsNone(self.unpacker.sandbox)
        self.process.says(0, "ended", status=1)
        self.failureResultOf(layer.result, WorkerLost)

    def test_nonsense(self) -> None:
        """
        A message that cannot be taken is logged, and the next one is taken.
        """
        layer = self.unpack(5)
        self.process.protocol.outReceived(b"what?\n0 sing {}\n77 hungry {}\n")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)
        self.process.says(0, "ended", status=1)
        self.failureResultOf(layer.result, WorkerLost)

    def test_stop(self) -> None:
        """
        Stopping cancels all layers and ends the worker; it can be started again.
        """
        layers = [self.unpack(5), self.unpack()]
        stopped, again = self.unpacker.stop(), self.unpacker.stop()
        self.failureResultOf(layers[1].result, CancelledError)
        self.assertNoResult(stopped)
        self.assertEqual(self.process.signals, ["TERM"])
        late = self.unpack(5)
        self.failureResultOf(late.result, CancelledError)
        self.process.ends(ProcessTerminated(signal=15))
        self.failureResultOf(layers[0].result, CancelledError)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertIsNone(self.successResultOf(again))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.flushLogged("on its own"), [])
        self.assertIsNone(self.successResultOf(self.unpacker.stop()))
        self.unpacker.start()
        self.assertEqual(len(self.reactor.processes), 2)

    def test_stop_stubborn(self) -> None:
        """
        A worker that does not heed SIGTERM gets SIGKILL, and one that does not
        even heed that is given up.
        """
        stopped = self.unpacker.stop()
        self.reactor.advance(GRACE)
        self.assertEqual(self.process.signals, ["TERM", "KILL"])
        self.assertNoResult(stopped)
        self.reactor.advance(GRACE)
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLogged("giving it up")), 1)

    def test_stop_dead(self) -> None:
        """
        A worker that has just exited cannot be signalled, and need not.
        """
        self.process.exited = True
        stopped = self.unpacker.stop()
        self.process.ends()
        self.successResultOf(stopped)


class WireTests(SynchronousTestCase):
    """
    Tests for L{protocol}.
    """

    @given(st.integers(0, 10**9), st.text(), st.integers(), st.integers(1, 9))
    def test_round_trip(self, number: int, text: str, value: int, step: int) -> None:
        """
        A message is decoded unchanged, in pieces of any size.
        """
        line = protocol.address(number, protocol.encode("verb", text=text, value=value))
        lines = protocol.Lines()
        found = [
            each for at in range(0, 2 * len(line), step) for each in lines.feed((line + line)[at : at + step])
        ]
        self.assertEqual(len(found), 2)
        for each in found:
            got, rest = protocol.split(each)
            self.assertEqual((got, protocol.decode(rest)), (number, ("verb", {"text": text, "value": value})))

    def test_endless(self) -> None:
        """
        A line that has no end is refused.
        """
        self.assertRaises(ValueError, protocol.Lines().feed, b"x" * (protocol.MAX_LINE + 1))


class RealTests(TestCase):
    """
    With a real worker.
    """

    timeout = 30

    def setUp(self) -> None:
        """
        Make a blob, and start an unpacker.
        """
        self.folder = tempfile.mkdtemp(prefix="xferd-unpacker-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.tar = folder(b"./") + b"".join(file(b"d%d/f" % n, os.urandom(20_000)) for n in range(200)) + END
        self.path = os.path.join(self.folder, "blob")
        self.blob = gzipped(self.tar)
        self.unpacker = Unpacker(real_reactor, workers=2, limits=LIMITS)  # type: ignore[arg-type]
        self.unpacker.start()
        self.addCleanup(self.unpacker.stop)

    def unpack(self, notify: Any = lambda _: None) -> tuple[str, ILayerTask]:
        """
        Ask for a layer.
        """
        staged = tempfile.mkdtemp(dir=self.folder)
        return staged, self.unpacker.unpack(staged, "gzip", notify)

    def write(self, *, upto: int | None = None) -> int:
        """
        Write the blob, or its beginning.
        """
        with open(self.path, "wb") as f:
            return f.write(self.blob[:upto])

    async def test_follow(self) -> None:
        """
        A layer is unpacked while its file grows, and renamed while it is.
        """
        half = self.write(upto=len(self.blob) // 2)
        staged, layer = self.unpack()
        layer.grown(self.path, half)
        with open(self.path, "ab") as f:
            f.write(self.blob[half:])
        layer.grown(self.path, len(self.blob))
        os.rename(self.path, self.path + ".done")
        layer.sealed(self.path + ".done", len(self.blob))
        unpacked = await layer.result
        self.assertEqual(str(unpacked.diff_id), f"sha256:{sha256(self.tar).hexdigest()}")
        self.assertEqual((unpacked.size, unpacked.entries, len(unpacked.implied)), (4_000_000, 201, 200))
        self.assertEqual(len(listing(staged)), 400)

    async def test_confined(self) -> None:
        """
        The worker reports its sandbox with its first layer at the latest.
        """
        _, layer = self.unpack()
        layer.sealed(self.path, self.write())
        await layer.result
        assert self.unpacker.sandbox is not None
        self.assertLessEqual(self.unpacker.sandbox.keys(), set(sandbox.MEASURES))

    async def test_several(self) -> None:
        """
        More layers than workers all get done.
        """
        self.write()
        layers = [self.unpack()[1] for _ in range(5)]
        for layer in layers:
            layer.sealed(self.path, len(self.blob))
        facts = {await layer.result for layer in layers}
        self.assertEqual(len(facts), 1)

    async def test_all_kinds(self) -> None:
        """
        In its sandbox, where no module can be imported, a layer's process can
        handle all compressions and all errors.
        """
        zstd = ZstdCompressor().compress
        odd = file(b"caf\xe9/\xff") + pax({b"LIBARCHIVE.xattr.user.a%20": b"eA=="}) + file(b"x")
        outcomes = []
        for blob in (
            self.tar,
            zstd(self.tar),
            self.blob,
            odd + END,
            zstd(self.tar)[:-5] + b"junk!",
            self.blob[:-9],
            gzipped(file(b"caf\xe9/.wh.") + END),
            b"",
        ):
            with open(self.path, "wb") as f:
                f.write(blob)
            layer = self.unpack()[1]
            layer.sealed(self.path, len(blob))
            try:
                outcomes.append(str((await layer.result).entries))
            except XferdError as e:
                outcomes.append(e.code)
        self.assertEqual(outcomes, ["201", "201", "201", "2"] + ["LAYER_INVALID"] * 4)

    async def test_bad_before_the_seal(self) -> None:
        """
        A layer that is found to be bad while its bytes stall is reported at
        once.
        """
        # The tail is more than a buffer, and less than all: whoever inflates waits for more by then.
        self.tar = file(b"large", os.urandom(WAKE_SIZE)) + file(b"d/.wh.") + os.urandom(WAKE_SIZE)
        self.blob = gzipped(self.tar)
        self.write()
        _, layer = self.unpack()
        layer.grown(self.path, len(self.blob) - 1)
        try:
            await layer.result
        except XferdError as e:
            self.assertIn("'d/.wh.' is a whiteout of nothing", str(e))
        else:
            self.fail("it passed")

    async def test_cancel(self) -> None:
        """
        When a cancelled layer has fired, nothing touches its tree any more.
        """
        self.write()
        staged, layer = self.unpack()
        begun: Deferred[None] = Deferred()
        layer.grown(self.path, len(self.blob) - 10)
        real_reactor.callLater(0.1, begun.callback, None)
        await begun
        layer.result.cancel()
        try:
            await layer.result
        except CancelledError:
            shutil.rmtree(staged)
        self.assertFalse(os.path.exists(staged))

    async def stop_and_see(self, pids: Callable[[int], list[int]]) -> None:
        """
        Stop processes while a layer is unpacked: the layer is lost within some
        seconds, and the next one is not.

        @param pids: gives those to stop, by the worker's.
        """
        self.unpacker._stall = 2
        self.write()
        _, layer = self.unpack()
        layer.grown(self.path, len(self.blob) - 10)
        process = self.unpacker._process
        assert process is not None
        worker = process.transport.pid
        assert worker is not None
        while not pids(worker) or not is_hungry(layer):
            await deferLater(real_reactor, 0.05)
        for pid in pids(worker):
            os.kill(pid, signal.SIGSTOP)
        layer.sealed(self.path, len(self.blob))
        try:
            await layer.result
        except WorkerLost as e:
            self.assertIn("made no progress for 2 s", str(e))
        else:
            self.fail("it passed")
        _, after = self.unpack()
        after.sealed(self.path, len(self.blob))
        self.assertEqual((await after.result).entries, 201)

    def test_stopped_layer(self) -> Deferred[None]:
        """
        A layer's process that is stopped is lost.
        """
        return Deferred.fromCoroutine(self.stop_and_see(children))

    def test_stopped_worker(self) -> Deferred[None]:
        """
        A worker that is stopped is killed.
        """
        return Deferred.fromCoroutine(self.stop_and_see(lambda worker: [worker]))

    async def test_worker_killed(self) -> None:
        """
        A worker that is killed takes its layers' processes along, and the
        next layer gets a new one.
        """
        self.write()
        staged, layer = self.unpack()
        layer.grown(self.path, len(self.blob) - 10)
        process = self.unpacker._process
        assert process is not None
        process.transport.signalProcess("KILL")
        try:
            await layer.result
        except WorkerLost as e:
            self.assertIn("signal 9", str(e))
        shutil.rmtree(staged)
        _, after = self.unpack()
        after.sealed(self.path, len(self.blob))
        self.assertEqual((await after.result).entries, 201)
        self.assertEqual(signal.getsignal(signal.SIGPIPE), signal.SIG_IGN)
