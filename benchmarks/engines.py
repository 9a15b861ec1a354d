# -*- test-case-name: tests.test_benchmarks -*-
"""
Container engines that run images from xferd's store, each beside its own way: a pull into
empty stores, an image that xferd has already, and many snapshots at once; and what engines in
the configuration cost a pull that is for none of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import sleep
from typing import ClassVar

from benchmarks.figures import Outcome, Row, Series
from benchmarks.images import Image
from benchmarks.memory import cpu_time
from benchmarks.peers import ROOT, Containerd, Containerd2, Peer, Podman, Xferd
from benchmarks.processes import Failed, Program, find
from benchmarks.rounds import Setting, started
from benchmarks.servers import free_port
from xferd.ctl.engine.containerd_config import SNAPSHOTTER, cri, proxy_plugin, transfer_service
from xferd.ctl.engine.served import CONTAINERD, Engine
from xferd.engines.snapshotter.command import command, lock_of_snapshotter
from xferd.platforms import Platform

ON_XFERD = " on xferd"
"""The end of the name of an engine that runs from xferd's store."""

WITHOUT, WITH = "no engine", "containerd and the view"
"""The engines in the configuration of a pull that is for none of them."""

PREPARES = 20
"""How many snapshots are prepared at once."""

_BATCHES = 10
"""How often, for the resolution of the CPU time."""

_NAME = "bench"


class _Store(Xferd):
    """
    xferd with an engine of each kind, and as a mirror for podman.

    @ivar mirror: what the registry is for clients of the mirror: C{HOST:PORT/PATH}.
    """

    def start(self) -> None:
        """
        Start the daemon.
        """
        port = free_port()
        self.mirror = f"127.0.0.1:{port}/{_NAME}"
        self.settings = (
            f'[registry]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\n'
            f'[registry.upstreams."{self._registry}"]\nalias = "{_NAME}"\n'
            f"[engines.containerd.{_NAME}]\n[engines.containers-storage]\n"
            f'path = "{self.view}"\nroots = ["{self._place.parent}/root"]\nwait_for = ["{os.geteuid()}"]\n'
        )
        super().start()

    def stop(self) -> float:
        """
        End the daemon, and the process that serves engines.
        """
        took = super().stop()
        subprocess.run(command("--stop", f"{self._place}/data"), check=True)
        return took

    def shown(self, reference: str) -> bool:
        """
        Whether the view has an image.
        """
        return reference in Path(f"{self.view}/overlay-images/images.json").read_text()

    @property
    def snapshotter(self) -> int:
        """
        The process that serves engines.
        """
        return int(Path(lock_of_snapshotter(f"{self._place}/data")).read_text().split()[0])

    @property
    def view(self) -> str:
        """
        The directory of the view.
        """
        return f"{self._place}/view"

    @property
    def engine(self) -> Engine:
        """
        The engine as containerd is configured for it.
        """
        return Engine(CONTAINERD, _NAME, f"{self._place}/engines/{_NAME}.sock", f"{self._place}/data")


class OnXferd(Peer):
    """
    Mixed into an engine: runs it from xferd's store.

    @ivar xferd: the store's daemon.
    """

    def start(self) -> None:
        """
        Start xferd, then the engine.
        """
        place = self._place / "x"
        place.mkdir()
        self.xferd = _Store(place, self._registry, self._within)
        self.xferd.start()
        super().start()

    def stop(self) -> float:
        """
        End both.
        """
        return super().stop() + self.xferd.stop()


class EngineContainerd2(Containerd2):
    """
    containerd 2 and C{ctr images pull}.
    """

    snapshotter: ClassVar[str] = "overlayfs"

    def command(self, reference: str) -> Sequence[str]:
        """
        C{ctr images pull}.
        """
        return self._ctr("pull", "--plain-http", "--snapshotter", self.snapshotter, reference)


