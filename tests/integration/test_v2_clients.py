"""
Container tools that pull through the daemon's registry, with the configuration
that C{xferctl mirror show} prints for them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.integration.engines import DEBIAN, Buildah, Containerd, Docker, DockerBuild, Engine, Podman, Skopeo
from tests.integration.other_engines import (
    OTHERS,
    BuildKit,
    Containerd2,
    Crane,
    DockerContainerd,
    Kaniko,
    Oras,
    Regctl,
    Wharfie,
    found,
)
from tests.integration.peers import DockerRegistry, push
from tests.integration.places import free_port
from tests.integration.programs import Xferd
from tests.integration.tap import Tap
from xferd.ctl.mirror.requests import SCRIPTS
from xferd.interfaces.reactor import IReactor
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, index_of, sample_image

reactor = cast(IReactor, installed)

HUB = "docker.io/library/app:1"
"""An image of Docker Hub, which a registry on loopback stands for."""

OTHER = "other.test/team/tool:2"
"""An image of another registry."""


class MirrorCase(TestCase):
    """
    Two upstreams, and a daemon that mirrors them.

    @cvar settings: further ones of the daemon.
    @ivar lan: the name of an upstream with a port.
    """

    settings = ""

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them.
        """
        if os.geteuid() != 0:
            raise SkipTest("the daemons of engines need root")
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        await self.start_upstreams()
        port = free_port()
        self.mirror = f"127.0.0.1:{port}"
        settings = self.place / "xferd.toml"
        settings.write_text(
            f'certs_dirs = ["{self.place}/certs.d"]\n'
            # Each request for a tag asks the upstream.
            '[registry.upstreams."docker.io"]\ntag_ttl = 0\n'
            '[registry.upstreams."other.test"]\nalias = "other"\ntag_ttl = 0\n'
            f'[registry.upstreams."{self.lan}"]\nalias = "lan"\ntag_ttl = 0\n{self.settings}'
        )
        self.options = ("--config", str(settings), "--registry", f"tcp:{port}:interface=127.0.0.1")
        self.daemon = await self.run_daemon()

    async def start_upstreams(self) -> None:
        """
        Start the upstreams, with their images.
        """
        self.hub, self.other = await self.upstream("docker.io"), await self.upstream("other.test")
        self.lan = self.other.host
        self.images = {HUB: sample_image(3, 400_000), OTHER: sample_image(2, 300_000)}
        await self.push(self.hub, HUB)
        await self.push(self.other, OTHER)

    async def run_daemon(self) -> Xferd:
        """
        Run a daemon over the same data.
        """
        daemon = Xferd(reactor, str(self.place / "x"), *self.options)
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        await daemon.start()
        return daemon

    async def upstream(self, host: str) -> DockerRegistry:
        """
        Start a registry that stands for C{host}.
        """
        registry = DockerRegistry(reactor, str(self.place / f"r-{host}"))
        await registry.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(registry.stop()))
        self.lead(host, registry.host)
        return registry

    def lead(self, host: str, address: str) -> None:
        """
        Let the daemon reach an upstream at another address.
        """
        directory = self.place / "certs.d" / host
        directory.mkdir(parents=True)
        (directory / "hosts.toml").write_text(f'server = "http://{address}"\n')

    async def push(self, registry: DockerRegistry, reference: str) -> None:
        """
        Push an image to the registry that stands for its host.
        """
        _, _, rest = reference.partition("/")
        layout = str(self.place / f"layout-{len(rest)}")
        await push(reactor, self.images[reference], f"{registry.host}/{rest}", layout)

    def tap(self) -> Tap:
        """
        Another address of the mirror, which records what passes.
        """
        tap = Tap(self.mirror)
        self.addCleanup(tap.stop)
        return tap

    async def engine(
        self, kind: type[Engine], name: str = "", *, tap: Tap | None = None, allow: str = ""
    ) -> Engine:
        """
        Start a tool with the configuration for it.

        @param tap: the address of the mirror for it.
        @param allow: the registry that it may use over plain HTTP.
        """
        if kind in OTHERS and not found(kind):
            raise SkipTest(f"{kind.__name__} is not installed")
        mirror = self.mirror if tap is None else tap.address
        engine = kind(reactor, self.place / (name or kind.__name__.lower()), mirror)
        if kind.client:
            url = [] if tap is None else ["--url", f"http://{mirror}"]
            engine.configure(await self.daemon.show("mirror", "show", kind.client, *url))
        if allow:
            engine.allow(allow)
        await engine.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(engine.stop()))
        return engine

    def fetched(self, registry: DockerRegistry, image: SampleImage) -> list[int]:
        """
        How often an upstream has sent each blob of an image.
        """
        return [registry.count("GET", blob.digest) for blob in image.blobs]


