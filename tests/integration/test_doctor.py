"""
C{xferctl doctor} with a real daemon and faulty installations.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.integration.test_daemon import DaemonCase


class DoctorTests(DaemonCase):
    """
    A daemon in a directory of its own.
    """

    async def start(self, *options: str) -> object:  # type: ignore[override]
        """
        Start it with a configuration file and a credentials file.
        """
        self.file = self.place / "xferd.toml"
        self.file.write_text("grace = 5\n")
        self.file.chmod(0o600)
        self.auth = self.place / "auth.json"
        self.auth.write_text("{}")
        self.auth.chmod(0o600)
        return await super().start("--config", str(self.file), "--auth-file", str(self.auth), *options)

    async def examine(self) -> dict[str, str]:
        """
        Run C{xferctl doctor}.

        @return: the remedies by check, without those that depend on this
            machine.
        """
        output, errors, status = await self.daemon.try_ctl("doctor", "--json")
        checks = [json.loads(line) for line in output.splitlines()]
        count = sum(len(check["problems"]) for check in checks)
        self.assertEqual(status, 1 if count else 0)
        self.assertIn("found" if count else "", errors)
        return {
            check["name"]: " ".join(p["remedy"] for p in check["problems"])
            for check in checks
            if check["problems"]
            and check["name"] not in ("disk", "limits", "sandbox", "certificates", "xferctl")
        }

    async def test_sandbox(self) -> None:
        """
        The problems of the sandbox are the measures that the status names as
        missing.
        """
        sandbox = None
        while sandbox is None:  # until the worker has reported
            output, _, _ = await self.daemon.try_ctl("status", "--json")
            sandbox = json.loads(output)["sandbox"]
        output, _, _ = await self.daemon.try_ctl("doctor", "--json")
        found = {check["name"]: check["problems"] for check in map(json.loads, output.splitlines())}
        self.assertEqual(len(found["sandbox"]), len(sandbox["missing"]), found["sandbox"])

    async def test_broken(self) -> None:
        """
        A correct installation has no problem; each fault is found with its
        remedy, and the remedy removes it.
        """
        self.assertEqual(await self.examine(), {})
        data, socket = Path(self.daemon.data), Path(self.daemon.socket)
        token = Path(f"{socket}.token")
        if not token.exists():
            token = next(path for path in socket.parent.iterdir() if path.name.endswith(".token"))
        (data / "content").chmod(0o755)
        socket.chmod(0o666)
        token.chmod(0o644)
        self.auth.chmod(0o644)
        self.file.write_text("grace = 7\n")
        found = await self.examine()
        self.assertEqual(
            found,
            {
                "data directory": f"chmod go= {data}/content",
                "sockets": f"chmod o= {socket}",
                "settings": "restart xferd",
                "credentials": f"chmod go= {self.auth}",
                "tokens": f"chmod go= {token}",
            },
        )
        for remedy in found.values():
            if remedy.startswith("chmod"):
                self.assertEqual(os.system(remedy), 0)
        self.file.write_text("grace = five\n")
        self.assertEqual(await self.examine(), {"settings": "correct the file: xferd cannot restart with it"})
        self.file.write_text("grace = 5\n")
        self.assertEqual(await self.examine(), {})

    async def test_clock(self) -> None:
        """
        The clock is compared with that of a registry that has answered.
        """
        _, reference = self.add(1)
        await self.state(await self.api.pull(reference), "done")
        self.assertNotIn("clock", await self.examine())
