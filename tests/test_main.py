"""
Tests for L{xferd.main}.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from xferd import __version__
from xferd.main import main
from xferd.tap import Options


class CommandTests(SynchronousTestCase):
    """
    C{xferd}.
    """

    def setUp(self) -> None:
        """
        Nothing is served, and the reactor's time is restored after the test.
        """
        self.served: list[Sequence[str]] = []
        self.patch(reactor, "seconds", reactor.seconds)

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        """
        The exit status and the output.
        """
        out, err = StringIO(), StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        status = main(list(arguments), self.served.append)
        return status, out.getvalue(), err.getvalue()

    def config(self, text: str) -> str:
        """
        The path of a configuration file, with a data directory of its own.
        """
        path = os.path.abspath(str(self.mktemp()))
        Path(path).write_text(f"data_dir = '{path}.data'\nsocket = '{path}.sock'\n{text}")
        return path

    def test_help(self) -> None:
        """
        The help names both commands with examples, and the version is printed.
        """
        for arguments in (["--help"], ["-h"], ["check", "--help"]):
            status, out, _ = self.run_main(*arguments)
            self.assertEqual(status, 0)
            self.assertIn("  xferd check /etc/xferd.toml\n", out)
        self.assertEqual(self.run_main("--version"), (0, f"xferd {__version__}\n", ""))

    def test_help_of_run(self) -> None:
        """
        C{xferd run --help} lists the options of C{twistd xferd}.
        """
        out = StringIO()
        self.patch(sys, "stdout", out)
        error = self.assertRaises(SystemExit, main, ["run", "--help"], self.served.append)
        self.assertEqual(error.code, 0)
        self.assertTrue(out.getvalue().startswith("usage: xferd run [OPTION]...\n"))
        for option in Options().longOpt:
            self.assertIn(f" --{option}", out.getvalue())

    def test_wrong_use(self) -> None:
        """
        Wrong use ends with status 2 and one line.
        """
        for arguments, part in (
            ([], "a command is required: run or check"),
            (["start"], "there is no command 'start'"),
            (["run", "--colour"], "--colour"),
            (["run", "now"], "unexpected argument 'now' (see 'xferd run --help')"),
            (["check"], "one configuration file"),
            (["check", "--config"], "one configuration file"),
            (["check", "a", "b"], "one configuration file"),
        ):
            status, out, err = self.run_main(*arguments)
            self.assertEqual((status, out, err.count("\n")), (2, "", 1), arguments)
            self.assertIn(part, err)
        self.assertEqual(self.served, [])

    def test_run(self) -> None:
        """
        C{xferd run} checks its options, and passes them on.
        """
        path = self.config("grace = 2.0\n")
        self.assertEqual(self.run_main("run", "-c", path, "--socket", "")[0], 0)
        self.assertEqual(self.served, [["-c", path, "--socket", ""]])

    def test_run_with_wrong_settings(self) -> None:
        """
        Wrong settings are no wrong use.
        """
        path = self.config("grace = -1\n")
        self.assertEqual(
            self.run_main("run", "-c", path),
            (1, "", f"xferd: {path}: grace must be at least 0.0, not -1.0\n"),
        )

    def test_check(self) -> None:
        """
        A valid file is reported, also one for sockets of systemd, and nothing is made.
        """
        path = self.config("listen = ['systemd:UNIX:name=xferd.socket', 'tcp:0:interface=127.0.0.1']\n")
        self.assertEqual(self.run_main("check", path), (0, f"{path}: the settings are valid\n", ""))
        self.assertFalse(os.path.exists(f"{path}.data"))
        self.assertFalse(os.path.exists(f"{path}.sock"))

    def test_check_finds(self) -> None:
        """
        An invalid setting, a file that is missing, and a listener that needs a token are reported
        with status 1.
        """
        for text, part in (
            ("grace = -1\n", "grace must be at least"),
            ("downloads = 3\n", "downloads"),
            ("token_file = '/nowhere'\n", "cannot read the token file /nowhere"),
            ("listen = ['tcp:80']\n", "set token_file"),
        ):
            status, out, err = self.run_main("check", self.config(text))
            self.assertEqual((status, out, err.count("\n")), (1, "", 1))
            self.assertIn(part, err)
        self.assertIn("cannot read the configuration file", self.run_main("check", "/nowhere.toml")[2])
