"""
Tests for what the benchmarks compute.
"""

from __future__ import annotations

import json
import os
from contextlib import redirect_stderr
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread

from hypothesis import given, settings
from hypothesis.strategies import binary, floats, integers, lists
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import peers
from benchmarks.__main__ import parse
from benchmarks.engines import ENGINE, WITH, WITHOUT, with_none, with_own
from benchmarks.figures import Outcome, Row, Series, digits, with_ratios
from benchmarks.fleet import FLEET
from benchmarks.images import MB, Package, choose
from benchmarks.many import MANY
from benchmarks.memory import ticks
from benchmarks.mirror import MIRROR, hit_rows, miss_row
from benchmarks.peers import Containerd, Containerd2
from benchmarks.processes import Failed
from benchmarks.readers import Reading, read
from benchmarks.through import through_rows


def row(who: str, *values: float, **facts: float) -> Row:
    """
    Seconds of a program.
    """
    return Row(who, "s", Series(values), facts)


class SeriesTests(SynchronousTestCase):
    """
    Tests for L{Series}.
    """

    def test_odd(self) -> None:
        """
        Of an odd number of values the median is the one in the middle.
        """
        series = Series([3.0, 1.0, 9.0])
        self.assertEqual((series.median, series.least, series.most), (3.0, 1.0, 9.0))

    def test_even(self) -> None:
        """
        Of an even number it is the mean of the two in the middle.
        """
        self.assertEqual(Series([4.0, 1.0, 9.0, 2.0]).median, 3.0)

    def test_empty(self) -> None:
        """
        There is no series of nothing.
        """
        self.assertRaises(ValueError, Series, [])

    @settings(max_examples=30)
    @given(lists(floats(0, 1e6), min_size=1, max_size=9))
    def test_order(self, values: list[float]) -> None:
        """
        The median lies between the smallest and the largest.
        """
        series = Series(values)
        self.assertTrue(series.least <= series.median <= series.most)


class RatioTests(SynchronousTestCase):
    """
    Tests for L{with_ratios}.
    """

    def test_ratios(self) -> None:
        """
        Each row tells how much of its median ours is, besides what it told.
        """
        rows = with_ratios([row("ours", 1.0, 2.0, 9.0), row("other", 8.0, size=5.0)], "ours")
        self.assertEqual([r.facts for r in rows], [{"ours / it": 1.0}, {"ours / it": 0.25, "size": 5.0}])

    def test_without_ours(self) -> None:
        """
        If we could not be run, nothing is compared.
        """
        rows = [row("other", 8.0)]
        self.assertEqual(with_ratios(rows, "ours"), rows)


class OutcomeTests(SynchronousTestCase):
    """
    Tests for L{Outcome}.
    """

    outcome = Outcome(
        "pull",
        "an image",
        with_ratios([row("ours", 1.0, 1.5, 2.0, MB=62.34), row("the others", 12.0)], "ours"),
        ["podman: podman is not installed"],
    )

    def test_lines(self) -> None:
        """
        People get a table with a column for each fact, numbers to the right, and
        what is missing in it.
        """
        self.assertEqual(
            self.outcome.lines(),
            [
                "pull: an image",
                "            MEDIAN   MIN   MAX     OURS / IT    MB",
                "ours          1.50  1.00  2.00  s       1.00  62.3",
                "the others    12.0  12.0  12.0  s      0.125",
                "not run: podman: podman is not installed",
            ],
        )

    def test_nothing_measured(self) -> None:
        """
        Where nothing could be run, only that is said.
        """
        lines = Outcome("link", "an image", [], ["needs root"]).lines()
        self.assertEqual(lines, ["link: an image", "not run: needs root"])

    def test_json(self) -> None:
        """
        Programs get every value besides.
        """
        value = json.loads(json.dumps(self.outcome.to_json()))
        self.assertEqual(value["benchmark"], "pull")
        self.assertEqual(
            value["rows"][0],
            {
                "who": "ours",
                "unit": "s",
                "median": 1.5,
                "min": 1.0,
                "max": 2.0,
                "values": [1.0, 1.5, 2.0],
                "ours / it": 1.0,
                "MB": 62.34,
            },
        )
        self.assertEqual(value["missing"], ["podman: podman is not installed"])

    def test_digits(self) -> None:
        """
        Numbers have three digits that mean something, and no fewer than all of
        those before the point.
        """
        numbers = [0.0, 0.01234, 0.9994, 0.9996, 9.994, 9.996, 99.94, 99.96, 12345.6]
        shown = ["0.000", "0.012", "0.999", "1.00", "9.99", "10.0", "99.9", "100", "12346"]
        self.assertEqual([digits(number) for number in numbers], shown)


