"""
Tests for L{xferd.registry.auth.credential_helpers}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.registry.fakes import failure_of
from tests.registry.processes import FakeProcess, FakeProcesses
from tests.registry.waits import Waits
from xferd.credentials import Credentials, Secret
from xferd.docker_config import parse_helper_answer
from xferd.errors import CredentialsUnavailable
from xferd.registry.auth.credential_helpers import (
    LIFE,
    MAX_OUTPUT,
    CredentialHelpers,
    IHelperReactor,
)
from xferd.waits import reporting

_ANSWER = b'{"ServerURL": "hub.example", "Username": "me", "Secret": "hunter2"}\n'


def make_helper(directory: str, name: str, script: str) -> str:
    """
    Make a helper.

    @param script: Python.
    @return: the directory, for PATH.
    """
    os.makedirs(directory, exist_ok=True)
    program = Path(directory, f"docker-credential-{name}")
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    return os.path.abspath(directory)


class HelperTests(SynchronousTestCase):
    """
    A helper runs once, and in time.
    """

    def setUp(self) -> None:
        """
        Put a helper into PATH, which a test plays.
        """
        self.reactor = FakeProcesses()
        path = make_helper(self.mktemp(), "fake", "")
        self.helpers = CredentialHelpers(
            cast("IHelperReactor", self.reactor), limit=7, environ={"PATH": path}
        )

    def tearDown(self) -> None:
        """
        Whatever happened, no timer is left.
        """
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def get(self, host: str = "hub.example", name: str = "fake") -> Deferred[Credentials | None]:
        """
        Request credentials.
        """
        return self.helpers.get(name, host, "/c.json")

    @property
    def process(self) -> FakeProcess:
        """
        The newest process.
        """
        return self.reactor.started[-1]

    def error(self, asking: Deferred[Credentials | None]) -> str:
        """
        The complaint, which names host, helper and file, and no secret.
        """
        text = str(failure_of(self, asking, CredentialsUnavailable))
        for part in ("hub.example", "docker-credential-", "/c.json"):
            self.assertIn(part, text)
        self.assertNotIn("hunter2", text)
        return text

    def test_get(self) -> None:
        """
        The registry is on stdin, not on the command line; the answer knows
        where it came from.
        """
        asking = self.get()
        process = self.process
        self.assertEqual((process.argv, process.stdin), (["docker-credential-fake", "get"], b"hub.example"))
        self.assertTrue(process.closed)
        process.write(_ANSWER[:10])
        process.write(_ANSWER[10:])
        process.end()
        found = self.successResultOf(asking)
        assert found is not None
        self.assertEqual(found, Credentials("me", Secret("hunter2")))
        self.assertEqual(found.origin, "docker-credential-fake (/c.json)")

    def test_reported(self) -> None:
        """
        Each request that waits for a helper reports that, also one that shares its run, until
        it has answered, or the request is cancelled.
        """
        waits = Waits()
        with reporting(waits):
            first, second = self.get(), self.get()
        self.assertEqual(waits.present, ["helper docker-credential-fake"] * 2)
        second.cancel()
        failure_of(self, second, CancelledError)
        self.assertEqual(waits.present, ["helper docker-credential-fake"])
        self.process.write(_ANSWER)
        self.process.end()
        self.successResultOf(first)
        self.assertEqual(waits.present, [])

    def test_hub(self) -> None:
        """
        Docker Hub is called what docker calls it.
        """
        asking = self.get("docker.io")
        self.assertEqual(self.process.stdin, b"https://index.docker.io/v1/")
        asking.cancel()
        self.failureResultOf(asking, CancelledError)

    def test_none(self) -> None:
        """
        A helper without credentials writes a message on either stream.
        """
        for host, stream in (("a.example", 1), ("b.example", 2)):
            asking = self.get(host)
            self.process.write(b"credentials not found in native keychain\n", stream)
            self.process.end(1)
            self.assertIsNone(self.successResultOf(asking))

    def test_remembered(self) -> None:
        """
        An answer is used for a short while, unless it did not do.
        """
        for advance, forget in ((0, False), (LIFE, False), (0, True)):
            self.reactor.advance(advance)
            if forget:
                self.helpers.forget("other.example")
                self.helpers.forget("hub.example")
            asking = self.get()
            self.process.write(_ANSWER)
            self.process.end()
            self.successResultOf(asking)
            self.reactor.advance(LIFE - 1)
            self.assertIsNotNone(self.successResultOf(self.get()))
            self.reactor.advance(-LIFE + 1)
        self.assertEqual(len(self.reactor.started), 3)

    def test_together(self) -> None:
        """
        Concurrent requests share one process; it ends when the last waiter is
        cancelled.
        """
        waiting = [self.get() for _ in range(3)]
        self.assertEqual(len(self.reactor.started), 1)
        waiting[0].cancel()
        self.failureResultOf(waiting[0], CancelledError)
        self.assertEqual(self.process.signals, [])
        self.process.write(_ANSWER)
        self.process.end()
        for each in waiting[1:]:
            self.assertIsNotNone(self.successResultOf(each))

    def test_cancelled(self) -> None:
        """
        When all have left, the helper is killed, and who comes then starts
        another.
        """
        asking, process = self.get(), self.process
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual((process.signals, process.lost), (["KILL"], True))
        again = self.get()
        process.end(signal=9)
        self.process.write(_ANSWER)
        self.process.end()
        self.assertIsNotNone(self.successResultOf(again))

    def test_hangs(self) -> None:
        """
        A helper that does not answer is killed, and the error has the remedy.
        """
        asking, process = self.get(), self.process
        process.write(_ANSWER)
        self.reactor.advance(7)
        text = self.error(asking)
        self.assertIn("within 7 s", text)
        self.assertIn("'echo hub.example | docker-credential-fake get'", text)
        self.assertEqual((process.signals, process.lost), (["KILL"], True))
        process.end(signal=9)

    def test_too_much(self) -> None:
        """
        A helper that does not stop writing is killed.
        """
        asking, process = self.get(), self.process
        process.write(b"x" * MAX_OUTPUT)
        process.write(b"x", 2)
        self.assertIn(f"more than {MAX_OUTPUT} bytes", self.error(asking))
        process.end()

    def test_fails(self) -> None:
        """
        Its error message is reported, but no text that may be an answer.
        """
        for said, status, words in (
            (b"no  store\n\x1b[31m", 3, "ended with 3: no  store"),
            (_ANSWER, 1, "ended with 1: no message"),
            (b"", 1, "ended with 1: no message"),
        ):
            asking = self.get()
            self.process.write(said)
            self.process.end(status)
            self.assertIn(words, self.error(asking))
        asking = self.get()
        self.process.end(signal=11)
        self.assertIn("ended with -11", self.error(asking))

    def test_nonsense(self) -> None:
        """
        An answer that breaks the protocol is an error.
        """
        asking = self.get()
        self.process.write(b"hunter2")
        self.process.end()
        self.assertIn("something else", self.error(asking))
        for data in (
            b"[]",
            b"{}",
            b'{"Username": 1, "Secret": ""}',
            b'{"Username": "\\ud800", "Secret": ""}',
        ):
            self.assertIsNone(parse_helper_answer(data, ""))

    def test_token(self) -> None:
        """
        The user C{<token>} has an identity token.
        """
        found = parse_helper_answer(b'{"Username": "<token>", "Secret": "t"}', "")
        self.assertEqual(found, Credentials("", identity_token=Secret("t")))

    def test_absent(self) -> None:
        """
        A helper that is not installed, or cannot be run, is named.
        """
        self.assertIn("not in PATH", self.error(self.get(name="desktop")))
        self.reactor.refuses = PermissionError(13, "Permission denied")
        self.assertIn("cannot be run: Permission denied", self.error(self.get()))


class RealTests(TestCase):
    """
    The same with real processes.
    """

    def helpers(self, script: str, limit: float = 20) -> CredentialHelpers:
        """
        Make a helper, C{real}.
        """
        path = make_helper(self.mktemp(), "real", script)
        return CredentialHelpers(cast("IHelperReactor", reactor), limit=limit, environ={"PATH": path})

    async def test_get(self) -> None:
        """
        The output of a program is read; while it runs, only its name and action
        are on a command line of the machine.
        """
        script = (
            "import json, os, sys\n"
            "host = sys.stdin.read()\n"
            "lines = [open(f'/proc/{p}/cmdline', 'rb').read() for p in (os.getpid(), os.getppid())]\n"
            "print(json.dumps({'Username': json.dumps(list(map(repr, lines))), 'Secret': host[::-1]}))\n"
        )
        found = await self.helpers(script).get("real", "hub.example", "/c.json")
        assert found is not None
        self.assertEqual(found.password.reveal(), "elpmaxe.buh")
        self.assertNotIn("hub.example", "".join(json.loads(found.username)))
        self.assertIn("get", found.username)

    async def test_ends_without_reading(self) -> None:
        """
        A helper need not read its input.
        """
        helpers = self.helpers("print('credentials not found in native keychain'); raise SystemExit(1)")
        self.assertIsNone(await helpers.get("real", "hub.example", "/c.json"))

    async def test_hangs(self) -> None:
        """
        A helper that hangs, and its children, are not awaited.
        """
        helpers = self.helpers(
            "import subprocess, time\nsubprocess.Popen(['/bin/sleep', '5'])\ntime.sleep(600)",
            limit=0.5,
        )
        asking = helpers.get("real", "hub.example", "/c.json")
        error = await self.assertFailure(asking, CredentialsUnavailable)
        self.assertIn("within 0.5 s", str(error))
