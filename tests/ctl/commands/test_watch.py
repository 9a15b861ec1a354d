"""
Tests for L{xferd.ctl.commands.watch}, L{xferd.ctl.display.screen} and C{xferctl job --follow}.
"""

from __future__ import annotations

import json
import os
import subprocess
import termios
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

from tests.ctl.fake_daemon import Answer, DaemonTestCase, event, job, one_pull, refusal, transfer
from tests.ctl.run import Terminal, run, run_on_terminal
from xferd.ctl.address import Address
from xferd.ctl.client import LOST, PATIENCE, Daemon
from xferd.ctl.display.board import RECENT
from xferd.ctl.errors import NoDaemon, Refused
from xferd.ctl.interrupts import CommandInterrupted
from xferd.ctl.main import main


def line(kind: str, data: dict[str, Any], where: str = "") -> bytes:
    """
    One line of events, with an id.
    """
    return json.dumps({"kind": kind, "data": data, "final": False, "id": where}).encode() + b"\n"


class WatchTests(DaemonTestCase):
    """
    C{xferctl watch}.
    """

    def watch(self, *argv: str, answers: Sequence[Answer]) -> tuple[int, str, str]:
        """
        Watch until the daemon refuses.
        """
        self.fake.on("GET", "/events", *answers, refusal(401, "UNAUTHORIZED", "enough"))
        outcome = run(["watch", *argv, "--host", self.fake.url])
        return outcome.status, outcome.out, outcome.err

    def test_plain(self) -> None:
        """
        Without a terminal, each change of a job's state is a line.
        """
        failed = job("failed", error={"code": "DENIED", "message": "no"})
        lines = [event("job", job("queued")), event("job", job()), event("job", job()), event("job", failed)]
        status, out, err = self.watch(answers=[Answer(lines=lines)])
        name = "docker.io/library/alpine:latest"
        self.assertEqual(
            out.splitlines(),
            [f"j1 pull queued {name}", f"j1 pull running {name}", f"j1 pull failed {name} no (DENIED)"],
        )
        self.assertEqual((status, err), (1, "xferctl: enough (UNAUTHORIZED)\n"))

    def test_filtered(self) -> None:
        """
        Filters select the jobs whose lines are printed.
        """
        lines = [event("job", job()), event("job", job(id="j2", reference="quay.io/a/b:1", kind="copy"))]
        for options in (("--kind", "copy"), ("--host", "quay.io")):
            _, out, _ = self.watch(*options, answers=[Answer(lines=lines)])
            self.assertEqual(out, "j2 copy running quay.io/a/b:1\n")

    def test_restarted(self) -> None:
        """
        A daemon that is restarted is waited for, and what its stream begins with is printed only
        where it differs.
        """
        name = "docker.io/library/alpine:latest"
        others = [job("done", id=f"old{n}") for n in range(RECENT + 3)]
        before = [line("job", each, "a-1") for each in (*others, job())]
        after = [line("job", each, "b-1") for each in (*others, job(), job("done"))]
        gone = refusal(503, "INTERRUPTED", "xferd is stopping")
        _, out, _ = self.watch(answers=[Answer(lines=before, whole=False), gone, gone, Answer(lines=after)])
        self.assertEqual(
            out.splitlines(),
            [
                *(f"old{n} pull done {name}" for n in range(RECENT + 3)),
                f"j1 pull running {name}",
                LOST,
                f"j1 pull done {name}",
            ],
        )

    def test_json_restarted(self) -> None:
        """
        With C{--json}, one line says that the daemon does not answer, and one that a stream starts
        over.
        """
        first, second = line("job", job(), "a-1"), line("job", job("done"), "b-1")
        gone = refusal(503, "INTERRUPTED", "xferd is stopping")
        answers = [Answer(lines=[first], whole=False), gone, gone, Answer(lines=[second])]
        _, out, _ = self.watch("--json", answers=answers)
        lines = [json.loads(each) for each in out.splitlines()]
        self.assertEqual([each["kind"] for each in lines], ["job", "lost", "begin", "job"])
        self.assertEqual(lines[1]["data"], {"why": LOST})

    def test_json(self) -> None:
        """
        With C{--json} each event is a line.
        """
        _, out, _ = self.watch("--json", answers=[Answer(lines=[event("job", job()), b"\n"])])
        self.assertEqual(json.loads(out), {"kind": "job", "data": job(), "final": False})

    def test_screen(self) -> None:
        """
        On a terminal the board fills the alternate screen. Ctrl-C ends it with status 0.
        """
        self.fake.on("GET", "/events", Answer(lines=[event("job", job()), event("transfer", transfer(1))]))

        def stop(_: float) -> None:
            raise CommandInterrupted

        with Terminal() as terminal:
            self.patch(Daemon.__init__, "__kwdefaults__", {"token": None, "pause": stop})
            status = main(
                ["watch", "--host", self.fake.url],
                stdout=terminal.file,
                stderr=StringIO(),
                environ={"TERM": "xterm"},
            )
        self.assertEqual(status, 0)
        shown = terminal.shown()
        self.assertIn("1 job running", shown)
        self.assertIn("\x1b[?1049h", shown)
        self.assertTrue(shown.rstrip().endswith("\x1b[?25h") or "\x1b[?1049l" in shown)


