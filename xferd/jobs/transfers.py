# -*- test-case-name: tests.jobs.test_manager -*-
"""
The transfers of one daemon, which its jobs share: slots, bandwidths, a manager
for each kind of transfer, and the limits on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from xferd.interfaces.hosts import IHostMemory
from xferd.interfaces.job_json import SlotsJSON
from xferd.interfaces.peers import IFleetDownloads
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.store import IStore
from xferd.interfaces.unpack import IUnpacker
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.blobs.layers import QUEUED_LAYERS
from xferd.jobs.blobs.upload import UploadManager
from xferd.jobs.disk_space.quota import Quota
from xferd.jobs.disk_space.reservations import Reservations
from xferd.jobs.limits import Limits
from xferd.jobs.live_limits import LiveLimits
from xferd.transfer.adaptive_streams import RangePolicy
from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.eventual import Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import Observer, TransferManager
from xferd.transfer.pauses import Pauses
from xferd.transfer.reason import Obstacle
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.slots import Slots
from xferd.transfer.steering import Steering
from xferd.transfer.transfer import Transfer

DOCUMENTS_AT_ONCE = 8
"""The number of manifests and configs that are requested at the same time."""

QUESTIONS_AT_ONCE = 64
"""The same for those that a client of the mirror waits for."""

PASSING_AT_ONCE = 8
"""The number of downloads at the same time that are sent to a client and not kept."""

BOUNDED = RetryPolicy(attempts=2, base=0.25, cap=0.25, patience=0.0)
"""The retries for such a client, which can use another registry."""

OnAttempt = Callable[[Mapping[str, Any], Iterable[Turn]], None]
"""Called with the record of an attempt, and the turns of its watchers."""

_WAITS = tuple(each for each in Obstacle if each not in (Obstacle.NONE, Obstacle.FAILURE))
"""What keeps a transfer from moving at full speed."""

SMALL_BLOB = 1024 * 1024
"""Blobs of fewer bytes do not wait behind larger ones."""

SMALL_AT_ONCE = 4
"""The number of slots for such blobs alone, in each direction."""


class Transfers:
    """
    The transfers of one daemon.

    @ivar documents: the manager of transfers of manifests and configs.
    @ivar questions: the manager of what a mirror asks its upstreams, while a client
        waits for the answer: with slots of its own, and one retry at once.
    @ivar passing: the manager of downloads that are not kept, also on a full disk.
    @ivar layers: downloads, unpacks and registers layers.
    @ivar uploads: pushes blobs.
    @ivar limits: the limits in force.
    @ivar steering: the pauses.
    """

    def __init__(
        self,
        store: IStore,
        unpacker: IUnpacker,
        quota: Quota,
        *,
        hosts: IHostMemory,
        clock: IReactorTime,
        wall_clock: WallClock,
        limits: Limits,
        ranges: RangePolicy,
        retry: RetryPolicy,
        sharing: str,
        small_blob: int,
        on_attempt: OnAttempt,
        on_question: OnAttempt,
        observer: Observer,
        eventual: Eventual,
        steering: Steering,
        fleet: IFleetDownloads | None = None,
    ) -> None:
        """
        @param hosts: remembers the pauses and the throughput of hosts.
        @param limits: the first limits; that of C{workers} is the unpacker's.
        @param ranges: when a blob is fetched by several streams; the limits have
            their number.
        @param sharing: C{shared} or C{isolated}.
        @param small_blob: the least size in bytes of a blob that waits for the
            slots of C{downloads} and C{uploads}.
        @param on_attempt: see L{TransferManager}.
        @param on_question: the same for the questions of the mirror's clients.
        @param observer: observes the transfers of jobs.
        @param eventual: makes the calls to watchers of all transfers, so that
            one turn of the reactor has one slice of them.
        @param steering: the pauses.
        @param fleet: the nodes with which downloads are shared.
        """
        weights: dict[str, int] = {}
        downloading, uploading = Bandwidth(0, clock, weights), Bandwidth(0, clock, weights)
        self._free_space = store.free_space
        self._slots: dict[str, Slots] = {}

        def add_slots(kind: str, limit: int, per_host: int, bandwidth: Bandwidth) -> Slots:
            pauses = Pauses(clock)
            hosts.join(kind, pauses)
            slots = partial(
                Slots, clock=clock, per_host=per_host, pauses=pauses, bandwidth=bandwidth, weights=weights
            )
            large = self._slots[kind] = slots(limit)
            self._slots[f"small_{kind}"] = slots(SMALL_AT_ONCE, beyond=large)
            return large

        downloads = add_slots("download", limits.downloads, limits.downloads_per_host, downloading)
        uploads = add_slots("upload", limits.uploads, 0, uploading)
        self._managers: list[TransferManager] = []

        def manager(
            kind: str,
            slots: Slots | None = None,
            retry: RetryPolicy = retry,
            on_attempt: OnAttempt = on_attempt,
        ) -> TransferManager:
            made = TransferManager(
                clock,
                wall_clock=wall_clock,
                slots=slots,
                small=self._slots.get(f"small_{kind}"),
                small_size=small_blob,
                retry=retry,
                kind=kind,
                on_attempt=on_attempt,
                observer=observer,
                use=store.gc.lease,
                eventual=eventual,
                steering=steering,
            )
            self._managers.append(made)
            return made

        pauses = Pauses(clock)
        hosts.join("document", pauses, metered=True)
        self.documents = manager("document", Slots(DOCUMENTS_AT_ONCE, clock, pauses=pauses, weights=weights))
        waits = Pauses(clock)
        hosts.join("question", waits)
        asking = Slots(QUESTIONS_AT_ONCE, clock, pauses=waits)
        self.questions = manager("document", asking, BOUNDED, on_question)
        self.passing = manager("download", Slots(PASSING_AT_ONCE, clock))
        self.layers = DownloadManager(
            store,
            unpacker,
            downloads=manager("download", downloads),
            unpackings=manager("unpacking", Slots(unpacker.workers * QUEUED_LAYERS, clock)),
            registrations=manager("registration"),
            bandwidth=downloading,
            ranges=evolve(ranges, most=limits.ranges),
            reservations=Reservations(store, quota),
            moved=hosts.moved,
            sharing=sharing,
            fleet=fleet,
        )
        self.uploads = UploadManager(
            store.journal, manager("upload", uploads), uploading, wall_clock, sharing, moved=hosts.moved
        )
        self.limits = LiveLimits(
            limits,
            downloads=downloads,
            layers=self.layers,
            uploads=uploads,
            download=downloading,
            upload=uploading,
            weights=weights,
            clock=clock,
            wall_clock=wall_clock,
        )
        store.free_space.follow(self._hold_downloads)
        hosts.follow(self._retry_now)
        self.steering = steering
        steering.observe(self._steer)

    def __iter__(self) -> Iterator[Transfer]:
        return (transfer for manager in self._managers for transfer in manager.transfers())

    def moving(self) -> bool:
        """
        Whether a download, an upload or an unpacking is running.
        """
        kinds = ("download", "upload", "unpacking")
        return any(each.kind in kinds and each.state == "running" for each in self)

    def retries(self) -> Counter[str]:
        """
        The attempts after which another one was made, by the code of the error.
        """
        return sum((manager.retries for manager in self._managers), Counter())

    def failures(self) -> Counter[tuple[str, str]]:
        """
        The failed attempts, by host and code of the error.
        """
        return sum((manager.failures for manager in self._managers), Counter())

    def waiting(self) -> dict[str, int]:
        """
        The transfers that are kept from moving at full speed, by the reason; 0 for the others.
        """
        counts = Counter(each.reason().obstacle for each in self if not each.over)
        return {obstacle.value: counts[obstacle] for obstacle in _WAITS}

    def slot_counts(self) -> dict[str, SlotsJSON]:
        """
        C{limit}, C{in_use} and C{queued} of the slots, by kind.
        """
        return {
            kind: {"limit": slots.limit, "in_use": slots.in_use, "queued": slots.queued}
            for kind, slots in self._slots.items()
        }

    def slot_waits(self) -> dict[str, tuple[list[tuple[str, int]], float]]:
        """
        The waits for slots by kind: a cumulative histogram, and the seconds of all.
        """
        return {kind: (slots.waits.buckets(), slots.waits.total) for kind, slots in self._slots.items()}

    def stop(self) -> list[Deferred[None]]:
        """
        Cancel all transfers.

        @return: fire when those of one kind have ended.
        """
        return [manager.stop() for manager in self._managers]

    def reorder(self, job: int) -> None:
        """
        Let the transfers of a job wait with its new turns.
        """
        for manager in self._managers:
            manager.reorder(job)

    def _steer(self) -> None:
        """
        A pause has begun or ended.
        """
        self.layers.steer()
        for manager in self._managers:
            manager.steer()

    def _retry_now(self, host: str) -> None:
        """
        A host was cleared: make the next attempts there now.
        """
        for manager in self._managers:
            manager.retry_now(host)

    def _hold_downloads(self) -> None:
        """
        While the disk is full, no download begins.
        """
        space = self._free_space
        for kind in ("download", "small_download"):
            self._slots[kind].hold = space.why if space.paused else ""
