# -*- test-case-name: tests.ctl.commands.test_completion -*-
"""
Tests for L{xferd.ctl.commands.completion}.
"""

from __future__ import annotations

import os
import subprocess
import sys
from shutil import which

from tests.ctl.commands.case import IMAGE
from tests.ctl.fake_daemon import Answer, DaemonTestCase
from tests.ctl.run import environment, run
from xferd.ctl.commands.completion import options
from xferd.ctl.commands.table import MODULES
from xferd.ctl.mirror.requests import SCRIPTS as CLIENTS

OTHER = {**IMAGE, "reference": "registry.lan:5000/me/app:1.2"}


class CandidateTests(DaemonTestCase):
    """
    The candidates for the word at the cursor.
    """

    def ask(self, *words: str) -> list[str]:
        """
        Return the candidates for the last word.
        """
        outcome = run(["completion", "bash", "--host", self.fake.url, "--", *words])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        return outcome.out.splitlines()

    def test_commands(self) -> None:
        """
        The first word is a command, also after options of all commands.
        """
        self.assertEqual(self.ask(""), sorted(MODULES))
        self.assertEqual(self.ask("p"), ["page", "pause", "pin", "prefetch", "priority", "pull", "push"])
        self.assertEqual(self.ask("--host", "unix:/s", "wat"), ["watch"])
        self.assertEqual(self.ask("--h"), ["--help", "--host"])

    def test_options(self) -> None:
        """
        The options are the command's own.
        """
        self.assertEqual(self.ask("push", "alpine", "--p"), ["--platform", "--priority", "--progress"])
        self.assertEqual(self.ask("bundle", "--re"), ["--read-only"])
        for command in ("pull", "push", "copy", "export"):
            self.assertEqual(self.ask(command, "--no"), ["--no-credentials"])
        self.assertEqual(self.ask("images", "--platf"), [])

    def test_values(self) -> None:
        """
        An option with a fixed number of values completes to them.
        """
        self.assertEqual(self.ask("jobs", "--state", "f"), ["failed"])
        self.assertEqual(self.ask("pull", "--progress", ""), ["bars", "none", "plain"])
        self.assertEqual(self.ask("images", "-o", "y"), ["yaml"])
        self.assertEqual(self.ask("pull", "alpine", "--platform", ""), [])

    def test_every_option(self) -> None:
        """
        Completion finds the options in each command's help.
        """
        for name in MODULES:
            self.assertIn("--help", self.ask(name, "--"), name)

    def test_images(self) -> None:
        """
        Arguments that are images complete to the images in the store, in their short form.
        """
        self.fake.on("GET", "/images", Answer([IMAGE, OTHER]))
        self.assertEqual(self.ask("push", ""), ["alpine:latest", "registry.lan:5000/me/app:1.2"])
        self.assertEqual(self.ask("rm", "alpine:latest", "reg"), ["registry.lan:5000/me/app:1.2"])
        self.assertEqual(self.ask("push", "alpine:latest", ""), [])

    def test_jobs_and_limits(self) -> None:
        """
        Jobs complete to their IDs, limits to their names with an equals sign.
        """
        self.fake.on("GET", "/jobs", Answer([{"id": "abc"}, {"id": "xyz"}]))
        self.fake.on("GET", "/limits", Answer({"downloads": 3, "download_rate": 0, "uploads": 5}))
        self.assertEqual(self.ask("cancel", "x"), ["xyz"])
        self.assertEqual(self.ask("limits", "down"), ["download_rate=", "downloads="])

    def test_hosts(self) -> None:
        """
        C{hosts} completes to C{clear}, and that to the registries in use.
        """
        self.fake.on("GET", "/hosts", Answer([{"host": "docker.io"}, {"host": "quay.io"}]))
        self.assertEqual(self.ask("hosts", ""), ["clear"])
        self.assertEqual(self.ask("hosts", "clear", "q"), ["quay.io"])

    def test_engine(self) -> None:
        """
        The actions and the tools of engines.
        """
        self.assertEqual(self.ask("engine", ""), ["check", "ls", "show"])
        self.assertEqual(self.ask("engine", "show", "c"), ["containerd", "cri-o"])
        self.assertEqual(self.ask("engine", "check", "po"), ["podman"])
        self.assertEqual(self.ask("engine", "ls", ""), [])

    def test_mirror(self) -> None:
        """
        The actions and the clients of the mirror.
        """
        self.assertEqual(self.ask("mirror", ""), ["check", "show"])
        self.assertEqual(self.ask("mirror", "show", ""), sorted(CLIENTS))
        self.assertEqual(self.ask("mirror", "check", "podman", "c"), ["containerd", "crane"])

    def test_nobody(self) -> None:
        """
        Without a daemon, after an unknown command, or for a file name, there is no candidate
        and no error.
        """
        self.fake.stop()
        self.assertEqual(self.ask("push", ""), [])
        self.assertEqual(self.ask("frobnicate", "x"), [])
        self.assertEqual(self.ask("import", "./"), [])
        self.assertEqual(self.ask("completion", ""), ["bash", "fish", "zsh"])

    def test_explained(self) -> None:
        """
        Options are read from their list, not from prose.
        """
        self.assertEqual(
            options("usage: x [--a]\n\n  --bee, -b  not --this\n  -q, --cee X\n"), ["--bee", "--cee"]
        )

    def test_bash(self) -> None:
        """
        In a real bash, a word with colons is completed.
        """
        self.fake.on("GET", "/images", Answer([IMAGE, OTHER]))
        script = run(["completion", "bash"])
        self.assertEqual(script.status, 0)
        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory)
        program = os.path.join(directory, "xferctl")
        with open(program, "w") as file:
            file.write(
                f"#!{sys.executable}\nimport sys\nfrom xferd.ctl.main import console\nsys.exit(console())\n"
            )
        os.chmod(program, 0o755)
        self.assertEqual(
            self.completed(program, script.out, "xferctl push registry.lan:5"), ["5000/me/app:1.2"]
        )
        self.assertEqual(self.completed(program, script.out, "xferctl pus"), ["push"])

    def completed(self, program: str, script: str, line: str) -> list[str]:
        """
        The candidates that bash offers at the end of a line.
        """
        bash = which("bash")
        assert bash is not None
        ask = (
            f'{script}\nCOMP_LINE="$1" COMP_POINT=${{#1}}\n_xferctl "$2"\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
        )
        done = subprocess.run(
            [bash, "-c", ask, "bash", line, program],
            env=environment(XFERD_HOST=self.fake.url),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()
