"""
Tests for L{xferd.ctl.engine.containerd_config}.
"""

from __future__ import annotations

import tomllib
from typing import Any

from tests.ctl.engine.case import ToolCase
from tests.ctl.engine.test_served import NODE
from xferd.ctl.config_file import ConfigFile
from xferd.ctl.engine.containerd_config import PATH

CRI = {"snapshotter": "xferd", "disable_snapshot_annotations": False}


class ContainerdConfigTests(ToolCase):
    """
    C{config.toml}.
    """

    def made(self, version: str, present: str | None = None) -> tuple[ConfigFile, dict[str, Any]]:
        """
        The file for a version of containerd, and the tables in it.
        """
        files = {} if present is None else {PATH: present}
        file = self.files("containerd", self.machine({"containerd": version}, files))[PATH]
        return file, tomllib.loads(file.text)

    def test_plugin(self) -> None:
        """
        The proxy plugin has the engine's socket and the data directory.
        """
        _, tables = self.made("2.1")
        self.assertEqual(
            tables["proxy_plugins"]["xferd"],
            {
                "type": "snapshot",
                "address": NODE.path,
                "capabilities": ["remap-ids"],
                "exports": {"root": NODE.data_dir, "enable_remote_snapshot_annotations": "true"},
            },
        )

    def test_two(self) -> None:
        """
        containerd 2 has a file of version 3, with the transfer service.
        """
        file, tables = self.made("2.4.2")
        self.assertTrue(file.is_whole)
        self.assertEqual(tables["version"], 3)
        plugins = tables["plugins"]
        self.assertEqual(plugins["io.containerd.cri.v1.images"], CRI)
        self.assertEqual(
            plugins["io.containerd.transfer.v1.local"]["unpack_config"],
            [{"platform": "linux/amd64", "snapshotter": name} for name in ("xferd", "overlayfs")],
        )
        self.assertIn("ctr images pull --snapshotter xferd REF", file.note)
        self.assertIn("systemctl restart containerd", file.note)

    def test_one(self) -> None:
        """
        containerd 1.6 and 1.7 have a file of version 2, and no transfer service.
        """
        for version in ("1.6.20", "1.7.27"):
            file, tables = self.made(version)
            self.assertEqual(tables["version"], 2)
            self.assertEqual(tables["plugins"], {"io.containerd.grpc.v1.cri": {"containerd": CRI}})
            self.assertIn("ctr of containerd 1 fetches layers without it", file.note)

    def test_present(self) -> None:
        """
        Where a file exists, the lines have the names of its version for containerd 1,
        and the new ones for containerd 2; none has the version.
        """
        for version, present, name, cri in (
            ("1.7", "version = 2\n[x]\nversion = 3\n", "io.containerd.grpc.v1.cri", {"containerd": CRI}),
            ("1.7", "oom_score = 0\n", "cri", {"containerd": CRI}),
            ("1.7", "# version = 2\n", "cri", {"containerd": CRI}),
            ("2.4.2", "version = 2\n", "io.containerd.cri.v1.images", CRI),
            ("2.4.2", "version = 4\n", "io.containerd.cri.v1.images", CRI),
        ):
            file, tables = self.made(version, present)
            self.assertFalse(file.is_whole)
            self.assertNotIn("version", tables)
            self.assertEqual(tables["plugins"][name], cri, present)
            self.assertNotIn("Remove", file.note)

    def test_overridden(self) -> None:
        """
        Settings of an old table, which containerd 2 would prefer, are pointed out.
        """
        for name in ("cri", '"io.containerd.grpc.v1.cri"'):
            present = f'version = 2\n[plugins.{name}.containerd]\nsnapshotter = "overlayfs"\n'
            note = self.made("2.4.2", present)[0].note
            self.assertIn("Remove snapshotter and disable_snapshot_annotations from [plugins.", note)
            self.assertNotIn("Remove", self.made("1.7", present)[0].note)

    def test_disabled(self) -> None:
        """
        A file that disables CRI, such as that of docker's packages, is pointed out.
        """
        for present in ('disabled_plugins = ["cri"]', 'disabled_plugins = ["io.containerd.grpc.v1.cri"]'):
            self.assertIn("remove cri from disabled_plugins", self.made("1.7", present)[0].note)
        for present in ("disabled_plugins = []", "disabled_plugins = [", "plugins = 1"):
            self.assertNotIn("disabled_plugins", self.made("1.7", present)[0].note)
