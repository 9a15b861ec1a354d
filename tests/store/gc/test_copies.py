"""
Tests for L{xferd.store.gc.copies}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.interfaces.catalog import CatalogManifest
from xferd.interfaces.fleet import MIN_SHARED
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.store.gc.copies import MOST, MOST_BLOBS, SCOPE, Candidate, copied_first, questions, scope

APP = Repository("docker.io", "library/app")


def blob(name: str) -> Digest:
    """
    A blob.
    """
    return Digest.of(name.encode())


def manifest(name: str, *blobs: str, size: int = MIN_SHARED) -> Candidate:
    """
    A manifest of blobs of one size.
    """
    named = tuple(Descriptor("application/x-layer", blob(each), size) for each in blobs)
    return APP, CatalogManifest(Descriptor(OCI_MANIFEST, blob(name), 0), named)


ONE, TWO, THREE = (manifest(name, f"{name}-1", f"{name}-2") for name in ("one", "two", "three"))
SMALL = manifest("small", "tiny", size=MIN_SHARED - 1)


class CopiesTests(SynchronousTestCase):
    """
    The order of an eviction.
    """

    def test_order(self) -> None:
        """
        What others have whole goes first, otherwise the least recently used.
        """
        candidates = [ONE, SMALL, TWO, THREE]
        excess = 8 * MIN_SHARED
        self.assertEqual(copied_first(candidates, excess, set()), candidates)
        two = {blob("two-1"), blob("two-2"), blob("tiny"), blob("one-1")}
        self.assertEqual(copied_first(candidates, excess, two), [TWO, ONE, SMALL, THREE])

    def test_scope(self) -> None:
        """
        What was used lately stays where it is: only some times the excess is looked at.
        """
        three = {blob("three-1"), blob("three-2")}
        size = 2 * MIN_SHARED
        self.assertEqual(scope([ONE, TWO, THREE], 2 * size // SCOPE), 2)
        self.assertEqual(copied_first([ONE, TWO, THREE], 2 * size // SCOPE, three), [ONE, TWO, THREE])
        self.assertEqual(copied_first([ONE, TWO, THREE], 3 * size // SCOPE, three), [THREE, ONE, TWO])
        self.assertEqual(scope([ONE], 0), 0)
        self.assertEqual(scope([ONE] * 1000, 1 << 60), MOST)

    def test_questions(self) -> None:
        """
        Others are asked about large blobs, and about so many at most.
        """
        wanted = {blob("one-1"), blob("one-2")}
        self.assertEqual(questions([ONE, SMALL], 1 << 40), wanted)
        many = [manifest(str(n), *(f"{n}-{m}" for m in range(100))) for n in range(20)]
        self.assertEqual(len(questions(many, 1 << 40)), MOST_BLOBS)
