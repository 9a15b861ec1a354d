# -*- test-case-name: tests.ctl.commands.test_filters -*-
"""
Tests for L{xferd.ctl.commands.filters}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.fake_daemon import job, push_job, transfer
from tests.ctl.run import run
from xferd.ctl.commands.filters import JOB_KINDS, JOB_STATES, TRANSFER_KINDS, TRANSFER_STATES, Filter
from xferd.web import pagination


class FilterTests(SynchronousTestCase):
    """
    Tests for L{Filter}.
    """

    def test_values(self) -> None:
        """
        The states and kinds are those of the API.
        """
        self.assertEqual((JOB_STATES, JOB_KINDS), (pagination.STATES, pagination.KINDS))
        self.assertEqual(
            (TRANSFER_STATES, TRANSFER_KINDS), (pagination.TRANSFER_STATES, pagination.TRANSFER_KINDS)
        )

    def test_jobs(self) -> None:
        """
        A job is selected if all filters match; its registry may be that of its target.
        """
        copy = push_job(kind="copy")
        for chosen, selected in (
            (Filter(), True),
            (Filter(states=frozenset({"running", "queued"})), True),
            (Filter(states=frozenset({"done"})), False),
            (Filter(hosts=frozenset({"registry.example.com:5000"})), True),
            (Filter(hosts=frozenset({"docker.io"})), True),
            (Filter(hosts=frozenset({"docker"})), False),
            (Filter(kinds=frozenset({"copy"}), client="me@here"), True),
            (Filter(kinds=frozenset({"copy"}), client="you@there"), False),
            (Filter(kinds=frozenset({"pull"}), client="me@here"), False),
        ):
            self.assertEqual(chosen.selects_job(copy), selected, chosen)
        self.assertTrue(Filter(hosts=frozenset({"docker.io"})).selects_job(job(target=None)))
        self.assertFalse(Filter(hosts=frozenset({"docker.io"})).selects_job({}))

    def test_transfers(self) -> None:
        """
        A transfer is selected by the host of its source, and by its jobs.
        """
        chosen = Filter(hosts=frozenset({"docker.io"}))
        self.assertTrue(chosen.selects_transfer(transfer(1)))
        self.assertFalse(chosen.selects_transfer(transfer(1, source="docker.io.example/a")))
        self.assertFalse(chosen.selects_transfer(transfer(1, source=None)))
        self.assertTrue(Filter().selects_transfer(transfer(1, jobs=["j1", "j2"]), {"j2"}))
        self.assertFalse(Filter().selects_transfer(transfer(1, jobs=None), {"j2"}))

    def test_wrong(self) -> None:
        """
        Unknown states and kinds are wrong use, and the message has the known ones.
        """
        for command, option in (("jobs", "--state"), ("transfers", "--kind"), ("watch", "--kind")):
            for value, word in (("moving", "moving"), ("moving,pull", "moving"), ("", "")):
                outcome = run([command, option, value])
                self.assertEqual(outcome.status, 2)
                self.assertIn(f"argument {option}: invalid choice: '{word}' (choose from ", outcome.err)

    def test_address(self) -> None:
        """
        C{--host} is the daemon's address if it has the form of one, before and after others.
        """
        for argv in (
            ["jobs", "--host", "quay.io", "--host", "unix:/nonexistent/s"],
            ["--host", "unix:/nonexistent/s", "jobs", "--host", "quay.io"],
            ["transfers", "--host", "unix:/nonexistent/s", "--host", "quay.io"],
        ):
            self.assertIn("the daemon does not answer at unix:/nonexistent/s", run(argv).err)
