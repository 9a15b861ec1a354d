# -*- test-case-name: tests.ctl.image.test_unpack -*-
"""
Tests for L{xferd.ctl.image.unpack} and L{xferd.ctl.image.overlay}, with layers that the tests
make.
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
        Make the layers and the image.
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
        Set the daemon's description of the image.
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
        A command fails and leaves the directory unchanged; return its error.
        """
        before = sorted(os.listdir(self.place))
        outcome = self.ctl(command, *argv)
        self.assertEqual((outcome.status, outcome.out), (status, ""), outcome.err)
        self.assertEqual(sorted(os.listdir(self.place)), before)
        self.assertEqual(outcome.err.count("\n"), 1)
        return outcome.err

    def mounted(self) -> list[str]:
        """
        The mount points below the test's directory.
        """
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [line.split()[1] for line in lines if f" {self.place}" in line]

    @contextmanager
    def unmounting(self, path: Path) -> Iterator[None]:
        """
        Unmount after the block.
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
        The layers are copied to one directory, whose path is the last line.
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
        An image for another platform than the required one is refused.
        """
        refused = refusal(422, "PLATFORM_UNKNOWN", "for another")
        self.fake.on("GET", "/images/alpine?platform=linux/arm64", refused)
        for command in ("unpack", "bundle"):
            said = self.refused(command, "--platform", "linux/arm64")
            self.assertEqual(said, "xferctl: for another (PLATFORM_UNKNOWN)\n")

    def test_quiet(self) -> None:
        """
        With --quiet the path is printed alone.
        """
        self.assertEqual(self.ctl("unpack", "--quiet"), (0, f"{self.target}\n", ""))

    def test_json(self) -> None:
        """
        With --json each line is progress, and the last one the result.
        """
        lines = [json.loads(line) for line in self.ctl("unpack", "--json").out.splitlines()]
        self.assertEqual({line["kind"] for line in lines}, {"unpack"})
        self.assertEqual(lines[-2]["data"]["entries_done"], 5)
        self.assertEqual([line["final"] for line in lines], [False] * (len(lines) - 1) + [True])
        self.assertEqual(lines[-1]["data"]["path"], str(self.target))

    def test_into_empty(self) -> None:
        """
        An empty directory is used, also through a link.
        """
        (self.place / "real").mkdir()
        self.target.symlink_to("real")
        self.assertEqual(self.ctl("unpack").out.splitlines()[-1], str(self.place / "real"))
        self.assertTrue((self.place / "real/etc/passwd").is_file())

    def test_group_not_inherited(self) -> None:
        """
        The image's files do not inherit a group or access control list from the parent
        directory.
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
        Nothing is overwritten, and an unusable directory is named.
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
        An incomplete copy is removed, and the error has its code.
        """

        def full(trees: object, target: str, *_: object, **__: object) -> Progress:
            Path(target, "half").touch()
            raise DiskFull("no space is left for 'x'")

        self.patch(unpack, "flatten", full)
        self.assertEqual(self.refused("unpack"), "xferctl: no space is left for 'x' (DISK_FULL)\n")

    def test_interrupted(self) -> None:
        """
        An interrupt removes the incomplete copy.
        """

        def leave(trees: object, target: str, *_: object, **__: object) -> Progress:
            Path(target, "half").touch()
            raise Interrupted

        self.patch(unpack, "flatten", leave)
        said = self.refused("unpack", status=130)
        self.assertEqual(said, f"xferctl: interrupted; {self.target} was not made\n")

    def test_unreadable(self) -> None:
        """
        Unreadable layers, an artifact and an old daemon are each reported in a sentence.
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
        Layers of another user are reported with the remedy.
        """

        def deny(path: str) -> None:
            raise PermissionError(13, "no", path)

        self.patch(os, "scandir", deny)
        (self.place / "target").mkdir()
        self.patch(unpack_command, "check_free", lambda directory: directory)
        self.assertIn("which you may not read; run this as the daemon's user or root", self.ctl("unpack").err)

    def test_wrong_use(self) -> None:
        """
        --read-only without --mount is wrong use.
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
        On a terminal the last line is the path.
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
        Layers that an older daemon unpacked are unpacked again first; a failure is a warning.
        """
        self.fake.on("POST", "/images/alpine/trees", Answer({"warnings": ["layer 1 is old"]}))
        outcome = self.ctl("unpack")
        self.assertEqual((outcome.status, outcome.err), (0, "xferctl: warning: layer 1 is old\n"))
        self.assertTrue((self.target / "etc/file1").exists())
        asked = [method for method, path, _ in self.fake.requests if "alpine" in path]
        self.assertEqual(asked, ["POST", "GET"])

    def test_cannot_renew(self) -> None:
        """
        The daemon's error in unpacking them again is reported.
        """
        self.fake.on("POST", "/images/alpine/trees", refusal(503, "STORE_ERROR", "the disk is gone"))
        self.assertIn("the disk is gone", self.refused("unpack"))


