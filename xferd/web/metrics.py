# -*- test-case-name: tests.web.test_metrics -*-
"""
C{/metrics}, in the text format of Prometheus.

Nothing is counted here: each scrape reads the present state and the counters
of other packages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from xferd.errors import SourceError, StoreError
from xferd.interfaces.hosts import Availability
from xferd.interfaces.webhooks import RESULTS, WebhookFigures
from xferd.jobs.job import ENDED
from xferd.json_encoding import from_rfc3339
from xferd.web.disk_status import DiskJSON, disk_status
from xferd.web.guard import ACCESSES
from xferd.web.job_request import KINDS_OF_JOBS
from xferd.web.responses import codes_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from xferd.interfaces.engines import EngineFigures, IEngines
    from xferd.interfaces.fleet_status import FleetCounts, IFleet
    from xferd.interfaces.hosts import IHostMemory, KnownHost
    from xferd.interfaces.job_json import LimitsJSON
    from xferd.interfaces.jobs import Figures, IJobs
    from xferd.interfaces.mirror import UpstreamFigures
    from xferd.interfaces.store import IStore
    from xferd.web.runtime import Runtime

MEDIA_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
"""The text format, which every version of Prometheus reads."""

MAX_HOSTS: Final = 100
"""How many registries have a label of their own; the others share C{other}."""

CODES: Final = tuple(sorted(set(codes_of(SourceError))))
"""The codes of failures of a host, which are counted from zero for each one."""

FROM_ZERO: Final = 60.0
"""Seconds for which the failures of a host are 0 that fails before a scrape has shown it."""

LOGINS: Final = ("accepted", "refused")
"""The results of logins at the registry."""

METRICS: Final[Mapping[str, str]] = {
    "xferd_build_info": "The version, as a label; the value is 1.",
    "xferd_start_time_seconds": "Start time of the daemon, in seconds since 1970.",
    "xferd_jobs": "Queued and running jobs, by kind and state.",
    "xferd_jobs_ended_total": "Jobs that ended since the start, by kind and state.",
    "xferd_transfers": "Transfers, by kind and state.",
    "xferd_jobs_resumed_total": "Jobs of an earlier daemon that continued since the start, by kind.",
    "xferd_jobs_interrupted_total": "Jobs of an earlier daemon that ended as interrupted, by kind.",
    "xferd_job_seconds": "Duration of jobs that ended since the start, by kind.",
    "xferd_phase_seconds": "Duration of the phases of these jobs, by kind and phase.",
    "xferd_jobs_bound_total": "These jobs, by kind and by what took most of their time; "
    "none for jobs of less than a second.",
    "xferd_saved_bytes_total": "Bytes that jobs did not have to move, by kind: the store, the registry "
    "or another job had them.",
    "xferd_transfer_bytes_total": "Bytes over the network, by direction and registry host.",
    "xferd_delivered_bytes_total": "Bytes delivered by pulls and copies, each blob once for each job.",
    "xferd_jobs_waiting": "Jobs that wait as a whole, manifests and other documents included, by reason.",
    "xferd_job_wait_seconds": "How long the longest of these waits has lasted, by reason.",
    "xferd_verified_total": "Blobs and trees that verifications have checked, "
    "and damage that they have found and replaced.",
    "xferd_verified_bytes_total": "Bytes that verifications have checked.",
    "xferd_retries_total": "Failed attempts that were retried, by error code.",
    "xferd_failures_total": "Failed attempts, by host and error code.",
    "xferd_transfers_waiting": "Transfers that are kept from moving at full speed, by reason.",
    "xferd_slots": "Size of each slot pool, by kind.",
    "xferd_slots_in_use": "Transfers that hold a slot, by kind.",
    "xferd_slots_waiting": "Transfers that wait for a slot, by kind.",
    "xferd_wait_seconds": "Time that transfers waited for a slot, by kind.",
    "xferd_bandwidth_limit_bytes": "Bandwidth limit in bytes per second, by direction; 0 means no limit.",
    "xferd_workers": "Limit of layers being unpacked.",
    "xferd_workers_busy": "Layers being unpacked.",
    "xferd_images": "Images in the store.",
    "xferd_store_bytes": "Bytes on disk, by part: blobs, trees and partial blobs.",
    "xferd_disk_free_bytes": "Free bytes on the store's disk.",
    "xferd_disk_size_bytes": "Size of the store's disk, in bytes.",
    "xferd_event_streams": "Open event streams.",
    "xferd_requests_total": "Requests of the API and the page, by what admitted them.",
    "xferd_registry_logins_total": "Logins and tokens of the registry's users, by result.",
    "xferd_authentications_total": "Answers 401 of registries, and what came of them, by result.",
    "xferd_reactor_lag_seconds": "How much later than due a timer ran, measured once a second.",
    "xferd_gc_seconds": "Duration of Python's garbage collections, by generation.",
    "xferd_mirror_answers_total": "Manifests and blobs for clients of the registry, by upstream and result.",
    "xferd_mirror_bytes_total": "Bytes of mirrored blobs, sent to clients and fetched from the upstream.",
    "xferd_mirror_saved_bytes": "Bytes that clients of the registry got and the upstream did not send.",
    "xferd_quota_remaining": "Requests that a registry still permits an account, by its last response.",
    "xferd_quota_limit": "Requests that a registry permits an account in a window.",
    "xferd_host_paused": "Whether a registry asked an account to wait: 1 or 0.",
    "xferd_host_failures": "Failures of a registry or mirror in a row.",
    "xferd_engine_snapshots": "Snapshots of each container engine, containers included.",
    "xferd_engine_layers": "Layers of the store that each container engine uses.",
    "xferd_engine_prepares_total": "Layers that each container engine requested, by result.",
    "xferd_webhooks_total": "Attempts to send a message about a job, by receiver and result.",
    "xferd_webhooks_waiting": "Messages about jobs that are not accepted yet, by receiver.",
    "xferd_fleet_available": "Whether etcd, which coordinates the fleet, answers: 1 or 0.",
    "xferd_fleet_bytes_total": "Bytes of blobs by source: upstream, peer or store.",
    "xferd_fleet_sent_bytes_total": "Bytes of blobs that peers got from this node.",
    "xferd_fleet_takeovers_total": "Downloads taken over from nodes that did not deliver.",
    "xferd_fleet_left_out": "Peers that sent wrong bytes in the last hour.",
}
"""Every metric of our own, with what it is; those of the process come besides."""


@frozen
class Scene:
    """
    The values of one scrape.

    @ivar started: in seconds since 1970.
    @ivar disk: the store's disk.
    @ivar store: bytes by part of the store; empty where they are not known.
    @ivar streams: the number of open event streams.
    @ivar hosts: what is known of registries.
    @ivar engines: the counters of engines, by their kind and their name.
    @ivar fleet: the counters of this node, or L{None} without a fleet.
    @ivar accesses: requests since the start, by one of L{ACCESSES}.
    """

    version: str
    started: float
    figures: Figures
    limits: LimitsJSON
    images: int
    store: Mapping[str, int]
    disk: DiskJSON
    streams: int
    hosts: Sequence[KnownHost]
    engines: Mapping[tuple[str, str], EngineFigures]
    fleet: FleetCounts | None
    accesses: Mapping[str, int]


async def scene_of(
    jobs: IJobs,
    store: IStore,
    memory: IHostMemory,
    engines: IEngines,
    fleet: IFleet | None,
    version: str,
    started: str,
    streams: int,
    accesses: Mapping[str, int],
) -> Scene:
    """
    The values at present.

    @param started: when the daemon started, RFC 3339.
    @param streams: the number of open event streams.
    @param accesses: requests since the start, by one of L{ACCESSES}.
    """
    try:
        usage = await store.usage()
    except StoreError:
        # It is not open yet, or not any more.
        usage = {}
    return Scene(
        version=version,
        started=from_rfc3339(started),
        figures=jobs.figures(),
        limits=jobs.limits(),
        images=len(store.images.all()),
        store=usage,
        disk=disk_status(store),
        streams=streams,
        hosts=memory.hosts(),
        engines=engines.figures(),
        fleet=None if fleet is None else fleet.counts(),
        accesses=accesses,
    )


class Metrics:
    """
    The metrics of one daemon, without any global registry.
    """

    def __init__(
        self,
        clock: IReactorTime,
        runtime: Runtime,
        webhooks: Callable[[], WebhookFigures] = WebhookFigures,
        logins: Callable[[], Mapping[str, int]] = dict,
        authentications: Callable[[], Mapping[tuple[str, str], int]] = dict,
    ) -> None:
        """
        @param webhooks: returns the counts of webhooks.
        @param logins: returns those of the registry's logins, by one of L{LOGINS}.
        @param authentications: returns those of authentication at registries, by host and result.
        """
        self._clock = clock
        self._runtime = runtime
        self._webhooks = webhooks
        self._logins = logins
        self._authentications = authentications
        self._hosts: dict[str, None] = {}
        self._first_shown: dict[str, float] = {}
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)

    def text(self, scene: Scene) -> bytes:
        """
        The response to a scrape, in L{MEDIA_TYPE}.
        """
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once(list(self._families(scene))))
        return bytes(generate_latest(registry)) + bytes(generate_latest(self._process))

    def _families(self, scene: Scene) -> Iterator[Metric]:
        """
        The metrics of the daemon.
        """
        figures, limits = scene.figures, scene.limits
        yield _gauge("xferd_build_info", [((scene.version,), 1)], "version")
        yield _gauge("xferd_start_time_seconds", [((), scene.started)])
        yield _gauge("xferd_jobs", figures.jobs.items(), "kind", "state")
        ended = {(kind, state): 0 for kind in KINDS_OF_JOBS for state in sorted(ENDED)} | dict(figures.ended)
        yield _counter("xferd_jobs_ended_total", ended.items(), "kind", "state")
        yield _gauge("xferd_transfers", figures.transfers.items(), "kind", "state")
        moved = [
            ((direction, host), count)
            for direction, hosts in (("in", figures.fetched), ("out", figures.sent))
            for host, count in self._bounded(hosts).items()
        ]
        for name, counts in (("resumed", figures.resumed), ("interrupted", figures.interrupted)):
            by_kind = [((kind,), count) for kind, count in counts.items()]
            yield _counter(f"xferd_jobs_{name}_total", by_kind, "kind")
        yield _histogram("xferd_job_seconds", _by_one(figures.durations), "kind")
        yield _histogram("xferd_phase_seconds", figures.phases, "kind", "phase")
        yield _counter("xferd_jobs_bound_total", figures.bounds.items(), "kind", "by")
        saved = [((kind,), figures.saved.get(kind, 0)) for kind in KINDS_OF_JOBS]
        yield _counter("xferd_saved_bytes_total", saved, "kind")
        yield _counter("xferd_transfer_bytes_total", moved, "direction", "host")
        yield _counter("xferd_delivered_bytes_total", [((), figures.delivered)])
        retries = [((reason,), count) for reason, count in figures.retries.items()]
        yield _counter("xferd_retries_total", retries, "reason")
        yield _counter("xferd_failures_total", self._failures(figures, scene.hosts).items(), "host", "code")
        waiting = [((reason,), count) for reason, count in figures.waiting.items()]
        yield _gauge("xferd_transfers_waiting", waiting, "reason")
        job_waits = [((reason,), *wait) for reason, wait in figures.job_waits.items()]
        yield _gauge("xferd_jobs_waiting", [(labels, number) for labels, number, _ in job_waits], "reason")
        longest = [(labels, seconds) for labels, _, seconds in job_waits]
        yield _gauge("xferd_job_wait_seconds", longest, "reason")
        checked = figures.checked
        kinds = ("blobs", "trees", "damaged", "healed")
        yield _counter("xferd_verified_total", [((kind,), checked.get(kind, 0)) for kind in kinds], "what")
        yield _counter("xferd_verified_bytes_total", [((), checked.get("bytes", 0))])
        slots = figures.slots.items()
        yield _gauge("xferd_slots", [((kind,), counts["limit"]) for kind, counts in slots], "kind")
        yield _gauge("xferd_slots_in_use", [((kind,), counts["in_use"]) for kind, counts in slots], "kind")
        yield _gauge("xferd_slots_waiting", [((kind,), counts["queued"]) for kind, counts in slots], "kind")
        yield _histogram("xferd_wait_seconds", _by_one(figures.waits), "kind")
        rates = [(("in",), limits["download_rate"]), (("out",), limits["upload_rate"])]
        yield _gauge("xferd_bandwidth_limit_bytes", rates, "direction")
        yield _gauge("xferd_workers", [((), limits["workers"])])
        yield _gauge("xferd_workers_busy", [((), figures.workers_busy)])
        yield _gauge("xferd_images", [((), scene.images)])
        yield _gauge("xferd_store_bytes", [((part,), size) for part, size in scene.store.items()], "part")
        for name, size in (
            ("xferd_disk_free_bytes", scene.disk["free"]),
            ("xferd_disk_size_bytes", scene.disk["total"]),
        ):
            if size is not None:
                yield _gauge(name, [((), size)])
        yield _gauge("xferd_event_streams", [((), scene.streams)])
        accesses = [((access,), scene.accesses.get(access, 0)) for access in ACCESSES]
        yield _counter("xferd_requests_total", accesses, "access")
        logins = self._logins()
        by_result = [((result,), logins.get(result, 0)) for result in LOGINS]
        yield _counter("xferd_registry_logins_total", by_result, "result")
        authentications = self._by_host(self._authentications())
        yield _counter("xferd_authentications_total", authentications.items(), "host", "result")
        lag, collections = self._runtime.lag, self._runtime.collections
        yield _histogram("xferd_reactor_lag_seconds", {(): (lag.buckets(), lag.total)})
        by_generation = {(str(n),): (each.buckets(), each.total) for n, each in enumerate(collections)}
        yield _histogram("xferd_gc_seconds", by_generation, "generation")
        yield from _sent(self._webhooks())
        yield from self._mirrored(figures.upstreams)
        yield from self._known(scene.hosts)
        yield from _engines(scene.engines)
        if scene.fleet is not None:
            yield from _fleet(scene.fleet)

    def _failures(self, figures: Figures, known: Sequence[KnownHost]) -> dict[tuple[str, str], int]:
        """
        The failed attempts by host and code.

        Each host that has moved bytes, failed, or was used last, by an earlier daemon too, has a sample
        for each of L{CODES} and for each code seen so far, so that the first failure is an increase.
        If a host fails before any scrape, its samples are 0 for L{FROM_ZERO}: each scraper sees that.
        """
        newest = sorted(known, key=lambda each: each.used, reverse=True)[: MAX_HOSTS // 2]
        used = (host for host, _ in figures.failures), (each.host for each in newest)
        hosts = dict.fromkeys([*figures.fetched, *figures.sent, *chain(*used)])
        codes = dict.fromkeys([*CODES, *(code for _, code in figures.failures)])
        now, failed = self._clock.seconds(), {host for host, _ in figures.failures}
        for host in hosts:
            self._first_shown.setdefault(self._label(host), now if host in failed else now - FROM_ZERO)
        counted = {host for host in hosts if now - self._first_shown[self._label(host)] >= FROM_ZERO}
        return self._by_host(
            {
                (host, code): figures.failures.get((host, code), 0) if host in counted else 0
                for code in codes
                for host in hosts
            }
        )

    def _by_host(self, counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        """
        Counts by host and another label, where the hosts beyond L{MAX_HOSTS} share one label.
        """
        bounded: Counter[tuple[str, str]] = Counter()
        for (host, other), count in counts.items():
            bounded[self._label(host), other] += count
        return bounded

    def _mirrored(self, upstreams: Mapping[str, UpstreamFigures]) -> Iterator[Metric]:
        """
        The metrics of the registry's upstreams.
        """

        def by_host(counts: Mapping[str, int], label: str) -> list[tuple[tuple[str, str], int]]:
            return [((host, label), count) for host, count in self._bounded(counts).items()]

        answers = [
            *by_host({host: each.hits for host, each in upstreams.items()}, "hit"),
            *by_host({host: each.misses for host, each in upstreams.items()}, "miss"),
            *by_host({host: each.stale for host, each in upstreams.items()}, "stale"),
        ]
        moved = [
            *by_host({host: each.sent for host, each in upstreams.items()}, "sent"),
            *by_host({host: each.fetched for host, each in upstreams.items()}, "fetched"),
        ]
        yield _counter("xferd_mirror_answers_total", answers, "host", "result")
        yield _counter("xferd_mirror_bytes_total", moved, "host", "direction")
        # What a slow client has not read yet was fetched: the difference also falls.
        saved = self._bounded({host: each.saved for host, each in upstreams.items()})
        yield _gauge("xferd_mirror_saved_bytes", [((host,), count) for host, count in saved.items()], "host")

    def _known(self, hosts: Sequence[KnownHost]) -> Iterator[Metric]:
        """
        The metrics of the hosts that were used last, at most L{MAX_HOSTS}, and of
        as many accounts.
        """
        newest = sorted(hosts, key=lambda host: host.used, reverse=True)[:MAX_HOSTS]
        accounts = [(host.host, account) for host in newest for account in host.accounts][:MAX_HOSTS]
        quotas = [
            ((name, account.account), account.state.quota)
            for name, account in accounts
            if account.state.quota is not None
        ]
        remaining = [(labels, quota.remaining) for labels, quota in quotas]
        limits = [(labels, quota.limit) for labels, quota in quotas if quota.limit is not None]
        paused = [
            ((name, account.account), account.state.availability is Availability.PAUSED)
            for name, account in accounts
        ]
        yield _gauge("xferd_quota_remaining", remaining, "host", "account")
        yield _gauge("xferd_quota_limit", limits, "host", "account")
        yield _gauge("xferd_host_paused", paused, "host", "account")
        yield _gauge("xferd_host_failures", [((host.host,), host.failures) for host in newest], "host")

    def _bounded(self, hosts: Mapping[str, int]) -> dict[str, int]:
        """
        Counts by host, where the hosts beyond L{MAX_HOSTS} share one label.

        A host keeps its label, so that no counter ever falls.
        """
        bounded: Counter[str] = Counter()
        for host, count in hosts.items():
            bounded[self._label(host)] += count
        return bounded

    def _label(self, host: str) -> str:
        if len(self._hosts) < MAX_HOSTS:
            self._hosts[host] = None
        return host if host in self._hosts else "other"


def _sent(figures: WebhookFigures) -> Iterator[Metric]:
    """
    The metrics of webhooks.
    """
    attempts = {(host, result): 0 for host in figures.waiting for result in RESULTS} | dict(figures.attempts)
    yield _counter("xferd_webhooks_total", attempts.items(), "host", "result")
    waiting = [((host,), number) for host, number in figures.waiting.items()]
    yield _gauge("xferd_webhooks_waiting", waiting, "host")


def _engines(engines: Mapping[tuple[str, str], EngineFigures]) -> Iterator[Metric]:
    """
    The metrics of the engines.
    """
    figures = engines.items()
    names = ("kind", "engine")
    yield _gauge("xferd_engine_snapshots", [(labels, each.snapshots) for labels, each in figures], *names)
    yield _gauge("xferd_engine_layers", [(labels, each.layers) for labels, each in figures], *names)
    prepares = [
        ((*labels, result), count) for labels, each in figures for result, count in each.prepares.items()
    ]
    yield _counter("xferd_engine_prepares_total", prepares, *names, "result")


def _fleet(counts: FleetCounts) -> Iterator[Metric]:
    """
    The metrics of the fleet.
    """
    yield _gauge("xferd_fleet_available", [((), counts.available)])
    received = [((source,), size) for source, size in counts.received.items()]
    yield _counter("xferd_fleet_bytes_total", received, "source")
    yield _counter("xferd_fleet_sent_bytes_total", [((), counts.sent)])
    yield _counter("xferd_fleet_takeovers_total", [((), counts.takeovers)])
    yield _gauge("xferd_fleet_left_out", [((), counts.left_out)])


class _Once(Collector):
    """
    A collector of metrics that were made before.
    """

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """
        Return the metrics.
        """
        return self._families


_Samples = Iterable[tuple[tuple[str, ...], float]]


def _gauge(name: str, samples: _Samples, *labels: str) -> Metric:
    """
    A gauge: a value that rises and falls.
    """
    family = GaugeMetricFamily(name, METRICS[name], labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(name: str, samples: _Samples, *labels: str) -> Metric:
    """
    A counter: a value that only rises, until the daemon restarts.
    """
    family = CounterMetricFamily(name, METRICS[name], labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


_Durations = tuple[Sequence[tuple[str, int]], float]


def _by_one(samples: Mapping[str, _Durations]) -> dict[tuple[str, ...], _Durations]:
    """
    The samples of a histogram with one label.
    """
    return {(value,): durations for value, durations in samples.items()}


def _histogram(name: str, samples: Mapping[Any, _Durations], *labels: str) -> Metric:
    """
    A histogram of seconds, by the tuples of the values of its labels.
    """
    family = HistogramMetricFamily(name, METRICS[name], labels=labels)
    for values, (buckets, total) in samples.items():
        counts = [(bound, float(count)) for bound, count in buckets]
        family.add_metric(values, buckets=counts, sum_value=total)
    return family
