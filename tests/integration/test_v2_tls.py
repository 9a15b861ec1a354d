"""
A mirror with TLS: container tools pull with the certificate's authority in the files that
C{xferctl mirror show} prints, also after a renewal.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.integration.engines import Buildah, Containerd, Docker, Engine, Podman, Skopeo
from tests.integration.networks import Network
from tests.integration.other_engines import OTHERS, Containerd2, Crane, DockerContainerd, found
from tests.integration.peers import DockerRegistry, PeerFailed, push, run
from tests.integration.places import free_port
from tests.integration.programs import XFERCTL, Xferd, environment
from tests.v2.rights.users import write_htpasswd
from xferd.ctl.mirror.requests import SCRIPTS
from xferd.interfaces.reactor import IReactor
from xferd.testing.certificates import Authority
from xferd.testing.images import SampleImage, sample_image, write_layout

reactor = cast(IReactor, installed)

IMAGES: Final = ("docker.io/library/app:1", "docker.io/library/app:2", "docker.io/library/app:3")

OWN: Final = ("docker", "containers")
"""The directories below C{/etc} that each tool has of its own."""


class TLSCase(TestCase):
    """
    A mirror of Docker Hub on an address that is not loopback: docker verifies no certificate
    there.  All are on one host of a network that has no other.
    """

    timeout = 240

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them.
        """
        if os.geteuid() != 0:
            raise SkipTest("the daemons of engines need root")
        network = Network(reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(network.remove()))
        await network.build()
        host = await network.host()
        self.within = host.within
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        self.mirror = f"{host.address}:{free_port()}"
        self.authority = self.place / "authority.pem"
        self.renew()
        self.hub = DockerRegistry(reactor, str(self.place / "hub"), address=host.address, before=host.within)
        await self.hub.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.hub.stop()))
        self.images: dict[str, SampleImage] = {}
        for reference in IMAGES:
            await self.push(reference)
        hosts = self.place / "certs.d" / "docker.io"
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(f'server = "http://{self.hub.host}"\n')
        users = write_htpasswd(str(self.place / "users"), {"dora": "dora-secret"})
        settings = self.place / "xferd.toml"
        settings.write_text(
            f'certs_dirs = ["{self.place}/certs.d"]\n[registry]\nhtpasswd = "{users}"\n'
            '[[registry.rights]]\nusers = ["dora"]\nrepositories = ["local/**"]\nmay = ["pull", "push"]\n'
        )
        port = self.mirror.partition(":")[2]
        files = f"privateKey={self.place}/key.pem:certKey={self.place}/cert.pem"
        self.daemon = Xferd(
            reactor,
            str(self.place / "x"),
            *("--config", str(settings)),
            *("--registry", f"ssl:{port}:interface={host.address}:{files}"),
            before=host.within,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(self.daemon.stop()))
        await self.daemon.start()

    def renew(self) -> None:
        """
        Write a certificate of another authority.
        """
        authority = Authority()
        certificate, key = authority.issue(self.mirror.partition(":")[0])
        for name, data in (("authority", authority.pem), ("cert", certificate), ("key", key)):
            (self.place / f"{name}.pem").write_bytes(data)

    async def push(self, reference: str) -> None:
        """
        Push an image to the upstream.
        """
        image = self.images[reference] = sample_image(2, 200_000, reference)
        target = f"{self.hub.host}/{reference.partition('/')[2]}"
        layout = str(self.place / f"layout-{len(self.images)}")
        await push(reactor, image, target, layout, before=self.within)

    async def engine(self, kind: type[Engine]) -> Engine:
        """
        Start a tool that does not know the mirror's authority.
        """
        place = self.place / kind.__name__.lower()
        binds = "".join(f"mount --bind {place}/etc/{name} /etc/{name} && " for name in OWN)
        apart = ["unshare", "--mount", "sh", "-c", f'{binds}exec "$@"', "sh"]
        engine = kind(reactor, place, self.mirror, before=[*self.within, *apart])
        for name in OWN:
            (place / "etc" / name).mkdir(parents=True)
        shutil.copy("/etc/containers/policy.json", place / "etc/containers/policy.json")
        await self.configure(engine)
        await engine.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(engine.stop()))
        return engine

    async def configure(self, engine: Engine, *options: str) -> None:
        """
        Write the files for a tool.
        """
        engine.configure(await self.daemon.show("mirror", "show", engine.client, *options))

    async def trust(self, engine: Engine) -> None:
        """
        Write them with the present authority, in a file that C{hosts.toml} names.
        """
        known = engine.place / "ca.pem"
        shutil.copy(self.authority, known)
        await self.configure(engine, "--ca", str(known))

    async def pulls(self, engine: Engine, reference: str) -> None:
        """
        The tool pulls an image through the mirror.
        """
        self.assertEqual(await engine.pull(reference), engine.content(self.images[reference]))

    async def fails(self, engine: Engine, reference: str) -> None:
        """
        The tool does not use the mirror, and cannot reach Docker Hub.
        """
        try:
            await engine.pull(reference)
        except PeerFailed:
            pass
        else:
            self.fail(f"{type(engine).__name__} pulled {reference}")


