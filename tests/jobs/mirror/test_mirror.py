"""
Tests for L{xferd.jobs.mirror.mirror}.
"""

from __future__ import annotations

from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, JobsCase
from xferd.interfaces.mirror import IMirror
from xferd.names import Repository
from xferd.testing.images import sample_image


class MirrorTests(JobsCase):
    """
    Content of an upstream.
    """

    def test_provided(self) -> None:
        """
        It provides its Interface.
        """
        self.assertTrue(verifyObject(IMirror, self.jobs.mirror))

    def test_kept(self) -> None:
        """
        A manifest that was fetched is in the catalog, and is fetched once by digest.
        """
        image = self.add(sample_image(1))
        source = self.registries.repository(Repository(HOST, "app"))
        for wanted in ("latest", str(image.digest), str(image.digest)):
            found = self.jobs.mirror.manifest(source, wanted, "ci")
            self.settle()
            self.assertEqual(self.successResultOf(found).document, image.manifest)
        self.assertEqual(self.registry.count("manifest", image.digest), 0)
        self.assertEqual(self.store.catalog.tags(source.name), ["latest"])
