"""
Tests for L{xferd.ctl.engine.served}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.engine.served import CONTAINERD, VIEW, Engine, choose, read_engines
from xferd.ctl.errors import ClientError, NotXferd

STATUS = {"disk": {"path": "/var/lib/xferd", "free": 1, "total": 2, "why": ""}}

NODE = Engine(CONTAINERD, "node", "/run/xferd/engines/node.sock", "/var/lib/xferd")
STORAGE = Engine(VIEW, "", "/var/lib/xferd-view", "/var/lib/xferd")


def found(engine: Engine, **more: Any) -> dict[str, Any]:
    """
    An engine as the API lists it.
    """
    state: dict[str, Any] = {
        "state": "serving",
        "problem": None,
        "snapshots": 0,
        "layers": 0,
        "size": 0,
        "images": [],
    }
    return {"name": engine.name, "kind": engine.kind, "path": engine.path, **state, **more}


class ReadTests(SynchronousTestCase):
    """
    Reading the daemon's list.
    """

    def test_read(self) -> None:
        """
        Each engine has its path, the data directory and its problem.
        """
        items = [found(NODE), found(STORAGE, state="failed", problem="the disk is full")]
        self.assertEqual(read_engines(items, STATUS), [NODE, STORAGE._replace(problem="the disk is full")])

    def test_cri(self) -> None:
        """
        The image service is optional.
        """
        (engine,) = read_engines([found(NODE, cri=True)], STATUS)
        self.assertTrue(engine.cri)

    def test_former(self) -> None:
        """
        No tool is configured for an engine that the settings do not name any more.
        """
        items = [found(NODE), found(NODE, name="old", path="", state="stopped", problem="no settings")]
        self.assertEqual(read_engines(items, STATUS), [NODE])

    def test_malformed(self) -> None:
        """
        What could change the meaning of a configuration file is refused.
        """
        for more in (
            {"kind": "docker"},
            {"name": 'x"'},
            {"name": None},
            {"path": "run/s"},
            {"path": '/run/"\n[evil]'},
            {"path": "/run/{{ .Evil }}"},
            {"path": None},
        ):
            self.assertRaises(NotXferd, read_engines, [found(NODE, **more)], STATUS)
        self.assertRaises(NotXferd, read_engines, [found(NODE)], {})


class ChooseTests(SynchronousTestCase):
    """
    Choosing an engine.
    """

    def test_only(self) -> None:
        """
        The only engine of a kind needs no name.
        """
        self.assertIs(choose([NODE, STORAGE], CONTAINERD, None), NODE)
        self.assertIs(choose([NODE, STORAGE], VIEW, None), STORAGE)
        self.assertIs(choose([NODE, STORAGE], VIEW, "node"), STORAGE)

    def test_named(self) -> None:
        """
        One of several is chosen by its name.
        """
        k3s = NODE._replace(name="k3s")
        self.assertIs(choose([NODE, k3s], CONTAINERD, "k3s"), k3s)
        error = self.assertRaises(ClientError, choose, [NODE, k3s], CONTAINERD, None)
        self.assertIn("choose one with --engine: node, k3s", str(error))
        error = self.assertRaises(ClientError, choose, [NODE, k3s], CONTAINERD, "x")
        self.assertIn("serves no containerd 'x'; the names are: node, k3s", str(error))

    def test_none(self) -> None:
        """
        Without an engine of the kind, the error names the setting.
        """
        error = self.assertRaises(ClientError, choose, [STORAGE], CONTAINERD, None)
        self.assertIn("serves no containerd; add [engines.containerd.node] to its", str(error))
        error = self.assertRaises(ClientError, choose, [], VIEW, None)
        self.assertIn("add path in [engines.containers-storage] to its", str(error))
