"""
Trees that an older daemon has made under other rules.
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
        Pull an image, and remove the versions from the records of the daemon.
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
        The versions of the rules of the registered layers.
        """
        return [json.loads(path.read_text()).get("rules", 0) for path in self.data.glob("layers/*/*")]

    async def trees(self) -> list[str]:
        """
        The trees of the image's layers.
        """
        trees: list[str] = (await self.api("GET", f"images/{self.reference}"))["trees"]
        return trees

    async def test_use(self) -> None:
        """
        C{xferctl unpack} makes the trees again, without the registry; then
        C{gc} deletes the older ones.
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
        If a blob is neither in the store nor available from the registry, the
        older tree is used, with a warning.
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
        A pull makes the trees again, and fetches no blob that is in the store.
        """
        before = self.registry.count("GET", self.image.layers[0].blob.digest)
        await self.state(await self.api.pull(self.reference), "done")
        self.assertEqual(self.rules(), [UNPACK_RULES] * 2)
        self.assertEqual(self.registry.count("GET", self.image.layers[0].blob.digest), before)
