"""
Tests for L{xferd.fleet.etcd.tags}.
"""

from __future__ import annotations

from tests.fleet.etcd.cases import BLOB, OTHER, CoordinationCase
from xferd.errors import CoordinationUnavailable


class TagTests(CoordinationCase):
    """
    Tags that were checked lately.
    """

    def test_shared_lease(self) -> None:
        """
        Tags that are checked within a tenth of their time share a lease.
        """
        self.one.tag_checked("a", BLOB, 60.0)
        self.passes(5)
        self.one.tag_checked("b", OTHER, 60.0)
        self.assertEqual(1, self.etcd.paths().count("/v3/lease/grant"))
        self.passes(5)
        self.one.tag_checked("c", OTHER, 60.0)
        self.assertEqual(1, self.etcd.paths().count("/v3/lease/grant"))
        self.assertEqual(OTHER, self.result(self.two.fresh_tag("b")))
        self.passes(51)
        self.assertIsNone(self.result(self.two.fresh_tag("b")))
        self.assertEqual(OTHER, self.result(self.two.fresh_tag("c")))

    def test_lease_lost(self) -> None:
        """
        When the lease of tags has ended, the next tag gets a new one.
        """
        self.one.tag_checked("a", BLOB, 60.0)
        self.etcd.end_lease(max(self.etcd.leases))
        self.one.tag_checked("b", BLOB, 60.0)
        self.assertTrue(self.one.available)
        self.one.tag_checked("c", BLOB, 60.0)
        self.assertEqual(BLOB, self.result(self.two.fresh_tag("c")))

    def test_too_short(self) -> None:
        """
        What holds for less than a second is not shared.
        """
        self.one.tag_checked("a", BLOB, 0.5)
        self.assertEqual([], self.etcd.paths())

    def test_wrong_answers(self) -> None:
        """
        Wrong answers make etcd unavailable.
        """
        self.etcd.answers = {"/v3/lease/grant": {"ID": []}}
        self.one.tag_checked("a", BLOB, 60.0)
        self.assertIn("an unexpected answer", self.one.problem)
        self.etcd.answers = {"/v3/kv/txn": {"responses": [{"response_range": 5}]}}
        reading = self.two.fresh_tag("a")
        self.passes(0.05)
        self.failureResultOf(reading, CoordinationUnavailable)
