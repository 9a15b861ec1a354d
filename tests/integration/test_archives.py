"""
Archives that docker, podman, skopeo and umoci write and read.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.integration.peers import require, run
from tests.integration.programs import XFERCTL, Dockerd, Xferd, environment
from tests.integration.trees import differences, listing
from tests.jobs.archives.samples import Files, docker_save, tar
from xferd.interfaces.reactor import IReactor
from xferd.names import Digest
from xferd.testing.images import SampleImage, image_of, sample_image, sample_layer, write_layout

reactor = cast(IReactor, installed)

SKOPEO = ["skopeo", "--insecure-policy"]


class ArchiveCase(TestCase):
    """
    Tests with a daemon and a directory for archives.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start the daemon.
        """
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.daemon = Xferd(reactor, str(self.place / "xferd"))
        await self.daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.daemon.stop()))

    def path(self, name: str) -> str:
        """
        The path of an archive.
        """
        return str(self.place / name)

    async def image(self, name: str) -> Any:
        """
        An image, as the daemon lists it.
        """
        (found,) = [image for image in await self.daemon.show("images") if image["reference"] == name]
        return found

    async def trees(self, name: str) -> list[str]:
        """
        The trees of an image's layers, bottom first.
        """
        (found,) = await self.daemon.show("inspect", name)
        return list(found["trees"])

    def ctl(self, *arguments: str) -> str:
        """
        The command line of xferctl, for a shell.
        """
        return shlex.join([*XFERCTL, "--host", self.daemon.url, *arguments])

    async def shell(self, line: str) -> str:
        """
        Run a pipeline in a shell.
        """
        return await run(
            reactor,
            ["env", f"PYTHONPATH={environment()['PYTHONPATH']}", "bash", "-c", f"set -o pipefail; {line}"],
        )


class SkopeoTests(ArchiveCase):
    """
    Archives of skopeo and umoci.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Make an image in a layout.
        """
        await super().setUp()
        self.sample: SampleImage = sample_image(3, size=200_000)
        self.layout = self.path("layout")
        write_layout(self.layout, {"made": self.sample})

    async def copied(self, target: str) -> None:
        """
        Let skopeo copy the image to an archive.
        """
        await run(reactor, [*SKOPEO, "copy", "--quiet", f"oci:{self.layout}:made", target])

    async def test_oci_archive(self) -> None:
        """
        An OCI archive of skopeo's is imported with its digest, also if it is
        compressed, and so is the directory from which it was made.
        """
        archive = self.path("a.tar")
        await self.copied(f"oci-archive:{archive}:quay.io/me/app:1")
        said = await self.daemon.ctl("import", archive)
        self.assertEqual(said.splitlines()[-1], f"quay.io/me/app:1@{self.sample.digest}")
        await run(reactor, ["gzip", "-k", archive])
        await self.daemon.ctl("import", f"{archive}.gz", "app:2")
        await self.daemon.ctl("import", self.layout, "app:3")
        await self.shell(f"{self.ctl('import', '-', 'app:4')} < {archive}")
        for image in await self.daemon.show("images"):
            self.assertEqual(image["digest"], str(self.sample.digest))
        self.assertEqual(len(await self.daemon.show("images")), 4)
        self.assertEqual(len(await self.trees("app:4")), 3)
        jobs = await self.daemon.show("jobs", "--all")
        self.assertEqual({(job["kind"], job["state"]) for job in jobs}, {("import", "done")})

    async def test_docker_archive(self) -> None:
        """
        A docker archive of skopeo's is imported as the same image.
        """
        archive = self.path("d.tar")
        await self.copied(f"docker-archive:{archive}:quay.io/me/app:1")
        await self.daemon.ctl("import", archive)
        image = await self.image("quay.io/me/app:1")
        config = json.loads(self.blob(image["image_id"]))
        self.assertEqual(config["rootfs"]["diff_ids"], [str(layer.diff_id) for layer in self.sample.layers])
        self.assertEqual(len(await self.trees("quay.io/me/app:1")), 3)

    def blob(self, digest: str) -> bytes:
        """
        A blob in the daemon's store.
        """
        return Path(self.daemon.data, "content", "blobs", *digest.split(":")).read_bytes()

    async def test_export(self) -> None:
        """
        skopeo reads an exported file in both formats, and skopeo and umoci read
        an exported directory; each has the image's layers.
        """
        await self.daemon.ctl("import", self.layout, "quay.io/me/app:1")
        archive, directory = self.path("out.tar"), self.path("out")
        self.assertEqual(
            (await self.daemon.ctl("export", "quay.io/me/app:1", archive)).splitlines()[-1], archive
        )
        await self.daemon.ctl("export", "quay.io/me/app:1", f"{directory}/")
        layers = [str(layer.blob.digest) for layer in self.sample.layers]
        for source in (f"oci-archive:{archive}", f"oci:{directory}:quay.io/me/app:1"):
            seen = json.loads(await run(reactor, [*SKOPEO, "inspect", source]))
            self.assertEqual((seen["Digest"], seen["Layers"]), (str(self.sample.digest), layers))
        copy = self.path("copy")
        await run(
            reactor, [*SKOPEO, "copy", "--quiet", f"docker-archive:{archive}:quay.io/me/app:1", f"dir:{copy}"]
        )
        manifest = json.loads(Path(copy, "manifest.json").read_bytes())
        self.assertEqual(manifest["config"]["digest"], str(self.sample.config.digest))
        bundle = self.path("bundle")
        await run(
            reactor,
            ["umoci", "unpack", "--rootless", "--image", f"{directory}:quay.io/me/app:1", bundle],
        )
        flat = self.path("flat")
        await self.daemon.ctl("unpack", "quay.io/me/app:1", flat)
        names = [sorted(p.name for p in Path(top).rglob("*")) for top in (f"{bundle}/rootfs", flat)]
        self.assertEqual(names[0], names[1])

    async def test_through_a_pipe(self) -> None:
        """
        An export of one daemon is imported by another one through a pipe, byte
        for byte, also for an image in Docker's format.
        """
        docker = sample_image(2, seed="docker", docker=True)
        layout = self.path("docker")
        write_layout(layout, {"made": docker})
        other = Xferd(reactor, self.path("other"))
        await other.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(other.stop()))
        await self.daemon.ctl("import", layout, "app:1")
        (image,) = await self.daemon.show("images")
        self.assertEqual(image["digest"], str(docker.digest))
        there = shlex.join([*XFERCTL, "--host", other.url, "import", "-"])
        await self.shell(f"{self.ctl('export', 'app:1', '-')} | {there}")
        (image,) = await other.show("images")
        self.assertEqual(
            (image["digest"], image["reference"]), (str(docker.digest), "docker.io/library/app:1")
        )

    async def test_damaged(self) -> None:
        """
        A truncated file is refused with one sentence, and sets no name.
        """
        archive = self.path("a.tar")
        await self.copied(f"oci-archive:{archive}:quay.io/me/app:1")
        with open(archive, "r+b") as file:
            file.truncate(300_000)
        _, errors, status = await self.daemon.try_ctl("import", archive)
        self.assertEqual((status, len(errors.splitlines())), (1, 1), errors)
        self.assertIn("is truncated", errors)
        self.assertEqual(await self.daemon.show("images"), [])

    async def test_blob_lost(self) -> None:
        """
        An image with a blob that is missing from the store is not exported, and
        no file is written.
        """
        await self.daemon.ctl("import", self.layout, "127.0.0.1:1/app:1")
        digest = self.sample.layers[1].blob.digest
        Path(self.daemon.data, "content", "blobs", digest.algorithm, digest.hex).unlink()
        _, errors, status = await self.daemon.try_ctl("export", "127.0.0.1:1/app:1", self.path("out.tar"))
        self.assertEqual((status, len(errors.splitlines())), (1, 1), errors)
        self.assertIn("is not in the store", errors)
        self.assertFalse(any("out.tar" in name for name in os.listdir(self.place)))


def odd_archives() -> dict[str, tuple[bytes, SampleImage]]:
    """
    Archives with unusual names, links and compression, all named C{odd:1}.

    @return: a description of each, and its image.
    """
    found: dict[str, tuple[bytes, SampleImage]] = {}

    def saved(seed: str, rename: Callable[[str], str] = str) -> tuple[Files, SampleImage]:
        image = sample_image(2, seed=seed, compression="tar")
        files = docker_save({"odd:1": image})
        [listed] = json.loads(files.pop("manifest.json"))
        listed["Layers"] = [rename(name) for name in listed["Layers"]]
        renamed = {rename(name) if name.endswith("layer.tar") else name: data for name, data in files.items()}
        return {**renamed, "manifest.json": json.dumps([listed]).encode()}, image

    for what, rename in (
        ("absolute", "/{}".format),
        ("with dots", "./x/../{}".format),
        ("with doubled slashes", ".//{}".format),
    ):
        files, image = saved(what, rename)
        found[f"names {what}"] = tar(files), image
    for target in ("../{}/layer.tar", "../../{}/layer.tar", "/{}/layer.tar"):
        layer = sample_layer(compression="tar", seed=target)
        image = image_of([layer, sample_layer(compression="tar"), layer])
        files = docker_save({"odd:1": image})
        first, last = (f"{image.digest.hex[:8]}{number}" for number in (0, 2))
        del files[f"{last}/layer.tar"]
        found[f"a link to {target}"] = tar(files, links=[(f"{last}/layer.tar", target.format(first))]), image
    image = sample_image(2, seed="rules_oci")
    folder = f"blobs/{image.config.digest.algorithm}"
    names = [f"{folder}/{layer.blob.digest.hex}.tar.gz" for layer in image.layers]
    config = f"{folder}/{image.config.digest.hex}"
    listed = [{"Config": config, "RepoTags": ["odd:1"], "Layers": names}]
    files = {"manifest.json": json.dumps(listed).encode(), config: image.config.read()}
    files |= {name: layer.blob.read() for name, layer in zip(names, image.layers, strict=True)}
    found["rules_oci's"] = tar(files), image
    files, image = saved("no padding")
    found["no padding"] = tar(files).rstrip(b"\0"), image
    return found


class OddTests(ArchiveCase):
    """
    Unusual archives that skopeo and podman accept.
    """

    async def test_odd_archives(self) -> None:
        """
        The image has the same config and files as in skopeo and podman.
        """
        storage = [f"--root={self.place}/root", f"--runroot={self.place}/run", "--storage-driver=vfs"]
        podman = ["podman", *storage, "--cgroup-manager=cgroupfs", "--events-backend=none"]
        archive = self.path("odd.tar")
        for what, (data, image) in odd_archives().items():
            Path(archive).write_bytes(data)
            raw = await run(reactor, [*SKOPEO, "inspect", "--config", "--raw", f"docker-archive:{archive}"])
            self.assertEqual((what, Digest.of(raw.encode())), (what, image.config.digest))
            await run(reactor, [*podman, "load", "--quiet", "--input", archive])
            (loaded,) = json.loads(await run(reactor, [*podman, "images", "--format", "json"]))
            self.assertEqual((what, loaded["Id"]), (what, image.config.digest.hex))
            await run(reactor, [*podman, "rmi", "--force", loaded["Id"]])
            await self.daemon.ctl("import", archive)
            ours = await self.image("docker.io/library/odd:1")
            self.assertEqual((what, ours["image_id"]), (what, str(image.config.digest)))
            self.assertEqual(len(await self.trees("odd:1")), len(image.layers))


class EngineTests(ArchiveCase):
    """
    Archives of docker and podman.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Write the build context of an image.
        """
        if os.geteuid() != 0:
            raise SkipTest("dockerd needs root")
        await super().setUp()
        self.context = self.place / "context"
        self.context.mkdir()
        shutil.copy(require("busybox"), self.context / "busybox")
        (self.context / "Dockerfile").write_text(
            "FROM scratch\nCOPY busybox /bin/busybox\n"
            'RUN ["/bin/busybox", "sh", "-c", "mkdir /data; echo one > /data/file; chmod 4750 /data/file"]\n'
            'RUN ["/bin/busybox", "rm", "/data/file"]\nCOPY busybox /bin/busybox\n'
        )

    async def docker(self) -> Dockerd:
        """
        Start dockerd.
        """
        docker = Dockerd(reactor, self.path("docker"))
        await docker.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(docker.stop()))
        return docker

    async def test_docker(self) -> None:
        """
        An archive of C{docker save} is imported as the same image with the same
        trees, also two images in one archive; docker loads an exported archive
        with the same ID.
        """
        docker = await self.docker()
        await docker.build(str(self.context), "made/by-docker:1")
        await docker.run("tag", "made/by-docker:1", "made/by-docker:2")
        (inspected,) = json.loads(await docker.run("image", "inspect", "made/by-docker:1"))
        archive = self.path("saved.tar")
        await docker.run("save", "--output", archive, "made/by-docker:1", "made/by-docker:2")
        said = await self.daemon.ctl("import", archive)
        self.assertEqual(said.splitlines()[-2:], ["docker.io/made/by-docker:1", "docker.io/made/by-docker:2"])
        image = await self.image("docker.io/made/by-docker:1")
        self.assertEqual(image["image_id"], inspected["Id"])
        # Trees that docker has built carry marks of the file system; those that it has loaded do not.
        await docker.run("image", "rm", "--force", inspected["Id"])
        await docker.run("load", "--quiet", "--input", archive)
        theirs = await docker.layers("made/by-docker:1")
        for ours, their in zip(await self.trees("made/by-docker:1"), theirs, strict=True):
            self.assertEqual(differences(listing(ours, links=False), listing(their, links=False)), [])
        out, load = self.path("out.tar"), shlex.join([*docker.command, "load"])
        for line in (
            f"{self.ctl('export', 'made/by-docker:1', '-')} | {load}",
            f"{self.ctl('export', 'made/by-docker:1', out)} && {load} --input {out}",
        ):
            await docker.run("image", "rm", "--force", inspected["Id"])
            self.assertEqual((await docker.run("image", "ls", "--quiet")).split(), [])
            self.assertIn("Loaded image: made/by-docker:1", await self.shell(line))
            (again,) = json.loads(await docker.run("image", "inspect", "made/by-docker:1"))
            self.assertEqual((again["Id"], again["RootFS"]), (inspected["Id"], inspected["RootFS"]))

    async def test_podman(self) -> None:
        """
        podman loads an exported archive in either format, and an archive that
        podman saves in either format is imported.
        """
        sample = sample_image(2)
        layout = self.path("layout")
        write_layout(layout, {"made": sample})
        await self.daemon.ctl("import", layout, "quay.io/me/app:1")
        storage = [f"--root={self.place}/root", f"--runroot={self.place}/run", "--storage-driver=vfs"]
        podman = ["podman", *storage, "--cgroup-manager=cgroupfs", "--events-backend=none"]
        for form in ("docker", "oci"):
            archive = self.path(f"{form}.tar")
            await self.daemon.ctl("export", "--format", form, "quay.io/me/app:1", archive)
            await run(reactor, [*podman, "load", "--quiet", "--input", archive])
            (image,) = json.loads(await run(reactor, [*podman, "images", "--format", "json"]))
            self.assertEqual(image["Id"], sample.config.digest.hex)
            self.assertEqual(image["Names"], ["quay.io/me/app:1"])
            saved = self.path(f"saved-{form}.tar")
            await run(
                reactor,
                [
                    *podman,
                    "save",
                    "--quiet",
                    f"--format={form}-archive",
                    f"--output={saved}",
                    image["Id"][:12],
                ],
            )
            await self.daemon.ctl("import", saved, f"again:{form}")
            again = await self.image(f"docker.io/library/again:{form}")
            self.assertEqual(Digest.parse(again["image_id"]), sample.config.digest)
            await run(reactor, [*podman, "rmi", "--force", image["Id"]])
