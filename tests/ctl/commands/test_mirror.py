# -*- test-case-name: tests.ctl.commands.test_mirror -*-
"""
Tests for L{xferd.ctl.commands.mirror}.
"""

from __future__ import annotations

from pathlib import Path

from tests.ctl.commands.case import CommandCase
from tests.ctl.fake_daemon import Answer, refusal
from tests.ctl.mirror.fake_mirror import FakeMirror, MirrorServer
from tests.ctl.mirror.test_served import FOUND
from tests.ctl.run import Outcome, run
from xferd.ctl.mirror.requests import SCRIPTS

PODMAN = """\
# /etc/containers/registries.conf.d/50-xferd.conf
# For podman, CRI-O, skopeo and buildah.
[[registry]]
prefix = "docker.io"
location = "docker.io"

[[registry.mirror]]
location = "127.0.0.1:5000/docker.io"
insecure = true
"""


class ShowTests(CommandCase):
    """
    C{xferctl mirror show}.
    """

    def setUp(self) -> None:
        """
        Have the daemon serve a registry.
        """
        super().setUp()
        self.fake.on("GET", "/registry", Answer(FOUND))

    def show(self, *arguments: str) -> Outcome:
        """
        Run the command.
        """
        return run(["mirror", "show", *arguments, "--host", self.fake.url])

    def test_printed(self) -> None:
        """
        A file is printed with its path as a comment, so that the output can be the file.
        """
        outcome = self.show("podman", "--upstream", "docker.io")
        self.assertEqual(outcome, (0, PODMAN, ""))

    def test_lines(self) -> None:
        """
        Lines for a file that may have others say so.
        """
        outcome = self.show("docker", "--upstream", "docker.io")
        self.assertIn("# /etc/docker/daemon.json, beside its other settings:\n", outcome.out)

    def test_json(self) -> None:
        """
        With C{--json}, each file is an object.
        """
        (found,) = self.objects("mirror", "show", "k3s", "--url", "http://h:1")
        self.assertEqual((found["client"], found["is_whole"]), ("k3s", False))
        self.assertEqual(found["path"], "/etc/rancher/k3s/registries.yaml")
        self.assertIn("http://h:1", found["text"])

    def test_written(self) -> None:
        """
        With C{--output}, whole files are written, once, and the lines for others printed.
        """
        directory = Path(self.mktemp())
        outcome = self.show("podman", "containerd", "-o", str(directory), "--upstream", "docker.io")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        written = directory / "etc/containers/registries.conf.d/50-xferd.conf"
        hosts = directory / "etc/containerd/certs.d/docker.io/hosts.toml"
        self.assertEqual(outcome.out.splitlines()[:2], [f"wrote {written}", f"wrote {hosts}"])
        self.assertIn("# /etc/containerd/config.toml, beside", outcome.out)
        self.assertEqual(written.read_text(), PODMAN.partition("buildah.\n")[2])
        outcome = self.show("podman", "-o", str(directory), "--upstream", "docker.io")
        self.assertEqual(outcome, (0, "", ""))

    def test_not_replaced(self) -> None:
        """
        A file with other content stays, and then none is written.
        """
        directory = Path(self.mktemp())
        there = directory / "etc/containers/registries.conf.d/50-xferd.conf"
        there.parent.mkdir(parents=True)
        there.write_text("mine")
        outcome = self.show("containerd", "podman", "-o", str(directory))
        self.assertEqual(outcome.status, 1)
        self.assertIn(f"{there} exists with other content", outcome.err)
        self.assertEqual(there.read_text(), "mine")
        self.assertFalse((directory / "etc/containerd").exists())

    def test_wrong_use(self) -> None:
        """
        The client must be one of those that are known.
        """
        for arguments, message in (((), "a client is required"), (("crane",), "'crane' is not a client")):
            outcome = self.show(*arguments)
            self.assertEqual((outcome.status, outcome.out), (2, ""))
            self.assertIn(message, outcome.err)

    def test_no_registry(self) -> None:
        """
        Without a registry, the error names the way to one.
        """
        self.fake.on("GET", "/registry", Answer({**FOUND, "listen": []}))
        outcome = self.show("podman")
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertIn("the daemon serves no registry; start it with 'xferd run", outcome.err)

    def test_old_daemon(self) -> None:
        """
        A daemon without this route is an older one.
        """
        self.fake.on("GET", "/registry", refusal(404, "NOT_FOUND", "there is no such path"))
        self.assertIn("the daemon is of an older version", self.show("podman").err)
        self.fake.on("GET", "/registry", refusal(401, "UNAUTHORIZED", "a token is required"))
        self.assertIn("a token is required", self.show("podman").err)


