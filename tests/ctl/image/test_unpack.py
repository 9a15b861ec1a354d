# -*- test-case-name: tests.ctl.image.test_unpack -*-
"""
Tests for L{xferd.ctl.image.unpack} and L{xferd.ctl.image.overlay},
with layers that the test itself has made.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from tests.ctl.fake_daemon import DIGEST, Answer, DaemonTestCase, refusal
from tests.ctl.run import COMMAND, Outcome, environment, run
from xferd.ctl.commands import unpack as unpack_command
from xferd.ctl.image import overlay, unpack
from xferd.ctl.image.overlay import CannotMount
from xferd.ctl.interrupts import Interrupted, Interrupts
from xferd.errors import DiskFull
from xferd.unpack.flatten import Progress, flatten
from xferd.unpack.sandbox import is_privileged

if TYPE_CHECKING:
    from collections.abc import Iterator


class UnpackCase(DaemonTestCase):
    """
    A daemon with one image of two layers, on this machine.
    """

    def setUp(self) -> None:
        """
        Make the layers, and tell of them.
        """
        super().setUp()
        # Not below the working directory: other users have to get here too.
        self.place = Path(mkdtemp(prefix="xferd-unpack-"))
        self.addCleanup(shutil.rmtree, self.place)
        os.chmod(self.place, 0o755)
        self.trees = [self.place / "store" / name / "fs" for name in ("0", "1")]
        for number, tree in enumerate(self.trees):
            (tree / "etc").mkdir(parents=True)
            (tree / "etc" / f"file{number}").write_text(f"layer {number}\n")
        (self.trees[0] / "etc/passwd").write_text("app:x:1000:1001::/home/app:\n")
        (self.trees[0] / "data").mkdir(mode=0o750)
        self.trees[1].chmod(0o751)
        self.target = self.place / "target"
        self.image()

    def image(self, config: object = None, **more: object) -> None:
        """
        Tell of the image.
        """
        value = {
            "reference": "docker.io/library/alpine:latest",
            "digest": DIGEST,
            "config": {"os": "linux", "config": {"Cmd": ["sh"], "User": "app"} if config is None else config},
            "trees": [str(tree) for tree in self.trees],
            **more,
        }
        self.fake.on("GET", "/images/alpine", Answer(value))

    def ctl(self, command: str, *argv: str) -> Outcome:
        """
        Run a command on the image.
        """
        return run([command, "--host", self.fake.url, "alpine", str(self.target), *argv])

    def refused(self, command: str, *argv: str, status: int = 1) -> str:
        """
        A command fails, and leaves everything as it was; gives its last words.
        """
        before = sorted(os.listdir(self.place))
        outcome = self.ctl(command, *argv)
        self.assertEqual((outcome.status, outcome.out), (status, ""), outcome.err)
        self.assertEqual(sorted(os.listdir(self.place)), before)
        self.assertEqual(outcome.err.count("\n"), 1)
        return outcome.err

    def mounted(self) -> list[str]:
        """
        What is mounted below the test's place.
        """
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [line.split()[1] for line in lines if f" {self.place}" in line]

    @contextmanager
    def unmounting(self, path: Path) -> Iterator[None]:
        """
        Take a mount away after a block, as its user would.
        """
        try:
            yield
        finally:
            subprocess.run(["umount", path], check=True)


class UnpackTests(UnpackCase):
    """
    C{xferctl unpack} with copying.
    """

    def test_unpack(self) -> None:
        """
        The layers become one directory, whose path is the last line.
        """
        outcome = self.ctl("unpack")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual(
            outcome.out,
            f"docker.io/library/alpine:latest: 5 files, 44 B\n{self.target}\n",
        )
        self.assertEqual(sorted(os.listdir(self.target / "etc")), ["file0", "file1", "passwd"])
        self.assertEqual(stat.S_IMODE(self.target.stat().st_mode), 0o751)
        self.assertEqual(sorted(os.listdir(self.place)), ["store", "target"])

    def test_platform(self) -> None:
        """
        An image for another platform than the one that is asked for is left
        alone.
        """
        refused = refusal(422, "PLATFORM_UNKNOWN", "for another")
        self.fake.on("GET", "/images/alpine?platform=linux/arm64", refused)
        for command in ("unpack", "bundle"):
            said = self.refused(command, "--platform", "linux/arm64")
            self.assertEqual(said, "xferctl: for another (PLATFORM_UNKNOWN)\n")

    def test_quiet(self) -> None:
        """
        Quietly, the path is all.
        """
        self.assertEqual(self.ctl("unpack", "--quiet"), (0, f"{self.target}\n", ""))

    def test_json(self) -> None:
        """
        As JSON, progress comes in lines, and the last is the result.
        """
        lines = [json.loads(line) for line in self.ctl("unpack", "--json").out.splitlines()]
        self.assertEqual({line["kind"] for line in lines}, {"unpack"})
        self.assertEqual(lines[-2]["data"]["entries_done"], 5)
        self.assertEqual([line["final"] for line in lines], [False] * (len(lines) - 1) + [True])
        self.assertEqual(lines[-1]["data"]["path"], str(self.target))

    def test_into_empty(self) -> None:
        """
        An empty directory becomes it, also through a link.
        """
        (self.place / "real").mkdir()
        self.target.symlink_to("real")
        self.assertEqual(self.ctl("unpack").out.splitlines()[-1], str(self.place / "real"))
        self.assertTrue((self.place / "real/etc/passwd").is_file())

    def test_group_not_inherited(self) -> None:
        """
        A directory that gives its group and its access control list to what
        is made in it, does not give them to the image's files.
        """
        if not is_privileged():
            raise SkipTest("needs root")
        os.chown(self.place, 0, 50)
        os.chmod(self.place, 0o2755)
        # Version 2; the owner, user 1000, the group, the mask and others may do everything.
        entries = [(1, -1), (2, 1000), (4, -1), (16, -1), (32, -1)]
        acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", tag, 7, who) for tag, who in entries)
        os.setxattr(self.place, "system.posix_acl_default", acl)
        self.assertEqual(self.ctl("unpack").status, 0)
        found = [(self.target / name).stat() for name in ("etc", "etc/passwd", "data")]
        self.assertEqual({s.st_gid for s in found}, {0})
        self.assertEqual({s.st_mode & stat.S_ISGID for s in found}, {0})
        self.assertEqual(os.listxattr(self.target / "etc"), [])

    def test_no_place(self) -> None:
        """
        Nothing is overwritten, and a place that cannot be is named.
        """
        self.target.mkdir()
        (self.target / "mine").touch()
        self.assertIn("is not empty", self.refused("unpack"))
        self.target /= "mine"
        self.assertIn("mine cannot be used: Not a directory", self.refused("unpack"))
        self.target = self.place / "absent" / "below"
        self.assertIn(f"the directory {self.place}/absent does not exist", self.refused("unpack"))
        self.target = Path("/proc/new")
        self.assertIn("cannot make /proc/new", self.refused("unpack"))

    def test_full(self) -> None:
        """
        What is half made is removed, and the reason has its code.
        """

        def full(trees: object, target: str, *_: object, **__: object) -> Progress:
            Path(target, "half").touch()
            raise DiskFull("no space is left for 'x'")

        self.patch(unpack, "flatten", full)
        self.assertEqual(self.refused("unpack"), "xferctl: no space is left for 'x' (DISK_FULL)\n")

    def test_interrupted(self) -> None:
        """
        So it is when the user leaves.
        """

        def leave(trees: object, target: str, *_: object, **__: object) -> Progress:
            Path(target, "half").touch()
            raise Interrupted

        self.patch(unpack, "flatten", leave)
        said = self.refused("unpack", status=130)
        self.assertEqual(said, f"xferctl: interrupted; {self.target} was not made\n")

    def test_unreadable(self) -> None:
        """
        Layers that are elsewhere or not ours to read are told of in a
        sentence, as is what is no image, or an old daemon.
        """
        self.image(trees=["/nowhere/fs"])
        said = self.refused("unpack")
        self.assertIn("/nowhere/fs on the daemon's machine; it cannot be read here: No such file", said)
        self.image(trees=[3])
        self.assertIn("older than this xferctl", self.refused("unpack"))
        self.image()
        answer = json.loads(self.fake.answers["GET", "/api/v1/images/alpine"][0].body)
        self.fake.on("GET", "/images/alpine", Answer({**answer, "config": None}))
        self.assertIn("is an artifact, not a container image", self.refused("unpack"))

    def test_not_allowed(self) -> None:
        """
        Another user's layers are told of with the remedy.
        """

        def deny(path: str) -> None:
            raise PermissionError(13, "no", path)

        self.patch(os, "scandir", deny)
        (self.place / "target").mkdir()
        self.patch(unpack_command, "check_free", lambda directory: directory)
        self.assertIn("which you may not read; run this as the daemon's user or root", self.ctl("unpack").err)

    def test_wrong_use(self) -> None:
        """
        What is copied can be changed: to say otherwise is wrong use.
        """
        self.assertIn("--read-only needs --mount", self.refused("unpack", "--read-only", status=2))

    def test_progress(self) -> None:
        """
        Empty files count as work, and nothing is known before the layers are read.
        """
        self.assertIsNone(unpack.copy_progress(Progress()).fraction)
        half = unpack.copy_progress(Progress(1, 2, 3_000_000, 6_000_000))
        self.assertEqual((half.fraction, half.note), (0.5, "1/2 files"))
        self.assertEqual(unpack.copy_progress(Progress(1, 4, 0, 0)).fraction, 0.25)

    def test_as_installed(self) -> None:
        """
        On a terminal of its own it ends with the path.
        """
        script = f"{COMMAND[0]} -c '{COMMAND[2]}' unpack alpine {self.target}"
        outcome = subprocess.run(
            ["script", "-qec", script, "/dev/null"],
            env=environment(XFERD_HOST=self.fake.url, TERM="xterm"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        self.assertEqual(outcome.stdout.splitlines()[-1], os.fsencode(self.target))

    def test_older_trees(self) -> None:
        """
        Layers that an older daemon has unpacked are unpacked again before they
        are used; where that fails, the user is warned.
        """
        self.fake.on("POST", "/images/alpine/trees", Answer({"warnings": ["layer 1 is old"]}))
        outcome = self.ctl("unpack")
        self.assertEqual((outcome.status, outcome.err), (0, "xferctl: warning: layer 1 is old\n"))
        self.assertTrue((self.target / "etc/file1").exists())
        asked = [method for method, path, _ in self.fake.requests if "alpine" in path]
        self.assertEqual(asked, ["POST", "GET"])

    def test_cannot_renew(self) -> None:
        """
        The daemon's word that they cannot be unpacked at all is passed on.
        """
        self.fake.on("POST", "/images/alpine/trees", refusal(503, "STORE_ERROR", "the disk is gone"))
        self.assertIn("the disk is gone", self.refused("unpack"))


class ExchangeTests(UnpackCase):
    """
    Copies into a directory of another user's, who exchanges what is in it.
    """

    def exchange(self) -> Path:
        """
        Put a link to a victim in the place of the directory that is filled.
        """
        victim = self.place / "victim"
        victim.mkdir()
        (hidden,) = self.place.glob(".target.*")
        hidden.rename(self.place / "away")
        hidden.symlink_to(victim)
        return victim

    def test_before_copying(self) -> None:
        """
        What is copied goes into the directory that was made, not where a link
        of its name leads.
        """
        for command in ("unpack", "bundle"):

            def exchange(*what: Any, **how: Any) -> Progress:
                self.exchange()
                return flatten(*what, **how)

            self.patch(unpack, "flatten", exchange)
            outcome = self.ctl(command)
            self.assertEqual(outcome.status, 1)
            self.assertIn("another user has exchanged", outcome.err)
            self.assertEqual(os.listdir(self.place / "victim"), [])
            self.assertIn("etc" if command == "unpack" else "rootfs", os.listdir(self.place / "away"))
            for path in ("victim", "away"):
                shutil.rmtree(self.place / path)
            self.target.unlink()

    def test_failure(self) -> None:
        """
        A copy that fails removes nothing but what it made.
        """

        def fail(*_: object, **__: object) -> Progress:
            (self.exchange() / "precious").touch()
            raise DiskFull("no space is left for 'x'")

        self.patch(unpack, "flatten", fail)
        self.assertEqual(self.ctl("unpack").status, 1)
        self.assertEqual(os.listdir(self.place / "victim"), ["precious"])

    def test_before_the_first_look(self) -> None:
        """
        A directory that was exchanged before it was looked at is not used:
        its group, its mode and its access control list stay.
        """
        victim = self.place / "victim"
        victim.mkdir()
        (victim / "precious").touch()
        victim.chmod(0o705)
        mkdir = os.mkdir

        def exchange(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            mkdir(name, mode, dir_fd=dir_fd)
            if name.startswith(".target."):
                (self.place / name).rmdir()
                victim.rename(self.place / name)

        self.patch(os, "mkdir", exchange)
        outcome = self.ctl("unpack")
        self.assertIn("another user has exchanged the new directory", outcome.err)
        self.assertFalse(self.target.exists())
        (hidden,) = self.place.glob(".target.*")
        self.assertEqual(os.listdir(hidden), ["precious"])
        self.assertEqual(stat.S_IMODE(hidden.stat().st_mode), 0o705)


class BundleTests(UnpackCase):
    """
    C{xferctl bundle} with copying.
    """

    def config(self) -> Any:
        """
        The bundle's config.
        """
        return json.loads((self.target / "config.json").read_text())

    def test_bundle(self) -> None:
        """
        Beside the root file system there is a config; the user is looked up
        in the image.
        """
        outcome = self.ctl("bundle", "--read-only", "--", "-x", "--", "--json")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn(f"runc run --bundle {self.target} alpine", outcome.out)
        config = self.config()
        self.assertEqual(config["process"]["args"], ["-x", "--", "--json"])
        self.assertTrue(config["root"]["readonly"])
        if os.geteuid() == 0:
            self.assertEqual(config["process"]["user"]["uid"], 1000)
        self.assertEqual(sorted(os.listdir(self.target)), ["config.json", "rootfs"])
        self.assertEqual(stat.S_IMODE(self.target.stat().st_mode), 0o700)

    def test_volumes_and_notes(self) -> None:
        """
        Volumes are as the image has them, and what is left out is noted.
        """
        self.image({"Cmd": ["sh"], "Volumes": {"/data": {}, "/new": {}}, "Labels": {"run.oci.x": "y"}})
        self.assertIn("note: the label run.oci.x is left out", self.ctl("bundle").out)
        data, new = self.config()["mounts"][-2:]
        self.assertIn("mode=750", data["options"])
        self.assertEqual(new["destination"], "/new")
        shutil.rmtree(self.target)
        result = json.loads(self.ctl("bundle", "--json").out.splitlines()[-1])
        self.assertEqual(len(result["data"]["notes"]), 1)

    def test_rootless(self) -> None:
        """
        Without root, the container's root is its user, and that is said if
        the image wants another.
        """
        self.patch(os, "geteuid", lambda: 1234)
        self.patch(os, "getegid", lambda: os.getgid())
        outcome = self.ctl("bundle")
        self.assertIn(
            "note: the container runs as root, mapped to you, and not as the image's 1000:1001", outcome.out
        )
        self.assertEqual(self.config()["process"]["user"], {"uid": 0, "gid": 0})
        self.assertEqual(self.config()["linux"]["uidMappings"][0]["hostID"], 1234)

    def test_refused(self) -> None:
        """
        An image that cannot be run makes no bundle, nor does an unknown user.
        """
        self.image({})
        self.assertIn("names no command", self.refused("bundle"))
        self.image({"Cmd": ["sh"], "User": "nobody"})
        self.assertIn("user 'nobody'", self.refused("bundle"))


class MountTests(UnpackCase):
    """
    The same with C{--mount}.
    """

    def setUp(self) -> None:
        """
        See that there is an overlayfs.
        """
        super().setUp()
        if not is_privileged() or "overlay" not in Path("/proc/filesystems").read_text():
            raise SkipTest("needs root and overlayfs")

    def test_unpack(self) -> None:
        """
        The layers are mounted; changes go elsewhere, and stay after umount.
        """
        outcome = self.ctl("unpack", "--mount")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn(f"2 layers mounted; unmount with 'umount {self.target}'", outcome.out)
        with self.unmounting(self.target):
            self.assertEqual(sorted(os.listdir(self.target / "etc")), ["file0", "file1", "passwd"])
            self.assertEqual(stat.S_IMODE(self.target.stat().st_mode), 0o751)
            self.assertEqual(self.target.stat().st_mtime_ns, self.trees[1].stat().st_mtime_ns)
            (self.target / "etc/new").write_text("new")
        self.assertEqual(os.listdir(self.target), [])
        self.assertTrue((self.place / "target.overlay/upper/etc/new").is_file())
        self.assertFalse((self.trees[1] / "etc/new").exists())
        self.assertIn(
            "target.overlay holds the changes of an earlier mount", self.refused("unpack", "--mount")
        )

    def test_read_only(self) -> None:
        """
        Read-only, nothing is kept and nothing can be changed; one layer
        alone can be mounted too.
        """
        for trees in (self.trees, self.trees[:1]):
            self.image(trees=[str(tree) for tree in trees])
            self.assertEqual(self.ctl("unpack", "--mount", "--read-only").status, 0)
            with self.unmounting(self.target):
                self.assertEqual(len(os.listdir(self.target / "etc")), len(trees) + 1)
                self.assertRaises(OSError, (self.target / "x").touch)
            self.assertEqual(sorted(os.listdir(self.place)), ["store", "target"])

    def test_opaque_root(self) -> None:
        """
        A layer that removes all that is below shows nothing of it, though the
        kernel does not look at the roots of layers.
        """
        os.setxattr(self.trees[1], "trusted.overlay.opaque", b"y")
        for read_only in ((), ("--read-only",)):
            self.assertEqual(self.ctl("unpack", "--mount", *read_only).status, 0)
            with self.unmounting(self.target):
                self.assertEqual(os.listdir(self.target), os.listdir(self.trees[1]))
            shutil.rmtree(self.place / "target.overlay", ignore_errors=True)

    def test_bundle(self) -> None:
        """
        A bundle has its layers mounted inside, and its name only when all is
        there.
        """
        outcome = self.ctl("bundle", "--mount")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn(f"unmount with 'umount {self.target}/rootfs'", outcome.out)
        with self.unmounting(self.target / "rootfs"):
            self.assertTrue((self.target / "rootfs/etc/passwd").is_file())
            self.assertTrue((self.target / "config.json").is_file())
        self.assertEqual(sorted(os.listdir(self.target)), ["config.json", "overlay", "rootfs"])

    def test_bundle_refused(self) -> None:
        """
        What fails after the mount takes the mount away.
        """
        self.image({"Cmd": ["sh"], "User": "nobody"})
        self.assertIn("user 'nobody'", self.refused("bundle", "--mount"))
        self.assertEqual(self.mounted(), [])

    def test_many_layers(self) -> None:
        """
        Hundreds of layers whose paths are long can be mounted, though the
        kernel takes one page of options; more than it takes are refused.
        """
        tree = self.place / ("long," * 40) / ":" / "fs"
        tree.mkdir(parents=True)
        (tree / "from-many").touch()
        names = []
        for number in range(300):
            names.append(self.place / "store" / f"x{number}" / "fs")
            shutil.copytree(tree, names[-1])
        self.image(trees=[str(tree), *map(str, names)])
        self.assertEqual(self.ctl("unpack", "--mount").status, 0)
        with self.unmounting(self.target):
            self.assertEqual(os.listdir(self.target), ["from-many"])
        shutil.rmtree(self.place / "target.overlay")
        self.image(trees=[str(tree)] * 501)
        self.assertIn("has 501 layers", self.refused("unpack", "--mount"))
        self.image(trees=[])
        self.assertIn("has 0 layers", self.refused("unpack", "--mount"))

    def test_kernel_refuses(self) -> None:
        """
        What the kernel does not mount leaves nothing behind.
        """
        self.image(trees=[str(self.trees[0]), str(self.trees[0])])
        said = self.refused("unpack", "--mount")
        self.assertIn("the kernel refuses to mount the layers", said)
        self.assertIn("omit --mount to copy", said)
        self.refused("bundle", "--mount")

    def test_changes_refused(self) -> None:
        """
        Nor does a place where nothing can be written.
        """

        def refuse(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        self.patch(unpack, "mount", refuse)
        self.assertIn(f"cannot make {self.target}: Read-only", self.refused("unpack", "--mount"))

    def test_mount_point(self) -> None:
        """
        Nothing can get its name where something is mounted.
        """
        self.target.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", self.target], check=True)
        with self.unmounting(self.target):
            self.assertIn("is a mount point", self.refused("unpack"))

    def test_others_directory(self) -> None:
        """
        Nothing is mounted in a directory of another user's, who could put a
        link in the place of the one that was looked at.
        """
        for owner, mode in ((65534, 0o755), (0, 0o777)):
            os.chown(self.place, owner, -1)
            self.place.chmod(mode)
            for command in ("unpack", "bundle"):
                self.assertIn("could redirect the mount", self.refused(command, "--mount"))
        self.assertEqual(self.mounted(), [])

    def test_others_place(self) -> None:
        """
        Nor over a directory that another user can put files into: the mount
        of a single layer would show them.
        """
        self.target.mkdir()
        for owner, mode in ((65534, 0o755), (0, 0o1777)):
            os.chown(self.target, owner, -1)
            self.target.chmod(mode)
            self.assertIn("could redirect the mount", self.refused("unpack", "--mount"))
        self.assertEqual(self.mounted(), [])

    def test_exchanged(self) -> None:
        """
        The mount is on the directory that was looked at, though something
        else has its name by then.
        """
        self.target.mkdir(mode=0o755)
        victim, away = self.place / "victim", self.place / "away"
        victim.mkdir()
        mount = overlay.mount

        def exchange(*what: Any, **how: Any) -> None:
            self.target.rename(away)
            self.target.symlink_to(victim)
            mount(*what, **how)

        self.patch(unpack, "mount", exchange)
        self.assertEqual(self.ctl("unpack", "--mount", "--read-only").status, 0)
        with self.unmounting(away):
            self.assertEqual(os.listdir(victim), [])
            self.assertIn("etc", os.listdir(away))

    def test_filled(self) -> None:
        """
        A place that was filled meanwhile is refused.
        """
        self.target.mkdir(mode=0o755)
        self.patch(unpack_command, "check_free", lambda directory: directory)
        (self.target / "mine").touch()
        self.assertIn("is not empty", self.refused("unpack", "--mount"))

    def test_kept(self) -> None:
        """
        Layers of does not run as root would have the wrong owners.
        """
        os.chown(self.trees[0].parent, 1000, 1000)
        self.assertIn("does not run as root", self.refused("unpack", "--mount"))


class CheckTests(UnpackCase):
    """
    Tests for L{overlay.check_mountable} that need no root.
    """

    def test_not_root(self) -> None:
        """
        Only root can mount.
        """
        self.patch(os, "geteuid", lambda: 1000)
        error = self.assertRaises(CannotMount, overlay.check_mountable, [str(self.trees[0])])
        self.assertIn("only root can mount", str(error))


class InterruptTests(UnpackCase):
    """
    Signals at the worst moments.
    """

    def test_before_the_name(self) -> None:
        """
        A signal that comes as the result is named does not undo it.
        """
        interrupts = Interrupts()
        real = os.rename

        def rename(source: str, target: str, **how: int) -> None:
            interrupts.arrived()
            real(source, target, **how)

        self.patch(os, "rename", rename)
        with self.assertRaises(Interrupted), unpack.new_directory(str(self.target), interrupts):
            pass
        self.assertTrue(self.target.is_dir())
        self.assertEqual(sorted(os.listdir(self.place)), ["store", "target"])
