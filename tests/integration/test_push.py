"""
Pushes and copies by the daemon into Debian's registry, read back by docker,
podman and skopeo.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from unittest import SkipTest

from twisted.internet.defer import Deferred, gatherResults

from tests.integration.peers import DockerRegistry, push, require, run
from tests.integration.programs import Dockerd
from tests.integration.test_daemon import DaemonCase, reactor
from xferd.media_types import OCI_MANIFEST
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.faults import CutBody, Stall
from xferd.testing.images import image_of, index_of, sample_image, sample_layer
from xferd.testing.registry import Registry

DOCKERFILE = """
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install /bin && echo made by docker > /said"]
CMD ["/bin/cat", "/said"]
"""


class PushCase(DaemonCase):
    """
    Tests with a daemon and two registries: the test registry and Debian's.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start the registries and the daemon.
        """
        await super().setUp()
        self.debian = DockerRegistry(reactor, str(self.place / "debian"))
        await self.debian.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.debian.stop()))

    async def digest(self, reference: str) -> str:
        """
        The digest of a reference, as skopeo reports it.
        """
        options = ["--tls-verify=false", "--format", "{{.Digest}}"]
        return (await run(reactor, ["skopeo", "inspect", *options, f"docker://{reference}"])).strip()

    async def raw(self, reference: str) -> str:
        """
        The bytes of a manifest or an index, as skopeo receives them.
        """
        return await run(
            reactor, ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
        )


class PushTests(PushCase):
    """
    Pushes from the store.
    """

    async def test_docker_image(self) -> None:
        """
        An image made by docker that was pulled and pushed has the same digest
        in both registries, and docker and podman run it.
        """
        if os.geteuid() != 0:
            raise SkipTest("dockerd needs root")
        docker = Dockerd(reactor, str(self.place / "docker"))
        await docker.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(docker.stop()))
        context = self.place / "context"
        context.mkdir()
        shutil.copy(require("busybox"), context / "busybox")
        (context / "Dockerfile").write_text(DOCKERFILE)
        made, there = f"{self.debian.host}/made:1", f"{self.registry.host}/there:2"
        await docker.build(str(context), made)
        await docker.run("push", "--quiet", made)
        await self.daemon.ctl("pull", made)
        await self.daemon.ctl("push", made, there)
        self.assertEqual(await self.digest(there), await self.digest(made))

        await docker.run("image", "rm", "--force", made)
        self.assertEqual(await docker.run("run", "--rm", "--network=none", there), "made by docker\n")
        podman = ["podman", f"--root={self.place}/podman", f"--runroot={self.place}/podman-run"]
        options = ["--tls-verify=false", "--quiet"]
        pulled = await run(reactor, [*podman, "--storage-driver=vfs", "pull", *options, there])
        digest = ["image", "inspect", "--format={{.Digest}}", pulled.strip()]
        inspected = await run(reactor, [*podman, "--storage-driver=vfs", *digest])
        self.assertEqual(inspected.strip(), await self.digest(made))

    async def test_again(self) -> None:
        """
        Blobs that exist are not sent again, and blobs in another repository of
        the registry are mounted.
        """
        image, reference = self.add(3)
        await self.daemon.ctl("pull", reference)
        one, two = f"{self.debian.host}/team/one:1", f"{self.debian.host}/team/two:1"
        states = []
        for target in (one, one, two):
            await self.daemon.ctl("push", reference, target)
            (job, *_) = await self.api("GET", "jobs")
            layers = (await self.api("GET", f"jobs/{job['id']}"))["layers"]
            states.append({layer["state"] for layer in layers})
        self.assertEqual(states, [{"done"}, {"exists"}, {"mounted"}])
        self.assertEqual(await self.digest(two), str(image.digest))

    async def test_ten_clients(self) -> None:
        """
        Ten clients push ten images with a common base to one repository: each
        blob is uploaded once, and there are ten correct manifests.
        """
        base = sample_layer(100_000, "base")
        images = [image_of([base, sample_layer(20_000, f"top {n}")]) for n in range(10)]
        references = [f"{self.registry.host}/made:{n}" for n in range(10)]
        for n, image in enumerate(images):
            self.registry.add(image, "made", str(n))
        await gatherResults([Deferred.fromCoroutine(self.daemon.ctl("pull", r)) for r in references])
        targets = [f"{self.debian.host}/all:{n}" for n in range(10)]
        await gatherResults(
            [
                Deferred.fromCoroutine(self.daemon.ctl("push", r, t))
                for r, t in zip(references, targets, strict=True)
            ]
        )
        for image, target in zip(images, targets, strict=True):
            self.assertEqual(await self.digest(target), str(image.digest))
        uploads = [
            path for method, path, status in self.debian.log if method == "PUT" and "/uploads/" in path
        ]
        blobs = {blob.digest for image in images for blob in image.blobs}
        self.assertEqual(len(uploads), len(blobs))

    async def test_tags_and_platforms(self) -> None:
        """
        An image is pushed under another name with all platforms and three tags:
        each is the same index, byte for byte, and skopeo copies each platform.
        Blobs that the store lacks are fetched once from the registry of the
        pull.
        """
        images = {
            p: sample_image(2, size=100_000, seed=str(p), platform=p)
            for p in (Platform.local(), Platform("linux", "s390x"), Platform("linux", "riscv64"))
        }
        index = index_of(images)
        self.registry.add(index, "many", "1")
        await self.daemon.ctl("pull", f"{self.registry.host}/many:1")
        await self.daemon.ctl("tag", f"{self.registry.host}/many:1", "mine/many:1")
        target = f"{self.debian.host}/many"
        await self.daemon.ctl(
            "push", "mine/many:1", f"{target}:1", "--tag", "1.0", "--tag", "latest", "--all-platforms"
        )
        for tag in ("1", "1.0", "latest"):
            self.assertEqual((await self.raw(f"{target}:{tag}")).encode(), index.document.data)
        for platform, image in images.items():
            into = self.place / platform.architecture
            options = ["--quiet", "--src-tls-verify=false", f"--override-arch={platform.architecture}"]
            copy = ["skopeo", "--insecure-policy", options.pop(), "copy", *options]
            await run(reactor, [*copy, f"docker://{target}:1", f"dir:{into}"])
            self.assertEqual((into / "manifest.json").read_bytes(), image.manifest.data)
            for blob in image.blobs:
                self.assertEqual(self.registry.count("GET", blob.digest), 1)
        await self.daemon.ctl("push", "mine/many:1", f"{target}:one", "--platform", "linux/s390x")
        self.assertEqual(await self.digest(f"{target}:one"), str(images[Platform("linux", "s390x")].digest))

    async def test_missing(self) -> None:
        """
        The error names an image that is not in the store.
        """
        _, errors, code = await self.daemon.try_ctl("push", "no/such:image")
        self.assertEqual(code, 1)
        self.assertIn("the store has no image no/such:image", errors)

    async def test_last_client_leaves(self) -> None:
        """
        When the last client of an upload disconnects, the upload stops at once
        and its session is deleted.
        """
        _, reference = self.add(1, size=3_000_000)
        await self.daemon.ctl("pull", reference)
        registry = Registry(reactor)
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        for method in ("PATCH", "PUT"):
            registry.faults.plant(Stall(), "/uploads/", method=method, times=None)
        asked = {"kind": "push", "reference": reference, "target": f"{registry.host}/elsewhere:1"}
        jobs = [(await self.api("POST", "jobs", asked))["id"] for _ in range(2)]
        await self.until(lambda: [e for e in registry.log if e.method in ("PATCH", "PUT")])
        await self.api("DELETE", f"jobs/{jobs[0]}")
        self.assertEqual((await self.api("GET", f"jobs/{jobs[1]}"))["state"], "running")
        self.assertEqual([e for e in registry.log if e.method == "DELETE"], [])
        await self.api("DELETE", f"jobs/{jobs[1]}")
        await self.until(lambda: [e for e in registry.log if e.method == "DELETE"])
        slots = (await self.api("GET", "status"))["slots"]["upload"]
        self.assertEqual(slots["in_use"], 0)


class CopyTests(PushCase):
    """
    Copies from registry to registry.
    """

    async def test_index(self) -> None:
        """
        An index with two platforms and zstd layers is copied byte for byte.
        """
        images = {
            p: sample_image(2, seed=str(p), compression="zstd", platform=p)
            for p in (Platform("linux", "amd64"), Platform("linux", "arm64"))
        }
        index = index_of(images)
        self.registry.add(index, "many", "1")
        source, target = f"{self.registry.host}/many:1", f"{self.debian.host}/copied:1"
        await self.daemon.ctl("copy", source, target)
        self.assertEqual((await self.raw(target)).encode(), index.document.data)
        for image in images.values():
            raw = await self.raw(f"{self.debian.host}/copied@{image.digest}")
            self.assertEqual(raw.encode(), image.manifest.data)
            for blob in image.blobs:
                self.assertLessEqual(self.registry.count("GET", blob.digest), 1)
        self.assertEqual(await self.api("GET", "images"), [])
        self.assertFalse(list(Path(self.daemon.data, "staging").iterdir()))

    async def test_artifact(self) -> None:
        """
        An artifact with a subject, and content of an unknown type, is copied
        with its image byte for byte; Debian's registry has no referrers API, so
        the tag of the subject lists it.
        """
        image, reference = self.add(1)
        made = image_of([sample_layer(1000, "signed")])
        self.registry.add(made, "team/app", None)
        value = json.loads(made.manifest.data) | {
            "subject": image.document.descriptor.to_json(),
            "artifactType": "application/vnd.example.signature",
        }
        value["layers"][0]["mediaType"] = "application/vnd.example.unknown"
        artifact = Document.verified(OCI_MANIFEST, json.dumps(value, indent=1).encode())
        self.registry.storage.put_document("team/app", artifact)
        target = f"{self.debian.host}/copied"
        await self.daemon.ctl("copy", "--referrers", reference, f"{target}:1")
        self.assertEqual((await self.raw(f"{target}@{artifact.digest}")).encode(), artifact.data)
        listed = json.loads(await self.raw(f"{target}:sha256-{image.digest.hex}"))
        (entry,) = listed["manifests"]
        self.assertEqual(
            (entry["digest"], entry["artifactType"]), (str(artifact.digest), value["artifactType"])
        )

    async def test_platform(self) -> None:
        """
        One platform of an index is copied alone, if the client selects it.
        """
        arm = sample_image(1, seed="arm", platform=Platform("linux", "arm64"))
        index = index_of({Platform("linux", "amd64"): sample_image(1), arm.platform: arm})
        self.registry.add(index, "many", "1")
        target = f"{self.debian.host}/one:1"
        await self.daemon.ctl("copy", f"{self.registry.host}/many:1", target, "--platform", "linux/arm64")
        self.assertEqual((await self.raw(target)).encode(), arm.manifest.data)

    async def test_shared_with_a_pull(self) -> None:
        """
        A copy and a pull of one image fetch each blob once.
        """
        image, reference = self.add(2)
        await gatherResults(
            [
                Deferred.fromCoroutine(self.daemon.ctl("pull", reference)),
                Deferred.fromCoroutine(self.daemon.ctl("copy", reference, f"{self.debian.host}/c:1")),
            ]
        )
        for layer in image.layers:
            self.assertEqual(self.registry.count("GET", layer.blob.digest), 1)

    async def test_skopeo_and_back(self) -> None:
        """
        An image that skopeo pushed to Debian's registry is copied into the test
        registry.
        """
        image = sample_image(2, compression="gzip")
        source = f"{self.debian.host}/from/skopeo:1"
        await push(reactor, image, source, str(self.place / "layout"))
        target = f"{self.registry.host}/to/us:1"
        await self.daemon.ctl("copy", source, target)
        self.assertEqual(json.loads(await self.raw(target)), json.loads(await self.raw(source)))


class BadLineTests(PushCase):
    """
    A connection that breaks repeatedly, and a daemon that is killed.
    """

    size = int(os.environ.get("XFERD_BAD_LINE_SIZE", "60000000"))

    async def test_cut_and_killed(self) -> None:
        """
        A push whose connection breaks after every seventh of the layer, and
        whose daemon is killed twice, succeeds; the registry received at most
        1.3 times the layer.
        """
        image, reference = self.add(1, size=self.size, compression="tar")
        layer = image.layers[0].blob
        await self.daemon.ctl("pull", reference)
        target = Registry(reactor)
        await target.listen(reactor)
        self.addCleanup(target.stop)
        target.faults.plant(CutBody(self.size // 7, connection=True), "/uploads/", times=None)
        goal = f"{target.host}/far:1"
        settings = self.place / "impatient.toml"
        settings.write_text("[retry]\nbase = 0.05\n")
        for part in (3, 3 / 2):
            await self.daemon.stop("KILL")
            await self.start(f"--config={settings}")
            await self.api("POST", "jobs", {"kind": "push", "reference": reference, "target": goal})
            await self.until(lambda part=part: target.bytes_received > self.size / part)  # type: ignore[misc]
        await self.daemon.stop("KILL")
        await self.start(f"--config={settings}")
        await self.daemon.ctl("push", reference, goal)
        self.assertEqual(await self.digest(goal), str(image.digest))
        received = target.bytes_received / layer.descriptor.size
        self.assertGreaterEqual(received, 1.0)
        self.assertLessEqual(received, 1.3)
