"""
Tests for L{tests.web.fakes}: the fake jobs pass the conformance tests of the
real ones.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.conformance import JobsConformance
from tests.web.fakes import FakeJobs


class FakeJobsTests(JobsConformance, SynchronousTestCase):
    """
    L{FakeJobs} conform to their Interface.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.jobs = FakeJobs()

    def settle(self) -> None:
        """
        Do nothing: the fakes are never busy.
        """