class CheckTests(CommandCase):
    """
    C{xferctl mirror check}.
    """

    def setUp(self) -> None:
        """
        Have the daemon name a mirror.
        """
        super().setUp()
        self.mirror = FakeMirror()
        server = MirrorServer(self.mirror)
        server.start()
        self.addCleanup(server.stop)
        self.fake.on("GET", "/registry", Answer({**FOUND, "urls": [f"http://{server.authority}"]}))

    def check(self, *arguments: str) -> Outcome:
        """
        Run the command.
        """
        return run(["mirror", "check", *arguments, "--host", self.fake.url])

    def test_all(self) -> None:
        """
        By default all clients are tried, on a small image of Docker Hub.
        """
        outcome = self.check()
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        rows = [line.split() for line in outcome.out.splitlines()]
        self.assertEqual(rows[0], ["CLIENT", "REQUEST", "STATUS", "SIZE", "RESULT"])
        self.assertEqual({row[0] for row in rows[1:]}, set(SCRIPTS))
        self.assertEqual({row[-1] for row in rows[1:]}, {"ok"})
        self.assertIn("/v2/docker.io/library/hello-world/manifests/latest", outcome.out)

    def test_other_registry(self) -> None:
        """
        docker is left out for an image of another registry, unless it is named.
        """
        outcome = self.check("--image", "registry.lan:5000/app:1")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertNotIn("docker ", outcome.out)
        outcome = self.check("docker", "--image", "registry.lan:5000/app:1")
        self.assertEqual(outcome.status, 1)
        self.assertIn("mirrors Docker Hub alone", outcome.err)

    def test_problem(self) -> None:
        """
        A client that could not pull is an error with the request and the reason.
        """
        self.mirror.spoil = lambda _, answer: answer._replace(
            headers={**answer.headers, "docker-content-digest": ""}
        )
        outcome = self.check("podman", "containerd")
        self.assertEqual(outcome.status, 1)
        self.assertEqual(
            outcome.err,
            "xferctl: containerd cannot use the mirror: HEAD /v2/library/hello-world/manifests/latest"
            "?ns=docker.io: there is no Docker-Content-Digest\n",
        )
        self.assertIn("there is no Docker-Content-Digest", outcome.out)

    def test_json(self) -> None:
        """
        With C{--json}, each request is an object.
        """
        found = self.objects("mirror", "check", "podman")
        outcome = self.check("podman", "-o", "yaml")
        self.assertEqual((outcome.status, outcome.out.count("client: podman\n")), (0, 6))
        self.assertEqual(self.check("podman", "-o", "/x").status, 2)
        self.assertEqual([each["status"] for each in found], [200, 200, 200, 200, 200, 206])
        self.assertEqual(set(found[0]), {"client", "method", "path", "status", "size", "problem"})

    def test_template(self) -> None:
        """
        With C{--format}, each request is printed by a template; C{show} refuses it.
        """
        outcome = self.check("podman", "--format", "{{.client}}: {{.method}}")
        self.assertEqual(set(outcome.out.splitlines()) - {"podman: HEAD"}, {"podman: GET"}, outcome.err)
        outcome = run(["mirror", "show", "podman", "--format", "{{.client}}", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.out), (2, ""))
        self.assertIn("--format belongs to 'check'", outcome.err)

    def test_wrong_use(self) -> None:
        """
        The image is a reference, and options of C{show} are refused.
        """
        outcome = self.check("--image", "A B")
        self.assertEqual(outcome.status, 2)
        self.assertIn("A B", outcome.err)
        for arguments in (("rkt",), ("-o", "x"), ("--upstream", "docker.io")):
            self.assertEqual(self.check(*arguments).status, 2)
