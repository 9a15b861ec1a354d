"""
Trees that an older daemon has made by other rules.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.test_daemon import DaemonCase
from xferd.interfaces.store import UNPACK_RULES


class RenewalTests(DaemonCase):
    """
    An image that was unpacked before rules had versions.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Pull it, and take the versions out of what the daemon wrote.
        """
        await super().setUp()
        self.image, self.reference = self.add(2)
        await self.state(await self.api.pull(self.reference), "done")
        await self.daemon.stop()
        self.data = Path(self.daemon.data)
        for path in (*self.data.glob("trees/*/*/tree.json"), *self.data.glob("layers/*/*")):
            value = json.loads(path.read_text())
            del value["rules"]
            value.pop("linked", None)
            path.write_text(json.dumps(value))
        await self.start()

    def rules(self) -> list[int]:
        """
        The rules of the layers that are registered.
        """
        return [json.loads(path.read_text()).get("rules", 0) for path in self.data.glob("layers/*/*")]

    async def trees(self) -> list[str]:
        """
        Where the layers of the image are.
        """
        trees: list[str] = (await self.api("GET", f"images/{self.reference}"))["trees"]
        return trees

    async def test_use(self) -> None:
        """
        C{xferctl unpack} has them made again, without the registry; then
        C{gc} frees the older ones.
        """
        old = await self.trees()
        await self.registry.stop()
        _, errors, status = await self.daemon.try_ctl("unpack", self.reference, str(self.place / "root"))
        self.assertEqual((status, errors), (0, ""))
        new = await self.trees()
        self.assertEqual(self.rules(), [UNPACK_RULES] * 2)
        self.assertFalse(set(old) & set(new))
        await self.daemon.ctl("gc")
        self.assertEqual([Path(tree).exists() for tree in (*old, *new)], [False] * 2 + [True] * 2)

    async def test_offline(self) -> None:
        """
        Where a blob is neither here nor to be had, the older tree is used and
        named.
        """
        blob = self.image.layers[0].blob.digest
        Path(self.data, "content", "blobs", blob.algorithm, blob.hex).unlink()
        await self.registry.stop()
        _, errors, status = await self.daemon.try_ctl("unpack", self.reference, str(self.place / "root"))
        self.assertEqual(status, 0, errors)
        self.assertIn(f"xferctl: warning: layer {blob} was unpacked by an older xferd", errors)
        self.assertEqual(sorted(self.rules()), [0, UNPACK_RULES])
        self.assertTrue(list((self.place / "root").iterdir()))

    async def test_pull(self) -> None:
        """
        A pull makes them again, and fetches nothing that is here.
        """
        before = self.registry.count("GET", self.image.layers[0].blob.digest)
        await self.state(await self.api.pull(self.reference), "done")
        self.assertEqual(self.rules(), [UNPACK_RULES] * 2)
        self.assertEqual(self.registry.count("GET", self.image.layers[0].blob.digest), before)
