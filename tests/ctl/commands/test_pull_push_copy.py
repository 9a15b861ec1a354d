# -*- test-case-name: tests.ctl.commands.test_pull_push_copy -*-
"""
Tests for L{xferd.ctl.commands.pull_push_copy} and L{xferd.ctl.commands.follow}.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable

from tests.ctl.fake_daemon import (
    DIGEST,
    TARGET,
    Answer,
    DaemonTestCase,
    blob,
    event,
    job,
    layer,
    one_pull,
    one_push,
    push_job,
    refusal,
)
from tests.ctl.run import COMMAND, Outcome, environment, run, run_on_terminal
from xferd.ctl.client import Daemon

PINNED = f"docker.io/library/alpine:latest@{DIGEST}"


class PullTests(DaemonTestCase):
    """
    C{xferctl pull} without a terminal.
    """

    def pull(self, *argv: str) -> Outcome:
        """
        Pull alpine.
        """
        return run(["--host", self.fake.url, "pull", "alpine", *argv])

    def test_prefetch_nodes(self) -> None:
        """
        Other nodes of the fleet fetch it as well: all but this one.  Their names are on
        stderr, and a warning if they are too few.
        """
        begun = [{"node": "n2", "job": "j2"}, {"node": "n\x1b3", "job": "j3"}]
        self.fake.on("POST", "/fleet/prefetch", Answer({"nodes": begun}, 202))
        self.fake.on("POST", "/jobs", Answer(push_job("queued"), 202))
        for count, warning in (
            (3, ""),
            (4, "xferctl: warning: other nodes of the fleet that fetch it: 2, not 3\n"),
        ):
            outcome = run(["--host", self.fake.url, "prefetch", "--nodes", str(count), "alpine", "--detach"])
            self.assertEqual(outcome.err, f"also fetched by n2, n\\x1b3\n{warning}")
            asked = [body for _, path, body in self.fake.requests if path == "/api/v1/fleet/prefetch"]
            self.assertEqual(asked[-1], {"reference": "alpine", "nodes": count - 1})
        self.fake.on("POST", "/fleet/prefetch", refusal(503, "FLEET_UNAVAILABLE", "etcd does not answer"))
        outcome = run(["--host", self.fake.url, "prefetch", "--nodes", "2", "alpine", "--detach"])
        self.assertEqual(outcome.status, 0)
        self.assertIn("warning: no other node fetches it: ", outcome.err)
        self.assertIn("etcd does not answer", outcome.err)
        self.fake.on("POST", "/fleet/prefetch", refusal(400, "INVALID_REQUEST", "there is no [fleet]"))
        self.assertEqual(run(["--host", self.fake.url, "prefetch", "--nodes", "2", "alpine"]).status, 2)
        for wrong in ("0", "1001", "x"):
            self.assertEqual(run(["prefetch", "--nodes", wrong, "alpine"]).status, 2)

    def test_done(self) -> None:
        """
        A successful pull ends with status 0 and prints the digest.
        """
        self.fake.takes(*one_pull())
        outcome = self.pull("--platform", "linux/arm64", "--priority", "3")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual(outcome.out.splitlines()[-1], PINNED)
        asked = {"kind": "pull", "reference": "alpine", "platform": "linux/arm64", "priority": 3}
        self.assertEqual(self.fake.requests[0], ("POST", "/api/v1/jobs", asked))

    def test_warnings(self) -> None:
        """
        Warnings of registries are printed, also if the job fails.
        """
        for state, status in (("done", 0), ("failed", 1)):
            ended = job(state, warnings=["hub.example: gone soon"])
            self.fake.takes(event("job", ended, final=True))
            outcome = self.pull()
            self.assertEqual(outcome.status, status)
            self.assertIn("warning: hub.example: gone soon\n", outcome.out)

    def test_quiet(self) -> None:
        """
        With --quiet the reference with its digest is printed alone, and the daemon
        reports no layers.
        """
        self.fake.takes(*one_pull())
        self.assertEqual(self.pull("--quiet"), (0, f"{PINNED}\n", ""))
        self.assertEqual([path for _, path, _ in self.fake.requests], ["/api/v1/jobs?events=job"])

    def test_progress(self) -> None:
        """
        C{--progress} selects plain lines or none of them; bars need a terminal.
        """
        self.fake.takes(*one_pull())
        self.assertIn("0b0b0b0b0b0b: downloading", self.pull("--progress", "plain").out)
        self.assertEqual(len(self.pull("--progress", "none").out.splitlines()), 2)
        self.fake.requests.clear()
        outcome = self.pull("--progress", "bars")
        self.assertEqual((outcome.status, outcome.out), (2, ""))
        self.assertIn("use --progress plain", outcome.err)
        self.assertEqual(self.pull("--progress", "none", "--json").status, 2)
        self.assertEqual(self.fake.requests, [])

    def test_json(self) -> None:
        """
        With --json each line is an object, and the last one is the job's end.
        """
        self.fake.takes(*one_pull())
        outcome = self.pull("--json")
        last = [json.loads(line) for line in outcome.out.splitlines()][-1]
        self.assertEqual((outcome.status, last["kind"], last["data"]["state"]), (0, "job", "done"))

    def test_detach(self) -> None:
        """
        With -d or --detach the job's ID is printed, and the job is not followed.
        """
        self.fake.on("POST", "/jobs", Answer(job("queued"), 202))
        for option in ("-d", "--detach"):
            self.assertEqual(self.pull(option), (0, "j1\n", ""))
        self.assertEqual(json.loads(self.pull("--detach", "--json").out)["state"], "queued")
        self.assertEqual({method for method, _, _ in self.fake.requests}, {"POST"})

    def test_failed(self) -> None:
        """
        A failed job ends with status 1 and its error on stderr.
        """
        error = {"code": "MANIFEST_UNKNOWN", "message": "there is no \x07alpine"}
        self.fake.takes(event("job", job()), event("job", job("failed", error=error), True))
        self.assertEqual(self.pull(), (1, "", "xferctl: there is no \\x07alpine (MANIFEST_UNKNOWN)\n"))

    def test_verdict_of_failure(self) -> None:
        """
        The output of a job that failed or was cancelled after some time ends with what moved and
        what bounded it, except with C{--quiet}.
        """
        text = "waiting 90 % of 4 min 2 s: attempts at ghcr.io failed"
        timing = {"bytes_received": 397e6, "rate": 2.1e6, "bound": {"text": text}}
        for state in ("failed", "cancelled"):
            self.fake.takes(event("job", job()), event("job", job(state, timing=timing), True))
            outcome = self.pull()
            self.assertEqual(outcome.status, 1)
            self.assertEqual(outcome.out, f"397 MB received, 2.1 MB/s on average\n{text}\n")
            self.assertEqual(self.pull("--quiet").out, "")

    def test_failed_without_reason(self) -> None:
        """
        A failed job without an error ends with status 1, too.
        """
        self.fake.takes(event("job", job("failed"), True))
        self.assertEqual(self.pull(), (1, "", "xferctl: job j1 failed\n"))

    def test_cancelled(self) -> None:
        """
        A job that another client cancels ends with status 1.
        """
        self.fake.takes(event("job", job("cancelled"), True))
        self.assertEqual(self.pull(), (1, "", "xferctl: job j1 was cancelled\n"))

    def test_refused(self) -> None:
        """
        A refused job is not cancelled.
        """
        self.fake.on("POST", "/jobs", refusal(400, "NAME_INVALID", "'A' is not an image reference"))
        self.assertEqual(self.pull(), (2, "", "xferctl: 'A' is not an image reference (NAME_INVALID)\n"))
        self.assertEqual(len(self.fake.requests), 1)


class PushTests(DaemonTestCase):
    """
    C{xferctl push} and C{copy} without a terminal.
    """

    def asked(self, *argv: str) -> dict[str, object]:
        """
        The request of a command with --detach.
        """
        self.fake.on("POST", "/jobs", Answer(push_job("queued"), 202))
        self.assertEqual(run(["--host", self.fake.url, *argv, "--detach"]), (0, "j1\n", ""))
        (method, path, body) = self.fake.requests.pop()
        self.assertEqual((method, path), ("POST", "/api/v1/jobs"))
        return dict(body)

    def test_push(self) -> None:
        """
        A push has its target or the image's own name, and the requested tags and platforms.
        """
        plain: dict[str, object] = {"kind": "push", "reference": "alpine", "target": None, "priority": 0}
        plain |= {"tags": [], "platform": None}
        self.assertEqual(
            self.asked("push", "alpine", "x/y:1", "--priority", "3"),
            {**plain, "target": "x/y:1", "priority": 3},
        )
        self.assertEqual(self.asked("push", "alpine"), plain)
        self.assertEqual(
            self.asked("push", "alpine", "--tag", "1", "--tag=2", "--all-platforms"),
            {**plain, "tags": ["1", "2"], "platform": "all"},
        )
        self.assertEqual(
            self.asked("push", "alpine", "--platform", "linux/arm64"), {**plain, "platform": "linux/arm64"}
        )
        outcome = run(["push", "alpine", "--platform", "linux/arm64", "--all-platforms"])
        self.assertEqual(outcome.status, 2)

    def test_copy(self) -> None:
        """
        A copy has the whole index or one platform of it, with or without referrers.
        """
        plain = {"kind": "copy", "reference": "a", "target": "b", "platform": None}
        self.assertEqual(self.asked("copy", "a", "b"), {**plain, "referrers": False, "priority": 0})
        self.assertEqual(
            self.asked("copy", "a", "b", "--platform", "linux/arm64", "--referrers"),
            {**plain, "platform": "linux/arm64", "referrers": True, "priority": 0},
        )

    def test_prefetch(self) -> None:
        """
        A prefetch has one platform or all, and none of the user's credentials.
        """
        plain = {"kind": "prefetch", "reference": "a", "priority": 0}
        self.assertEqual(self.asked("prefetch", "a"), {**plain, "platform": None})
        self.assertEqual(self.asked("prefetch", "a", "--platform", "all"), {**plain, "platform": "all"})
        headers = {name.lower() for sent in self.fake.headers for name in sent}
        self.assertNotIn("x-registry-auth", headers)
        self.assertNotIn("x-registry-config", headers)
        self.assertEqual(run(["prefetch", "a", "--no-credentials"]).status, 2)

    def test_done(self) -> None:
        """
        A successful push ends with status 0 and prints the digest at the target.
        """
        self.fake.takes(*one_push())
        outcome = run(["--host", self.fake.url, "push", "alpine", TARGET])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual(outcome.out.splitlines()[-1], f"{TARGET}@{DIGEST}")
        self.assertEqual(
            run(["--host", self.fake.url, "push", "alpine", TARGET, "-q"]), (0, f"{TARGET}@{DIGEST}\n", "")
        )

    def test_json(self) -> None:
        """
        With --json the last line has the job's target.
        """
        self.fake.takes(*one_push())
        outcome = run(["--host", self.fake.url, "push", "alpine", TARGET, "--json"])
        last = json.loads(outcome.out.splitlines()[-1])
        self.assertEqual((last["data"]["state"], last["data"]["target"]), ("done", TARGET))

    def test_failed(self) -> None:
        """
        A failed push reports its error.
        """
        error = {"code": "DENIED", "message": "registry.example.com:5000 does not let you push me/alpine"}
        self.fake.takes(event("job", push_job("failed", error=error), True))
        self.assertEqual(
            run(["--host", self.fake.url, "push", "alpine", TARGET]),
            (1, "", f"xferctl: {error['message']} (DENIED)\n"),
        )


class InterruptTests(DaemonTestCase):
    """
    C{xferctl pull} as a process on a terminal, with signals.
    """

    def terminal(
        self, *argv: str, at: bytes, act: Callable[[subprocess.Popen[bytes], int], None]
    ) -> tuple[int, str]:
        """
        Run a command on a terminal of its own, and act once on its output.

        @param at: the output to wait for.
        @return: the exit status, and the output.
        """
        return run_on_terminal(argv, self.fake.url, at, act)

    def press(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        """
        Press Ctrl-C.
        """
        os.write(terminal, b"\x03")

    def running(self) -> None:
        """
        Run a pull that does not end.
        """
        self.fake.takes(
            event("job", job()), event("layer", layer(1, "downloading", bytes_done=1)), self.fake.hang
        )

    def test_bars(self) -> None:
        """
        A terminal shows bars, and the cursor is restored at the end.
        """
        self.fake.takes(*one_pull())
        status, shown = self.terminal("pull", "alpine", at=b"never", act=self.press)
        self.assertEqual(status, 0)
        self.assertIn("━", shown)
        self.assertIn("3/3 layers", shown)
        self.assertGreater(shown.rindex("\x1b[?25h"), shown.rindex("\x1b[?25l"))
        self.assertEqual(shown.splitlines()[-1], PINNED)

    def test_dumb(self) -> None:
        """
        A terminal that cannot move its cursor shows plain lines.
        """
        self.fake.takes(*one_pull())
        outcome = subprocess.run(
            ["script", "-qec", f"{COMMAND[0]} -c '{COMMAND[2]}' pull alpine", "/dev/null"],
            env=environment(XFERD_HOST=self.fake.url, TERM="dumb"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        self.assertIn(b"0a0a0a0a0a0a: already exists\r\n", outcome.stdout)
        self.assertNotIn(b"\x1b", outcome.stdout)

    def test_ctrl_c(self) -> None:
        """
        Ctrl-C cancels the job, reports that, and ends with status 130.
        """
        self.running()
        status, shown = self.terminal("pull", "alpine", at=b"downloading", act=self.press)
        self.assertEqual(status, 130)
        self.assertTrue(shown.endswith("xferctl: interrupted; job j1 was cancelled\r\n"), shown)
        self.assertIn("\x1b[?25h", shown)
        # The last picture: each row once, and none of them goes on.
        last = shown[shown.rindex("\x1b[2K") :]
        self.assertEqual([last.count("interrupted "), last.count("downloading")], [2, 0])
        self.assertEqual(self.fake.requests[-1], ("DELETE", "/api/v1/jobs/j1", None))

    def test_ctrl_c_while_pushing(self) -> None:
        """
        Ctrl-C cancels a push or a copy, too.
        """
        for argv in (("push", "alpine"), ("copy", "alpine", TARGET)):
            self.fake.takes(
                event("job", push_job()), event("layer", blob(1, "uploading", bytes_done=1)), self.fake.hang
            )
            status, shown = self.terminal(*argv, at=b"uploading", act=self.press)
            self.assertEqual(status, 130)
            self.assertTrue(shown.endswith("xferctl: interrupted; job j1 was cancelled\r\n"), shown)
            self.assertEqual(self.fake.requests[-1], ("DELETE", "/api/v1/jobs/j1", None))

    def test_signals(self) -> None:
        """
        SIGTERM and SIGHUP cancel the job, too.
        """
        for number in (signal.SIGTERM, signal.SIGHUP):
            self.running()
            with subprocess.Popen(
                [*COMMAND, "pull", "alpine"],
                env=environment(XFERD_HOST=self.fake.url),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stdout is not None
                self.assertEqual(process.stdout.readline(), "0b0b0b0b0b0b: downloading (10.0 MB)\n")
                process.send_signal(number)
                _, err = process.communicate(timeout=30)
            self.assertEqual((process.returncode, err), (130, "xferctl: interrupted; job j1 was cancelled\n"))

    def test_before_answer(self) -> None:
        """
        Ctrl-C between the request and its answer cancels the job, too.
        """
        process: list[subprocess.Popen[str]] = []

        def interrupt() -> None:
            process[0].send_signal(signal.SIGINT)

        self.fake.on("POST", "/jobs", Answer(status=202, lines=[b'{"id":', interrupt, b'"j1"}']))
        self.fake.on("DELETE", "/jobs/j1", Answer(job("cancelled")))
        with subprocess.Popen(
            [*COMMAND, "pull", "alpine"],
            env=environment(XFERD_HOST=self.fake.url),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as started:
            process.append(started)
            _, err = started.communicate(timeout=30)
        self.assertEqual((started.returncode, err), (130, "xferctl: interrupted; job j1 was cancelled\n"))


class AbandonTests(DaemonTestCase):
    """
    The job of an interrupted command.
    """

    def left(self, answer: Answer | None) -> str:
        """
        Interrupt a pull.

        @param answer: the daemon's answer to the cancellation; L{None} for a
            second interrupt.
        @return: the message on stderr.
        """

        def leave(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        self.patch(Daemon, "events", leave)
        self.fake.on("POST", "/jobs", Answer(job("queued"), 202))
        if answer is None:
            self.patch(Daemon, "cancel", leave)
        else:
            self.fake.on("DELETE", "/jobs/j1", answer)
        outcome = run(["--host", self.fake.url, "pull", "alpine"])
        self.assertEqual((outcome.status, outcome.out), (130, ""))
        return outcome.err

    def test_ended_before(self) -> None:
        """
        A job that had already ended is not reported as cancelled.
        """
        self.assertEqual(
            self.left(Answer(job("done"))), "xferctl: interrupted; job j1 had already ended: done\n"
        )

    def test_refused(self) -> None:
        """
        If the job cannot be cancelled, the reason is reported.
        """
        said = self.left(refusal(503, "GONE", "no"))
        self.assertEqual(said, "xferctl: interrupted, and job j1 could not be cancelled: no (GONE)\n")

    def test_impatient(self) -> None:
        """
        A second Ctrl-C does not wait for the daemon; the message names the command that
        cancels the job.
        """
        self.assertIn("'xferctl cancel j1' cancels it", self.left(None))

    def test_before(self) -> None:
        """
        An interrupt before the job exists cancels nothing.
        """

        def leave(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        self.patch(Daemon, "start_followed", leave)
        outcome = run(["--host", self.fake.url, "pull", "alpine"])
        self.assertEqual(outcome, (130, "", "xferctl: interrupted before the pull began\n"))
        outcome = run(["--host", self.fake.url, "copy", "alpine", "x/y"])
        self.assertEqual(outcome, (130, "", "xferctl: interrupted before the copy began\n"))
        self.assertEqual(self.fake.requests, [])
