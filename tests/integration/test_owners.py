"""
The owners that unpacking finds in a layer are those that podman finds.
"""

from __future__ import annotations

import json
import os

from tests.integration.test_engine_podman import PodmanCase, Storage
from xferd.testing.images import image_of
from xferd.testing.layers import LayerBuilder


class OwnersTests(PodmanCase):
    """
    podman records the owners of each layer that it pulls.
    """

    async def test_owners(self) -> None:
        """
        They are the same, for layers with few owners, and with many.
        """
        many = LayerBuilder()
        for number in range(300):
            many.file(f"many/{number}", uid=number * 7, gid=2**31 + number)
        some = LayerBuilder().file("one", uid=5, gid=6).symlink("link", "one").directory("d", uid=70, gid=0)
        layers = [*self.image.layers, some.finish(), many.finish()]
        reference = await self.push("owners:1", image_of(layers))
        await self.daemon.ctl("pull", reference)
        other = Storage(self.place / "other")
        await other.podman("pull", "--quiet", "--tls-verify=false", reference)
        theirs = {}
        for layer in json.loads((other.root / "overlay-layers" / "layers.json").read_text()):
            theirs[layer["diff-digest"]] = (sorted(layer["uidset"]), sorted(layer["gidset"]))
        (image,) = await self.daemon.show("inspect", reference)
        ours = {}
        for path in image["trees"]:
            with open(os.path.join(os.path.dirname(path), "tree.json")) as file:
                facts = json.load(file)
            self.assertTrue(facts["owners"]["complete"])
            ours[facts["diff_id"]] = (facts["owners"]["users"], facts["owners"]["groups"])
        self.assertEqual(ours, theirs)
