"""
Tests for L{xferd.ctl.commands.login}.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from base64 import urlsafe_b64decode
from io import StringIO
from pathlib import Path

from tests.ctl.fake_daemon import Answer, DaemonTestCase, refusal
from tests.ctl.run import COMMAND, Outcome, environment, run
from tests.forks import bounded


class LoginTests(DaemonTestCase):
    """
    C{xferctl login} and C{logout}.
    """

    def setUp(self) -> None:
        """
        Start a daemon that accepts all credentials, and choose a file.
        """
        super().setUp()
        self.path = Path(self.mktemp()).absolute()
        self.environ = {"XFERD_HOST": self.fake.url, "REGISTRY_AUTH_FILE": str(self.path), "PATH": ""}
        self.fake.on("POST", "/auth", Answer({"host": "h.example", "accepted": True}))

    def login(self, *argv: str, stdin: str = "hunter2\n") -> Outcome:
        """
        Log in with this input on stdin.
        """
        self.patch(sys, "stdin", StringIO(stdin))
        outcome = run(["login", *argv], self.environ)
        self.assertNotIn("hunter2", outcome.out + outcome.err)
        return outcome

    def test_not_encrypted(self) -> None:
        """
        No password is sent over a network without encryption.
        """
        self.environ["XFERD_HOST"] = self.fake.url.replace("127.0.0.1", "0.0.0.0")
        outcome = self.login("h.example", "-u", "me", "--password-stdin")
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertIn("is not encrypted: use https, or use --no-check", outcome.err)
        self.assertEqual(self.fake.requests, [])
        self.assertEqual(self.login("h.example", "-u", "me", "--password-stdin", "--no-check").status, 0)

    def test_login(self) -> None:
        """
        The daemon tries the piped password, sent in a header; then it is stored.
        """
        outcome = self.login("https://H.example/", "-u", "me", "--password-stdin")
        self.assertEqual(
            outcome, Outcome(0, f"logged in to h.example as me; {self.path} stores the password\n", "")
        )
        self.assertEqual(self.fake.requests, [("POST", "/api/v1/auth", {"host": "h.example"})])
        sent = json.loads(urlsafe_b64decode(self.fake.headers[0]["X-Registry-Auth"]))
        self.assertEqual(sent, {"username": "me", "password": "hunter2"})
        self.assertEqual(
            json.loads(self.path.read_text()), {"auths": {"h.example": {"auth": "bWU6aHVudGVyMg=="}}}
        )
        outcome = run(["logout", "h.example"], self.environ)
        self.assertEqual(outcome, Outcome(0, "logged out of h.example\n", ""))
        self.assertEqual(json.loads(self.path.read_text()), {"auths": {}})
        outcome = run(["logout", "h.example"], self.environ)
        self.assertEqual(outcome, Outcome(0, f"{self.path} has no credentials for h.example\n", ""))

    def test_auth_file(self) -> None:
        """
        Another file can be named; Docker Hub is the default registry.
        """
        other = str(self.path) + "2"
        self.assertEqual(self.login("-u", "me", "--password-stdin", "--auth-file", other).status, 0)
        self.assertIn("https://index.docker.io/v1/", Path(other).read_text())
        self.assertFalse(self.path.exists())

    def test_refused(self) -> None:
        """
        A wrong password is reported in one sentence, and nothing is written.
        """
        self.fake.on("POST", "/auth", refusal(403, "DENIED", "h.example does not accept a login"))
        outcome = self.login("h.example", "-u", "me", "--password-stdin")
        self.assertEqual(outcome, Outcome(1, "", "xferctl: h.example does not accept a login (DENIED)\n"))
        self.assertFalse(self.path.exists())

    def test_no_check(self) -> None:
        """
        Without a daemon, credentials can be stored untried.
        """
        self.environ["XFERD_HOST"] = "unix:/nowhere"
        self.assertEqual(self.login("h.example", "-u", "me", "--password-stdin").status, 1)
        self.assertFalse(self.path.exists())
        outcome = self.login("h.example", "-u", "me", "--password-stdin", "--no-check")
        self.assertEqual(outcome.status, 0)
        self.assertTrue(self.path.exists())

    def test_wrong(self) -> None:
        """
        Invalid input is refused before the terminal or the daemon is asked.
        """
        for argv, stdin, words in (
            (["quay", "-u", "me", "--password-stdin"], "p", "is not a registry"),
            (["h.example", "--password-stdin"], "p", "--password-stdin needs --username"),
            (["h.example", "-u", "me"], "p", "not a terminal"),
            (["h.example", "-u", "me", "--password-stdin"], "\n", "1 to 8192 characters"),
            (["h.example", "-u", "me", "--password-stdin"], "x" * 9000, "1 to 8192 characters"),
            (["h.example", "-u", "m:e", "--password-stdin"], "p", "not contain a colon"),
        ):
            outcome = self.login(*argv, stdin=stdin)
            self.assertEqual(outcome.status, 2)
            self.assertIn(words, outcome.err)
        self.path.write_text("{")
        outcome = self.login("h.example", "-u", "me", "--password-stdin")
        self.assertIn(f"{self.path}, line 1", outcome.err)
        self.assertEqual(run(["logout", "h.example"], self.environ).status, 1)
        self.assertEqual(run(["logout", "quay"], self.environ).status, 2)
        self.assertEqual(self.fake.requests, [])

    def test_terminal(self) -> None:
        """
        A terminal prompts for user and password and does not show the password; no command
        line has it.
        """
        environ = environment(XFERD_HOST=self.fake.url, REGISTRY_AUTH_FILE=str(self.path))
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(COMMAND[0], [*COMMAND, "login", "h.example"], environ)
        shown = b""
        with bounded(lambda: [pid]):
            for prompt, typed in ((b"Username for h.example: ", b"me\n"), (b"Password of me", b"hunter2\n")):
                while prompt not in shown:
                    shown += os.read(terminal, 4096)
                self.assertNotIn(b"hunter2", Path(f"/proc/{pid}/cmdline").read_bytes())
                os.write(terminal, typed)
            while True:
                try:
                    data = os.read(terminal, 4096)
                except OSError:
                    break
                if not data:
                    break
                shown += data
            self.assertEqual(os.waitpid(pid, 0)[1], 0, shown)
        os.close(terminal)
        self.assertIn(b"logged in to h.example as me", shown)
        self.assertNotIn(b"hunter2", shown)
        self.assertIn("bWU6aHVudGVyMg==", self.path.read_text())

    def test_light(self) -> None:
        """
        The command imports no Twisted.
        """
        code = "import sys, xferd.ctl.commands.login; raise SystemExit('twisted' in sys.modules)"
        ended = subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
        self.assertEqual(ended.returncode, 0)
