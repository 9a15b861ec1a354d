"""
Tests for L{xferd.engines.snapshotter.filters}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.snapshotter.filters import parse_filters
from xferd.interfaces.snapshots import Kind, Snapshot

SNAPSHOT = Snapshot(
    1,
    "default/1/a b",
    Kind.COMMITTED,
    "sha256:p",
    0,
    0,
    {"containerd.io/snapshot.ref": "sha256:c", "a": 'b"'},
)


class FilterTests(SynchronousTestCase):
    """
    Filters of lists.
    """

    def check(self, *filters: str) -> bool:
        """
        Whether the snapshot matches.
        """
        return parse_filters(filters)(SNAPSHOT)

    def test_none(self) -> None:
        """
        Without filters, everything matches.
        """
        self.assertTrue(self.check())

    def test_containerd(self) -> None:
        """
        The filter by which containerd looks for a layer.
        """
        text = 'labels."containerd.io/snapshot.ref"=={},parent=={}'
        self.assertTrue(self.check(text.format("sha256:c", '"sha256:p"')))
        self.assertFalse(self.check(text.format("sha256:d", '"sha256:p"')))
        self.assertFalse(self.check(text.format("sha256:c", '""')))

    def test_fields(self) -> None:
        """
        Each field is compared; a missing label equals the empty string.
        """
        for text in ('name=="default/1/a b"', "kind==committed", 'labels.a=="b\\""', "parent==sha256:p"):
            self.assertTrue(self.check(text), text)
            self.assertFalse(self.check(text.replace("==", "!=")), text)
        for text in ("name==x", "kind==active", "labels.a==c", "labels.other==c", 'parent==""'):
            self.assertFalse(self.check(text), text)
            self.assertTrue(self.check(text.replace("==", "!=")), text)
        self.assertTrue(self.check('labels.other==""'))

    def test_presence(self) -> None:
        """
        A field alone has to have a value.
        """
        for text in ("labels.a", "parent", 'kind==committed,labels."containerd.io/snapshot.ref"'):
            self.assertTrue(self.check(text), text)
        for text in ("labels.other", "labels.other,name", "name==x,labels.a"):
            self.assertFalse(self.check(text), text)

    def test_any(self) -> None:
        """
        One of several filters is enough.
        """
        self.assertTrue(self.check("name==x", "kind==committed"))
        self.assertFalse(self.check("name==x", "name==y"))

    def test_other_forms(self) -> None:
        """
        A condition of another form counts as met, as the engine looks at what it gets.
        """
        for text in ("name~=x", 'name=="x', "size==1", "kind==committed,name~=x", 'labels.a=="\\x41"'):
            self.assertTrue(self.check(text), text)
        self.assertFalse(self.check("kind==active,name~=x"))
