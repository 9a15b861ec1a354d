"""
Tests for L{xferd.jobs.mirror.keep_rules}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.interfaces.catalog import CatalogManifest
from xferd.jobs.mirror.keep_rules import DAY, KeepRule, Kept, expired, rule_for, tags_by_digest
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.realms import ACCOUNT, listed

APP, OTHER = Repository("ghcr.io", "org/app"), Repository("docker.io", "library/debian")
NOW = 100 * DAY


def manifest(name: str, *blobs: str, children: tuple[str, ...] = ()) -> CatalogManifest:
    """
    A manifest of 10 bytes, with blobs of 100 bytes each.
    """
    return CatalogManifest(
        Descriptor(OCI_MANIFEST, Digest.of(name.encode()), 10),
        tuple(Descriptor("", Digest.of(blob.encode()), 100) for blob in blobs),
        tuple(Descriptor(OCI_MANIFEST, Digest.of(child.encode()), 10) for child in children),
    )


def kept(name: str, days: float, *blobs: str, rule: int | None = 0) -> Kept:
    """
    A manifest that was used so many days ago.
    """
    return Kept(APP, manifest(name, *blobs), NOW - days * DAY, rule)


class RuleTests(SynchronousTestCase):
    """
    The rule for a manifest.
    """

    def test_first(self) -> None:
        """
        The first rule that matches counts.
        """
        rules = [
            KeepRule(("ghcr.io/org/*",), ("v*",)),
            KeepRule(("ghcr.io/**", "quay.io/**")),
        ]
        self.assertEqual(rule_for(rules, APP, ["latest", "v1"]), 0)
        self.assertEqual(rule_for(rules, APP, ["latest"]), 1)
        self.assertEqual(rule_for(rules, APP, []), 1)
        self.assertIsNone(rule_for(rules, OTHER, ["v1"]))
        self.assertEqual(rule_for(rules, listed(APP, ACCOUNT), ["v1"]), 0)
        self.assertEqual(str(rules[0]), "ghcr.io/org/* with tags v*")

    def test_refused(self) -> None:
        """
        Patterns and numbers are checked.
        """
        for values in (
            {"repositories": ("a b",)},
            {"tags": ("a@b",)},
            {"days": -1.0},
            {"size": -1},
        ):
            self.assertRaises(ValueError, KeepRule, **values)


class TagTests(SynchronousTestCase):
    """
    The tags of manifests.
    """

    def test_through_indexes(self) -> None:
        """
        A tag of an index stands for all that it leads to, also through an index that
        names itself.
        """
        inner = manifest("inner", children=("one", "inner"))
        outer = manifest("outer", children=("inner", "absent"))
        found = tags_by_digest(
            [inner, outer, manifest("one"), manifest("two")],
            {"a": Digest.of(b"outer"), "b": Digest.of(b"one")},
        )
        self.assertEqual(found[Digest.of(b"one")], {"a", "b"})
        self.assertEqual(found[Digest.of(b"inner")], {"a"})
        self.assertNotIn(Digest.of(b"two"), found)


class ExpiryTests(SynchronousTestCase):
    """
    What rules remove.
    """

    def gone(self, rule: KeepRule, *some: Kept) -> list[int]:
        """
        The positions of what a rule removes.
        """
        return sorted(some.index(each) for each in expired([rule], some, NOW))

    def test_no_limits(self) -> None:
        """
        A rule without limits removes nothing, and what no rule matches stays.
        """
        self.assertEqual(self.gone(KeepRule(("**",)), kept("one", 99)), [])
        self.assertEqual(self.gone(KeepRule(("**",), days=1.0), kept("one", 99, rule=None)), [])

    def test_age(self) -> None:
        """
        What was last used before so many days goes.
        """
        rule = KeepRule(("**",), days=30.0)
        self.assertEqual(self.gone(rule, kept("one", 31), kept("two", 29), kept("three", 30.1)), [0, 2])

    def test_size(self) -> None:
        """
        The least recently used goes, until the rest fits; shared blobs count once.
        """
        some = kept("one", 3, "a", "b"), kept("two", 1, "a", "b"), kept("three", 2, "a", "c")
        self.assertEqual(self.gone(KeepRule(("**",), size=330), *some), [])
        self.assertEqual(self.gone(KeepRule(("**",), size=329), *some), [0])
        self.assertEqual(self.gone(KeepRule(("**",), size=319), *some), [0, 2])
        self.assertEqual(self.gone(KeepRule(("**",), size=1), *some), [0, 1, 2])

    def test_both(self) -> None:
        """
        What goes by its age does not count for the size.
        """
        rule = KeepRule(("**",), days=30.0, size=110)
        self.assertEqual(self.gone(rule, kept("one", 31, "a"), kept("two", 1, "b")), [0])
