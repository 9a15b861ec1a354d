"""
Tests for L{xferd.unpack.unpacker} with a real worker process.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from twisted.internet import reactor as real_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zstandard import ZstdCompressor

from tests.unpack.tars import END, LIMITS, file, folder, gzipped, listing, pax
from xferd.errors import WorkerLost, XferdError
from xferd.interfaces.unpack import ILayerTask
from xferd.unpack import sandbox
from xferd.unpack.layer_task import WAKE_SIZE, LayerTask
from xferd.unpack.unpacker import Unpacker


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


class RealTests(TestCase):
    """
    With a real worker.
    """

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
        Request a layer.
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
        # The tail is larger than a buffer, and incomplete: the inflater waits for more by then.
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