class ChooseTests(SynchronousTestCase):
    """
    Tests for L{choose}.
    """

    def packages(self, *sizes: int) -> list[Package]:
        """
        Packages of these sizes, in MB.
        """
        return [Package(f"package-{n}", (), size * MB) for n, size in enumerate(sizes)]

    @settings(max_examples=30)
    @given(binary(min_size=200, max_size=300), integers(0, 9))
    def test_shares(self, numbers: bytes, seed: int) -> None:
        """
        No layer gets more than its share, no package is in two layers, and none
        is larger than a quarter of its layer.
        """
        wanted = [40 * MB, 20 * MB, 1000]
        sizes = (number % 10 for number in numbers)
        layers = choose(self.packages(*sizes, *[1] * 60), wanted, str(seed))
        for layer, whole in zip(layers, wanted, strict=True):
            self.assertLessEqual(sum(package.size for package in layer), whole)
            self.assertLessEqual(max((p.size for p in layer), default=0), max(whole / 4, MB))
        names = [package.name for layer in layers for package in layer]
        self.assertEqual(len(names), len(set(names)))

    def test_seed(self) -> None:
        """
        The seed decides, not the order of the packages.
        """
        packages = self.packages(*[1] * 50)
        once = choose(packages, [10 * MB], "a")
        self.assertEqual(choose(packages[::-1], [10 * MB], "a"), once)
        self.assertNotEqual(choose(packages, [10 * MB], "b"), once)

    def test_too_few(self) -> None:
        """
        A machine with too few packages is told so.
        """
        error = self.assertRaises(Failed, choose, self.packages(1, 1), [3 * MB], "a")
        self.assertIn("layer 0 lacks 1 MB", str(error))


class ContainerdTests(SynchronousTestCase):
    """
    Tests for the versions of containerd.
    """

    def setUp(self) -> None:
        """
        Make programs of both versions, without root.
        """
        self.patch(peers, "need_root", lambda: None)
        self.one, self.two = Path(self.mktemp()).resolve(), Path(self.mktemp()).resolve()
        for directory, version in ((self.one, "1.6.20~ds1"), (self.two, "v2.4.2+unknown")):
            directory.mkdir()
            for name in ("containerd", "ctr"):
                program = directory / name
                program.write_text(f"#!/bin/sh\necho containerd example.org/containerd/v2 {version}\n")
                program.chmod(0o755)

    def use(self, path: Path, other: str = "") -> None:
        """
        Set the environment.
        """
        self.patch(os, "environ", {"PATH": f"{path}:/bin", "XFERD_CONTAINERD": other})

    def test_path(self) -> None:
        """
        Each version is found in the C{PATH}, and none is taken for the other.
        """
        self.use(self.one)
        self.assertIn("1.6.20", Containerd.check())
        self.assertIn("than 2: ", str(self.assertRaises(Failed, Containerd2.check)))
        self.use(self.two)
        self.assertIn("than 1: ", str(self.assertRaises(Failed, Containerd.check)))
        self.assertIn("v2.4.2+unknown, with", Containerd2.check())

    def test_directory(self) -> None:
        """
        Version 2 is found in a directory of its own, beside version 1.
        """
        self.use(self.one, str(self.two))
        self.assertIn("1.6.20", Containerd.check())
        self.assertIn("v2.4.2", Containerd2.check())
        (self.two / "ctr").unlink()
        self.assertIn("ctr is not installed", str(self.assertRaises(Failed, Containerd2.check)))


