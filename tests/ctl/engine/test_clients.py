"""
Tests for L{xferd.ctl.engine.clients}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.engine.clients import CLIENTS, Client, Unavailable, remedy
from xferd.ctl.engine.files import TOOLS
from xferd.ctl.engine.machine import Machine, Version
from xferd.ctl.errors import ClientError


class ClientTests(SynchronousTestCase):
    """
    The clients of engines.
    """

    def program(self, script: str) -> dict[str, str]:
        """
        The environment with a program C{tool}.
        """
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "tool").write_text(f"#!/bin/sh\n{script}\n")
        (directory / "tool").chmod(0o755)
        return {"PATH": f"{directory}:/bin"}

    def test_tools(self) -> None:
        """
        Each tool has clients that pull and remove.
        """
        machine = Machine({}, 0, {"containerd": Version(2, 4), "k3s": Version(1, 34)})
        self.assertEqual(list(CLIENTS), list(TOOLS))
        for make in CLIENTS.values():
            for client in make(machine):
                self.assertEqual(client.pull[0], client.remove[0])

    def test_containerd(self) -> None:
        """
        containerd 2 is asked by ctr and, where it serves Kubernetes, through CRI;
        containerd 1 through CRI, which alone uses xferd.
        """
        for version, clients in (
            (Version(2, 0), [("ctr", False), ("crictl", True)]),
            (Version(1, 6), [("crictl", False)]),
        ):
            made = CLIENTS["containerd"](Machine({}, 0, {"containerd": version}))
            self.assertEqual([(client.name, client.is_optional) for client in made], clients)

    def test_k3s(self) -> None:
        """
        k3s has clients of its own.
        """
        for version, words in ((Version(1, 32, 2), ["ctr", "crictl"]), (Version(1, 30), ["crictl"])):
            made = CLIENTS["k3s"](Machine({}, 0, {"k3s": version}))
            self.assertEqual([client.pull[:2] for client in made], [("k3s", word) for word in words])

    def test_run(self) -> None:
        """
        The reference is the last argument; the user's variables precede the client's.
        """
        client = Client(("tool", "pull"), ("tool", "rm"), (("A", "own"), ("B", "own")))
        environ = self.program('test "$*$A$B" = "pull r/x:1usersown"')
        client.run(client.pull, "r/x:1", {**environ, "A": "users"})

    def test_failed(self) -> None:
        """
        The error has the last line of the output.
        """
        client = Client(("tool",), ("tool",))
        for script, why in (
            ("echo first >&2; echo it broke >&2; exit 1", "tool failed: it broke"),
            ("echo it broke; exit 3", "tool failed: it broke"),
            ("exit 3", "tool failed: it ended with 3"),
        ):
            error = self.assertRaises(ClientError, client.run, client.pull, "x", self.program(script))
            self.assertEqual(str(error), why)

    def test_removed(self) -> None:
        """
        An error is ignored if the image has been removed, and reported otherwise.
        """
        client = Client(("tool", "pull"), ("tool", "rmi"), removed="layer not known")
        environ = self.program("echo 'rpc error: layer not known' >&2; exit 1")
        client.run(client.remove, "x", environ)
        self.assertRaises(ClientError, client.run, client.pull, "x", environ)
        other = self.program("echo 'image not known' >&2; exit 1")
        self.assertRaises(ClientError, client.run, client.remove, "x", other)

    def test_missing(self) -> None:
        """
        A program that is not installed is named.
        """
        client = Client(("no-such-tool",), ())
        error = self.assertRaises(Unavailable, client.run, client.pull, "x", {})
        self.assertIn("no-such-tool is not installed", str(error))

    def test_no_cri(self) -> None:
        """
        A containerd without CRI, such as docker's, is known by its error.
        """
        client = Client(("tool",), ())
        environ = self.program("echo 'rpc error: unknown service runtime.v1.ImageService'; exit 1")
        self.assertRaises(Unavailable, client.run, client.pull, "x", environ)


class RemedyTests(SynchronousTestCase):
    """
    The remedies of errors.
    """

    def test_known(self) -> None:
        """
        Configuration, start or log.
        """
        for message, wanted in (
            ("ctr: unable to initialize unpacker: x", "'xferctl engine show k3s'"),
            ("dial unix /s: connect: connection refused", "start k3s"),
            ("dial tcp 127.0.0.1:1: connect: connection refused", "see the engine's log"),
            ("http: server gave HTTP response to HTTPS client", "--image REF"),
            ("something else", "see the engine's log"),
        ):
            self.assertIn(wanted, remedy(message, "k3s"))
