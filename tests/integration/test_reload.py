"""
C{SIGHUP}, sent to the daemon.
"""

from __future__ import annotations

from pathlib import Path

from tests.integration.http_client import Client
from tests.integration.places import free_port
from tests.integration.test_daemon import DaemonCase, reactor
from xferd.testing.faults import Stall
from xferd.testing.images import sample_image


class ReloadTests(DaemonCase):
    """
    A daemon with a configuration file.
    """

    def configure(self, text: str) -> str:
        """
        Write the file.
        """
        path = self.place / "xferd.toml"
        Path(path).write_text(text)
        return str(path)

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start the daemon with its file.
        """
        await super().setUp()
        await self.daemon.stop()
        await self.start("--config", self.configure("[limits]\ndownloads = 2\n"))

    async def downloads(self) -> int:
        """
        The limit on downloads.
        """
        return int((await self.api("GET", "limits"))["downloads"])

    async def said(self, words: str) -> None:
        """
        Wait for a message in the daemon's log.
        """
        await self.until(lambda: words in self.daemon.output)

    async def test_steering(self) -> None:
        """
        Pauses and the drain of the file begin and end with C{SIGHUP}, and hold from the start of a
        daemon.
        """
        image, reference = self.add(1, 2_000_000)
        self.registry.faults.plant(Stall(50_000), str(image.layers[0].blob.digest))
        job = await self.api.pull(reference)
        await self.state(job, "running")
        self.configure('[steering]\npause = ["all"]\ndrain = true\n')
        self.daemon.signal("HUP")

        async def paused() -> bool:
            why = (await self.api("GET", f"jobs/{job}"))["why"]
            return bool(why == "everything is paused by the configuration")

        await self.until(paused)
        refused = await self.api("POST", "jobs", {"kind": "pull", "reference": reference})
        self.assertEqual(refused["error"]["code"], "DRAINING")
        await self.said(f"unknown by signal: SIGHUP {self.place / 'xferd.toml'}: 200")
        await self.daemon.stop()
        await self.start("--config", self.configure('[steering]\npause = ["all"]\n'))
        job = await self.api.pull(reference)
        await self.until(paused)
        self.assertIn("paused: all by the configuration", " ".join((await self.daemon.ctl("status")).split()))
        self.registry.faults.clear()
        self.configure("")
        self.daemon.signal("HUP")
        await self.state(job, "done")

    async def test_reload(self) -> None:
        """
        Limits are read again while a job runs; an invalid file changes nothing,
        and the log names it; the log also names settings that need a restart.
        """
        image, reference = self.add(2, 2_000_000)
        self.registry.faults.plant(Stall(50_000), str(image.layers[0].blob.digest))
        job = await self.api.pull(reference)
        await self.state(job, "running")
        self.assertEqual(await self.downloads(), 2)
        self.configure("[limits]\ndownloads = 7\nupload_rate = 5000\n")
        self.daemon.signal("HUP")
        await self.said("reloaded the settings")
        self.assertEqual(await self.downloads(), 7)
        self.assertEqual((await self.api("GET", "limits"))["upload_rate"], 5000)
        for wrong in ("downloads = 0", "downloads = 20000", "upload_rate = -1"):
            self.configure(f"[limits]\nuploads = 9\n{wrong}\n")
            self.daemon.signal("HUP")
            await self.said(f"limits.{wrong.split()[0]} must be a whole number from ")
            await self.said(f"not {wrong.split()[-1]}")
        self.assertEqual((await self.api("GET", "limits"))["uploads"], 5)
        self.assertNotIn("Traceback", self.daemon.output)
        self.configure('[hosts."r.example"]\nca_file = "/nowhere.pem"\n[limits]\ndownloads = 9\n')
        self.daemon.signal("HUP")
        await self.said("/nowhere.pem")
        self.assertEqual(await self.downloads(), 7)
        self.configure("grace = 2.5\n[limits]\ndownloads = 4\n")
        self.daemon.signal("HUP")
        await self.said("restart xferd to apply grace")
        self.assertEqual(await self.downloads(), 4)
        self.registry.resume()
        await self.state(job, "done")

    async def test_quota(self) -> None:
        """
        A quota applies from the signal on: images beyond it are removed, except
        for pinned ones; an invalid quota is logged, and changes nothing.
        """
        names = []
        for name in ("one", "two", "three"):
            self.registry.add(sample_image(1, 300_000, seed=name), name, "1")
            names.append(f"{self.registry.host}/{name}:1")
            await self.daemon.ctl("pull", names[-1])
        await self.daemon.ctl("pin", names[0])
        self.configure("[store]\nquota = -1\n")
        self.daemon.signal("HUP")
        await self.said("quota")
        self.assertEqual((await self.api("GET", "status"))["quota"], 0)
        self.configure("[store]\nquota = 1000000\n")
        self.daemon.signal("HUP")

        async def over() -> bool:
            return [image["reference"] for image in await self.api("GET", "images")] == names[:1]

        await self.until(over)
        self.assertEqual((await self.api("GET", "status"))["quota"], 1_000_000)
        self.assertIn("pinned", await self.daemon.ctl("images"))

    async def test_keep(self) -> None:
        """
        A rule of C{[[registry.keep]]} applies from the signal on, also if there was none.
        """
        upstreams = (
            f'[registry]\ndefault = "{self.registry.host}"\n[registry.upstreams."{self.registry.host}"]\n'
        )
        await self.daemon.stop()
        port = free_port()
        listen = ("--registry", f"tcp:{port}:interface=127.0.0.1")
        await self.start("--config", self.configure(upstreams), *listen)
        self.registry.add(sample_image(1), "app", "1")
        client = Client(reactor, f"http://127.0.0.1:{port}")
        self.assertEqual((await client.get("/v2/app/manifests/1")).status, 200)

        async def kept() -> list[str]:
            return [each for row in await self.api("GET", "registry/repositories") for each in row["kept"]]

        self.assertEqual(await kept(), ["for good"])
        self.configure(f'[[registry.keep]]\nrepositories = ["**"]\ndays = 7\n{upstreams}')
        self.daemon.signal("HUP")
        await self.said("reloaded the settings")
        self.assertIn("for 7 days after its last use", (await kept())[0])
        self.configure(f'[[registry.keep]]\nrepositories = ["**"]\nsize = 1\n{upstreams}')
        self.daemon.signal("HUP")

        async def gone() -> bool:
            return not await kept()

        await self.until(gone)
        self.assertIn("by a rule", self.daemon.output)
