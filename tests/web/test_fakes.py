"""
Tests for L{tests.web.fakes}: the fake jobs do what real ones do.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.conformance import JobsConformance
from tests.web.fakes import FakeJobs


class FakeJobsTests(JobsConformance, SynchronousTestCase):
    """
    L{FakeJobs} do what their Interface says.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.jobs = FakeJobs()

    def settle(self) -> None:
        """
        They answer at once.
        """
