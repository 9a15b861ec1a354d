# -*- test-case-name: tests.test_benchmarks -*-
"""
Container engines that pull through xferd as a mirror, each beside its pull straight from
the registry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from benchmarks.figures import Outcome, Row, Series
from benchmarks.images import Image
from benchmarks.memory import cpu_time
from benchmarks.peers import Containerd, Containerd2, Docker, Peer, Podman
from benchmarks.processes import Failed, Program
from benchmarks.rounds import Setting, started
from benchmarks.servers import Mirror

COLD, WARM = ", cold", ", warm"
"""The ends of the names of an engine that pulls through an empty xferd, and through one that
has the image."""


class Through(Peer):
    """
    Mixed into an engine: pulls through xferd.

    @cvar warm: whether xferd has the image before the engine pulls it.
    @ivar mirror: xferd.
    @ivar idle: the seconds of its CPU time before the engine pulled.
    """

    warm: ClassVar[bool] = False

    def start(self) -> None:
        """
        Start xferd, then the engine.
        """
        place = self._place / "x"
        place.mkdir()
        self.mirror = Mirror(place, self._registry, self._within)
        self.mirror.start()
        super().start()

    def pull(self, reference: str) -> Program:
        """
        Begin to pull; xferd has the image then if it is warm.
        """
        if self.warm:
            self.mirror.prefetch(reference).finish()
        self.idle = cpu_time(self.mirror.pid)
        return super().pull(reference)

    def stop(self) -> float:
        """
        End both.
        """
        return super().stop() + self.mirror.stop()

    def sent(self) -> int:
        """
        The bytes of blobs that xferd has sent to the engine.
        """
        return sum(upstream["sent"] for upstream in self.mirror.api.registry()["upstreams"])


class _DockerThrough(Through, Docker):
    """
    docker, with C{registry-mirrors}, which are for the names of Docker Hub alone.
    """

    def command(self, reference: str) -> Sequence[str]:
        """
        C{docker pull}, of a name without a registry.
        """
        return super().command(reference.partition("/")[2])

    def _options(self) -> Sequence[str]:
        return (f"--registry-mirror={self.mirror.url}",)


class _ContainerdThrough(Through, Containerd):
    """
    containerd, with a C{hosts.toml}.
    """

    def command(self, reference: str) -> Sequence[str]:
        """
        C{ctr images pull}.
        """
        hosts = self._place / "certs.d"
        (hosts / self._registry).mkdir(parents=True)
        (hosts / self._registry / "hosts.toml").write_text(
            f'[host."{self.mirror.url}"]\ncapabilities = ["pull", "resolve"]\n'
        )
        return self._ctr("pull", "--hosts-dir", str(hosts), "--snapshotter", "overlayfs", reference)


class _Containerd2Through(_ContainerdThrough, Containerd2):
    """
    containerd 2, with a C{hosts.toml}.
    """


class _PodmanThrough(Through, Podman):
    """
    podman, with a C{registries.conf}.
    """

    def command(self, reference: str) -> Sequence[str]:
        """
        C{podman pull}.
        """
        conf = self._place / "registries.conf"
        location = f"{self.mirror.url.partition('://')[2]}/{self.mirror.alias}"
        conf.write_text(
            f'[[registry]]\nlocation = "{self._registry}"\ninsecure = true\n'
            f'[[registry.mirror]]\nlocation = "{location}"\ninsecure = true\n'
        )
        return ("env", f"CONTAINERS_REGISTRIES_CONF={conf}", *super().command(reference))


_THROUGH: Mapping[type[Peer], type[Through]] = {
    Docker: _DockerThrough,
    Podman: _PodmanThrough,
    Containerd: _ContainerdThrough,
    Containerd2: _Containerd2Through,
}


def through(setting: Setting, image: Image) -> Outcome:
    """
    Pull an image into empty stores: straight from the registry, through an empty xferd, and
    through an xferd that has it.
    """
    kinds: dict[str, type[Peer]] = {}
    for kind in setting.peers:
        if kind in _THROUGH:
            by = _THROUGH[kind]
            kinds |= {
                kind.name: kind,
                f"{kind.name}{COLD}": type("Cold", (by,), {}),
                f"{kind.name}{WARM}": type("Warm", (by,), {"warm": True}),
            }

    used: dict[str, list[float]] = {name: [] for name in kinds}

    def once(name: str, round_: int) -> float:
        with started(kinds[name], setting.registry) as peer:
            took = peer.pull(image.at(setting.registry)).finish()
            if isinstance(peer, Through):
                # Engines go on to the registry itself where the mirror fails.
                if peer.sent() < image.size:
                    raise Failed(f"received {peer.sent()} bytes through xferd, of {image.size}")
                if round_:
                    used[name].append(cpu_time(peer.mirror.pid) - peer.idle)
        return took

    values, missing = setting.in_rounds(list(kinds), once)
    return Outcome("through", str(image), through_rows(values, used), missing)


def through_rows(values: Mapping[str, Sequence[float]], used: Mapping[str, Sequence[float]]) -> list[Row]:
    """
    The rows of the engines, each pull through xferd compared with the direct one.

    @param values: the seconds, by the engines' names.
    @param used: the seconds of xferd's CPU time.
    """
    rows = []
    for name, took in values.items():
        engine = name.removesuffix(COLD).removesuffix(WARM)
        facts = {}
        if engine != name and engine in values:
            facts["it / direct"] = Series(took).median / Series(values[engine]).median
            facts["CPU s of xferd"] = Series(used[name]).median
        rows.append(Row(name, "s", Series(took), facts))
    return rows
