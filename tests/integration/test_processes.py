"""
The number of processes that unpack layers, and what happens when they are
stopped.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.integration.test_daemon import DaemonCase
from xferd.testing.faults import Stall
from xferd.testing.images import image_of, sample_layer

LAYERS = 24
SIZE = 1_500_000
BEGINNING = 1_200_000
WORKERS = 2
SLOTS = 3


def children(pid: int) -> list[int]:
    """
    The children of a process.
    """
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_filtered(pid: int) -> bool:
    """
    Whether a process has a filter of system calls.
    """
    return "Seccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()


class ProcessesTests(DaemonCase):
    """
    An image of many layers, with partial blobs of an earlier daemon.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Write the partial blobs, and start a daemon with a low limit on
        processes.
        """
        await super().setUp()
        await self.daemon.stop()
        layers = [sample_layer(SIZE, seed=str(n), compression="tar") for n in range(LAYERS)]
        self.image = image_of(layers)
        self.registry.add(self.image, "team/app", "1")
        self.reference = f"{self.registry.host}/team/app:1"
        for layer in layers:
            digest = layer.blob.digest
            path = Path(self.daemon.data, "ingest", f"{digest.algorithm}-{digest.hex}")
            path.write_bytes(layer.blob.read()[:BEGINNING])
            self.registry.faults.plant(Stall(1), str(digest))
        config = self.place / "xferd.toml"
        config.write_text(f"[limits]\ndownloads = {SLOTS}\nworkers = {WORKERS}\nranges = 1\n")
        await self.start("--config", str(config))

    def layer_processes(self) -> list[int]:
        """
        The processes that unpack layers.
        """
        return [child for worker in children(self.daemon.pid) for child in children(worker)]

    async def test_bound(self) -> None:
        """
        There are at most as many as workers and running downloads, each with
        its filter of system calls, and a queued layer has no staging directory.
        """
        job_id = await self.api.pull(self.reference)
        await self.until(lambda: len(self.layer_processes()) >= SLOTS)
        await self.until(lambda: all(map(is_filtered, self.layer_processes())))
        staged = len(os.listdir(Path(self.daemon.data, "staging")))
        self.assertLessEqual(staged, SLOTS)
        transfers = await self.api("GET", "transfers?kind=unpacking&limit=100")
        queued = [t for t in transfers if t["why"] == "waiting for its download"]
        self.assertGreaterEqual(len(queued), LAYERS - SLOTS)
        self.registry.faults.clear()
        most, state = 0, "running"
        while state == "running":
            self.registry.resume()
            most = max(most, len(self.layer_processes()))
            state = (await self.api("GET", f"jobs/{job_id}"))["state"]
        self.assertEqual(state, "done")
        self.assertLessEqual(most, WORKERS + SLOTS)

    async def test_stopped_worker(self) -> None:
        """
        While the worker is stopped, a cancelled pull does not delay later ones.
        """
        job_id = await self.api.pull(self.reference)
        await self.until(lambda: len(self.layer_processes()) >= SLOTS)
        (worker,) = children(self.daemon.pid)
        os.kill(worker, signal.SIGSTOP)
        await self.api("DELETE", f"jobs/{job_id}")
        self.registry.faults.clear()
        again = await self.api.pull(self.reference)
        await self.state(again, "done")
