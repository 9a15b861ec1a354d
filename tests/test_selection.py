"""
Tests for L{xferd.selection}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.test_oci import descriptor, document
from xferd.errors import NoSuchPlatform
from xferd.media_types import OCI_INDEX, OCI_MANIFEST
from xferd.oci import Index, parse_document
from xferd.platforms import Platform
from xferd.selection import choose


def index(*platforms: str | None, nested: bool = False) -> Index:
    """
    An index with one manifest for each platform.
    """
    entries = []
    for position, platform in enumerate(platforms):
        entry = descriptor(OCI_INDEX if nested else OCI_MANIFEST, str(position).encode())
        if platform is not None:
            entry["platform"] = dict(
                zip(("os", "architecture", "variant"), platform.split("/"), strict=False)
            )
        entries.append(entry)
    parsed = parse_document(document({"schemaVersion": 2, "manifests": entries}, OCI_INDEX))
    assert isinstance(parsed, Index)
    return parsed


class ChooseTests(SynchronousTestCase):
    """
    The selected manifest of an index.
    """

    def taken(self, found: Index, wanted: str) -> int:
        """
        The position of the selected entry.
        """
        return found.manifests.index(choose(found, Platform.parse(wanted)))

    def test_exact(self) -> None:
        """
        The first entry for the platform is selected.
        """
        found = index("linux/arm64", "linux/amd64", "linux/amd64")
        self.assertEqual(self.taken(found, "linux/amd64"), 1)

    def test_variants(self) -> None:
        """
        The best variant is selected, whatever its position.
        """
        found = index("linux/arm/v5", "linux/arm/v6", "linux/arm64/v8", "linux/386")
        self.assertEqual(self.taken(found, "linux/amd64"), 3)
        self.assertEqual(self.taken(found, "linux/arm/v7"), 1)
        self.assertEqual(self.taken(found, "linux/arm/v5"), 0)
        self.assertEqual(self.taken(found, "linux/arm64"), 2)

    def test_newer_variant(self) -> None:
        """
        A newer variant is not selected.
        """
        self.assertRaises(NoSuchPlatform, choose, index("linux/arm/v7"), Platform.parse("linux/arm/v6"))

    def test_offered(self) -> None:
        """
        Without a match, the message lists the platforms, without attestations.
        """
        error = self.assertRaises(
            NoSuchPlatform,
            choose,
            index("linux/arm64", "linux/s390x", "unknown/unknown"),
            Platform.parse("linux/amd64"),
        )
        self.assertIn("it is offered for: linux/arm64, linux/s390x", str(error))

    def test_nameless(self) -> None:
        """
        A nested index may contain the platform; a single entry without a platform is
        selected.
        """
        self.assertEqual(self.taken(index(None, nested=True), "linux/amd64"), 0)
        self.assertEqual(self.taken(index(None), "linux/amd64"), 0)
        self.assertRaises(NoSuchPlatform, choose, index(), Platform.parse("linux/amd64"))
        self.assertRaises(NoSuchPlatform, choose, index(None, None), Platform.parse("linux/amd64"))

    def test_never(self) -> None:
        """
        Attestations and unknown media types are never selected.
        """
        for entry in (
            descriptor(OCI_MANIFEST, annotations={"vnd.docker.reference.type": "attestation-manifest"}),
            descriptor("application/x.bundle"),
            descriptor("application/x.bundle", platform={"os": "linux", "architecture": "amd64"}),
            descriptor(OCI_MANIFEST, platform={"os": "unknown", "architecture": "unknown"}),
        ):
            found = parse_document(document({"schemaVersion": 2, "manifests": [entry]}, OCI_INDEX))
            assert isinstance(found, Index)
            for wanted in ("linux/amd64", "unknown/unknown"):
                self.assertRaises(NoSuchPlatform, choose, found, Platform.parse(wanted))

    def test_many_offered(self) -> None:
        """
        A long list of platforms is truncated.
        """
        found = index(*(f"linux/x{n}" for n in range(25)))
        error = self.assertRaises(NoSuchPlatform, choose, found, Platform.parse("linux/amd64"))
        self.assertTrue(str(error).endswith("and 5 more"), str(error))
