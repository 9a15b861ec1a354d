"""
Tests for L{xferd.ctl.commands.engine}.
"""

from __future__ import annotations

from pathlib import Path

from tests.ctl.commands.case import CommandCase
from tests.ctl.engine.test_served import NODE, STATUS, STORAGE, found
from tests.ctl.fake_daemon import Answer, refusal
from tests.ctl.run import Outcome, run
from xferd.ctl.text import json_line

TEMPLATE = "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl"


class ShowTests(CommandCase):
    """
    C{xferctl engine show}.
    """

    def setUp(self) -> None:
        """
        Have the daemon serve engines.
        """
        super().setUp()
        self.fake.on("GET", "/status", Answer(STATUS))
        self.fake.on("GET", "/engines", Answer([found(NODE), found(STORAGE)]))

    def show(self, *arguments: str) -> Outcome:
        """
        Run the command.
        """
        return run(["engine", "show", *arguments, "--host", self.fake.url])

    def test_printed(self) -> None:
        """
        Files are printed with their paths and notes as comments.
        """
        outcome = self.show("k3s", "--for", "k3s=1.34.1")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn(f"# {TEMPLATE}\n# For RKE2, the path has rke2", outcome.out)
        self.assertIn(f'address = "{NODE.path}"', outcome.out)
        self.assertIn("# /etc/rancher/k3s/config.yaml.d/50-xferd.yaml\nsnapshotter: xferd\n", outcome.out)

    def test_json(self) -> None:
        """
        With C{--json}, each file is an object.
        """
        files = self.objects("engine", "show", "k3s", "--for", "k3s=1.34.1")
        self.assertEqual([file["tool"] for file in files], ["k3s"] * 3)
        self.assertEqual(files[0]["path"], TEMPLATE)
        self.assertTrue(files[0]["is_whole"])

    def test_written(self) -> None:
        """
        With C{--output}, whole files are written.
        """
        directory = Path(self.mktemp())
        outcome = self.show("k3s", "--for", "k3s=1.34.1", "-o", str(directory))
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        template = Path(directory, TEMPLATE.lstrip("/"))
        self.assertEqual(outcome.out.splitlines()[0], f"wrote {template}")
        self.assertTrue(template.read_text().startswith('{{ template "base" . }}\n'))

    def test_engine(self) -> None:
        """
        One of several engines is chosen by name.
        """
        other = NODE._replace(name="k3s", path="/other.sock")
        self.fake.on("GET", "/engines", Answer([found(NODE), found(other)]))
        outcome = self.show("k3s", "--for", "k3s=1.34.1")
        self.assertEqual(outcome.status, 2)
        self.assertIn("choose one with --engine: node, k3s", outcome.err)
        self.assertIn("/other.sock", self.show("k3s", "--for", "k3s=1.34.1", "--engine", "k3s").out)

    def test_wrong_use(self) -> None:
        """
        Tools and versions must be known ones.
        """
        for arguments, message in (
            ((), "a tool is required: containerd, k3s"),
            (("rkt",), "'rkt' is not a tool; the tools are containerd"),
            (("k3s", "--for", "1.2"), "--for: '1.2' is not TOOL=VERSION"),
            (("k3s", "--for", "k3s=new"), "--for: 'k3s=new' is not TOOL=VERSION"),
            (("k3s", "--for", "rkt=1.2"), "--for: 'rkt=1.2' is not TOOL=VERSION"),
        ):
            outcome = self.show(*arguments)
            self.assertEqual((outcome.status, outcome.out), (2, ""))
            self.assertIn(message, outcome.err)

    def test_none(self) -> None:
        """
        Without an engine, the error names the setting.
        """
        self.fake.on("GET", "/engines", Answer([]))
        outcome = self.show("k3s", "--for", "k3s=1.34.1")
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertIn("add [engines.containerd.node] to its configuration file", outcome.err)

    def test_old_daemon(self) -> None:
        """
        A daemon without this route is an older one.
        """
        self.fake.on("GET", "/engines", refusal(404, "NOT_FOUND", "there is no such path"))
        self.assertIn("the daemon is of an older version", self.show("podman").err)
        self.fake.on("GET", "/engines", refusal(401, "UNAUTHORIZED", "a token is required"))
        self.assertIn("a token is required", self.show("podman").err)