class PullTests(MirrorCase):
    """
    Each tool pulls through the mirror, and again when the upstreams are gone.
    """

    async def check(self, kind: type[Engine]) -> None:
        """
        The tool pulls images of both upstreams, which send each blob once; a second one
        of its kind, with an empty store, gets them when the upstreams are gone, with a warning.
        """
        references = [HUB] if kind.hub_alone else [HUB, OTHER]
        engine = await self.engine(kind)
        for reference in references:
            self.assertEqual(await engine.pull(reference), kind.content(self.images[reference]))
        for registry, reference in ((self.hub, HUB), (self.other, OTHER)):
            image = self.images[reference]
            once = int(reference in references)
            self.assertEqual(self.fetched(registry, image), [once] * len(image.blobs), reference)
        await self.hub.stop()
        await self.other.stop()
        tap = self.tap()
        again = await self.engine(kind, "again", tap=tap)
        for reference in references:
            self.assertEqual(await again.pull(reference), kind.content(self.images[reference]))
            tag = reference.rpartition(":")[2]
            warnings = [each.headers.get("warning", "") for each in tap.exchanges(tag)]
            self.assertTrue(warnings, reference)
            for warning in warnings:
                self.assertIn("does not answer", warning)

    async def test_docker(self) -> None:
        """
        docker with the classic image store, by C{registry-mirrors}.
        """
        await self.check(Docker)

    async def test_docker_build(self) -> None:
        """
        BuildKit inside docker, by C{registry-mirrors}.
        """
        await self.check(DockerBuild)

    async def test_docker_containerd(self) -> None:
        """
        docker with the containerd image store, by C{hosts.toml}.
        """
        await self.check(DockerContainerd)

    async def test_containerd(self) -> None:
        """
        containerd 1.6, by C{hosts.toml}.
        """
        await self.check(Containerd)

    async def test_containerd_2(self) -> None:
        """
        containerd 2, by C{hosts.toml}.
        """
        await self.check(Containerd2)

    async def test_podman(self) -> None:
        """
        podman, by C{registries.conf}.
        """
        await self.check(Podman)

    async def test_skopeo(self) -> None:
        """
        skopeo, by C{registries.conf}.
        """
        await self.check(Skopeo)

    async def test_buildah(self) -> None:
        """
        buildah, by C{registries.conf}.
        """
        await self.check(Buildah)

    async def test_buildkit(self) -> None:
        """
        BuildKit, by C{buildkitd.toml}.
        """
        await self.check(BuildKit)

    async def test_k3s(self) -> None:
        """
        The pulls of k3s itself, by C{registries.yaml}.
        """
        await self.check(Wharfie)

    async def test_kaniko(self) -> None:
        """
        kaniko, by its options.
        """
        await self.check(Kaniko)

    async def test_crane(self) -> None:
        """
        crane, by the name of the mirror in each reference.
        """
        await self.check(Crane)

    async def test_oras(self) -> None:
        """
        oras, by the name of the mirror in each reference.
        """
        await self.check(Oras)

    async def test_regctl(self) -> None:
        """
        regctl, by the name of the mirror in each reference.
        """
        await self.check(Regctl)


