"""
Tests for L{xferd.store.paths}.
"""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.names import Digest
from xferd.store.paths import Paths, parse_partial_name, parse_tree_name, tree_name

PATHS = Paths("/data")
DIGESTS = st.builds(Digest.of, st.binary(max_size=4), st.sampled_from(["sha256", "sha512"]))


class PathsTests(SynchronousTestCase):
    """
    Names become paths, and paths names again.
    """

    @given(DIGESTS, st.sampled_from(["", "0123456789abcdef"]))
    def test_tree(self, diff_id: Digest, key: str) -> None:
        """
        A tree's name contains its diff ID and its key, and its path has no
        colon, which overlayfs would read as its end.
        """
        name = tree_name(diff_id, key)
        self.assertEqual(parse_tree_name(name), (diff_id, key))
        self.assertNotIn(":", PATHS.tree(name))

    @given(DIGESTS)
    def test_partial(self, digest: Digest) -> None:
        """
        A partial file's name contains its digest.
        """
        directory, _, name = PATHS.partial(digest).rpartition("/")
        self.assertEqual((directory, parse_partial_name(name)), (PATHS.ingest, digest))

    @given(st.text(max_size=80))
    def test_strangers(self, name: str) -> None:
        """
        An invalid name is refused.
        """
        self.assertIsNone(parse_tree_name(name))
        self.assertIsNone(parse_partial_name(name))

    def test_unknown_algorithm(self) -> None:
        """
        A tree or partial file of an unknown digest algorithm is invalid.
        """
        self.assertIsNone(parse_tree_name("md5/" + "0" * 32))
        self.assertIsNone(parse_tree_name("sha256/" + "0" * 32))
        self.assertIsNone(parse_partial_name("md5-" + "0" * 32))

    def test_blob_as_the_image_layout_has_it(self) -> None:
        """
        A blob lies where OCI image-spec, "Image Layout", wants it.
        """
        digest = Digest.of(b"")
        self.assertEqual(PATHS.blob(digest), f"/data/content/blobs/sha256/{digest.hex}")