class PullTests(TLSCase):
    """
    Each tool verifies the certificate.
    """

    async def check(self, kind: type[Engine]) -> None:
        """
        The tool pulls with the authority alone.  A renewed certificate of another one is used
        after C{SIGHUP}, and not before.
        """
        if kind in OTHERS and not found(kind):
            raise SkipTest(f"{kind.__name__} is not installed")
        engine = await self.engine(kind)
        first, second, third = IMAGES
        await self.fails(engine, first)
        await self.trust(engine)
        await self.pulls(engine, first)
        self.renew()
        await self.pulls(engine, second)
        await self.daemon.reload()
        await self.fails(engine, third)
        await self.trust(engine)
        await self.pulls(engine, third)

    async def test_docker(self) -> None:
        """
        docker, by C{certs.d}.
        """
        await self.check(Docker)

    async def test_docker_containerd(self) -> None:
        """
        docker with the containerd image store, by C{ca} in C{hosts.toml}.
        """
        await self.check(DockerContainerd)

    async def test_containerd(self) -> None:
        """
        containerd 1.6, by C{ca} in C{hosts.toml}.
        """
        await self.check(Containerd)

    async def test_containerd_2(self) -> None:
        """
        containerd 2, by C{ca} in C{hosts.toml}.
        """
        await self.check(Containerd2)

    async def test_podman(self) -> None:
        """
        podman, by C{certs.d}.
        """
        await self.check(Podman)

    async def test_skopeo(self) -> None:
        """
        skopeo, by C{certs.d}.
        """
        await self.check(Skopeo)

    async def test_buildah(self) -> None:
        """
        buildah, by C{certs.d}.
        """
        await self.check(Buildah)


class NamedTests(TLSCase):
    """
    Tools that get the authority in their command.
    """

    async def test_skopeo(self) -> None:
        """
        skopeo pushes with C{--dest-cert-dir}, and not without it.
        """
        directory = self.place / "certs"
        directory.mkdir()
        shutil.copy(self.authority, directory / "ca.crt")
        image = sample_image(1)
        write_layout(str(self.place / "own"), {"own": image})
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-creds=dora:dora-secret"]
        target = f"docker://{self.mirror}/local/app:1"

        async def send(*options: str) -> None:
            await run(reactor, [*self.within, *copy, *options, f"oci:{self.place}/own:own", target])

        with self.assertRaises(PeerFailed) as caught:
            await send()
        self.assertIn("x509", str(caught.exception))
        await send(f"--dest-cert-dir={directory}")
        argv = ["skopeo", "inspect", "--raw", f"--cert-dir={directory}", "--creds=dora:dora-secret", target]
        raw = await run(reactor, [*self.within, *argv])
        self.assertEqual(raw, image.manifest.data.decode())

    async def test_crane(self) -> None:
        """
        crane reads the authority from C{SSL_CERT_FILE}.
        """
        if not found(Crane):
            raise SkipTest("crane is not installed")
        name = f"{self.mirror}/{IMAGES[0]}"
        trusting = ["env", f"SSL_CERT_FILE={self.authority}"]
        digest = await run(reactor, [*self.within, *trusting, "crane", "digest", name])
        self.assertEqual(digest.strip(), str(self.images[IMAGES[0]].digest))
        with self.assertRaises(PeerFailed):
            await run(reactor, [*self.within, "crane", "digest", name])

    async def test_check(self) -> None:
        """
        C{xferctl mirror check --ca} makes the requests of each client.
        """
        check = [*XFERCTL, "--host", self.daemon.url, "mirror", "check", "--image", IMAGES[0]]
        python = ["env", f"PYTHONPATH={environment()['PYTHONPATH']}", *check]
        shown = await run(reactor, [*self.within, *python, "--ca", str(self.authority)])
        for client in SCRIPTS:
            self.assertIn(f"{client} ", shown)
        with self.assertRaises(PeerFailed) as caught:
            await run(reactor, [*self.within, *python])
        self.assertIn("certificate", str(caught.exception))
