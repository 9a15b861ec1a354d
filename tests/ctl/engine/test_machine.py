"""
Tests for L{xferd.ctl.engine.machine}.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.engine.machine import Machine, Version, parse_version
from xferd.ctl.errors import ClientError


class VersionTests(SynchronousTestCase):
    """
    Versions that programs print.
    """

    def test_known(self) -> None:
        """
        The output of each tool has its version.
        """
        for text, version in (
            ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6, 20)),
            ("containerd github.com/containerd/containerd/v2 2.4.2+unknown ", (2, 4, 2)),
            ("k3s version v1.32.2+k3s1 (381620ef)\ngo version go1.23.6", (1, 32, 2)),
            ("Docker version 20.10.24+dfsg1, build 5d6db84", (20, 10, 24)),
            ("podman version 4.3.1", (4, 3, 1)),
            ("buildah version 1.28.2 (image-spec 1.1.0-rc2, runtime-spec 1.0.2-dev)", (1, 28, 2)),
            ("crio version 1.30.0\nVersion: 1.30.0", (1, 30, 0)),
            ("nerdctl version 2.0", (2, 0, 0)),
        ):
            self.assertEqual(parse_version(text), version, text)

    def test_none(self) -> None:
        """
        A text without a version has none.
        """
        for text in ("", "containerd", "1", "x1.2"):
            self.assertIsNone(parse_version(text), text)


class MachineTests(SynchronousTestCase):
    """
    A machine.
    """

    def machine(self, programs: Mapping[str, str], named: Mapping[str, Version] | None = None) -> Machine:
        """
        A machine with programs, by their scripts.
        """
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        for name, script in programs.items():
            (directory / name).write_text(f"#!/bin/sh\n{script}\n")
            (directory / name).chmod(0o755)
        return Machine({"PATH": str(directory), "HOME": "/h"}, 0, named or {}, str(directory))

    def test_version(self) -> None:
        """
        The program of a tool is run; a version that the user named precedes it.
        """
        script = {"crio": "test $1 = --version && echo crio version 1.30.1"}
        self.assertEqual(self.machine(script).version("cri-o"), (1, 30, 1))
        self.assertEqual(self.machine(script, {"cri-o": Version(1, 2)}).version("cri-o"), (1, 2, 0))

    def test_not_known(self) -> None:
        """
        The error names the program and the way to name its version.
        """
        for script, why in (
            ({}, "crio is not installed here; name its version: --for cri-o=VERSION"),
            ({"crio": "exit 1"}, "/crio --version': "),
            ({"crio": "echo none"}, "/crio --version' prints no version; name it: --for cri-o=VERSION"),
        ):
            error = self.assertRaises(ClientError, self.machine(script).version, "cri-o")
            self.assertIn(why, str(error))

    def test_read(self) -> None:
        """
        A file is read below the machine's root; one that is missing is L{None}.
        """
        machine = self.machine({"crio": "true"})
        self.assertEqual(machine.read("/crio"), "#!/bin/sh\ntrue\n")
        self.assertIsNone(machine.read("/other"))
        self.assertIsNone(machine.read("/"))

    def test_config_home(self) -> None:
        """
        The user's own configuration is where XDG has it.
        """
        self.assertEqual(self.machine({}).config_home, "/h/.config")
        self.assertEqual(Machine({"XDG_CONFIG_HOME": "/c"}, 1000, {}).config_home, "/c")
