"""
Tests for L{xferd.fleet_settings}.
"""

from __future__ import annotations

import os
import socket
from itertools import takewhile
from pathlib import Path
from textwrap import dedent

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from xferd.config import Config
from xferd.errors import ConfigError
from xferd.fleet_settings import FleetSettings

NODE = FleetSettings(
    etcd=("http://127.0.0.1:2379",),
    url="http://127.0.0.1:5000",
    secret_file="/s",
    peer_networks=("127.0.0.0/8",),
)
"""The settings of a node on this machine."""

WHOLE = """[fleet]
etcd = ["https://10.0.0.1:2379", "https://[fd00::2]:2379/"]
url = "http://10.0.0.7:5000"
secret_file = "/s"
peer_networks = ["10.0.0.0/8", "fd00::/8"]
"""


class SettingsTests(SynchronousTestCase):
    """
    C{[fleet]} of the configuration file.
    """

    def read(self, text: str) -> Config:
        """
        The settings of root with a file.
        """
        path = Path(self.mktemp())
        path.write_text(text)
        return Config.default({}, 0).with_file(str(path))

    def test_none(self) -> None:
        """
        Without C{etcd} there is no fleet.
        """
        self.assertFalse(self.read("").fleet.is_configured)
        self.assertFalse(self.read("[fleet]\nmax_followers = 3").fleet.is_configured)

    def test_whole(self) -> None:
        """
        Five settings are enough; the name is the host's.
        """
        fleet = self.read(WHOLE).fleet
        self.assertTrue(fleet.is_configured)
        self.assertEqual(fleet.node_name, os.uname().nodename)
        self.assertEqual(evolve(fleet, name="node-7").node_name, "node-7")

    def test_documented(self) -> None:
        """
        The set-up of the documentation is ten lines at most, and enough.
        """
        page = (Path(__file__).parent.parent / "docs" / "fleet.rst").read_text()
        _, _, rest = page.partition(".. code-block:: toml\n\n")
        lines = list(takewhile(lambda line: not line or line.startswith("    "), rest.split("\n")))
        self.assertLessEqual(len([line for line in lines if line]), 10)
        config = self.read(dedent("\n".join(lines)))
        self.assertTrue(config.fleet.is_configured)
        self.assertTrue(config.registry.listen)

    def test_refused(self) -> None:
        """
        An invalid setting is refused with one sentence that names it.
        """
        for old, new, reason in (
            ('"https://10.0.0.1:2379"', '"10.0.0.1"', "fleet.etcd must be URLs such as"),
            ('"https://10.0.0.1:2379"', '"https://u:p@10.0.0.1"', "fleet.etcd must be URLs such as"),
            ('"https://10.0.0.1:2379"', '"https://10.0.0.1:99999"', "fleet.etcd must be URLs such as"),
            ('"https://10.0.0.1:2379"', '"http://10.0.0.1"', "fleet.etcd must be URLs of one kind"),
            (
                'etcd = ["https://10.0.0.1:2379", "https://[fd00::2]:2379/"]',
                "",
                "fleet.etcd must be the URLs",
            ),
            ('url = "http://10.0.0.7:5000"', "", "fleet.url must be how peers reach the registry"),
            ("http://10.0.0.7:5000", "http://10.0.0.7/path", "fleet.url must be how peers reach"),
            ("http://10.0.0.7:5000", "http://192.0.2.7", "fleet.peer_networks must contain 192.0.2.7"),
            ('secret_file = "/s"', "", "fleet.secret_file must be a file with the secret"),
            ('peer_networks = ["10.0.0.0/8", "fd00::/8"]', "", "fleet.peer_networks must be the networks"),
            ('"fd00::/8"', '"10.0.0.1/8"', "fleet.peer_networks must be networks such as '10.0.0.0/8'"),
            ("[fleet]", "[fleet]\nname = 'a b'", "fleet.name must be letters, digits"),
            ("[fleet]", "[fleet]\netcd_key = '/k'", "fleet.etcd_certificate must be set together with"),
            ("[fleet]", "[fleet]\npeer_key = '/k'", "fleet.peer_certificate must be set together with"),
            ("[fleet]", "[fleet]\netcd_user = 'u'", "fleet.etcd_user must be set together with"),
            ("[fleet]", "[fleet]\nmax_followers = 0", "fleet.max_followers must be at least 1"),
            ("[fleet]", "[fleet]\nkeep_copies = 17", "fleet.keep_copies must be at most 16"),
            ("[fleet]", "[fleet]\nupload_rate = -1", "fleet.upload_rate must be at least 0"),
        ):
            self.assertIn(old, WHOLE)
            error = self.assertRaises(ConfigError, self.read, WHOLE.replace(old, new))
            self.assertIn(reason, str(error))

    def test_certificates(self) -> None:
        """
        Nodes that know one another by certificates need no secret, but the certificates and
        an https URL.
        """
        files = 'peer_listen = "ssl:5001"\npeer_ca = "/ca"\npeer_certificate = "/c"\npeer_key = "/k"'
        whole = WHOLE.replace('secret_file = "/s"', files).replace(
            "http://10.0.0.7:5000", "https://10.0.0.7:5001"
        )
        self.assertTrue(self.read(whole).fleet.is_configured)
        address = whole.replace('"ssl:5001"', "'ssl:5001:interface=fd00\\:\\:7'")
        self.assertTrue(self.read(address).fleet.is_configured)
        for old, new, reason in (
            ("https://10.0.0.7:5001", "http://10.0.0.7:5001", "url must be the https URL of 'peer_listen'"),
            ('peer_ca = "/ca"', "", "fleet.peer_ca must be set together with 'peer_listen'"),
            ('peer_certificate = "/c"\npeer_key = "/k"', "", "fleet.peer_certificate must be set together"),
            ("ssl:5001", "tcp:5001", "must be such as 'ssl:5001' or 'ssl:5001:interface=10.0.0.7'"),
            ("ssl:5001", "ssl:5001:privateKey=/k", "must be such as 'ssl:5001'"),
        ):
            self.assertIn(old, whole)
            error = self.assertRaises(ConfigError, self.read, whole.replace(old, new))
            self.assertIn(reason, str(error))

    def test_password(self) -> None:
        """
        A password is sent without TLS on this machine alone.
        """
        user = "[fleet]\netcd_user = 'u'\netcd_password_file = '/p'\n"
        lines = WHOLE.splitlines()[2:]
        near, far = (
            "\n".join([user + f"etcd = ['http://{host}:2379']", *lines]) for host in ("[::1]", "10.0.0.1")
        )
        self.assertTrue(self.read(near).fleet.is_configured)
        error = self.assertRaises(ConfigError, self.read, far)
        self.assertIn("fleet.etcd must be https URLs where 'etcd_user' is set", str(error))

    def test_host_name(self) -> None:
        """
        A host whose name cannot be that of a node needs one.
        """
        self.patch(socket, "gethostname", lambda: "-")
        error = self.assertRaises(ConfigError, lambda: NODE.node_name)
        self.assertIn("set name in [fleet]", str(error))

    def test_restart(self) -> None:
        """
        A change needs a restart.
        """
        self.assertEqual(self.read("").needing_restart(self.read(WHOLE)), ["fleet"])