class MirrorTests(SynchronousTestCase):
    """
    Tests for what the benchmarks of the mirror compute.
    """

    def test_hits(self) -> None:
        """
        Servers are compared by their CPU time with the same number of clients, and those with
        TLS with one another.
        """
        values = {"xferd": [0.25, 0.5, 0.75], "xferd, TLS": [1.0], "nginx": [0.25], "other, TLS": [2.0]}
        rates = {"xferd": [1, 3, 2], "xferd, TLS": [1], "nginx": [5], "other, TLS": [6]}
        rows = hit_rows(64, values, rates)
        self.assertEqual(
            [(row.who, row.unit, row.series.median, row.facts) for row in rows],
            [
                ("xferd, 64 clients", "s/GB", 0.5, {"xferd / it": 1.0, "MB/s": 2}),
                ("nginx, 64 clients", "s/GB", 0.25, {"xferd / it": 2.0, "MB/s": 5}),
                ("xferd, TLS, 64 clients", "s/GB", 1.0, {"xferd, TLS / it": 1.0, "MB/s": 1}),
                ("other, TLS, 64 clients", "s/GB", 2.0, {"xferd, TLS / it": 0.5, "MB/s": 6}),
            ],
        )

    def test_miss(self) -> None:
        """
        A miss is compared with the blob straight from the registry.
        """
        row = miss_row("8 clients", Reading(0.5, 6.0, 800), Reading(0.25, 4.0, 100), 125, 100)
        self.assertEqual(row.series.values, [6.0])
        self.assertEqual(row.facts, {"it / alone": 1.5, "sent / blob": 1.25, "first byte later, ms": 250.0})

    def test_ticks(self) -> None:
        """
        CPU time is that of a process in both modes, and that of its children that
        ended, whatever its name is.
        """
        fields = " ".join(map(str, range(4, 53)))
        self.assertEqual(ticks(f"1 (a) b (c)) S {fields}"), 14 + 15 + 16 + 17)


class _Blob(BaseHTTPRequestHandler):
    """
    Serves one body, or claims that it is longer.
    """

    protocol_version = "HTTP/1.1"
    body = b"blob" * 1000

    def do_GET(self) -> None:
        """
        Serve it.
        """
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Content-Length", str(len(self.body) + 9 * (self.path == "/short")))
        self.end_headers()
        self.wfile.write(self.body)
        self.close_connection = self.path == "/short"

    def log_message(self, *_: object) -> None:
        """
        Log nothing.
        """


class ReadTests(SynchronousTestCase):
    """
    Tests for L{read}, over loopback.
    """

    def setUp(self) -> None:
        """
        Start a server.
        """
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Blob)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}"

    def test_all(self) -> None:
        """
        Each reader reads as often as asked, and has the first byte before the last.
        """
        reading = read(f"{self.url}/blob", 3, 2)
        self.assertEqual(reading.size, 6 * len(_Blob.body))
        self.assertTrue(0 < reading.first <= reading.last)

    def test_refused(self) -> None:
        """
        Any answer but 200 is reported.
        """
        error = self.assertRaises(SystemExit, read, f"{self.url}/none", 2, 1)
        self.assertIn("answered /none with 404", str(error.code))

    def test_short(self) -> None:
        """
        A body that ends too early is reported.
        """
        error = self.assertRaises(SystemExit, read, f"{self.url}/short", 1, 1)
        self.assertIn("4000 bytes of 4009", str(error.code))