class EngineContainerd2OnXferd(OnXferd, EngineContainerd2):
    """
    The same from xferd's store.
    """

    name = EngineContainerd2.name + ON_XFERD
    snapshotter = SNAPSHOTTER

    def _tables(self) -> str:
        return proxy_plugin(self.xferd.engine) + transfer_service(str(Platform.local()))


class EngineCRI(Containerd):
    """
    containerd 1 and C{crictl pull}, as Kubernetes uses it.
    """

    name = "containerd, CRI"
    with_cri = True

    @classmethod
    def check(cls) -> str:
        """
        See whether it can be run here.
        """
        find(cls.crictl())
        return super().check()

    @classmethod
    def crictl(cls) -> str:
        """
        The path of C{crictl}, from the directory of containerd 2 or the C{PATH}.
        """
        beside = os.path.join(os.environ.get("XFERD_CONTAINERD", ""), "crictl")
        return beside if shutil.which(beside) else "crictl"

    def command(self, reference: str) -> Sequence[str]:
        """
        C{crictl pull}.
        """
        endpoint = f"unix://{self._place}/s"
        options = ("--runtime-endpoint", endpoint, "--image-endpoint", endpoint, "--timeout", "600s")
        return (self.crictl(), *options, "pull", reference)


class EngineCRIOnXferd(OnXferd, EngineCRI):
    """
    The same from xferd's store.
    """

    name = EngineCRI.name + ON_XFERD

    def _tables(self) -> str:
        return proxy_plugin(self.xferd.engine) + cri(2)


class EnginePodmanOnXferd(OnXferd, Podman):
    """
    An unchanged C{podman pull}, with xferd as the mirror that waits for the view.
    """

    name = Podman.name + ON_XFERD

    def start(self) -> None:
        """
        Start xferd, and configure podman.
        """
        super().start()
        (self._place / "registries.conf").write_text(
            f'[[registry]]\nlocation = "{self._registry}"\ninsecure = true\n'
            f'[[registry.mirror]]\nlocation = "{self.xferd.mirror}"\ninsecure = true\n'
        )

    def command(self, reference: str) -> Sequence[str]:
        """
        C{podman pull}.
        """
        conf = f"CONTAINERS_REGISTRIES_CONF={self._place}/registries.conf"
        store = ("--storage-opt", f"overlay.imagestore={self.xferd.view}")
        return ("env", conf, *self._podman, *store, "pull", "--quiet", reference)


ENGINES: Sequence[tuple[type[Peer], type[OnXferd]]] = (
    (EngineContainerd2, EngineContainerd2OnXferd),
    (EngineCRI, EngineCRIOnXferd),
    (Podman, EnginePodmanOnXferd),
)
"""Each engine in its own way and on xferd."""


def pull(setting: Setting, image: Image) -> Outcome:
    """
    Pull an image into empty stores, each engine in its own way and on xferd.
    """
    kinds, missing = _kinds(setting)

    def once(name: str, _: int) -> float:
        with started(kinds[name], setting.registry, where=partial(setting.place, image)) as peer:
            return peer.pull(image.at(setting.registry)).finish()

    values, failed = setting.in_rounds(list(kinds), once)
    where = f"{image}, stores {'on a disk' if setting.disk else 'in memory'}"
    return Outcome("engine-pull", where, with_own(values), [*missing, *failed])


def again(setting: Setting, image: Image) -> Outcome:
    """
    Pull an image that xferd has, into an engine's empty store.
    """
    kinds, missing = _kinds(setting)

    def once(name: str, _: int) -> float:
        with started(kinds[name], setting.registry) as peer:
            assert isinstance(peer, OnXferd)
            reference = image.at(setting.registry)
            peer.xferd.pull(reference).finish()
            return peer.pull(reference).finish() * 1000

    names = [name for name in kinds if name.endswith(ON_XFERD)]
    values, failed = setting.in_rounds(names, once, unit="ms")
    rows = [Row(name, "ms", Series(took)) for name, took in values.items()]
    return Outcome("engine-again", str(image), rows, [*missing, *failed])


