"""
Tests for L{xferd.engines.containers_storage.identity}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.containers_storage.identity import big_data_file, layer_id, link_of
from xferd.names import Digest

BOTTOM = Digest("sha256", "b9dd98f4d8f810f5e1c5fed27f0878433e0e7ff68ef5f3abfebedfdae04b351b")
MIDDLE = Digest("sha256", "716fed716dd79be06592f599a4909ecc6fa04e46ef33e986dad4776c5ec1ff46")


class IdentityTests(SynchronousTestCase):
    """
    The names that containers-storage gives to things.
    """

    def test_bottom(self) -> None:
        """
        A bottom layer has the digits of its diff ID.
        """
        self.assertEqual(layer_id(BOTTOM), BOTTOM.hex)

    def test_above(self) -> None:
        """
        A layer on top of another has the ID that podman 4.3 computed for it.
        """
        expected = "813fb5bafe41abaf331934901d04433549cf712deb598b135660df3f139624b7"
        self.assertEqual(layer_id(MIDDLE, layer_id(BOTTOM)), expected)

    def test_link(self) -> None:
        """
        A layer always has the same link, of 26 characters without a separator, and another
        layer another one.
        """
        links = {link_of(layer_id(each)) for each in (BOTTOM, MIDDLE, BOTTOM)}
        self.assertEqual(len(links), 2)
        for link in links:
            self.assertRegex(link, "^[A-Z2-7]{26}$")
        self.assertEqual(link_of("00"), "6FJUHERHTPO37HKD3XUHAHFVXY")

    def test_big_data(self) -> None:
        """
        A plain key is the file's name; another one is encoded as podman 4.3 does.
        """
        self.assertEqual(big_data_file("manifest"), "manifest")
        self.assertEqual(
            big_data_file("sha256:e9d2303fff989f654ee5a35917a9a1fc99054a0f00a35a7c503fad0887048f53"),
            "=c2hhMjU2OmU5ZDIzMDNmZmY5ODlmNjU0ZWU1YTM1OTE3YTlhMWZjOTkwNTRhMGYwMGEzNWE3YzUwM2ZhZDA4ODcwNDhmNTM=",
        )