class ExchangeTests(UnpackCase):
    """
    Copies to a directory of another user, who exchanges its entries.
    """

    def exchange(self) -> Path:
        """
        Replace the directory that is filled by a link to a victim.
        """
        victim = self.place / "victim"
        victim.mkdir()
        (hidden,) = self.place.glob(".target.*")
        hidden.rename(self.place / "away")
        hidden.symlink_to(victim)
        return victim

    def test_before_copying(self) -> None:
        """
        The copy goes to the directory that was made, and not to the target of a link.
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
        A failed copy removes its own directory alone.
        """

        def fail(*_: object, **__: object) -> Progress:
            (self.exchange() / "precious").touch()
            raise DiskFull("no space is left for 'x'")

        self.patch(unpack, "flatten", fail)
        self.assertEqual(self.ctl("unpack").status, 1)
        self.assertEqual(os.listdir(self.place / "victim"), ["precious"])

    def test_before_the_first_look(self) -> None:
        """
        A directory that was exchanged before the check is not used: its group, mode and access
        control list are unchanged.
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
        The bundle has a config beside the root file system; the user is looked up in the
        image.
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
        Volumes have the image's attributes, and notes list those left out.
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
        Without root, the user is mapped to the container's root; a note reports that the image
        has another user.
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
        An image without a command makes no bundle, nor does an unknown user.
        """
        self.image({})
        self.assertIn("names no command", self.refused("bundle"))
        self.image({"Cmd": ["sh"], "User": "nobody"})
        self.assertIn("user 'nobody'", self.refused("bundle"))


class MountTests(UnpackCase):
    """
    C{xferctl unpack} and C{bundle} with C{--mount}.
    """

    def setUp(self) -> None:
        """
        Skip without an overlayfs.
        """
        super().setUp()
        if not is_privileged() or "overlay" not in Path("/proc/filesystems").read_text():
            raise SkipTest("needs root and overlayfs")

    def test_unpack(self) -> None:
        """
        The layers are mounted; changes go to another directory, and stay after umount.
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
        A read-only mount refuses changes and has no directory for them, also with a single
        layer.
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
        An opaque layer hides all layers below, though the kernel ignores the attribute of a
        layer's root.
        """
        os.setxattr(self.trees[1], "trusted.overlay.opaque", b"y")
        for read_only in ((), ("--read-only",)):
            self.assertEqual(self.ctl("unpack", "--mount", *read_only).status, 0)
            with self.unmounting(self.target):
                self.assertEqual(os.listdir(self.target), os.listdir(self.trees[1]))
            shutil.rmtree(self.place / "target.overlay", ignore_errors=True)

    def test_bundle(self) -> None:
        """
        A bundle has its layers mounted inside, and gets its name when it is complete.
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
        A failure after the mount unmounts the layers.
        """
        self.image({"Cmd": ["sh"], "User": "nobody"})
        self.assertIn("user 'nobody'", self.refused("bundle", "--mount"))
        self.assertEqual(self.mounted(), [])

    def test_many_layers(self) -> None:
        """
        Hundreds of layers with long paths can be mounted, though the kernel limits the options
        to one page; more layers are refused.
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
        A mount that the kernel refuses leaves nothing.
        """
        self.image(trees=[str(self.trees[0]), str(self.trees[0])])
        said = self.refused("unpack", "--mount")
        self.assertIn("the kernel refuses to mount the layers", said)
        self.assertIn("omit --mount to copy", said)
        self.refused("bundle", "--mount")

    def test_changes_refused(self) -> None:
        """
        A directory that cannot be written leaves nothing.
        """

        def refuse(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        self.patch(unpack, "mount", refuse)
        self.assertIn(f"cannot make {self.target}: Read-only", self.refused("unpack", "--mount"))

    def test_mount_point(self) -> None:
        """
        A mount point is refused.
        """
        self.target.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", self.target], check=True)
        with self.unmounting(self.target):
            self.assertIn("is a mount point", self.refused("unpack"))

    def test_others_directory(self) -> None:
        """
        Nothing is mounted in a directory of another user, who could exchange the checked
        directory for a link.
        """
        for owner, mode in ((65534, 0o755), (0, 0o777)):
            os.chown(self.place, owner, -1)
            self.place.chmod(mode)
            for command in ("unpack", "bundle"):
                self.assertIn("could redirect the mount", self.refused(command, "--mount"))
        self.assertEqual(self.mounted(), [])

    def test_others_place(self) -> None:
        """
        Nothing is mounted over a directory that another user can write to: the mount of a
        single layer would show its files.
        """
        self.target.mkdir()
        for owner, mode in ((65534, 0o755), (0, 0o1777)):
            os.chown(self.target, owner, -1)
            self.target.chmod(mode)
            self.assertIn("could redirect the mount", self.refused("unpack", "--mount"))
        self.assertEqual(self.mounted(), [])

    def test_exchanged(self) -> None:
        """
        The mount is on the checked directory, also if it was exchanged.
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
        A directory that is no longer empty is refused.
        """
        self.target.mkdir(mode=0o755)
        self.patch(unpack_command, "check_free", lambda directory: directory)
        (self.target / "mine").touch()
        self.assertIn("is not empty", self.refused("unpack", "--mount"))

    def test_kept(self) -> None:
        """
        Layers of a daemon that does not run as root cannot be mounted: their owners would be
        wrong.
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
    Signals at critical moments.
    """

    def test_before_the_name(self) -> None:
        """
        A signal during the final rename does not undo it.
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
