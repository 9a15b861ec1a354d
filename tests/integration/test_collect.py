"""
Removal and garbage collection in the daemon, during pulls, with a mounted
image, and after C{kill -9}.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import Deferred, gatherResults

from tests.integration.peers import require, run
from tests.integration.test_daemon import DaemonCase, reactor
from xferd.testing.faults import Stall
from xferd.testing.images import SampleImage, image_of, sample_image, sample_layer


class CollectTests(DaemonCase):
    """
    A daemon that frees space.
    """

    def image(self, name: str, image: SampleImage) -> str:
        """
        Add an image to the registry.

        @return: its reference.
        """
        self.registry.add(image, name, "1")
        return f"{self.registry.host}/{name}:1"

    def files(self) -> set[str]:
        """
        The content of the store: blobs, partial blobs, records and trees.
        """
        data = Path(self.daemon.data)
        places = [*data.glob("content/blobs/*/*"), *data.glob("ingest/*"), *data.glob("layers/*/*")]
        return {str(path.relative_to(data)) for path in (*places, *data.glob("trees/*/*"))}

    def held(self, image: SampleImage) -> set[str]:
        """
        The files of an image in the store.
        """
        return {
            *(f"content/blobs/sha256/{d.hex}" for d in (image.digest, *(b.digest for b in image.blobs))),
            *(f"layers/sha256/{chain.hex}" for chain in image.chain_ids),
            *(f"trees/sha256/{layer.diff_id.hex}" for layer in image.layers),
        }

    async def swept(self) -> None:
        """
        Wait until removed files are deleted.
        """
        await self.until(lambda: not os.listdir(os.path.join(self.daemon.data, "staging")))

    async def test_shared(self) -> None:
        """
        Removing one of two images that share a layer frees its own files alone;
        after the second removal the store is empty, and both can be pulled
        again.
        """
        base = sample_layer(200_000, "base")
        one, two = (image_of([base, sample_layer(100_000, seed)]) for seed in ("one", "two"))
        names = [self.image("one", one), self.image("two", two)]
        for name in names:
            await self.daemon.ctl("pull", name)
        self.assertEqual(self.files(), self.held(one) | self.held(two))
        said = await self.daemon.ctl("rm", names[0])
        self.assertIn("3 blobs, 1 tree, 1 layer", said)
        self.assertEqual(self.files(), self.held(two))
        self.assertIn("freed:      nothing", await self.daemon.ctl("gc"))
        (shown,) = await self.daemon.show("rm", names[1])
        self.assertEqual((shown["freed"]["trees"], self.files()), (2, set()))
        (shown,) = await self.daemon.show("gc")
        self.assertEqual(shown["freed"]["bytes"], 0)
        await self.swept()
        self.assertEqual(await self.api("GET", "images"), [])
        _, errors, code = await self.daemon.try_ctl("rm", names[0])
        self.assertEqual(code, 1)
        self.assertIn("the store has no image", errors)
        for name in names:
            await self.daemon.ctl("pull", name)
        self.assertEqual(self.files(), self.held(one) | self.held(two))

    async def test_while_pulls_run(self) -> None:
        """
        Repeated collection deletes nothing that is being pulled, also if images
        are removed and pulled at the same time.
        """
        base = sample_layer(300_000, "base")
        images = [image_of([base, *(sample_layer(60_000, f"{n} {m}") for m in range(3))]) for n in range(8)]
        names = [self.image(f"app{n}", image) for n, image in enumerate(images)]
        running = True

        async def collect() -> int:
            times = 0
            while running:
                self.assertIn("freed", await self.api("POST", "gc", {"dry_run": False}))
                times += 1
            return times

        async def pull(name: str) -> None:
            for again in range(3):
                (*_, last) = await self.daemon.show("pull", name)
                self.assertEqual(last["data"]["state"], "done", last)
                if again < 2:
                    await self.api("DELETE", f"images/{name}")

        collecting = Deferred.fromCoroutine(collect())
        await gatherResults([Deferred.fromCoroutine(pull(name)) for name in names], consumeErrors=True)
        running = False
        self.assertGreater(await collecting, 5)
        await self.daemon.ctl("gc")
        held = set().union(*(self.held(image) for image in images))
        self.assertEqual(self.files() - held, set())
        # A layer whose tree was still in the store was not fetched again.
        missing = held - self.files()
        layers = {f"content/blobs/sha256/{layer.blob.digest.hex}" for i in images for layer in i.layers}
        self.assertEqual(missing - layers, set())

    async def test_in_the_middle(self) -> None:
        """
        A collection keeps the files of a stalled pull; it deletes those of a
        cancelled pull, except for the partial blob.
        """
        image = sample_image(3, 300_000)
        name = self.image("app", image)
        self.registry.faults.plant(Stall(after=100_000), f"/blobs/{image.layers[2].blob.digest}")
        job_id = await self.api.pull(name)

        async def two_layers() -> Any:
            return len(list(Path(self.daemon.data).glob("layers/*/*"))) == 2

        await self.until(two_layers)
        (shown,) = await self.daemon.show("gc")
        self.assertEqual(shown["freed"]["layers"], 0)
        await self.api("DELETE", f"jobs/{job_id}")
        await self.until(lambda: list(Path(self.daemon.data, "ingest").iterdir()))
        (shown,) = await self.daemon.show("gc")
        self.assertEqual((shown["freed"]["layers"], shown["freed"]["partials"]), (2, 0))
        self.assertEqual(len(self.files()), 1)
        await self.daemon.ctl("pull", name)
        self.assertEqual(self.files(), self.held(image))

    async def test_killed(self) -> None:
        """
        After a daemon was killed during a collection, the next one opens the
        store, with all named images.
        """
        kept = sample_image(2, seed="kept")
        name = self.image("kept", kept)
        for round_ in range(4):
            await self.daemon.ctl("pull", name)
            gone = [self.image(f"gone{n}", sample_image(8, 30_000, seed=f"{round_} {n}")) for n in range(3)]
            await gatherResults([Deferred.fromCoroutine(self.daemon.ctl("pull", g)) for g in gone])
            removals = [Deferred.fromCoroutine(self.api("DELETE", f"images/{g}")) for g in gone]
            for removal in removals:
                _ = removal.addErrback(lambda _: None)
            waits: Deferred[None] = Deferred()
            reactor.callLater(0.01 * round_, waits.callback, None)
            await waits
            await self.daemon.stop("KILL")
            await self.start()
            self.assertIn(name, [image["reference"] for image in await self.api("GET", "images")])
            self.assertEqual(self.held(kept) - self.files(), set())
        for image in await self.api("GET", "images"):
            await self.daemon.ctl("rm", image["reference"])
        self.assertEqual(self.files(), set())

    async def test_skopeo(self) -> None:
        """
        Images that skopeo has written into the layout are kept, and stay
        readable.
        """
        require("skopeo")
        ours, theirs = sample_image(1, seed="ours"), sample_image(2, seed="theirs", compression="gzip")
        name = self.image("ours", ours)
        await self.daemon.ctl("pull", name)
        source = f"docker://{self.image('theirs', theirs)}"
        layout = f"oci:{self.daemon.data}/content:theirs"
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet"]
        await run(reactor, [*copy, "--src-tls-verify=false", source, layout])
        await self.daemon.ctl("rm", name)
        await self.daemon.ctl("gc")
        self.assertEqual(self.held(ours) & self.files(), set())
        await run(reactor, [*copy, layout, f"dir:{self.place}/read"])

    async def test_mounted(self) -> None:
        """
        The files of a mounted image stay readable until it is unmounted.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can mount")
        image = sample_image(2)
        name = self.image("app", image)
        await self.daemon.ctl("pull", name)
        root = self.place / "root"
        await self.daemon.ctl("unpack", "--mount", "--read-only", name, str(root))
        mounted = True
        try:
            before = sorted(os.listdir(root))
            self.assertTrue(before)
            (shown,) = await self.daemon.show("rm", name)
            self.assertEqual((shown["freed"]["trees"], shown["freed"]["layers"]), (0, 0))
            self.assertEqual(sorted(os.listdir(root)), before)
            await self.start_again()
            (shown,) = await self.daemon.show("gc")
            self.assertEqual(shown["freed"]["trees"], 0)
            await run(reactor, ["umount", str(root)])
            mounted = False
            (shown,) = await self.daemon.show("gc")
            self.assertEqual((shown["freed"]["trees"], self.files()), (2, set()))
        finally:
            if mounted:
                await run(reactor, ["umount", "--lazy", str(root)])

    async def start_again(self) -> None:
        """
        Start another daemon on the same data.
        """
        await self.daemon.stop()
        await self.start()
