"""
Tests for L{xferd.engines.settings}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.config import Config
from xferd.engines.settings import ContainerdSettings, EnginesSettings, socket_of
from xferd.errors import ConfigError


class SettingsTests(SynchronousTestCase):
    """
    C{[engines]} of the configuration file.
    """

    def read(self, text: str) -> Config:
        """
        The settings of root with a file.
        """
        path = Path(self.mktemp())
        path.write_text(text)
        return Config.default({}, 0).with_file(str(path))

    def refused(self, text: str) -> str:
        """
        The reason why a file is refused.
        """
        return str(self.assertRaises(ConfigError, self.read, text))

    def test_none(self) -> None:
        """
        No engine is served without a table.
        """
        self.assertEqual(self.read("").engines, EnginesSettings())
        self.assertEqual(self.read("[engines.containers-storage]\n").engines, EnginesSettings())

    def test_containerd(self) -> None:
        """
        A table without settings is enough: the socket is in the runtime directory.
        """
        config = self.read("[engines.containerd.node]\n[engines.containerd.k3s]\nsocket = '/s'")
        found = {n: socket_of(n, s, config.runtime_dir) for n, s in config.engines.containerd.items()}
        self.assertEqual(found, {"node": "/run/xferd/engines/node.sock", "k3s": "/s"})

    def test_containers_storage(self) -> None:
        """
        The view has a directory.
        """
        config = self.read("[engines.containers-storage]\npath = '/v'")
        self.assertEqual(config.engines.containers_storage.path, "/v")

    def test_no_socket(self) -> None:
        """
        Without a socket of the API, those of the engines are in the data directory.
        """
        config = self.read("socket = ''\ndata_dir = '/d'\n[engines.containerd.node]")
        self.assertEqual(socket_of("node", ContainerdSettings(), config.runtime_dir), "/d/engines/node.sock")

    def test_refused(self) -> None:
        """
        Invalid settings are refused with their names and what they can be.
        """
        for text, why in (
            ("[engines.docker]", "engines.docker is not a setting"),
            ("[engines.containers_storage]", "did you mean 'containers-storage'?"),
            ("[engines.containerd]\nsocket = '/s'", 'engines.containerd."socket" must be a table'),
            (
                "[engines.containerd.x]\naddress = 'x.sock'",
                "engines.containerd.\"x\".address must be an absolute path, not 'x.sock'",
            ),
            ("[engines.containerd.x]\naddress = ''", "address must be the path of containerd's socket"),
            (
                f"[engines.containerd.x]\naddress = '/{'x' * 107}'",
                "address must be a path of at most 107 bytes",
            ),
            ("[engines.containerd.Node]", "containerd must be by names of lower-case letters, digits"),
            ("[engines.containerd.'../x']", "not '../x'"),
            ("[engines.containerd.-x]", "not '-x'"),
            (f"[engines.containerd.{'x' * 33}]", "at most 32"),
            (
                "[engines.containerd.x]\nsocket = 'x.sock'",
                "engines.containerd.\"x\".socket must be an absolute path, not 'x.sock'",
            ),
            (f"[engines.containerd.x]\nsocket = '/{'x' * 107}'", "must be a path of at most 107 bytes"),
            (
                "[engines.containerd.x]\nsocket = '/s'\n[engines.containerd.y]\nsocket = '/s'",
                "engines.containerd must have a socket for each engine: two have '/s'",
            ),
            (
                "[engines.containers-storage]\npath = 'x'",
                "engines.containers-storage.path must be an absolute path, not 'x'",
            ),
            (
                "[engines.containers-storage]\nroots = ['x']",
                "engines.containers-storage.roots must be absolute paths, not 'x'",
            ),
            (
                "[engines.containers-storage]\npath = '/v'\nroots = ['/v/']",
                "engines.containers-storage.path must be a directory of its own, not one of 'roots'",
            ),
        ):
            self.assertIn(why, self.refused(text), text)

    def test_restart(self) -> None:
        """
        A running daemon does not change its engines.
        """
        before = self.read("")
        self.assertEqual(before.needing_restart(self.read("[engines.containerd.node]")), ["engines"])
        self.assertEqual(before.needing_restart(self.read("")), [])
