"""
docker with the containerd image store pulls, runs, commits and pushes images by the
daemon's snapshotter.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Mapping
from typing import cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred

from tests.integration.newer import newer
from tests.integration.peers import require
from tests.integration.programs import Dockerd
from tests.integration.test_engine_containerd import OS_RELEASE, ContainerdCase, runnable_image
from xferd.interfaces.reactor import IReactor

reactor = cast(IReactor, installed)


class DockerCase(ContainerdCase):
    """
    A dockerd of the directory in C{XFERD_ENGINES}, with a containerd 2 and Debian's client.
    """

    more = 'address = "PLACE/c/s"\n'

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start dockerd with the file that C{xferctl engine show docker} prints.
        """
        newer("dockerd")
        newer("runc")
        require("docker")
        await super().setUp()
        shown = await self.daemon.show("engine", "show", "docker", "--for", "docker=29.0", "--engine", "main")
        (text,) = [file["text"] for file in shown if file["path"] == "/etc/docker/daemon.json"]
        settings = json.loads(text)
        self.assertEqual(settings["containerd"], "/run/containerd/containerd.sock")
        self.docker = await self.start_dockerd("d", settings)

    async def start_dockerd(self, name: str, settings: Mapping[str, object], *options: str) -> Dockerd:
        """
        Start a dockerd.

        @param settings: the content of its C{daemon.json}, but for the address of containerd.
        """
        config = self.place / f"{name}.json"
        config.write_text(json.dumps({**settings, "containerd": f"{self.place}/c/s"}))
        # dockerd wants a namespace of time, which runc has since version 1.2.
        runtime = (f"--add-runtime=new={newer('runc')}", "--default-runtime=new")
        own = ("--config-file", str(config), *runtime, *options)
        docker = Dockerd(reactor, str(self.place / name), *own, program=newer("dockerd"), driver=())
        await docker.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(docker.stop()))
        return docker


class DockerTests(DockerCase):
    """
    Pulls, containers, commits and builds.
    """

    async def cat(self, *arguments: str) -> bytes:
        """
        Print C{/etc/os-release} in a new container.
        """
        run = ("run", "--network=host", *arguments)
        return (await self.docker.run(*run, "cat", "/etc/os-release")).encode()

    async def test_run(self) -> None:
        """
        docker requests manifest and config alone; containers run, also while xferd
        collects and after it was killed, and are removed.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.docker.run("pull", "--quiet", reference)
        self.assertEqual(self.blob_gets(image), [1, 1, 1])
        self.assertEqual(await self.cat("--rm", reference), OS_RELEASE)
        await self.docker.run("run", "--detach", "--network=host", "--name=one", reference, "sleep", "1000")
        self.assertEqual(await self.cat("--name=two", reference), OS_RELEASE)
        await self.daemon.ctl("gc")
        await self.daemon.stop("KILL")
        said = await self.docker.run("exec", "one", "cat", "/etc/os-release")
        self.assertEqual(said.encode(), OS_RELEASE)
        self.daemon = await self.start_daemon()
        await self.patiently(lambda: self.docker.run("start", "--attach", "two"))
        await self.daemon.ctl("gc")
        await self.docker.run("stop", "--time=0", "one")
        await self.docker.run("start", "one")
        await self.docker.run("rm", "--force", "one", "two")
        self.assertEqual(await self.cat("--rm", reference), OS_RELEASE)
        await self.docker.run("rmi", reference)
        await self.until(lambda: not os.listdir(f"{self.daemon.data}/engines/main/snapshots"))
        self.assertEqual(self.blob_gets(image), [1, 1, 1])

    async def test_committed(self) -> None:
        """
        A committed image runs on xferd's layers; it is pushed and saved whole once its
        base was filled.
        """
        reference = self.add(runnable_image())
        await self.docker.run("pull", "--quiet", reference)
        await self.docker.run("run", "--network=host", "--name=one", reference, "touch", "/written")
        await self.docker.run("commit", "one", f"{self.registry.host}/built:1")
        await self.docker.run("rm", "one")
        await self.daemon.ctl("gc")
        built = f"{self.registry.host}/built:1"
        self.assertEqual(await self.cat("--rm", built), OS_RELEASE)
        await self.daemon.ctl("engine", "fill", "main", reference)
        await self.docker.run("push", built)
        archive = str(self.place / "saved.tar")
        await self.docker.run("save", "--output", archive, built)
        with tarfile.open(archive) as opened:
            layers = [name for name in opened.getnames() if name.startswith("blobs/sha256/")]
        # Four layers, config and manifest.
        self.assertGreaterEqual(len(layers), 6, layers)
        await self.docker.run("rmi", built, reference)

    async def test_built(self) -> None:
        """
        An image that docker builds stands on xferd's layers, which are fetched once.
        """
        image = runnable_image()
        context = self.place / "context"
        context.mkdir()
        (context / "added").write_text("1")
        lines = [f"FROM {self.add(image)}", "COPY added /added", "RUN cat /etc/os-release > /copied"]
        (context / "Dockerfile").write_text("\n".join(lines))
        await self.docker.build(str(context), "built:1")
        self.assertEqual(self.blob_gets(image), [1, 1, 1])
        await self.daemon.ctl("gc")
        said = await self.docker.run("run", "--rm", "--network=host", "built:1", "cat", "/copied", "/added")
        self.assertEqual(said.encode(), OS_RELEASE + b"1")

    async def test_check(self) -> None:
        """
        C{xferctl engine check} succeeds.
        """
        variables = {"DOCKER_HOST": self.docker.host, "DOCKER_CONFIG": str(self.place)}
        said = await self.daemon.ctl("engine", "check", "docker", "--engine", "main", variables=variables)
        self.assertIn("docker: docker pulled 127.0.0.1:", said)

    async def test_killed(self) -> None:
        """
        xferd is killed while docker waits for a layer, and started again: the pull ends, and xferd
        has fetched all layers.
        """
        image = runnable_image(4, 1_000_000)
        reference = self.add(image)
        await self.kill_in_pull(image, lambda: self.docker.run("pull", "--quiet", reference), "moby")
        self.assertEqual(await self.cat("--rm", reference), OS_RELEASE)

    async def test_absent(self) -> None:
        """
        While xferd is stopped, docker fetches and unpacks an image itself, and runs it.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.daemon.stop()
        await self.docker.run("pull", "--quiet", reference)
        self.assertEqual(self.blob_gets(image), [1, 1, 1])
        self.assertEqual(await self.cat("--rm", reference), OS_RELEASE)
