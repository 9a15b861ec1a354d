"""
Tests for providers of L{IStore}.
"""

from __future__ import annotations

from zope.interface.verify import verifyObject

from tests.store.conformance.base import Conformance
from xferd.interfaces.blobs import IBlobs
from xferd.interfaces.collection import IGarbageCollector
from xferd.interfaces.journal import IJournal
from xferd.interfaces.store import IImages, ILayers, IStore, ITrees


class StoreConformance(Conformance):
    """
    L{IStore}.
    """

    def test_store(self) -> None:
        """
        A store has all its parts.
        """
        verifyObject(IStore, self.store)
        verifyObject(IBlobs, self.store.blobs)
        verifyObject(ITrees, self.store.trees)
        verifyObject(ILayers, self.store.layers)
        verifyObject(IImages, self.store.images)
        verifyObject(IJournal, self.store.journal)
        verifyObject(IGarbageCollector, self.store.gc)
