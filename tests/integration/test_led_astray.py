"""
Redirects of registries, with the machine's own resolver and real addresses, in
a network namespace.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import cast

from twisted.internet import reactor as default_reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.leading import OTHER, REGISTRY
from tests.integration.peers import require
from tests.integration.programs import Xferd
from xferd.interfaces.reactor import IReactor

_NAMES = {
    "hub.test": "8.8.8.8",
    "corp.test": "10.9.9.9",
    "cdn.test": "8.8.4.4",
    "private.test": "10.9.9.8",
    "loopback.test": "127.0.0.1",
    "six.test": "::1",
    "mapped.test": "::ffff:127.0.0.1",
    "metadata.test": "169.254.169.254",
}
_HOSTS = "".join(f"{address} {name}\n" for name, address in _NAMES.items())

_SETUP = """
set -e
ip link set lo up
for address in 8.8.8.8 8.8.4.4 10.9.9.9 10.9.9.8 169.254.169.254; do ip addr add $address/32 dev lo; done
mount --bind "$1" /etc/hosts
mkfifo "$1.ready"
setpriv --pdeathsig KILL "$2" -m tests.integration.leading "$1.ready" &
read _ < "$1.ready"
shift 2
exec "$@"
"""


class LedAstrayTests(TestCase):
    """
    A daemon in a network with a hostile registry at two addresses, and another
    server at many.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start the servers and the daemon.
        """
        if os.geteuid() != 0:
            raise SkipTest("a network namespace needs root")
        for name in ("ip", "setpriv"):
            require(name)
        _, errors, code = await getProcessOutputAndValue(require("unshare"), ["-n", "-m", "true"])
        if code != 0:
            raise SkipTest(f"there is no network namespace to be had: {errors.decode().strip()}")
        # The paths of sockets have to be short.
        place = Path(mkdtemp())
        self.addCleanup(rmtree, place)
        hosts, self.settings = place / "hosts", place / "xferd.toml"
        hosts.write_text(_HOSTS)
        self.configure("")
        self.daemon = Xferd(
            cast(IReactor, default_reactor),
            str(place / "daemon"),
            "--config",
            str(self.settings),
            before=[require("unshare"), "-n", "-m", "sh", "-c", _SETUP, "sh", str(hosts), sys.executable],
        )
        self.addCleanup(self.daemon.stop)
        await self.daemon.start()

    def configure(self, more: str) -> None:
        """
        Write the settings.

        @param more: further settings of the registry with a public address.
        """
        tables = (f'[hosts."{name}:{REGISTRY}"]\nplain_http = true\n' for name in ("corp.test", "hub.test"))
        self.settings.write_text("[retry]\nattempts = 1\n" + "".join(tables) + more)

    async def lead(self, registry: str, other: str) -> tuple[bool, str]:
        """
        Let a registry redirect to another server.

        @return: whether that server received a request, and the error.
        """
        before = self.daemon.output.count(f"asked for {other}:{OTHER}")
        _, errors, code = await self.daemon.try_ctl("pull", f"{registry}:{REGISTRY}/{other}:1")
        self.assertEqual(code, 1, errors)
        self.assertNotIn("hunter2", errors)
        return self.daemon.output.count(f"asked for {other}:{OTHER}") > before, errors

    async def test_led(self) -> None:
        """
        A registry's own address determines which redirects are followed: a
        public registry may redirect to public addresses, a private one also to
        private ones, and none to this machine.
        """
        for registry in ("hub.test", "corp.test"):
            for other in ("loopback.test", "six.test", "mapped.test", "metadata.test", "127.0.0.1", "127.1"):
                asked, errors = await self.lead(registry, other)
                self.assertIn("refused", errors, other)
                self.assertFalse(asked, (registry, other))
            asked, errors = await self.lead(registry, "private.test")
            self.assertEqual(asked, registry == "corp.test", errors)
            asked, errors = await self.lead(registry, "cdn.test")
            self.assertTrue(asked, errors)
            self.assertIn("cdn.test (for", errors)
        self.assertNotIn("hunter2", self.daemon.output)

    async def test_private_redirects(self) -> None:
        """
        C{private_redirects} is applied after C{SIGHUP}.
        """
        asked, errors = await self.lead("hub.test", "private.test")
        self.assertFalse(asked)
        self.assertIn("private_redirects", errors)
        self.configure("private_redirects = true\n")
        self.daemon.signal("HUP")
        while "reloaded the settings" not in self.daemon.output:
            await self.daemon.ctl("jobs")
        asked, errors = await self.lead("hub.test", "private.test")
        self.assertTrue(asked, errors)
        asked, errors = await self.lead("hub.test", "loopback.test")
        self.assertFalse(asked)
