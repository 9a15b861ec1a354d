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
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.engines import (
    DEBIAN,
    OTHERS,
    Buildah,
    Containerd,
    Containerd2,
    Crane,
    Docker,
    Engine,
    Oras,
    Podman,
    Regctl,
    Skopeo,
    found,
)
from tests.integration.peers import DockerRegistry, push
from tests.integration.places import free_port
from tests.integration.programs import Xferd
from xferd.ctl.mirror.requests import SCRIPTS
from xferd.interfaces.reactor import IReactor
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, index_of, sample_image
from xferd.testing.registry import Registry

reactor = cast(IReactor, installed)

HUB = "docker.io/library/app:1"
"""An image of Docker Hub, which a registry on loopback stands for."""

OTHER = "other.test/team/tool:2"
"""An image of another registry."""

SLOW = 4_000_000
"""The bytes of a layer that arrives in four seconds."""

SPARE = 640 * 1024
"""Bytes of other documents, and in buffers when the daemon is killed."""


class MirrorCase(TestCase):
    """
    Two upstreams, and a daemon that mirrors them.
    """

    timeout = 180

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them.
        """
        if os.geteuid() != 0:
            raise SkipTest("the daemons of engines need root")
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        self.hub, self.other = await self.upstream("docker.io"), await self.upstream("other.test")
        self.images = {HUB: sample_image(3, 400_000), OTHER: sample_image(2, 300_000)}
        await self.push(self.hub, HUB)
        await self.push(self.other, OTHER)
        port = free_port()
        self.mirror = f"127.0.0.1:{port}"
        settings = self.place / "xferd.toml"
        settings.write_text(
            f'certs_dirs = ["{self.place}/certs.d"]\n'
            # Each request for a tag asks the upstream.
            '[registry.upstreams."docker.io"]\ntag_ttl = 0\n'
            '[registry.upstreams."other.test"]\ntag_ttl = 0\n'
            f'[registry.upstreams."{self.other.host}"]\nalias = "lan"\n'
        )
        self.options = ("--config", str(settings), "--registry", f"tcp:{port}:interface=127.0.0.1")
        self.daemon = await self.run_daemon()

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
        directory = self.place / "certs.d" / host
        directory.mkdir(parents=True)
        (directory / "hosts.toml").write_text(f'server = "http://{registry.host}"\n')
        return registry

    async def push(self, registry: DockerRegistry, reference: str) -> None:
        """
        Push an image to the registry that stands for its host.
        """
        _, _, rest = reference.partition("/")
        layout = str(self.place / f"layout-{len(rest)}")
        await push(reactor, self.images[reference], f"{registry.host}/{rest}", layout)

    async def engine(self, kind: type[Engine], name: str = "") -> Engine:
        """
        Start a tool with the configuration for it.
        """
        if kind in OTHERS and not found(kind):
            raise SkipTest(f"{kind.__name__} is not installed")
        engine = kind(reactor, self.place / (name or kind.__name__.lower()), self.mirror)
        if kind.client:
            engine.configure(await self.daemon.show("mirror", "show", kind.client))
        await engine.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(engine.stop()))
        return engine

    def config(self, reference: str) -> str:
        """
        The digest of an image's config.
        """
        return str(self.images[reference].config.digest)

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
        of its kind, with an empty store, gets them when the upstreams are gone.
        """
        references = [HUB] if kind.hub_alone else [HUB, OTHER]
        engine = await self.engine(kind)
        for reference in references:
            self.assertEqual(await engine.pull(reference), self.config(reference))
        for registry, reference in ((self.hub, HUB), (self.other, OTHER)):
            image = self.images[reference]
            once = int(reference in references)
            self.assertEqual(self.fetched(registry, image), [once] * len(image.blobs), reference)
        await self.hub.stop()
        await self.other.stop()
        again = await self.engine(kind, "again")
        for reference in references:
            self.assertEqual(await again.pull(reference), self.config(reference))

    async def test_docker(self) -> None:
        """
        docker with the classic image store, by C{registry-mirrors}.
        """
        await self.check(Docker)

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
            self.assertEqual(await engine.pull(reference), self.config(OTHER))
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
            self.assertEqual(await engine.pull(HUB), self.config(HUB))
            self.assertEqual(await engine.pull(f"{self.other.host}/team/tool:2"), self.config(OTHER))
            await self.hub.stop()
            await self.other.stop()
        for registry, reference in ((self.hub, HUB), (self.other, OTHER)):
            image = self.images[reference]
            self.assertEqual(self.fetched(registry, image), [1] * len(image.blobs))

    async def test_fallback(self) -> None:
        """
        containerd continues with the registry itself, where the mirror cannot reach it.
        """
        self.cut_off()
        engine = await self.engine(Containerd)
        self.assertEqual(await engine.pull(f"{self.other.host}/team/tool:2"), self.config(OTHER))
        output, errors, code = await self.daemon.try_ctl(
            *("mirror", "check", "containerd", "--image", f"{self.other.host}/team/tool:2")
        )
        self.assertEqual(code, 1, output)
        self.assertIn("containerd cannot use the mirror", errors)

    async def test_fallback_of_podman(self) -> None:
        """
        So do podman, skopeo and buildah.
        """
        self.cut_off()
        location = f'location = "{self.other.host}"\n'
        for kind in (Skopeo, Podman, Buildah):
            engine = await self.engine(kind)
            files = await self.daemon.show("mirror", "show", kind.client)
            # The registry itself is plain HTTP, too, which its operator has to write.
            plain = [
                {**file, "text": file["text"].replace(location, f"{location}insecure = true\n")}
                for file in files
            ]
            self.assertNotEqual(plain, files)
            engine.configure(plain)
            self.assertEqual(await engine.pull(f"{self.other.host}/team/tool:2"), self.config(OTHER))

    def cut_off(self) -> None:
        """
        Let the mirror not reach the registry.
        """
        directory = self.place / "certs.d" / self.other.host
        directory.mkdir()
        (directory / "hosts.toml").write_text(f'server = "http://127.0.0.1:{free_port()}"\n')


class KilledTests(MirrorCase):
    """
    The daemon is killed in the middle of a pull, and started again.
    """

    async def test_docker(self) -> None:
        """
        docker's own retry completes the pull, and the upstream sends the layer once.
        """
        registry = Registry(reactor)
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        image = sample_image(1, SLOW, "slow")
        registry.add(image, "library/slow", "1")
        registry.rate = SLOW / 4
        path = self.place / "certs.d" / "docker.io" / "hosts.toml"
        path.write_text(f'server = "http://{registry.host}"\n')
        engine = await self.engine(Docker)
        pulling = Deferred.fromCoroutine(engine.pull("docker.io/library/slow:1"))
        while registry.bytes_sent < SLOW / 2:
            await deferLater(reactor, 0.02)
        await self.daemon.stop("KILL")
        self.daemon = await self.run_daemon()
        self.assertEqual(await pulling, str(image.config.digest))
        self.assertLess(registry.bytes_sent, SLOW + SPARE)


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
        self.assertEqual(await engine.pull(HUB), self.config(HUB))
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
        self.assertIn("crane cannot use the mirror: HEAD /v2/other.test/team/tool/manifests/2", errors)

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
        self.assertEqual(pulled, [self.config(HUB)] * len(engines))
        self.assertEqual(self.fetched(self.hub, self.images[HUB]), [1] * len(self.images[HUB].blobs))
