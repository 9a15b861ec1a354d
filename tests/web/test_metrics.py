"""
Tests for L{xferd.web.metrics}.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

import xferd
from tests.web.fakes import FIGURES
from tests.web.world import World
from xferd.errors import ConnectionFailed
from xferd.interfaces.engines import EngineFigures
from xferd.interfaces.fleet_status import FleetCounts
from xferd.interfaces.hosts import Quota
from xferd.interfaces.mirror import UpstreamFigures
from xferd.interfaces.transfer import HostAccount
from xferd.testing.fake_engine import FakeEngine
from xferd.testing.fake_fleet import FakeFleet
from xferd.transfer.pauses import Pauses
from xferd.web.metrics import CODES, FROM_ZERO, MAX_HOSTS, METRICS

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class MetricsTests(SynchronousTestCase):
    """
    C{/metrics}, as Prometheus reads them.
    """

    def setUp(self) -> None:
        """
        Make the server.
        """
        self.world = World()

    def scrape(self) -> Samples:
        """
        Read all samples.
        """
        answer = self.world.ask("GET", "/metrics")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.families = list(text_string_to_metric_families(answer.body.decode()))
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def value(self, samples: Samples, name: str, **labels: str) -> float:
        """
        The value of one sample.
        """
        return samples[name, frozenset(labels.items())]

    def test_known_hosts(self) -> None:
        """
        The quotas, pauses and failures of registries, by account where they
        belong to one.
        """
        memory = self.world.memory
        pauses = Pauses(self.world.clock)
        memory.join("document", pauses)
        memory.answered("docker.io", None, Quota(76, 100, 21600.0))
        memory.answered("docker.io", "f00f00f00f00f00f", Quota(5))
        memory.unreachable("a.example", ConnectionFailed("no answer"))
        pauses.pause(HostAccount("docker.io", "f00f00f00f00f00f"), 5)
        samples = self.scrape()
        daemon = {"host": "docker.io", "account": "daemon"}
        client = {"host": "docker.io", "account": "f00f00f00f00"}
        for name, labels, value in [
            ("xferd_quota_remaining", daemon, 76),
            ("xferd_quota_limit", daemon, 100),
            ("xferd_quota_remaining", client, 5),
            ("xferd_host_paused", daemon, 0),
            ("xferd_host_paused", client, 1),
            ("xferd_host_failures", {"host": "a.example"}, 1),
            ("xferd_host_failures", {"host": "docker.io"}, 0),
        ]:
            self.assertEqual(self.value(samples, name, **labels), value, name)
        self.assertNotIn(("xferd_quota_limit", frozenset(client.items())), samples)

    def test_many_known(self) -> None:
        """
        Of many hosts and accounts, those that were used last have samples.
        """
        for n in range(2 * MAX_HOSTS):
            self.world.wall_clock.set(self.world.wall_clock() + 1)
            self.world.memory.answered(f"r{n}.example", None, Quota(5))
            self.world.memory.answered(f"r{n}.example", "client", Quota(5))
        names = [name for name, _ in self.scrape()]
        self.assertEqual(names.count("xferd_host_failures"), MAX_HOSTS)
        self.assertEqual(names.count("xferd_quota_remaining"), MAX_HOSTS)

    def test_values(self) -> None:
        """
        The present state and the counters are included, with their labels.
        """
        samples = self.scrape()
        for name, labels, value in [
            ("xferd_build_info", {"version": "1.2.3"}, 1),
            ("xferd_start_time_seconds", {}, 1767312000),
            ("xferd_jobs", {"kind": "pull", "state": "running"}, 2),
            ("xferd_jobs_ended_total", {"kind": "push", "state": "done"}, 3),
            ("xferd_jobs_ended_total", {"kind": "pull", "state": "failed"}, 0),
            ("xferd_jobs_resumed_total", {"kind": "pull"}, 6),
            ("xferd_jobs_interrupted_total", {"kind": "push"}, 7),
            ("xferd_transfers", {"kind": "download", "state": "queued"}, 4),
            ("xferd_transfer_bytes_total", {"direction": "in", "host": "r.example"}, 1000),
            ("xferd_transfer_bytes_total", {"direction": "out", "host": "s.example"}, 500),
            ("xferd_delivered_bytes_total", {}, 2000),
            ("xferd_retries_total", {"reason": "TIMED_OUT"}, 2),
            ("xferd_failures_total", {"host": "r.example", "code": "TIMED_OUT"}, 0),
            ("xferd_transfers_waiting", {"reason": "queue"}, 3),
            ("xferd_transfers_waiting", {"reason": "pause"}, 0),
            ("xferd_jobs_waiting", {"reason": "token"}, 1),
            ("xferd_job_wait_seconds", {"reason": "token"}, 4.5),
            ("xferd_slots", {"kind": "download"}, 3),
            ("xferd_slots_in_use", {"kind": "download"}, 1),
            ("xferd_slots_waiting", {"kind": "download"}, 0),
            ("xferd_wait_seconds_bucket", {"kind": "download", "le": "1.0"}, 1),
            ("xferd_wait_seconds_count", {"kind": "download"}, 2),
            ("xferd_wait_seconds_sum", {"kind": "download"}, 61.5),
            ("xferd_job_seconds_bucket", {"kind": "pull", "le": "1.0"}, 2),
            ("xferd_job_seconds_count", {"kind": "pull"}, 3),
            ("xferd_job_seconds_sum", {"kind": "pull"}, 242.0),
            ("xferd_phase_seconds_sum", {"kind": "pull", "phase": "moving"}, 188.5),
            ("xferd_phase_seconds_bucket", {"kind": "pull", "phase": "moving", "le": "30.0"}, 1.0),
            ("xferd_jobs_bound_total", {"kind": "pull", "by": "line"}, 1),
            ("xferd_saved_bytes_total", {"kind": "pull"}, 300),
            ("xferd_bandwidth_limit_bytes", {"direction": "in"}, 0),
            ("xferd_workers", {}, 2),
            ("xferd_workers_busy", {}, 1),
            ("xferd_images", {}, 0),
            ("xferd_store_bytes", {"part": "trees"}, 30),
            ("xferd_event_streams", {}, 0),
            ("xferd_reactor_lag_seconds_count", {}, 0),
            ("xferd_gc_seconds_count", {"generation": "2"}, 0),
        ]:
            self.assertEqual(self.value(samples, name, **labels), value, name)
        self.world.clock.advance(FROM_ZERO)
        failed = self.value(self.scrape(), "xferd_failures_total", host="r.example", code="TIMED_OUT")
        self.assertEqual(failed, 8)
        self.assertGreater(self.value(samples, "xferd_disk_size_bytes"), 0)
        self.assertGreater(self.value(samples, "process_resident_memory_bytes"), 0)

    def test_mirrored(self) -> None:
        """
        What the registry's clients got, what its upstreams sent, and what that saved; nothing
        while more was fetched than read.
        """
        figures = UpstreamFigures(hits=3, misses=2, stale=1, sent=50, fetched=20)
        upstreams = {"a.example": figures, "b.example": UpstreamFigures(sent=5, fetched=20)}
        self.world.jobs.numbers = evolve(FIGURES, upstreams=upstreams)
        samples = self.scrape()
        for result, count in (("hit", 3), ("miss", 2), ("stale", 1)):
            value = self.value(samples, "xferd_mirror_answers_total", host="a.example", result=result)
            self.assertEqual(value, count)
        for host, direction, count in (("a.example", "sent", 50), ("b.example", "fetched", 20)):
            value = self.value(samples, "xferd_mirror_bytes_total", host=host, direction=direction)
            self.assertEqual(value, count)
        for host, count in (("a.example", 30), ("b.example", 0)):
            self.assertEqual(self.value(samples, "xferd_mirror_saved_bytes", host=host), count)

    def test_failures(self) -> None:
        """
        Failures are counted from zero: a host that has moved bytes, or was used before the start, has
        each code of a failed source, and each code that another host has failed with.  Where the first
        thing that is known of a host is a failure, its counters are 0 for a minute.
        """
        self.world.memory.answered("u.example", None, None)
        samples = self.scrape()
        name = "xferd_failures_total"
        self.assertEqual(self.value(samples, name, host="t.example", code="BLOB_UNKNOWN"), 0)
        failed = {("s.example", "TIMED_OUT"): 1, **self.world.jobs.numbers.failures}
        self.world.jobs.numbers = evolve(self.world.jobs.numbers, failures=failed)
        samples = self.scrape()
        # It was 0 before.
        self.assertEqual(self.value(samples, name, host="s.example", code="TIMED_OUT"), 1)
        self.world.clock.advance(FROM_ZERO - 1)
        self.assertEqual(self.value(self.scrape(), name, host="t.example", code="BLOB_UNKNOWN"), 0)
        self.world.clock.advance(1)
        samples = self.scrape()
        self.assertIn("CREDENTIALS_UNAVAILABLE", CODES)
        self.assertNotIn("NAME_INVALID", CODES)
        codes = {code for _, code in self.world.jobs.numbers.failures}
        for host in ("r.example", "s.example", "t.example", "u.example"):
            for code in (*CODES, *codes):
                wanted = self.world.jobs.numbers.failures.get((host, code), 0)
                self.assertEqual(self.value(samples, "xferd_failures_total", host=host, code=code), wanted)

    def test_many_known_failures(self) -> None:
        """
        Hosts of earlier daemons leave labels for those that are used now.
        """
        for n in range(2 * MAX_HOSTS):
            self.world.memory.answered(f"r{n}.example", None, None)
        names = [name for name, _ in self.scrape()]
        self.assertLess(names.count("xferd_failures_total"), MAX_HOSTS * len(CODES))

    def test_authentications(self) -> None:
        """
        Authentication at registries is counted by host and result; hosts beyond the first share a label.
        """
        counts = {(f"r{n}.example", "token"): 1 for n in range(MAX_HOSTS + 5)}
        self.world.jobs.numbers = evolve(FIGURES, fetched={}, sent={}, failures={}, upstreams={})
        self.world.authentications = {("r0.example", "refused"): 2, **counts}
        samples = self.scrape()
        name = "xferd_authentications_total"
        self.assertEqual(self.value(samples, name, host="r0.example", result="refused"), 2)
        self.assertEqual(self.value(samples, name, host="r1.example", result="token"), 1)
        self.assertEqual(self.value(samples, name, host="other", result="token"), 5)

    def test_many_failures(self) -> None:
        """
        The hosts without a label of their own share one.
        """
        failures = {(f"h{n}", "TIMED_OUT"): 1 for n in range(MAX_HOSTS + 5)}
        self.world.jobs.numbers = evolve(FIGURES, fetched={}, sent={}, failures=failures)
        self.scrape()
        self.world.clock.advance(FROM_ZERO)
        samples = self.scrape()
        name = "xferd_failures_total"
        self.assertEqual(self.value(samples, name, host="other", code="TIMED_OUT"), 5)
        self.assertEqual([n for n, _ in samples].count(name), (MAX_HOSTS + 1) * len(CODES))

    def test_requests(self) -> None:
        """
        Requests are counted by what admits them.
        """
        self.world = World(trusted=False, token="t")
        bearer = {"Authorization": "Bearer t"}
        self.assertEqual(self.world.ask("GET", "/healthz").status, 200)
        self.assertEqual(self.world.ask("GET", "/api/v1/jobs").status, 401)
        self.world.ask("GET", "/metrics", None, bearer)
        answer = self.world.ask("GET", "/metrics", None, bearer)
        counts = {
            line.split('"')[1]: float(line.split()[-1])
            for line in answer.body.decode().splitlines()
            if line.startswith("xferd_requests_total{")
        }
        # Those until the last one, which is counted, too.
        self.assertEqual(counts, {"connection": 0, "token": 2, "browser": 0, "open": 1, "refused": 1})

    def test_engines(self) -> None:
        """
        Snapshots, layers and requests of each engine are counted.
        """
        figures = EngineFigures(snapshots=5, layers=3, prepares={"stored": 2, "declined": 1})
        self.world = World(engines=[FakeEngine("node", counted=figures)])
        samples = self.scrape()
        labels = {"kind": "containerd", "engine": "node"}
        self.assertEqual(self.value(samples, "xferd_engine_snapshots", **labels), 5)
        self.assertEqual(self.value(samples, "xferd_engine_layers", **labels), 3)
        for result, count in figures.prepares.items():
            value = self.value(samples, "xferd_engine_prepares_total", **labels, result=result)
            self.assertEqual(value, count)

    def test_fleet(self) -> None:
        """
        The bytes of this node are counted by source; without a fleet there are none.
        """
        counts = FleetCounts(
            received={"upstream": 5, "peer": 7}, sent=3, takeovers=2, available=True, left_out=1
        )
        self.assertNotIn("xferd_fleet_available", {name for name, *_ in self.scrape()})
        self.world = World(fleet=FakeFleet(counted=counts))
        samples = self.scrape()
        self.assertEqual(self.value(samples, "xferd_fleet_bytes_total", source="peer"), 7)
        for name, value in (
            ("xferd_fleet_available", 1),
            ("xferd_fleet_sent_bytes_total", 3),
            ("xferd_fleet_takeovers_total", 2),
            ("xferd_fleet_left_out", 1),
        ):
            self.assertEqual(self.value(samples, name), value)

    def test_listed(self) -> None:
        """
        The documentation lists exactly the metrics of the server.
        """
        self.world = World(fleet=FakeFleet())
        self.scrape()
        ours = {
            family.name + ("_total" if family.type == "counter" else "")
            for family in self.families
            if family.name.startswith("xferd_")
        }
        self.assertEqual(ours, set(METRICS))
        page = (Path(xferd.__file__).parents[1] / "docs" / "http-api.rst").read_text()
        table = {word.strip("`") for word in page.split() if word.startswith("``xferd_")}
        self.assertEqual(table, set(METRICS))

    def test_hosts(self) -> None:
        """
        The number of host labels is limited; a host keeps its label, so that no
        counter decreases.
        """
        hosts = {f"h{n}": n for n in range(MAX_HOSTS + 5)}
        self.world.jobs.numbers = evolve(FIGURES, fetched=hosts, sent={"h3": 1, "new": 2})
        samples = self.scrape()
        name = "xferd_transfer_bytes_total"
        self.assertEqual(self.value(samples, name, direction="in", host="h99"), 99)
        self.assertEqual(self.value(samples, name, direction="in", host="other"), 100 + 101 + 102 + 103 + 104)
        self.assertEqual(self.value(samples, name, direction="out", host="h3"), 1)
        self.assertEqual(self.value(samples, name, direction="out", host="other"), 2)
        self.world.jobs.numbers = evolve(FIGURES, fetched={"zero": 7, **hosts})
        samples = self.scrape()
        self.assertEqual(self.value(samples, name, direction="in", host="h99"), 99)
        self.assertEqual(
            self.value(samples, name, direction="in", host="other"), 7 + 100 + 101 + 102 + 103 + 104
        )

    def test_unknown(self) -> None:
        """
        Values that cannot be read are left out, and the others are included.
        """
        self.world.store.closed = True
        self.world.store.path = "/nowhere"
        names = {name for name, _ in self.scrape()}
        self.assertNotIn("xferd_store_bytes", names)
        self.assertNotIn("xferd_disk_free_bytes", names)
        self.assertIn("xferd_jobs", names)

    def test_two_daemons(self) -> None:
        """
        Two daemons in one process have separate metrics.
        """
        other = World()
        other.jobs.numbers = evolve(FIGURES, delivered=5)
        self.assertEqual(self.value(self.scrape(), "xferd_delivered_bytes_total"), 2000)
        self.world = other
        self.assertEqual(self.value(self.scrape(), "xferd_delivered_bytes_total"), 5)

    def test_token(self) -> None:
        """
        An untrusted listener requires the token.
        """
        world = World(trusted=False, token="t")
        self.assertEqual(world.ask("GET", "/metrics").status, 401)
        self.assertEqual(world.ask("GET", "/metrics", None, {"Authorization": "Bearer t"}).status, 200)
