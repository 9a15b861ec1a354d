"""
Tests for L{xferd.store.trees.layer_files}.
"""

from __future__ import annotations

import os

from tests.store.support import StoreTestCase, pull, sample
from xferd.errors import StoreError
from xferd.names import Digest
from xferd.store.trees.layer_files import LayerFiles


class LayerFilesTests(StoreTestCase):
    """
    The files of layers, found without the store.
    """

    def test_found(self) -> None:
        """
        They are those that the store names, also after a layer has got another directory.
        """
        one, two = sample("one", b"same", b"1"), sample("two", b"other", b"same")
        for each in (one, two):
            self.run_now(pull(self.store, each))
        files = LayerFiles(self.store.path)
        for _ in range(2):
            for chain in self.store.layers.chain_ids():
                layer = self.store.layers.get(chain)
                assert layer is not None
                self.assertEqual(files.find(chain), layer.path)
                self.assertTrue(os.path.isdir(layer.path))
            for chain in tuple(self.store.layers.chain_ids()):
                self.successResultOf(self.store.layers.separate(chain))

    def test_unknown(self) -> None:
        """
        A layer that is not in the store has none; a damaged record is an error or none.
        """
        files = LayerFiles(self.store.path)
        chain = Digest.of(b"x")
        self.assertIsNone(files.find(chain))
        path = f"{self.store.path}/layers/{chain.algorithm}/{chain.hex}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        for content, kind in ((b'{"tree": "../x"}', None), (b"{", StoreError), (b"{}", StoreError)):
            with open(path, "wb") as file:
                file.write(content)
            if kind is None:
                self.assertIsNone(files.find(chain))
            else:
                self.assertRaises(kind, files.find, chain)
