"""
Tests for L{xferd.testing.fakes}: the fakes work together.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementedBy

from xferd.interfaces.blobs import IPartial
from xferd.interfaces.journal import IJournal
from xferd.interfaces.registry import IRegistries, IRepository
from xferd.interfaces.store import IStore
from xferd.interfaces.unpack import IUnpacker
from xferd.media_types import LAYERS
from xferd.names import Repository
from xferd.testing import fakes
from xferd.testing.images import sample_image


class FakesTests(SynchronousTestCase):
    """
    A pull by hand through all fakes.
    """

    def test_pull(self) -> None:
        """
        Bytes of a fake registry pass a fake store and a fake unpacker, and become
        registered layers with the right chain IDs.
        """
        clock = Clock()
        registries, store = fakes.FakeRegistries(clock), fakes.FakeStore(clock)
        unpacker = fakes.FakeUnpacker(clock, store.blobs.open_path)
        repository = Repository("registry.test", "sample")
        registry = registries.registry(repository.host)
        image = sample_image(3)
        registry.add(image, repository.path)

        async def pull() -> None:
            source, parent = registries.repository(repository), None
            for layer in image.layers:
                descriptor = layer.blob.descriptor
                partial = await store.blobs.partial(descriptor.digest, descriptor.size)
                staged = await store.trees.stage()
                unpacking = unpacker.unpack(staged, LAYERS[descriptor.media_type], lambda _: None)
                partial.follow(unpacking)
                body = await source.open(descriptor.digest, partial.offset)
                await body.deliver(partial.write)
                await partial.commit()
                unpacked = await unpacking.result
                await store.trees.commit(staged, unpacked, descriptor.digest)
                registered = await store.layers.register(parent, unpacked.diff_id, descriptor)
                parent = registered.chain_id

        pulled = Deferred.fromCoroutine(pull())
        clock.advance(0)
        self.successResultOf(pulled)
        self.assertEqual(list(image.chain_ids), list(store.layers.registered))
        self.assertEqual([], clock.getDelayedCalls())

    def test_all_here(self) -> None:
        """
        Each fake of the package is exported, and provides an Interface.
        """
        offered = [getattr(fakes, name) for name in fakes.__all__ if name.startswith("Fake")]
        provided = {interface for fake in offered for interface in implementedBy(fake)}
        wanted = {IRegistries, IRepository, IStore, IUnpacker, IJournal, IPartial}
        self.assertLessEqual(wanted, provided)
