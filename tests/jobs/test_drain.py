"""
Tests for L{xferd.jobs.steering}: the drain, and the pauses and the drain of the configuration.
"""

from __future__ import annotations

from tests.jobs.case import HOST
from tests.jobs.test_steering import BY, SteeringCase
from xferd.errors import Draining
from xferd.jobs.steering import CONFIGURATION
from xferd.jobs.steering_settings import SteeringSettings


class DrainTests(SteeringCase):
    """
    The drain before maintenance.
    """

    def test_drain(self) -> None:
        """
        What runs ends; nothing begins until the drain has ended.
        """
        job_id, blob = self.stalled_pull()
        self.drain()
        error = self.assertRaises(Draining, self.pull)
        self.assertIn(f"drained by {BY}", str(error))
        self.assertEqual(self.jobs.steering.drained()["jobs"], 1)
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.jobs.steering.drained()["jobs"], 0)
        self.end_drain()
        self.pulled()

    def test_kept(self) -> None:
        """
        A drain that is kept holds in the next daemon, which continues the jobs of the earlier one,
        and until it ends; another ends with its daemon.
        """
        job_id, blob = self.stalled_pull()
        self.drain(keep=True)
        self.stopped()
        drain = self.jobs.steering.drained()
        self.assertEqual((drain["draining"], drain["by"], drain["keep"]), (True, BY, True))
        self.assertRaises(Draining, self.pull)
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)
        self.end_drain()
        self.stopped()
        self.assertEqual(self.jobs.steering.drained()["draining"], False)
        self.drain()
        self.stopped()
        self.assertEqual(self.jobs.steering.drained()["draining"], False)


class ConfiguredTests(SteeringCase):
    """
    The pauses and the drain of the configuration.
    """

    steering = SteeringSettings(("uploads", f"hosts/{HOST}"), drain=True)

    def names(self) -> list[str]:
        """
        The names of what is paused, and of the drain.
        """
        steering = self.jobs.steering
        names = sorted(each["host"] or each["what"] for each in steering.pauses())
        return names + ["drain"] * bool(steering.draining)

    def test_start(self) -> None:
        """
        They apply from the start until a person ends them, and again after a restart.
        """
        self.assertEqual(self.names(), [HOST, "uploads", "drain"])
        pause = self.jobs.steering.pauses()[0]
        self.assertEqual((pause["by"], pause["keep"]), (CONFIGURATION, True))
        self.assertIn(CONFIGURATION, str(self.assertRaises(Draining, self.pull)))
        self.resume("uploads")
        self.end_drain()
        self.assertEqual(self.names(), [HOST])
        self.assertEqual(self.store.journal.kept_settings, {})
        self.stopped()
        self.assertEqual(self.names(), [HOST, "uploads", "drain"])

    def test_reload(self) -> None:
        """
        Another configuration ends the pauses of the earlier one, and no pause of a person.
        """
        self.pause("all")
        self.pause("uploads")
        self.jobs.steering.configure(SteeringSettings(("downloads",)))
        self.assertEqual(self.names(), ["all", "downloads", "uploads"])
        self.jobs.steering.configure(SteeringSettings(("all",)))
        self.assertEqual(self.names(), ["all", "uploads"])
        self.assertEqual({each["by"] for each in self.jobs.steering.pauses()}, {BY})
        self.drain()
        self.jobs.steering.configure(SteeringSettings())
        self.assertEqual(self.names(), ["all", "uploads", "drain"])

    def test_names(self) -> None:
        """
        The names of pauses are those of the API.
        """
        self.assertEqual(
            SteeringSettings(("hosts/index.docker.io", "all", "all")).pause, ("hosts/docker.io", "all")
        )
        for name in ("everything", "hosts/", "hosts/a b", ""):
            self.assertRaises(ValueError, SteeringSettings, (name,))