def prepares(setting: Setting, image: Image) -> Outcome:
    """
    Prepare snapshots of containers at once: the snapshotter's CPU time for each.
    """

    def once(name: str, _: int) -> float:
        del name
        with started(_Store, setting.registry) as peer:
            peer.pull(image.at(setting.registry)).finish()
            assert peer.daemon is not None
            argv = [sys.executable, "-m", "benchmarks.prepares", peer.socket, peer.engine.path]
            numbers = map(str, (PREPARES, _BATCHES, peer.snapshotter))
            client = Program(
                [*argv, image.at(setting.registry), *numbers],
                peer.daemon.log.parent / "prepares.log",
                {"PYTHONPATH": ROOT, "PYTHONSAFEPATH": "1", "XFERD_HOST": ""},
            )
            client.finish()
            return float(client.text()) / PREPARES / _BATCHES * 1000

    values, failed = setting.in_rounds(["xferd"], once, unit="ms")
    rows = [Row(f"xferd, {PREPARES} at once, each", "ms", Series(took)) for took in values.values()]
    return Outcome("engine-prepares", str(image), rows, failed)


def cost(setting: Setting, image: Image) -> Outcome:
    """
    Pull an image by C{xferctl}, without engines in the configuration and with one of each kind:
    the CPU time of all processes of xferd until the image is in the store and in the view.
    """
    kinds: dict[str, type[Xferd]] = {WITHOUT: Xferd, WITH: _Store}
    took: dict[str, list[float]] = {name: [] for name in kinds}

    def once(name: str, number: int) -> float:
        with started(kinds[name], setting.registry) as peer:
            assert peer.daemon is not None
            roots = [peer.daemon.pid, *([peer.snapshotter] if isinstance(peer, _Store) else ())]
            before = cpu_time(*roots)
            reference = image.at(setting.registry)
            seconds = peer.pull(reference).finish()
            while isinstance(peer, _Store) and not peer.shown(reference):
                sleep(0.01)
            if number:
                took[name].append(seconds)
            return cpu_time(*roots) - before

    values, failed = setting.in_rounds(list(kinds), once, unit="s of CPU time")
    return Outcome("engine-cost", str(image), with_none(values, took), failed)


def with_none(values: Mapping[str, Sequence[float]], took: Mapping[str, Sequence[float]]) -> list[Row]:
    """
    The rows of pulls that are for no engine, with their ratio to those without engines.

    @param took: the seconds until the client ended.
    """
    none = values.get(WITHOUT, ())
    rows = []
    for name, used in values.items():
        facts = {"it / none": Series(used).median / Series(none).median} if none and name != WITHOUT else {}
        rows.append(Row(name, "s CPU", Series(used), {**facts, "s": Series(took[name]).median}))
    return rows


def with_own(values: Mapping[str, Sequence[float]]) -> list[Row]:
    """
    The rows of a pull, with the ratio of each engine on xferd to its own way.
    """
    rows = []
    for name, took in values.items():
        own = values.get(name.removesuffix(ON_XFERD), ())
        facts = {}
        if own and name.endswith(ON_XFERD):
            facts["it / its own way"] = Series(took).median / Series(own).median
        rows.append(Row(name, "s", Series(took), facts))
    return rows


def _kinds(setting: Setting) -> tuple[dict[str, type[Peer]], list[str]]:
    """
    The engines that can be run here, by name, and a sentence about each other one.
    """
    wanted = {peer.name for peer in setting.peers}
    kinds: dict[str, type[Peer]] = {}
    missing = []
    for own, ours in ENGINES:
        # An engine has the name of its program, and more.
        if own.name.partition(",")[0] not in wanted:
            continue
        try:
            own.check()
        except Failed as e:
            missing.append(f"{own.name}: {e}")
            continue
        kinds |= {own.name: own, ours.name: ours}
    return kinds, missing


ENGINE: dict[str, Callable[[Setting, Image], Outcome]] = {
    "engine-pull": pull,
    "engine-again": again,
    "engine-prepares": prepares,
    "engine-cost": cost,
}
"""The benchmarks by name."""
