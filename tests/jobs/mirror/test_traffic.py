"""
Tests for L{xferd.jobs.mirror.traffic}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.interfaces.mirror import MirroredManifest, UpstreamFigures
from xferd.jobs.mirror.traffic import MOST_HOSTS, OTHER, Traffic
from xferd.media_types import OCI_MANIFEST
from xferd.oci import Document

DOCUMENT = Document.verified(OCI_MANIFEST, b"{}")


class TrafficTests(SynchronousTestCase):
    """
    The counters of upstreams.
    """

    def test_counted(self) -> None:
        """
        Each outcome is counted, and bytes in both directions; what is saved is what
        upstreams did not have to send.
        """
        traffic = Traffic()
        traffic.manifest("a", MirroredManifest(DOCUMENT))
        traffic.manifest("a", MirroredManifest(DOCUMENT, stored=True))
        traffic.manifest("a", MirroredManifest(DOCUMENT, ("old",), stored=True))
        traffic.blob("a", True, 7)
        traffic.blob("a", False, 5)
        traffic.sent("a", 10)
        traffic.fetched("a", 4)
        traffic.fetched("b", 5)
        figures = traffic.figures()
        self.assertEqual(
            figures["a"], UpstreamFigures(hits=2, misses=2, stale=1, sent=10, fetched=4, found=7)
        )
        self.assertEqual((figures["a"].saved, figures["b"].saved), (6, 0))
        traffic.sent("a", 1)
        self.assertEqual(figures["a"].sent, 10)

    def test_bounded(self) -> None:
        """
        Beyond so many hosts, all others are counted together.
        """
        traffic = Traffic()
        for number in range(MOST_HOSTS + 2):
            traffic.sent(f"{number}.example", 1)
        figures = traffic.figures()
        self.assertEqual((len(figures), figures[OTHER].sent), (MOST_HOSTS + 1, 2))