class CheckTests(CommandCase):
    """
    C{xferctl engine check}.
    """

    def test_not_served(self) -> None:
        """
        An engine that the daemon could not start is reported with the reason.
        """
        self.fake.on("GET", "/status", Answer(STATUS))
        broken = found(NODE, state="failed", problem="the socket is in use")
        self.fake.on("GET", "/engines", Answer([broken]))
        outcome = run(["engine", "check", "containerd", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertIn("the daemon does not serve containerd node: the socket is in use", outcome.err)

    def test_wrong_use(self) -> None:
        """
        Options belong to their actions.
        """
        for arguments, message in (
            (("check",), "a tool is required"),
            (("check", "podman", "-o", "/x"), "--output belongs to 'show'"),
            (("show", "podman", "--image", "x"), "--image belongs to 'check'"),
            (("ls", "--image", "x"), "--image belongs to 'check'"),
        ):
            outcome = run(["engine", *arguments, "--host", self.fake.url])
            self.assertEqual(outcome.status, 2)
            self.assertIn(message, outcome.err)


class ListTests(CommandCase):
    """
    C{xferctl engine ls}.
    """

    def setUp(self) -> None:
        """
        Have the daemon serve engines.
        """
        super().setUp()
        images = [
            {"image": "docker.io/library/debian:12", "layers": 1, "containers": 2, "by": ""},
            {"image": "", "layers": 3, "containers": 0, "by": "/r"},
        ]
        left_out = [{"image": "docker.io/library/old:1", "reason": "an older xferd has unpacked it"}]
        broken = found(STORAGE, state="failed", problem="disk\x1b full", left_out=left_out)
        self.items = [found(NODE, images=images), broken]
        self.fake.on("GET", "/engines", Answer(self.items))

    def test_table(self) -> None:
        """
        Each image has a row, and an engine without images one with its problem.  What the
        view does not show has a row with the reason.
        """
        self.assertEqual(
            self.lines("engine", "ls"),
            [
                ["KIND", "ENGINE", "STATE", "IMAGE", "LAYERS", "CONTAINERS", "ROOT", "WHY"],
                ["containerd", "node", "serving", "debian:12", "1", "2"],
                ["containerd", "node", "serving", "-", "3", "0", "/r"],
                ["containers-storage", "failed", "disk\\x1b", "full"],
                [
                    "containers-storage",
                    "left",
                    "out",
                    "old:1",
                    *["an", "older", "xferd", "has", "unpacked", "it"],
                ],
            ],
        )

    def test_one(self) -> None:
        """
        C{--engine} selects an engine.
        """
        self.assertEqual(len(self.lines("engine", "ls", "--engine", "node")), 3)

    def test_json(self) -> None:
        """
        With C{--json}, engines are printed as the API has them.
        """
        self.assertEqual(self.objects("engine", "ls"), self.items)

    def test_forms(self) -> None:
        """
        With C{-o}, engines are printed in each form of lists; another form is wrong use.
        """
        for form, words in (
            ("table", "KIND "),
            ("wide", "KIND "),
            ("json", '"kind":"containerd"'),
            ("yaml", "kind: containerd\n"),
        ):
            outcome = run(["engine", "ls", "-o", form, "--host", self.fake.url])
            self.assertEqual((outcome.status, outcome.err), (0, ""))
            self.assertIn(words, outcome.out)
        outcome = run(["engine", "ls", "-o", "/x", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.out), (2, ""))
        self.assertIn("the forms are table, wide, json, yaml, not '/x'", outcome.err)

    def test_template(self) -> None:
        """
        With C{--format}, each engine is printed by a template; other actions refuse it.
        """
        outcome = run(["engine", "ls", "--format", "{{.kind}}/{{.name}}", "--host", self.fake.url])
        self.assertEqual(outcome.out.splitlines()[0], "containerd/node", outcome.err)
        outcome = run(["engine", "show", "podman", "--format", "{{.kind}}", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.out), (2, ""))
        self.assertIn("--format belongs to 'ls'", outcome.err)

    def test_wrong_use(self) -> None:
        """
        Tools belong to C{show}.
        """
        outcome = run(["engine", "ls", "podman", "--host", self.fake.url])
        self.assertEqual(outcome.status, 2)
        self.assertIn("'ls' takes no arguments but --engine, -o, --json and --format", outcome.err)


class FillTests(CommandCase):
    """
    C{xferctl engine fill}.
    """

    def test_filled(self) -> None:
        """
        The blobs that were missing are counted.
        """
        filled = {
            "image": "docker.io/library/debian:12",
            "namespaces": ["default", "k8s.io"],
            "blobs": 4,
            "written": 2,
            "bytes": 48_500_000,
        }
        progress = {"bytes": 20_000_000, "size": 48_500_000}
        events = Answer(
            lines=[
                json_line({"kind": "fill", "data": data, "final": final}).encode() + b"\n"
                for data, final in ((progress, False), (filled, True))
            ],
            headers={"Content-Type": "application/x-ndjson"},
        )
        self.fake.on("POST", "/engines/node/fill", Answer(filled, events=events))
        outcome = run(["engine", "fill", "node", "debian:12", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual(
            outcome.out,
            "docker.io/library/debian:12 in node (default, k8s.io): 2 of 4 blobs were missing, "
            "48.5 MB written\n",
        )
        self.assertEqual(self.fake.requests[-1][2], {"reference": "debian:12"})
        arguments = ("engine", "fill", "node", "debian:12", "--namespace", "k8s.io")
        self.assertEqual(self.objects(*arguments), [filled])
        self.assertEqual(self.fake.requests[-1][2], {"reference": "debian:12", "namespace": "k8s.io"})

    def test_refused(self) -> None:
        """
        The daemon's error is printed.
        """
        self.fake.on("POST", "/engines/x/fill", refusal(404, "NOT_FOUND", "the settings have no such engine"))
        outcome = run(["engine", "fill", "x", "a", "--host", self.fake.url])
        self.assertEqual(outcome.status, 1)
        self.assertIn("the settings have no such engine", outcome.err)

    def test_at_once(self) -> None:
        """
        A fill that ends at once has a response without events.
        """
        self.fake.on("POST", "/engines/x/fill", Answer({"image": "a", "namespaces": []}))
        outcome = run(["engine", "fill", "x", "a", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.fake.on("POST", "/engines/x/fill", Answer(["no object"]))
        self.assertEqual(run(["engine", "fill", "x", "a", "--host", self.fake.url]).status, 1)

    def test_failed(self) -> None:
        """
        A fill that fails later, and one whose events break off.
        """
        error = {"error": {"code": "ENGINE_FAILED", "message": "containerd node: no", "detail": None}}
        headers = {"Content-Type": "application/x-ndjson"}
        for lines, why in (
            (
                [json_line({"kind": "fill", "data": error, "final": True}).encode() + b"\n"],
                "containerd node: no",
            ),
            ([b"\n"], "ended the work early"),
        ):
            self.fake.on("POST", "/engines/x/fill", Answer(lines=lines, headers=headers))
            outcome = run(["engine", "fill", "x", "a", "--host", self.fake.url])
            self.assertEqual(outcome.status, 1)
            self.assertIn(why, outcome.err)

    def test_wrong_use(self) -> None:
        """
        Name and image are required, and other options do not belong to it.
        """
        for arguments in (
            ("fill",),
            ("fill", "node"),
            ("fill", "node", "a", "b"),
            ("fill", "node", "a", "--engine", "x"),
            ("fill", "node", "a", "--output", "x"),
            ("show", "k3s", "--namespace", "x"),
            ("ls", "--namespace", "x"),
        ):
            outcome = run(["engine", *arguments, "--host", self.fake.url])
            self.assertEqual(outcome.status, 2, arguments)


class ForgetTests(CommandCase):
    """
    C{xferctl engine forget}.
    """

    def test_forgotten(self) -> None:
        """
        The number of snapshots is printed.
        """
        forgotten = {"name": "old", "snapshots": 7}
        self.fake.on("DELETE", "/engines/old", Answer(forgotten))
        outcome = run(["engine", "forget", "old", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual(outcome.out, "7 snapshots of old are removed; 'xferctl gc' frees the layers\n")
        self.assertEqual(self.objects("engine", "forget", "old"), [forgotten])

    def test_refused(self) -> None:
        """
        The daemon's error is printed.
        """
        self.fake.on("DELETE", "/engines/node", refusal(400, "BAD_INPUT", "the settings name node"))
        outcome = run(["engine", "forget", "node", "--host", self.fake.url])
        self.assertEqual(outcome.status, 2)
        self.assertIn("the settings name node", outcome.err)

    def test_wrong_use(self) -> None:
        """
        One name is required.
        """
        for arguments in (("forget",), ("forget", "a", "b"), ("forget", "a", "--engine", "b")):
            outcome = run(["engine", *arguments, "--host", self.fake.url])
            self.assertEqual(outcome.status, 2, arguments)
            self.assertIn("'forget' takes the argument NAME", outcome.err)
