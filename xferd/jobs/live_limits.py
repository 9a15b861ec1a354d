# -*- test-case-name: tests.jobs.test_limits -*-
"""
The limits in force in one daemon: those of its configuration, with changes above them, at the
present time of day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from attrs import evolve, field, fields, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xferd.interfaces.job_json import LimitsJSON
from xferd.interfaces.reactor import WallClock
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.limits import ClientLimits, HostLimits, Limits, merged
from xferd.rates import Rate, local_minute
from xferd.transfer.bandwidth import CLIENT, HOST, JOB, Bandwidth
from xferd.transfer.slots import Slots

_LOOK: Final = 1.0
"""Seconds between two readings of the time of day, while a rate depends on it: the wall clock may be
set, and summer time may begin or end."""


@frozen
class _Job:
    """
    The rates of one job, and their present values.
    """

    name: str
    rates: Mapping[str, Rate]
    now: dict[str, int] = field(factory=dict)


class LiveLimits:
    """
    Applies limits, and the rates of the present time of day.

    Life cycle: made; L{start}ed with the recorded changes; L{stop}ped.
    """

    def __init__(
        self,
        configured: Limits,
        *,
        downloads: Slots,
        layers: DownloadManager,
        uploads: Slots,
        download: Bandwidth,
        upload: Bandwidth,
        weights: dict[str, int],
        clock: IReactorTime,
        wall_clock: WallClock,
        minute_of_day: Callable[[float], int] = local_minute,
    ) -> None:
        """
        @param configured: the limits that the slots, the layers and the unpacker have.
        @param weights: those of clients, which the slots and the bandwidths use.
        @param minute_of_day: returns the local minute of the day of a time since the epoch.
        """
        self._places: Mapping[str, tuple[Any, str]] = {
            "downloads": (downloads, "limit"),
            "downloads_per_host": (downloads, "per_host"),
            "ranges": (layers, "ranges"),
            "uploads": (uploads, "limit"),
            "workers": (layers, "workers"),
        }
        self._slots: Mapping[str, Slots] = {"downloads": downloads, "uploads": uploads}
        self._bandwidths: Mapping[str, Bandwidth] = {"download_rate": download, "upload_rate": upload}
        self._weights = weights
        self._clock = clock
        self._wall_clock = wall_clock
        self._minute_of_day = minute_of_day
        self._timer: IDelayedCall | None = None
        self._minute = -1
        self._jobs: dict[int, _Job] = {}
        self._shaped: set[tuple[str, str, object]] = set()
        self._configured = configured
        self._limits = evolve(configured, workers=layers.workers)
        self.kept: dict[str, Any] = {}
        self._apply_rates()

    def start(self, kept: Mapping[str, Any]) -> None:
        """
        Apply the changes that an earlier daemon kept.

        @raise BadInput: they are those of another version.
        """
        self._set(self._limits.changed(kept, self._configured))
        self.kept = dict(kept)

    def stop(self) -> None:
        """
        Stop looking at the time.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def configure(self, configured: Limits) -> None:
        """
        Apply the limits of a configuration that was read again, and what is kept above it.
        """
        changed = configured.changed(self.kept, configured)
        self._configured = configured
        self._set(changed)

    def change(self, changes: Mapping[str, Any], *, keep: bool = False) -> None:
        """
        Set all these limits, or none of them where one is refused.

        @param changes: see L{Limits.changed}.
        @param keep: whether L{kept} has them from now on.
        @raise BadInput: there is no such limit, or a value is out of bounds.
        """
        limits = self._limits.changed(changes, self._configured)
        self._set(limits)
        if keep:
            self.kept = merged(self.kept, changes, self._configured)

    def limit_job(self, number: int, name: str, rates: Mapping[str, Any]) -> Mapping[str, int]:
        """
        Limit a job.

        @param number: the number of its turns.
        @param name: its id.
        @param rates: C{download_rate} and C{upload_rate}; without any, it has no limit.
        @return: the rates that hold now, kept as time passes.
        """
        job = self._jobs[number] = _Job(name, {each: Rate.of(rate) for each, rate in rates.items()})
        self._apply_rates()
        if not any(job.rates.values()):
            del self._jobs[number]
        return job.now

    def present(self) -> LimitsJSON:
        """
        The limits as the API shows them.
        """
        limits = self._limits
        found = {
            **{name: getattr(limits, name) for name in self._places},
            **self._rates_json(limits),
            "hosts": {host: self._entry_json(entry) for host, entry in limits.hosts.items()},
            "clients": {client: self._entry_json(entry) for client, entry in limits.clients.items()},
            "kept": self.kept,
            "binding": self.binding(),
        }
        return cast("LimitsJSON", found)

    def binding(self) -> dict[str, list[str]]:
        """
        The names of the limits that delay transfers at present, by direction.
        """
        return {name.removesuffix("_rate"): each.binding() for name, each in self._bandwidths.items()}

    def rate(self, name: str) -> int:
        """
        The rate of all transfers of a direction that holds now.

        @param name: C{download_rate} or C{upload_rate}.
        """
        return self._bandwidths[name].rate

    # --------------------------------------------------------------- inside

    def _set(self, limits: Limits) -> None:
        limits = limits.resolved()
        for name, place in self._places.items():
            if getattr(*place) != getattr(limits, name):
                setattr(*place, getattr(limits, name))
        for name, slots in self._slots.items():
            own = {host: getattr(each, name) for host, each in limits.hosts.items() if getattr(each, name)}
            if slots.by_host != own:
                slots.by_host = own
        self._weights.clear()
        self._weights.update({client: each.weight for client, each in limits.clients.items()})
        self._limits = limits
        self._apply_rates()

    def _apply_rates(self) -> None:
        """
        Set the rates of the present time of day, and look again if one depends on it.
        """
        minute, limits = self._minute_of_day(self._wall_clock()), self._limits
        self._minute = minute
        shaped, timed = set(), False
        for name, bandwidth in self._bandwidths.items():
            usual: Rate = getattr(limits, name)
            timed = timed or bool(usual.spans)
            if bandwidth.rate != usual.at(minute):
                bandwidth.rate = usual.at(minute)
            parts = (
                *((HOST, host, host, getattr(each, name)) for host, each in limits.hosts.items()),
                *((CLIENT, client, client, getattr(each, name)) for client, each in limits.clients.items()),
                *(
                    (JOB, number, job.name, job.rates[name])
                    for number, job in self._jobs.items()
                    if name in job.rates
                ),
            )
            for scope, key, label, rate in parts:
                timed = timed or bool(rate.spans)
                if rate:
                    shaped.add((name, scope, key))
                if bandwidth.rate_of(scope, key) != rate.at(minute):
                    bandwidth.limit(scope, key, rate.at(minute), label)
        for name, scope, key in self._shaped - shaped:
            self._bandwidths[name].limit(scope, key, 0)
        self._shaped = shaped
        for job in self._jobs.values():
            job.now.update({name: rate.at(minute) for name, rate in job.rates.items()})
        self.stop()
        if timed:
            self._timer = self._clock.callLater(_LOOK, self._look)

    def _look(self) -> None:
        self._timer = self._clock.callLater(_LOOK, self._look)
        if self._minute_of_day(self._wall_clock()) != self._minute:
            self._apply_rates()

    def _rates_json(self, limits: Limits | HostLimits | ClientLimits) -> dict[str, Any]:
        rates: dict[str, Rate] = {name: getattr(limits, name) for name in self._bandwidths}
        return {
            **{name: rate.at(self._minute) for name, rate in rates.items()},
            "timetables": {name: rate.setting() for name, rate in rates.items() if rate.spans},
        }

    def _entry_json(self, entry: HostLimits | ClientLimits) -> dict[str, Any]:
        counts = [each.name for each in fields(type(entry)) if each.name not in self._bandwidths]
        return {**{name: getattr(entry, name) for name in counts}, **self._rates_json(entry)}