class NameTests(MirrorCase):
    """
    Registries with ports.
    """

    async def test_alias(self) -> None:
        """
        podman's relatives name a registry with a port by its alias, containerd by C{ns}.
        """
        reference = f"{self.other.host}/team/tool:2"
        for kind in (Skopeo, Containerd):
            engine = await self.engine(kind)
            self.assertEqual(await engine.pull(reference), engine.content(self.images[OTHER]))
        image = self.images[OTHER]
        self.assertEqual(self.fetched(self.other, image), [1] * len(image.blobs))

    async def test_override_path(self) -> None:
        """
        containerd pulls by an address with the registry in its path, also when the upstreams
        are gone.
        """
        for name in ("first", "again"):
            engine = await self.engine(Containerd, name)
            for host, part in (("docker.io", "docker.io"), (self.other.host, "lan")):
                path = engine.place / "etc/containerd/certs.d" / host / "hosts.toml"
                self.assertIn(f'[host."http://{self.mirror}"]', path.read_text())
                path.write_text(
                    f'[host."http://{self.mirror}/v2/{part}"]\n'
                    'capabilities = ["pull", "resolve"]\noverride_path = true\n'
                )
            self.assertEqual(await engine.pull(HUB), engine.content(self.images[HUB]))
            pulled = await engine.pull(f"{self.other.host}/team/tool:2")
            self.assertEqual(pulled, engine.content(self.images[OTHER]))
            await self.hub.stop()
            await self.other.stop()
        for registry, reference in ((self.hub, HUB), (self.other, OTHER)):
            image = self.images[reference]
            self.assertEqual(self.fetched(registry, image), [1] * len(image.blobs))


class OwnFilesTests(MirrorCase):
    """
    The daemon reads the directories of containerd and docker, too.
    """

    async def test_own_mirror(self) -> None:
        """
        A file that makes containerd use the daemon does not make the daemon use itself.
        """
        files = await self.daemon.show("mirror", "show", "containerd", "--upstream", "docker.io")
        path = self.place / "certs.d" / "docker.io" / "hosts.toml"
        path.write_text(path.read_text() + files[0]["text"])
        engine = await self.engine(Skopeo)
        self.assertEqual(await engine.pull(HUB), engine.content(self.images[HUB]))
        await self.daemon.ctl("pull", HUB)
        self.assertEqual(self.fetched(self.hub, self.images[HUB]), [1] * len(self.images[HUB].blobs))


class CommandTests(MirrorCase):
    """
    The commands for the mirror, with the real daemon.
    """

    async def test_check(self) -> None:
        """
        Every client could pull from the daemon; from an upstream that is down and was not
        used before, none.
        """
        checked = await self.daemon.show("mirror", "check", "--image", HUB)
        self.assertEqual({row["client"] for row in checked}, set(SCRIPTS))
        self.assertEqual({row["problem"] for row in checked}, {""})
        self.assertEqual({row["status"] for row in checked}, {200, 206})
        await self.other.stop()
        output, errors, code = await self.daemon.try_ctl("mirror", "check", "crane", "--image", OTHER)
        self.assertEqual(code, 1, output)
        self.assertIn("crane cannot use the mirror: HEAD /v2/other/team/tool/manifests/2", errors)

    async def test_prefetch(self) -> None:
        """
        A prefetched image is pulled by its index when the upstream is gone; of the index, this
        platform alone was fetched.
        """
        other = Platform("linux", "s390x")
        images = {
            platform: sample_image(2, platform=platform, seed=str(platform))
            for platform in (other, Platform.local())
        }
        name = "docker.io/library/multi:1"
        layout = str(self.place / "multi")
        await push(reactor, index_of(images), f"{self.hub.host}/library/multi:1", layout)
        await self.daemon.ctl("prefetch", name)
        for platform, image in images.items():
            once = int(platform != other)
            self.assertEqual(self.fetched(self.hub, image), [once] * len(image.blobs))
        (job,) = await self.daemon.show("jobs", "--all")
        self.assertEqual((job["kind"], job["state"]), ("prefetch", "done"))
        self.assertEqual(await self.daemon.show("images"), [])
        await self.hub.stop()
        engine = await self.engine(Skopeo)
        self.assertEqual(await engine.pull(name), str(images[Platform.local()].config.digest))


class CrowdTests(MirrorCase):
    """
    Many tools at once.
    """

    async def test_at_once(self) -> None:
        """
        Eight or more tools pull one image at once; the upstream sends each blob once.
        """
        kinds = [*DEBIAN, *(kind for kind in OTHERS if found(kind))]
        kinds += [Skopeo] * (8 - len(kinds))
        engines = [await self.engine(kind, f"e{n}") for n, kind in enumerate(kinds)]
        pulled = await gatherResults(
            [Deferred.fromCoroutine(engine.pull(HUB)) for engine in engines], consumeErrors=True
        )
        self.assertEqual(pulled, [kind.content(self.images[HUB]) for kind in kinds])
        self.assertEqual(self.fetched(self.hub, self.images[HUB]), [1] * len(self.images[HUB].blobs))
