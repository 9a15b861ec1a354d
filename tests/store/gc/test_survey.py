"""
Tests for L{xferd.store.gc.survey}.
"""

from __future__ import annotations

import json
import os
from typing import Any

from tests.store.gc.processes import ProcessesCase
from tests.store.support import StoreTestCase, plant, pull, sample
from xferd.errors import StoreError
from xferd.media_types import OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest
from xferd.store.gc.survey import Survey, survey
from xferd.store.paths import Paths, tree_name

TREE = Digest.of(b"tree")
VARIANT = f"{tree_name(TREE)}.0123456789abcdef"


class SurveyTests(ProcessesCase, StoreTestCase):
    """
    The survey of a data directory.
    """

    def survey(self) -> Survey:
        """
        Look.
        """
        return survey(Paths(self.path), self.processes)

    def index(self, *entries: dict[str, Any]) -> None:
        """
        Have entries that others made.
        """
        with open(os.path.join(self.path, "content", "index.json"), "w") as file:
            json.dump({"schemaVersion": 2, "manifests": entries}, file)

    def document(self, value: object) -> Digest:
        """
        Put a document into the store.
        """
        data = json.dumps(value).encode()
        self.successResultOf(self.store.blobs.put(Digest.of(data), data))
        return Digest.of(data)

    def test_listed(self) -> None:
        """
        Blobs, partial blobs and trees are listed, and nothing else that is
        there.
        """
        self.run_now(pull(self.store, sample("alpine", b"one")))
        self.run_now(plant(self.store, b"tree"))
        os.mkdir(os.path.join(self.path, "trees", VARIANT))
        # Links beside the trees, as in a containers-storage view.
        os.symlink(tree_name(TREE), os.path.join(self.path, "trees", TREE.hex))
        os.mkdir(os.path.join(self.path, "trees", "l"))
        os.symlink(f"../{TREE.hex}/diff", os.path.join(self.path, "trees", "l", "A" * 26))
        blobs = os.path.join(self.path, "content", "blobs")
        for path in (f"{blobs}/sha256/put-blob123", f"{blobs}/stray", f"{self.path}/ingest/stray"):
            with open(path, "wb"):
                pass
        os.mkdir(f"{blobs}/sha256/{TREE.hex}")
        partial = f"{self.path}/ingest/sha256-{TREE.hex}"
        with open(partial, "wb") as file:
            file.write(b"12345")
        os.utime(partial, (7, 7))
        found = self.survey()
        self.assertEqual(len(found.blobs), 3)
        self.assertIn((Digest.of(b"one"), 3), found.blobs)
        self.assertEqual(found.partials, ((TREE, 5, 7.0),))
        self.assertEqual({*found.trees}, {tree_name(Digest.of(b"one")), tree_name(TREE), VARIANT})

    def test_reached(self) -> None:
        """
        Everything that the index leads to is reached: by indexes of indexes,
        by manifests of any kind, by entries without a type. Files that only
        look like documents, and missing ones, lead no further.
        """
        leaf = [Digest.of(text) for text in (b"a", b"b", b"c", b"d")]
        manifest = self.document({"config": {"digest": str(leaf[0])}, "layers": [{"digest": str(leaf[1])}]})
        artifact = self.document({"mediaType": OCI_MANIFEST, "blobs": [{"digest": str(leaf[2])}]})
        inner = self.document({"manifests": [{"mediaType": OCI_MANIFEST, "digest": str(manifest)}]})
        layer = self.document({"digest": str(leaf[3])})
        absent = Digest.of(b"absent")
        broken = Digest.of(b"[")
        self.successResultOf(self.store.blobs.put(broken, b"["))
        self.index(
            # First as a mere note, then as what leads on.
            {"mediaType": "x/y", "digest": str(layer), "annotations": {"about": str(inner)}},
            {"mediaType": OCI_INDEX, "digest": str(inner)},
            {"digest": str(artifact)},
            {"mediaType": OCI_MANIFEST, "digest": str(absent)},
            {"mediaType": OCI_MANIFEST, "digest": str(broken)},
            {"mediaType": OCI_MANIFEST, "digest": "sha256:no"},
        )
        expected = {layer, inner, manifest, artifact, absent, broken, *leaf[:3]}
        self.assertEqual(self.survey().reached, expected)

    def test_large(self) -> None:
        """
        A file that is too large for a document is not read.
        """
        digest = self.document({"digest": str(TREE)})
        os.truncate(self.store.blobs.path(digest), 5 * 1024 * 1024)
        self.index({"digest": str(digest)})
        self.assertEqual(self.survey().reached, {digest})

    def test_mounted(self) -> None:
        """
        Trees that are mounted are found by their paths or by what xferctl
        calls its mounts.
        """
        chain = Digest.of(b"chain")
        self.process("12", f"overlay none rw,lowerdir=/da\\040ta/trees/{VARIANT}/diff:/other")
        self.process("13", f"overlay xferd:{chain} rw,lowerdir=5:6,upperdir=7")
        found = self.survey()
        self.assertEqual(found.mounted, {VARIANT})
        self.assertEqual((found.reached, found.chains), ({chain}, {chain}))

    def test_no_mounts(self) -> None:
        """
        If the mounts of this process cannot be read, the survey fails.
        """
        self.processes = self.mktemp()
        os.mkdir(self.processes)
        self.assertIn("mounted", str(self.assertRaises(StoreError, self.survey)))

    def test_real(self) -> None:
        """
        The system shows its mounts.
        """
        self.assertEqual(survey(Paths(self.path)).blobs, ())
