# -*- test-case-name: tests.ctl.test_main -*-
"""
Tests for L{xferd.ctl.main}.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import redirect_stdout
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.fake_daemon import Answer, DaemonTestCase, one_pull, refusal
from tests.ctl.run import COMMAND, environment, run
from xferd._version import __version__
from xferd.ctl.client import Daemon
from xferd.ctl.commands.table import MODULES, load_command
from xferd.ctl.main import main


class WrongUseTests(SynchronousTestCase):
    """
    Wrong use ends with status 2 and one line.
    """

    def check(self, argv: list[str], *parts: str) -> None:
        """
        Run with wrong arguments, and check the message.
        """
        outcome = run(argv)
        self.assertEqual((outcome.status, outcome.out), (2, ""))
        self.assertEqual(outcome.err.count("\n"), 1)
        for part in ("xferctl: ", *parts):
            self.assertIn(part, outcome.err)

    def test_nothing(self) -> None:
        """
        Without a command, the commands are listed.
        """
        self.check([], "a command is required: pull, push", "xferctl --help")

    def test_nearly(self) -> None:
        """
        A word that resembles a command is answered with that command.
        """
        self.check(["pul", "alpine"], "no command 'pul'; did you mean 'pull'?")
        self.check(["image"], "did you mean 'images'?")

    def test_unknown(self) -> None:
        """
        Any other word is answered with the list of commands.
        """
        self.check(["\x1b[2J"], r"no command '\x1b[2J'; the commands are pull, push")

    def test_arguments(self) -> None:
        """
        A command's own arguments are checked, and its help is named.
        """
        self.check(["pull"], "REF", "(see 'xferctl pull --help')")
        self.check(["pull", "alpine", "--priority", "high"], "--priority", "high")
        self.check(["pull", "alpine", "--json", "--quiet"], "not allowed with")
        self.check(["images", "--jso"], "--jso")
        self.check(["--host"], "--host")

    def test_host(self) -> None:
        """
        An invalid address is wrong use, from any source.
        """
        self.check(["--host", "nowhere", "images"], "'nowhere'")
        self.check(["images", "--host", "nowhere"], "'nowhere'")
        outcome = run(["images"], {"XFERD_HOST": "nowhere"})
        self.assertEqual(outcome.status, 2)


class HelpTests(SynchronousTestCase):
    """
    Help and version.
    """

    def printed(self, *argv: str) -> str:
        """
        The output of an option that exits.
        """
        out = StringIO()
        with redirect_stdout(out):
            ended = self.assertRaises(SystemExit, main, argv, stdout=out, stderr=out, environ={})
        self.assertEqual(ended.code, 0)
        return out.getvalue()

    def test_version(self) -> None:
        """
        The version is printed.
        """
        self.assertEqual(self.printed("--version"), f"xferctl {__version__}\n")

    def test_help(self) -> None:
        """
        The help lists every command, and each command has its own.
        """
        text = self.printed("--help")
        self.assertIn("\nexamples:\n  xferctl pull alpine\n", text)
        for name in MODULES:
            self.assertRegex(text, rf"(?m)^  {name} +{load_command(name).summary}$")
            described = self.printed(name, "--help")
            self.assertIn(f"usage: xferctl {name}", described)
            self.assertIn("\nexamples:\n  ", described)
            self.assertRegex(described, rf"(?m)^  .*xferctl {name}\b")


class FailureTests(DaemonTestCase):
    """
    A failure ends with status 1, and its reason is the last line on stderr.
    """

    def test_nobody(self) -> None:
        """
        If no daemon listens, the message names the command that starts one.
        """
        outcome = run(["images", "--host", "unix:/nonexistent/socket"])
        self.assertEqual(outcome.status, 1)
        self.assertRegex(outcome.err, r"\Axferctl: the daemon does not answer at .*'xferd run'.*\n\Z")

    def test_refused(self) -> None:
        """
        The daemon's error is reported.
        """
        outcome = run(["job", "j9", "--host", self.fake.url])
        self.assertEqual(outcome, (1, "", "xferctl: there is no such thing (NOT_FOUND)\n"))

    def test_refused_arguments(self) -> None:
        """
        Arguments that the daemon refuses are wrong use.
        """
        self.fake.on("PATCH", "/limits", refusal(400, "INVALID_REQUEST", "there is no limit 'x'"))
        outcome = run(["limits", "x=1", "--host", self.fake.url])
        self.assertEqual(outcome, (2, "", "xferctl: there is no limit 'x' (INVALID_REQUEST)\n"))

    def test_operating_system(self) -> None:
        """
        An error of the operating system is in its own words.
        """

        def missing(_: Daemon) -> None:
            raise FileNotFoundError(2, "No such file or directory", "/no\x1bwhere")

        self.patch(Daemon, "images", missing)
        self.assertEqual(run(["images"]), (1, "", "xferctl: No such file or directory: /no\\x1bwhere\n"))

    def test_full(self) -> None:
        """
        Output that cannot be written is a failure.
        """
        self.fake.on("GET", "/images", Answer([]))
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*COMMAND, "images"],
                env=environment(XFERD_HOST=self.fake.url),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        self.assertEqual(done.returncode, 1)
        self.assertIn("No space left", done.stderr)


class TokenTests(DaemonTestCase):
    """
    The bearer token comes from a file.
    """

    def token(self, text: bytes) -> str:
        """
        Write a token file.
        """
        path = str(self.mktemp())
        with open(path, "wb") as file:
            file.write(text)
        return path

    def test_given(self) -> None:
        """
        The option and the variable name the file; the option has precedence.
        """
        self.fake.on("GET", "/images", Answer([]))
        first, second = self.token(b"first\n"), self.token(b"second")
        environ = {"XFERD_HOST": self.fake.url, "XFERD_TOKEN_FILE": first}
        self.assertEqual(run(["images"], environ).status, 0)
        self.assertEqual(run(["images", "--token-file", second], environ).status, 0)
        shown = [headers["Authorization"] for headers in self.fake.headers]
        self.assertEqual(shown, ["Bearer first", "Bearer second"])

    def test_wrong(self) -> None:
        """
        A file without one word is refused, and not quoted.
        """
        for text in (b"", b"two words", b"a\nb", b"\xff\xfe", "ü".encode()):
            outcome = run(["images"], {"XFERD_HOST": self.fake.url, "XFERD_TOKEN_FILE": self.token(text)})
            self.assertEqual(outcome.status, 1)
            self.assertNotIn("two", outcome.err)
        self.assertIn("No such file", run(["images"], {"XFERD_TOKEN_FILE": "/nonexistent/token"}).err)
        self.assertEqual(self.fake.requests, [])


class ProcessTests(DaemonTestCase):
    """
    C{xferctl} as its own process.
    """

    def test_light(self) -> None:
        """
        A command without bars imports no slow module.
        """
        heavy = {"rich", "twisted", "attr", "asyncio", "dataclasses", "inspect", "zope.interface"}
        heavy |= {"http.client", "email", "ssl", "urllib.parse", "textwrap", "difflib", "threading"}
        program = (
            "import sys; from xferd.ctl.main import main; "
            "argv = ['jobs', '--host', 'unix:/nonexistent']; "
            "main(argv, stdout=sys.stdout, stderr=sys.stderr, environ={}); "
            f"print(sorted({heavy} & set(sys.modules)))"
        )
        done = subprocess.run(
            [COMMAND[0], "-c", program], env=environment(), capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout, "[]\n")

    def test_help_is_light(self) -> None:
        """
        The list of commands imports none of them.
        """
        program = (
            "import sys; from xferd.ctl.main import main\n"
            "try: main(['--help'], stdout=sys.stdout, stderr=sys.stderr, environ={})\n"
            "except SystemExit: pass\n"
            "print(sorted(n for n in sys.modules if n.startswith('xferd.ctl.commands.')))"
        )
        done = subprocess.run(
            [COMMAND[0], "-c", program], env=environment(), capture_output=True, text=True, check=True
        )
        self.assertEqual(
            done.stdout.splitlines()[-1], "['xferd.ctl.commands.arguments', 'xferd.ctl.commands.table']"
        )

    def test_unread(self) -> None:
        """
        A closed stdout ends the command silently, and cancels its job.
        """
        self.fake.takes(one_pull()[0], *one_pull() * 200, self.fake.hang)
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [*COMMAND, "pull", "alpine", "--json"],
                env=environment(XFERD_HOST=self.fake.url),
                stdout=writing,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        finally:
            os.close(writing)
        self.assertEqual((done.returncode, done.stderr), (141, ""))
        self.assertEqual(self.fake.requests[-1][:2], ("DELETE", "/api/v1/jobs/j1"))

    def test_poor_terminal(self) -> None:
        """
        Characters that the locale's encoding lacks are escaped.
        """
        self.fake.on("GET", "/images", Answer([{"reference": "größe"}]))
        done = subprocess.run(
            [*COMMAND, "images"],
            env=environment(XFERD_HOST=self.fake.url, PYTHONIOENCODING="ascii"),
            capture_output=True,
            check=True,
        )
        self.assertIn(rb"gr\xf6\xdfe", done.stdout)
