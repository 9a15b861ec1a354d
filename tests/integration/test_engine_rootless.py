"""
Rootless containerd with a daemon of the same user: nerdctl pulls, runs and commits images by
the daemon's snapshotter.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.containerds import NEWEST
from tests.integration.newer import newer
from tests.integration.other_user import JOE, make_user
from tests.integration.peers import require, run
from tests.integration.programs import XFERCTL, Program, Xferd
from tests.integration.test_engine_containerd import OS_RELEASE, runnable_image
from xferd.interfaces.reactor import IReactor
from xferd.testing.registry import Registry

reactor = cast(IReactor, installed)

HOLD = "rm -f /run/containerd /run/nri; mkdir /run/containerd; echo held; exec sleep infinity"
"""Keeps the namespaces of C{containerd-rootless.sh}."""


class RootlessTests(TestCase):
    """
    nerdctl of the directory in C{XFERD_ENGINES}, with a containerd 2.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start a registry, and as another user xferd and containerd with the files that C{xferctl
        engine show} prints.
        """
        self.program = newer("nerdctl")
        if not os.path.exists(f"{NEWEST}/containerd"):
            raise SkipTest("XFERD_CONTAINERD names no directory with a containerd 2")
        for program in ("rootlesskit", "runc"):
            require(program)
        # Outside the working directory: the paths of sockets have to be short.
        self.place, user = Path(mkdtemp(prefix="xferd-")), Path(mkdtemp(prefix="xferd-"))
        for directory in (self.place, user):
            self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.state = self.place / "run" / "containerd-rootless"
        for directory in (self.place, self.place / "run", self.place / ".config", self.place / "x"):
            directory.mkdir(exist_ok=True)
            os.chown(directory, JOE, JOE)
        variables = [f"HOME={self.place}", f"XDG_RUNTIME_DIR={self.place}/run", f"DOCKER_CONFIG={self.place}"]
        self.as_user = [*make_user(user), "env", "-u", "XDG_CONFIG_HOME", *variables]
        self.variables = variables
        # As after a restart of containerd, its namespaces are not xferd's.
        self.inside_first = await self.start_namespaces(self.place / "run" / "first")
        self.inside = await self.start_namespaces(self.state)
        self.registry = Registry(reactor)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)
        (self.place / "xferd.toml").write_text(f'[engines.containerd.own]\naddress = "{self.place}/c"\n')
        await self.start_daemon()
        await self.start_containerd()
        own = {"address": f"{self.place}/c", "data_root": f"{self.place}/n", "cgroup_manager": "none"}
        settings = self.shown["nerdctl/nerdctl.toml"] + "".join(f'{k} = "{v}"\n' for k, v in own.items())
        (self.place / "nerdctl.toml").write_text(settings)

    async def start_namespaces(self, state: Path) -> list[str]:
        """
        Make namespaces of the user, as C{containerd-rootless.sh} does but for the network.

        @param state: the directory of rootlesskit's state.
        @return: a program that runs the rest of its command line in them.
        """
        copied = [f"--copy-up={path}" for path in ("/etc", "/run", "/var/lib")]
        argv = ["rootlesskit", f"--state-dir={state}", "--net=host", *copied, "sh", "-c", HOLD]
        holder = Program(reactor, [*self.as_user, *argv], "held", "/")
        await holder.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(holder.stop()))
        child = (state / "child_pid").read_text()
        enter = ["nsenter", "--user", "--mount", f"--target={child}", "--setuid=0", "--setgid=0", "--wd=/"]
        return [*enter, "env", *self.variables, f"PATH={NEWEST}:{os.environ['PATH']}"]

    async def start_daemon(self) -> None:
        """
        Start xferd in the first namespaces.
        """
        options = ("--config", f"{self.place}/xferd.toml")
        self.daemon = daemon = Xferd(reactor, f"{self.place}/x", *options, before=self.inside_first)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.end_snapshotter()))
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))

    async def start_containerd(self) -> None:
        """
        Start containerd with the lines that the user gets.

        @ivar shown: what is printed, by the paths within the user's configuration.
        """
        show = [*XFERCTL, "--host", self.daemon.url, "engine", "show", "containerd", "nerdctl", "--json"]
        versions = ["--for", "containerd=2.4", "--for", "nerdctl=2.3"]
        printed = await run(reactor, [*self.as_user, *show, *versions])
        files = {file["path"]: file["text"] for file in map(json.loads, printed.splitlines())}
        self.shown = {str(Path(path).relative_to(self.place / ".config")): files[path] for path in files}
        self.assertEqual(set(self.shown), {"containerd/config.toml", "nerdctl/nerdctl.toml"})
        first, _, lines = self.shown["containerd/config.toml"].partition("\n")
        own = f'root = "{self.place}/cr"\nstate = "{self.place}/cs"\n[grpc]\naddress = "{self.place}/c"\n'
        config = self.place / "config.toml"
        config.write_text(f"{first}\n{own}{lines}")
        argv = [*self.inside, "containerd", "--config", str(config)]
        containerd = Program(reactor, argv, "containerd successfully booted", "/")
        await containerd.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(containerd.stop()))

    async def nerdctl(self, *arguments: str) -> str:
        """
        Run nerdctl in the namespaces, which it cannot enter by itself without one of a network.
        """
        own = [f"ROOTLESSKIT_STATE_DIR={self.state}", f"NERDCTL_TOML={self.place}/nerdctl.toml"]
        parent = [f"ROOTLESSKIT_PARENT_EUID={JOE}", f"ROOTLESSKIT_PARENT_EGID={JOE}"]
        return await run(reactor, [*self.inside, *own, *parent, self.program, *arguments])

    async def test_run(self) -> None:
        """
        nerdctl requests manifest and config alone; containers see the image, with what upper
        layers remove, also after xferd was killed; a committed image runs; removal frees all.
        """
        image = runnable_image()
        self.registry.add(image, "app", "1")
        reference = f"{self.registry.host}/app:1"
        await self.nerdctl("pull", "--quiet", reference)
        gets = [self.registry.count("GET", layer.blob.digest) for layer in image.layers]
        self.assertEqual(gets, [1, 1, 1])
        blobs = list((self.place / "cr/io.containerd.content.v1.content/blobs/sha256").iterdir())
        self.assertEqual(len(blobs), 2, blobs)
        base = ("run", "--net=none")
        facts = "cat /etc/os-release; ls -d /removed /gone /hidden/*; stat -c '%u %g' /etc/added; echo x > /x"
        said = await self.nerdctl(*base, "--rm", reference, "sh", "-c", f"({facts}) 2>&1")
        self.assertEqual(
            said.encode(),
            OS_RELEASE + b"ls: /removed: No such file or directory\n"
            b"ls: /gone: No such file or directory\n/hidden/new\n1000 1000\n",
        )
        await self.nerdctl(*base, "--detach", "--name=one", reference, "sleep", "1000")
        await self.daemon.stop("KILL")
        cat = ("cat", "/etc/os-release")
        self.assertEqual((await self.nerdctl("exec", "one", *cat)).encode(), OS_RELEASE)
        await self.start_daemon()
        await self.nerdctl("commit", "--pause=false", "one", "built:1")
        await self.daemon.ctl("gc")
        self.assertEqual((await self.nerdctl(*base, "--rm", "built:1", *cat)).encode(), OS_RELEASE)
        await self.nerdctl("rm", "--force", "one")
        await self.nerdctl("rmi", "built:1", reference)
        while os.listdir(f"{self.daemon.data}/engines/own/snapshots"):
            await deferLater(reactor, 0.05)

    async def test_deep(self) -> None:
        """
        A container runs on 120 layers.
        """
        image = runnable_image(120, 100)
        self.registry.add(image, "deep", "1")
        reference = f"{self.registry.host}/deep:1"
        await self.nerdctl("pull", "--quiet", reference)
        said = await self.nerdctl("run", "--net=none", "--rm", reference, "cat", "/etc/os-release")
        self.assertEqual(said.encode(), OS_RELEASE)
