"""
Tests for L{xferd.ctl.commands.archives} and L{xferd.ctl.image.archive_sender}.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.ctl.fake_daemon import DIGEST, Answer, DaemonTestCase, event, job, layer, refusal
from tests.ctl.run import COMMAND, Outcome, Terminal, environment, run
from xferd.ctl.address import Address
from xferd.ctl.client import Daemon
from xferd.ctl.errors import NoDaemon, Refused
from xferd.ctl.image.archive_sender import PIECE, Sender, joined
from xferd.ctl.image.layout import LayoutTar
from xferd.testing.images import sample_image, write_layout


def import_job(state: str = "running", **more: Any) -> dict[str, Any]:
    """
    An import.
    """
    archive = {"received": 5_000_000, "size": 10_000_000}
    return job(state, **{"kind": "import", "bytes_total": 0, "layers_total": 0, "archive": archive, **more})


class ImportTests(DaemonTestCase):
    """
    C{xferctl import}.
    """

    def setUp(self) -> None:
        """
        Make a daemon that accepts pieces, and an archive of two pieces.
        """
        super().setUp()
        self.path = self.mktemp()
        self.data = os.urandom(1000) * (PIECE // 1000 + 100)
        Path(self.path).write_bytes(self.data)
        self.takes(
            event("job", import_job(reference="")),
            self.wait_for_end,
            event("layer", layer(0, "unpacking")),
            event("layer", layer(0, "done")),
            event("job", import_job("done", bytes_total=10_000_000), True),
        )
        self.fake.on("PATCH", "/jobs/j1/content", Answer({"offset": 1}, 202))
        self.fake.on("PUT", "/jobs/j1/content", Answer({}))

    def takes(self, *lines: Any) -> None:
        """
        Set the events of the import.
        """
        self.fake.takes(*lines)

    def asked(self, method: str) -> list[Any]:
        """
        The bodies of the requests with a method.
        """
        return [body for sent, _, body in self.fake.requests if sent == method]

    def wait_for_end(self) -> None:
        """
        In a stream: wait until the archive is complete.
        """
        for _ in range(1000):
            if self.asked("PUT"):
                return
            self.fake.released.wait(0.01)

    def import_(self, *argv: str, path: str | None = None) -> Outcome:
        """
        Import the archive.
        """
        return run(["--host", self.fake.url, "import", path or self.path, *argv])

    def test_done(self) -> None:
        """
        The archive is sent in pieces, each with its range, then its size. The last line is the
        imported reference.
        """
        outcome = self.import_("app:1", "--platform", "linux/arm64", "--priority", "2")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual(outcome.out.splitlines()[-1], f"docker.io/library/alpine:latest@{DIGEST}")
        asked = {"kind": "import", "reference": "app:1", "platform": "linux/arm64", "priority": 2}
        self.assertEqual(self.asked("POST"), [{**asked, "size": len(self.data)}])
        self.assertEqual(b"".join(self.asked("PATCH")), self.data)
        self.assertEqual(self.asked("PUT"), [{"size": len(self.data)}])
        ranges = [headers["Content-Range"] for headers in self.fake.headers if "Content-Range" in headers]
        self.assertEqual(ranges, [f"0-{PIECE - 1}", f"{PIECE}-{len(self.data) - 1}"])
        self.assertIn("archive: 5.0 MB of 10.0 MB sent", outcome.out)

    def test_quiet_and_json(self) -> None:
        """
        With --quiet the reference is printed alone; with --json each line is an object.
        """
        self.assertEqual(self.import_("--quiet").out, f"docker.io/library/alpine:latest@{DIGEST}\n")
        lines = [json.loads(line) for line in self.import_("--json").out.splitlines()]
        self.assertEqual((lines[-1]["kind"], lines[-1]["data"]["state"]), ("job", "done"))

    def test_several(self) -> None:
        """
        The names of several images are printed, one on each line.
        """
        self.takes(self.wait_for_end, event("job", import_job("done", reference="a:1, b:1"), True))
        self.assertEqual(self.import_("--quiet").out, "a:1\nb:1\n")

    def test_terminal(self) -> None:
        """
        A terminal shows a bar.
        """
        with Terminal() as terminal:
            argv = [*COMMAND, "--host", self.fake.url, "import", self.path]
            subprocess.run(
                argv, stdout=terminal.file, stderr=terminal.file, env=environment(TERM="xterm"), check=True
            )
        self.assertIn("1/1 layer", terminal.shown())

    def test_directory(self) -> None:
        """
        A layout's directory is sent as a tar.
        """
        path = self.mktemp()
        write_layout(path, {"a:1": sample_image(1)})
        self.assertEqual(self.import_(path=path).status, 0)
        self.assertEqual(b"".join(self.asked("PATCH")), b"".join(LayoutTar(path)))

    def test_stdin(self) -> None:
        """
        Data from a pipe, of unknown size, is sent.
        """
        argv = [*COMMAND, "--host", self.fake.url, "import", "-", "a:1"]
        done = subprocess.run(argv, input=self.data, capture_output=True, env=environment())
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(b"".join(self.asked("PATCH")), self.data)
        self.assertIsNone(self.asked("POST")[0]["size"])

    def test_not_there(self) -> None:
        """
        A path that does not exist creates no job.
        """
        outcome = self.import_(path="/nonexistent")
        self.assertEqual((outcome.status, self.fake.requests), (1, []))
        self.assertIn("cannot read '/nonexistent'", outcome.err)
        empty = self.mktemp()
        os.mkdir(empty)
        self.assertIn("not an OCI layout", self.import_(path=empty).err)

    def lose(self) -> None:
        """
        Have the daemon restart after the first piece.
        """
        lost = refusal(416, "OFFSET_INVALID", "the next piece begins at 0", offset=0)
        stopping = refusal(503, "INTERRUPTED", "stopping")
        self.fake.on(
            "PATCH",
            "/jobs/j1/content",
            Answer({"offset": 1}, 202),
            stopping,
            lost,
            Answer({"offset": 1}, 202),
        )

    def test_restarted(self) -> None:
        """
        A daemon that was restarted gets a file from its beginning.
        """
        self.lose()
        outcome = self.import_()
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        sent = self.asked("PATCH")
        self.assertEqual(b"".join(sent[-2:]), self.data)
        self.assertEqual(len(sent), 5)

    def test_restarted_without_file(self) -> None:
        """
        Data from a pipe cannot be sent a second time: the job is cancelled.
        """
        self.lose()

        def cancelled(_: object = None) -> None:
            while not self.asked("DELETE"):
                self.fake.released.wait(0.01)

        self.fake.on("DELETE", "/jobs/j1", Answer(import_job("cancelled")))
        self.takes(cancelled, event("job", import_job("cancelled"), True))
        argv = [*COMMAND, "--host", self.fake.url, "import", "-", "a:1"]
        done = subprocess.run(argv, input=self.data, capture_output=True, env=environment())
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"cannot be read a second time", done.stderr)

    def test_job_fails(self) -> None:
        """
        If the job fails, its error is reported, and not the refusal of further pieces.
        """
        error = {"code": "ARCHIVE_INVALID", "message": "the archive is truncated"}
        self.fake.on("PATCH", "/jobs/j1/content", refusal(400, "BAD_INPUT", "it has ended"))
        self.takes(event("job", import_job("failed", error=error), True))
        self.assertEqual(self.import_(), (1, "", "xferctl: the archive is truncated (ARCHIVE_INVALID)\n"))

    def test_cannot_be_read_on(self) -> None:
        """
        An archive that cannot be read to its end cancels the job.
        """
        path = self.mktemp()
        write_layout(path, {"a:1": sample_image(1)})

        def shorten(_: object = None) -> None:
            while not self.asked("DELETE"):
                self.fake.released.wait(0.01)

        self.takes(shorten, event("job", import_job("cancelled"), True))
        source = LayoutTar(path)
        Path(path, "oci-layout").write_text("")
        sender = Sender(daemon_at(self.fake.url), "j1", source)
        sender.start()
        shorten()
        self.assertIn("was truncated", str(sender.error))

    def test_interrupted(self) -> None:
        """
        Ctrl-C cancels the job.
        """
        self.takes(event("job", import_job()), self.fake.hang)
        self.fake.on("DELETE", "/jobs/j1", Answer(import_job("cancelled")))
        argv = [*COMMAND, "--host", self.fake.url, "import", "-"]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment()) as process:
            while not any(path.endswith("/events") for _, path, _ in self.fake.requests):
                self.fake.released.wait(0.01)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            self.assertIn(b"interrupted; job j1 was cancelled", process.stderr.read())
            self.assertEqual(process.wait(), 130)


def daemon_at(url: str) -> Daemon:
    """
    A daemon whose client does not pause between attempts.
    """
    return Daemon([Address.parse(url)], client="me", pause=lambda _: None)


class PieceTests(DaemonTestCase):
    """
    Sending one piece of an archive.
    """

    def send(self, *answers: Answer) -> None:
        """
        Send a piece of three bytes; the daemon answers so.
        """
        self.fake.on("PATCH", "/jobs/j1/content", *answers)
        daemon_at(self.fake.url).send_piece("j1", 5, b"abc")

    def test_lost_answer(self) -> None:
        """
        An offset after the piece shows that it arrived, though its answer was lost.
        """
        self.send(refusal(416, "OFFSET_INVALID", "no", offset=8))
        self.assertEqual(len(self.fake.requests), 1)

    def test_busy(self) -> None:
        """
        A piece is sent again while the daemon reads the one before.
        """
        busy = refusal(416, "OFFSET_INVALID", "busy", offset=5)
        self.send(busy, busy, Answer({"offset": 8}, 202))
        self.assertEqual(len(self.fake.requests), 3)

    def test_broken(self) -> None:
        """
        After a broken connection the piece is sent again, a limited number of times.
        """
        self.send(Answer(body=b"{", missing=5), Answer({"offset": 8}, 202))
        self.assertEqual(len(self.fake.requests), 2)
        self.assertRaises(NoDaemon, self.send, Answer(body=b"{", missing=5))

    def test_refused(self) -> None:
        """
        Any other refusal is final, and so is an unexpected offset.
        """
        for answer in (
            refusal(400, "BAD_INPUT", "it has ended"),
            refusal(416, "OFFSET_INVALID", "no", offset=77),
        ):
            self.assertRaises(Refused, self.send, answer)

    def test_end_is_offered_again(self) -> None:
        """
        The end is reported again while the daemon reads the last piece.
        """
        busy = refusal(416, "OFFSET_INVALID", "busy", offset=8)
        self.fake.on("PUT", "/jobs/j1/content", busy, Answer({}))
        daemon_at(self.fake.url).end_content("j1", 8)
        self.assertEqual(len(self.fake.requests), 2)

    def test_joined(self) -> None:
        """
        Small pieces are joined and large ones split; no byte is lost.
        """
        data = [b"a" * 10, b"", b"b" * (3 * PIECE), b"c" * 5]
        pieces = list(joined(data))
        self.assertEqual(b"".join(pieces), b"".join(data))
        self.assertEqual([len(piece) for piece in pieces], [PIECE, PIECE, PIECE, 15])


class ExportTests(DaemonTestCase):
    """
    C{xferctl export}.
    """

    def setUp(self) -> None:
        """
        Make a daemon with an image.
        """
        super().setUp()
        layout = self.mktemp()
        write_layout(layout, {"a:1": sample_image(2)})
        self.layout = Path(layout)
        self.data = b"".join(LayoutTar(layout))
        for form in ("docker", "oci"):
            self.fake.on("GET", f"/archives/a:1?format={form}", Answer(body=self.data))
        self.place = Path(self.mktemp())
        self.place.mkdir()

    def export(self, path: object, *argv: str) -> Outcome:
        """
        Export the image.
        """
        return run(["--host", self.fake.url, "export", "a:1", str(path), *argv])

    def test_file(self) -> None:
        """
        The export writes its file and no other.
        """
        path = self.place / "a.tar"
        path.write_bytes(b"older")
        outcome = self.export(path)
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual(outcome.out.splitlines()[-1], str(path))
        self.assertEqual(path.read_bytes(), self.data)
        self.assertEqual(os.listdir(self.place), ["a.tar"])
        self.assertEqual(path.stat().st_mode & 0o600, 0o600)
        self.assertEqual([p for _, p, _ in self.fake.requests], ["/api/v1/archives/a:1?format=docker"])

    def test_format(self) -> None:
        """
        --format selects the format.
        """
        self.assertEqual(self.export(self.place / "a.tar", "--format", "oci").status, 0)
        self.assertIn("oci", self.fake.requests[0][1])
        self.assertEqual(self.export(self.place / "a.tar", "--format", "zip").status, 2)

    def test_quiet_and_json(self) -> None:
        """
        With --quiet the path is printed alone; with --json each line is an object.
        """
        path = self.place / "a.tar"
        self.assertEqual(self.export(path, "--quiet"), (0, f"{path}\n", ""))
        lines = [json.loads(line) for line in self.export(path, "--json").out.splitlines()]
        self.assertEqual(lines[0]["data"]["bytes_done"], 0)
        self.assertEqual((lines[-1]["final"], lines[-1]["data"]["path"]), (True, str(path)))

    def test_terminal(self) -> None:
        """
        A terminal shows a bar.
        """
        with Terminal() as terminal:
            argv = [*COMMAND, "--host", self.fake.url, "export", "a:1", str(self.place / "a.tar")]
            subprocess.run(argv, stdout=terminal.file, env=environment(TERM="xterm"), check=True)
        self.assertIn("saved", terminal.shown())

    def test_stdout(self) -> None:
        """
        The archive is written to stdout alone, and never to a terminal.
        """
        argv = [*COMMAND, "--host", self.fake.url, "export", "a:1", "-"]
        done = subprocess.run(argv, capture_output=True, env=environment())
        self.assertEqual((done.returncode, done.stdout), (0, self.data))
        with Terminal() as terminal:
            refused = subprocess.run(argv, stdout=terminal.file, stderr=subprocess.PIPE, env=environment())
        self.assertEqual((refused.returncode, terminal.shown()), (2, ""))

    def test_directory(self) -> None:
        """
        An empty directory, or a path that ends with a slash, becomes a layout.
        """
        (self.place / "there").mkdir()
        for path in (f"{self.place}/there", f"{self.place}/new/"):
            self.assertEqual(self.export(path).status, 0)
            found = {str(p.relative_to(path)) for p in Path(path).rglob("*")}
            self.assertEqual(found, {str(p.relative_to(self.layout)) for p in self.layout.rglob("*")})
        self.assertEqual(sorted(os.listdir(self.place)), ["new", "there"])

    def test_directory_refused(self) -> None:
        """
        A directory that is not empty is left alone; docker's format needs a file.
        """
        (self.place / "x").write_text("")
        self.assertIn("not empty", self.export(self.place).err)
        self.assertEqual(self.export(f"{self.place}/new/", "--format", "docker").status, 2)
        self.assertEqual(os.listdir(self.place), ["x"])

    def test_broken(self) -> None:
        """
        An incomplete export leaves nothing, and keeps the file that existed.
        """
        (self.place / "a.tar").write_bytes(b"older")
        for form in ("docker", "oci"):
            self.fake.on("GET", f"/archives/a:1?format={form}", Answer(body=self.data[:-1024], missing=1024))
        for path in ("a.tar", "new/"):
            outcome = self.export(f"{self.place}/{path}")
            self.assertEqual(outcome.status, 1)
            self.assertIn("ended the archive early", outcome.err)
        self.assertEqual(os.listdir(self.place), ["a.tar"])
        self.assertEqual((self.place / "a.tar").read_bytes(), b"older")

    def test_refused(self) -> None:
        """
        The daemon's refusal is reported, and nothing is written.
        """
        self.fake.on("GET", "/archives/a:1?format=docker", refusal(404, "NOT_FOUND", "there is no image a:1"))
        outcome = self.export(self.place / "a.tar")
        self.assertEqual(outcome, (1, "", "xferctl: there is no image a:1 (NOT_FOUND)\n"))
        self.assertEqual(os.listdir(self.place), [])

    def test_cannot_be_written(self) -> None:
        """
        A path that cannot be written is named.
        """
        self.assertIn("cannot write", self.export("/nonexistent/a.tar").err)

    def test_interrupted(self) -> None:
        """
        Ctrl-C leaves no file.
        """
        self.fake.on("GET", "/archives/a:1?format=docker", Answer(body=self.data[:2000], missing=10**9))
        self.fake.hold = True
        argv = [*COMMAND, "--host", self.fake.url, "export", "a:1", str(self.place / "a.tar")]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, env=environment()) as process:
            while not os.listdir(self.place):
                self.fake.released.wait(0.01)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(), 130)
            assert process.stderr is not None
            self.assertIn(b"interrupted", process.stderr.read())
        self.assertEqual(os.listdir(self.place), [])