class EngineTests(SynchronousTestCase):
    """
    Tests for what the benchmarks of engines compute.
    """

    def test_own(self) -> None:
        """
        An engine on xferd is compared with its own way, where that was measured.
        """
        rows = with_own({"podman": [8.0], "podman on xferd": [2.0], "containerd-2 on xferd": [1.0]})
        self.assertEqual(
            [(row.who, row.unit, row.series.median, row.facts) for row in rows],
            [
                ("podman", "s", 8.0, {}),
                ("podman on xferd", "s", 2.0, {"it / its own way": 0.25}),
                ("containerd-2 on xferd", "s", 1.0, {}),
            ],
        )

    def test_none(self) -> None:
        """
        A pull beside configured engines is compared with one without, where that was measured.
        """
        took = {WITHOUT: [5.0], WITH: [6.0]}
        rows = with_none({WITHOUT: [4.0], WITH: [5.0]}, took)
        self.assertEqual(
            [(row.who, row.unit, row.series.median, row.facts) for row in rows],
            [
                (WITHOUT, "s CPU", 4.0, {"s": 5.0}),
                (WITH, "s CPU", 5.0, {"it / none": 1.25, "s": 6.0}),
            ],
        )
        (row,) = with_none({WITH: [5.0]}, took)
        self.assertEqual(row.facts, {"s": 6.0})


class ThroughTests(SynchronousTestCase):
    """
    Tests for what the benchmark of pulls through xferd computes.
    """

    def test_direct(self) -> None:
        """
        A pull through xferd is compared with the same engine's direct one, where that was
        measured.
        """
        values = {"docker": [4.0], "docker, cold": [5.0], "docker, warm": [3.0], "podman, warm": [2.0]}
        rows = through_rows(values, {"docker, cold": [1.0, 2.0], "docker, warm": [0.5]})
        self.assertEqual(
            [(row.who, row.unit, row.series.median, row.facts) for row in rows],
            [
                ("docker", "s", 4.0, {}),
                ("docker, cold", "s", 5.0, {"it / direct": 1.25, "CPU s of xferd": 1.5}),
                ("docker, warm", "s", 3.0, {"it / direct": 0.75, "CPU s of xferd": 0.5}),
                ("podman, warm", "s", 2.0, {}),
            ],
        )


class ParseTests(SynchronousTestCase):
    """
    Tests for the command line.
    """

    def test_defaults(self) -> None:
        """
        All benchmarks are run, on both images, with all peers, five times.
        """
        args = parse([])
        moves = ["pull", "again", "push", "there", "copy"]
        alone = ["clients", "link", "capped", "thin", "stop", "queue", "pieces", "names", "records", "pause"]
        groups = [*MANY, *MIRROR, "through", *ENGINE, "fleet-pull", *FLEET]
        self.assertEqual(args.names, [*moves, *alone, *groups])
        self.assertEqual(args.image, ["golang-like", "wordpress-like"])
        self.assertEqual(args.peers, ["xferd", "docker", "podman", "containerd", "containerd-2", "skopeo"])
        self.assertEqual((args.runs, args.disk, args.json), (5, False, False))

    def test_choice(self) -> None:
        """
        What is named is what is run.
        """
        args = parse(["queue", "pull", "--image", "small", "--peers", "xferd,docker", "--runs", "1"])
        self.assertEqual((args.names, args.image, args.runs), (["queue", "pull"], ["small"], 1))
        self.assertEqual(args.peers, ["xferd", "docker"])

    def test_group(self) -> None:
        """
        A group stands for its benchmarks.
        """
        args = parse(["many", "--beside", "/old"])
        self.assertEqual((args.names, args.beside), ([*MANY, "clients"], Path("/old")))
        self.assertEqual(parse(["mirror", "queue"]).names, [*MIRROR, "through", "queue"])
        args = parse(["engines", "--disk"])
        self.assertEqual((args.names, args.disk), (list(ENGINE), True))
        self.assertEqual(parse(["fleet"]).names, ["fleet-pull", "fleet-coordination"])

    def test_wrong(self) -> None:
        """
        What there is not is refused.
        """
        for argv in (["speed"], ["--peers", "tar"], ["--runs"]):
            with redirect_stderr(StringIO()) as said:
                error = self.assertRaises(SystemExit, parse, argv)
            self.assertEqual(error.code, 2)
            self.assertIn(argv[-1], said.getvalue())
