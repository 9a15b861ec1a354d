# -*- test-case-name: tests.ctl.image.test_unpack -*-
"""
Tests for L{xferd.ctl.image.unpack} and L{xferd.ctl.image.bundle}: copies of layers.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import subprocess
from pathlib import Path
from typing import Any
from unittest import SkipTest

from tests.ctl.fake_daemon import Answer, refusal
from tests.ctl.image.case import UnpackCase
from tests.ctl.run import COMMAND, environment
from xferd.ctl.commands import unpack as unpack_command
from xferd.ctl.image import unpack
from xferd.ctl.interrupts import CommandInterrupted
from xferd.errors import DiskFull
from xferd.unpack.flatten import Progress
from xferd.unpack.rights import Rights, own_rights


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
        if own_rights() is not Rights.ROOT:
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
            raise CommandInterrupted

        self.patch(unpack, "flatten", leave)
        said = self.refused("unpack", status=130)
        self.assertEqual(said, f"xferctl: interrupted; {self.target} was not made\n")

    def test_unreadable(self) -> None:
        """
        Unreadable layers, an artifact and an old daemon are each reported in a sentence.
        """
        self.image(trees=["/nowhere/diff"])
        said = self.refused("unpack")
        self.assertIn("/nowhere/diff on the daemon's machine; it cannot be read here: No such file", said)
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