class KeysTests(DaemonTestCase):
    """
    The keys of C{xferctl watch}, on a terminal.
    """

    def test_cancel_and_quit(self) -> None:
        """
        A job is selected and cancelled, and C{q} leaves; the terminal is as before.
        """
        self.fake.on("GET", "/events", Answer(lines=[event("job", job()), self.fake.hang]))
        self.fake.on("DELETE", "/jobs/j1", Answer(job("cancelled")))
        modes = []

        def press(_: subprocess.Popen[bytes], terminal: int) -> None:
            modes.append(termios.tcgetattr(terminal)[3] & termios.ECHO)
            os.write(terminal, b"\x1b[Bcyq")

        status, shown = run_on_terminal(["watch"], self.fake.url, b"docker.io/library/alpine", press)
        self.assertEqual((status, modes), (0, [0]))
        self.assertEqual(self.fake.requests[-1], ("DELETE", "/api/v1/jobs/j1", None))
        self.assertTrue(shown.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l"), shown)
        self.assertIn("- defer  q quit", shown)

    def test_ctrl_c(self) -> None:
        """
        Ctrl-C leaves with status 0, too.
        """
        self.fake.on("GET", "/events", Answer(lines=[event("job", job()), self.fake.hang]))

        def press(_: subprocess.Popen[bytes], terminal: int) -> None:
            os.write(terminal, b"\x03")

        status, shown = run_on_terminal(["watch"], self.fake.url, b"docker.io/library/alpine", press)
        self.assertEqual(status, 0)
        self.assertNotIn("^C", shown)

    def test_refused(self) -> None:
        """
        The daemon's refusal ends it, and is on the usual screen.
        """
        self.fake.on("GET", "/events", refusal(401, "UNAUTHORIZED", "enough"))
        status, shown = run_on_terminal(["watch"], self.fake.url, b"never", lambda *_: None)
        self.assertEqual(status, 1)
        self.assertTrue(shown.endswith("\x1b[?1049lxferctl: enough (UNAUTHORIZED)\r\n"), shown)


class StreamTests(DaemonTestCase):
    """
    L{Daemon.watch}.
    """

    def daemon(self, pause: Callable[[float], None] = lambda _: None) -> Daemon:
        """
        A daemon whose client does not pause between attempts.
        """
        return Daemon([Address.parse(self.fake.url)], client="me", pause=pause)

    def test_goes_on(self) -> None:
        """
        A broken stream is resumed after the last id, and starts again where the daemon
        requires it.
        """
        self.fake.on(
            "GET",
            "/events",
            Answer(lines=[line("job", job()), line("job", job(), "a-1"), event("job", job())], whole=False),
            refusal(503, "SERVICE_UNAVAILABLE", "enough"),
            Answer(lines=[line("job", job("done"), "a-2")]),
            refusal(404, "NOT_FOUND", "gone"),
        )
        events = self.daemon().watch()
        kinds = [next(events).kind for _ in range(6)]
        self.assertRaises(Refused, next, events)
        self.assertEqual(kinds, ["begin", "job", "job", "job", "begin", "job"])
        asked = [headers.get("Last-Event-ID") for headers in self.fake.headers]
        self.assertEqual(asked, [None, "a-1", "a-1", "a-2"])

    def test_gone(self) -> None:
        """
        The attempts to reach a daemon are limited.
        """
        pauses: list[float] = []
        daemon = Daemon([Address("http", "127.0.0.1", 1)], client="me", pause=pauses.append)
        events = daemon.watch()
        self.assertEqual(next(events).kind, "lost")
        self.assertRaises(NoDaemon, list, events)
        self.assertTrue(PATIENCE <= sum(pauses) < PATIENCE + 2)


class FollowTests(DaemonTestCase):
    """
    C{xferctl job --follow}.
    """

    def test_follow(self) -> None:
        """
        A job of another client is shown until its end, and its result last.
        """
        self.fake.on("GET", "/jobs/j1", Answer({**job(), "layers": []}))
        self.fake.on("GET", "/jobs/j1/events", Answer(lines=one_pull()))
        outcome = run(["job", "j1", "--follow", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn("0b0b0b0b0b0b: downloading", outcome.out)
        self.assertIn("@sha256:", outcome.out.splitlines()[-1])

    def test_failed(self) -> None:
        """
        A failed job ends with status 1.
        """
        failed = job("failed", error={"code": "DENIED", "message": "no"})
        self.fake.on("GET", "/jobs/j1", Answer({**job(), "layers": []}))
        self.fake.on("GET", "/jobs/j1/events", Answer(lines=[event("job", failed, True)]))
        outcome = run(["job", "-f", "j1", "--json", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (1, "xferctl: no (DENIED)\n"))

    def test_restarted(self) -> None:
        """
        A daemon that is restarted is waited for, which one line reports, and the job is followed
        to its end.
        """
        events = one_pull()
        gone = refusal(503, "INTERRUPTED", "xferd is stopping")
        self.fake.on("GET", "/jobs/j1", Answer({**job(), "layers": []}), gone)
        self.fake.on(
            "GET", "/jobs/j1/events", Answer(lines=events[:6], whole=False), gone, gone, Answer(lines=events)
        )
        outcome = run(["job", "j1", "--follow", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual(outcome.out.splitlines().count(LOST), 1)
        self.assertIn("@sha256:", outcome.out.splitlines()[-1])

    def test_unknown(self) -> None:
        """
        An unknown job is refused.
        """
        outcome = run(["job", "--follow", "j9", "--host", self.fake.url])
        self.assertEqual(outcome.status, 1)
        self.assertIn("NOT_FOUND", outcome.err)

    def test_interrupted(self) -> None:
        """
        An interrupt leaves the job running.
        """

        def leave(_: float) -> None:
            raise CommandInterrupted

        self.fake.on("GET", "/jobs/j1", Answer({**job(), "layers": []}))
        self.fake.on("GET", "/jobs/j1/events", Answer(lines=[event("job", job())], whole=False))
        self.patch(Daemon.__init__, "__kwdefaults__", {"token": None, "pause": leave})
        outcome = run(["job", "--follow", "j1", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (130, "xferctl: interrupted; job j1 continues\n"))
        self.assertNotIn("DELETE", [method for method, _, _ in self.fake.requests])
