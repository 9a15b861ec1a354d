"""
Tests for L{xferd.unpack.unpacker}: the worker process, its silence and its end.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError
from twisted.internet.error import ProcessTerminated
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from tests.unpack.unpacker.case import UnpackerCase
from xferd.errors import WorkerLost
from xferd.unpack import protocol
from xferd.unpack.layer_task import WAKE_SIZE
from xferd.unpack.unpacker import GRACE


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
        A process that has bytes to read and reports nothing for a minute is
        killed, and its layer is lost.
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
        It inherits nothing of the daemon's environment; a second start has no
        effect.
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
        Record the log.
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
        A worker that ignores SIGTERM receives SIGKILL, and one that does not
        end even then is abandoned.
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
