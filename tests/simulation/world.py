"""
One simulation of the daemon: its clients, registries and disk, faults, kills and
restarts.

Each kind of step is a method of one class, which makes the module long.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from tempfile import mkdtemp
from typing import Any, Final, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from tests.simulation.client import READER, BlobReading, Exporting, Reading, Request
from tests.simulation.daemon import PIECE, Daemon, Livelock, images, imported, layer
from tests.simulation.durable import Disk, World
from tests.simulation.invariants import Invariants
from tests.simulation.registry_client import Pushing
from tests.simulation.schedules import HELD, TARGET, Schedule
from xferd.errors import (
    ConnectionFailed,
    NotFound,
    RegistryUnavailable,
    StoreError,
    TimedOut,
    TooManyRequests,
    WorkerLost,
    XferdError,
)
from xferd.interfaces.integrity import Damage
from xferd.interfaces.mirror import IBlobReader
from xferd.interfaces.registry import IRepository
from xferd.jobs.limits import Limits
from xferd.names import Reference, Repository
from xferd.testing.fakes import FakeRegistries, FakeRegistry

TICK: Final = 0.25
"""Seconds between two pieces of the registries."""

_MEMORY: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None

LIMIT: Final = 1_200.0
"""Seconds after the last step in which all has to be over."""


def error_of(kind: str, host: str) -> XferdError:
    """
    An error of a registry.
    """
    if kind == "unavailable":
        return RegistryUnavailable("not now", host=host, status=503)
    if kind == "too many":
        return TooManyRequests("slow down", host=host, status=429, retry_after=4.0)
    if kind == "timeout":
        return TimedOut(f"{host} was silent", host=host, phase="silence")
    return ConnectionFailed(f"the connection to {host} broke", host=host)


class Simulation:
    """
    One run of a schedule.

    @ivar wrong: what is wrong, one sentence each; the run ends with the first.
    @ivar requests: the requests of all clients.
    @ivar readings: the clients of the present daemon that read without a job.
    @ivar pushings: the clients that push to the daemon.
    """

    def __init__(self, schedule: Schedule, say: Callable[[str], object] = lambda _: None) -> None:
        """
        @param say: gets a line for each thing that happens.
        """
        self.schedule = schedule
        self.random = Random(schedule.seed)
        self.now = 0.0
        self.wrong: list[str] = []
        self.requests: list[Request] = []
        self.readings: list[Reading] = []
        self.pushings: list[Pushing] = []
        self.limits = Limits(workers=2, ranges=schedule.settings.streams)
        self.full_until = 0.0
        self.slow_until: dict[str, float] = {}
        self.events: Counter[str] = Counter()
        self._root = mkdtemp(prefix="xferd-simulation-", dir=_MEMORY)
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._say = say
        world = FakeRegistries(Clock())
        world.registry(TARGET)
        for name, image in images().items():
            host, _, path = name.partition("/")
            registry = world.registry(host)
            registry.add(image, path)
            for each in image.layers:
                registry._stalled.add(each.blob.digest)
                world.registry(TARGET)._stalled.add(each.blob.digest)
        self.invariants = Invariants(self.requests, self.readings, self.pushings, schedule)
        self.daemon = self._start(None, None, World.of(world._registries.values()))

    def say(self, text: str) -> None:
        """
        Report what happens.
        """
        self._say(f"{self.now:9.3f} {text}")

    def run(self) -> list[str]:
        """
        Run the schedule.

        @return: what is wrong.
        """
        observer = cast("ILogObserver", self._logged)
        globalLogPublisher.addObserver(observer)
        try:
            self._run()
        except Livelock as e:
            self.wrong.append(str(e))
        finally:
            if self.wrong:
                self._discard(self.daemon)
            globalLogPublisher.removeObserver(observer)
            shutil.rmtree(self._root)
        for each in self.wrong:
            self.say(f"WRONG: {each}")
        return self.wrong

    def _run(self) -> None:
        self.say(str(self.schedule.settings))
        for step in self.schedule.steps:
            self.wait(step.pause)
            if self.wrong:
                return
            self.say(str(step))
            self.events[step.kind] += 1
            getattr(self, step.kind)(*step.values)
            self.daemon.settle()
            self.check()
            if self.wrong:
                return
        self.say("all faults end")
        self.mend()
        until = self.now + LIMIT
        while not self.is_over and self.now < until and not self.wrong:
            self.wait(TICK if self._moving() else 5.0)
        if not self.wrong:
            self.wait(15.0)
            self.wrong += self.invariants.check_end()
        if not self.wrong:
            self._unwind(self.daemon)
            self.wrong += self.invariants.check_stopped()

    def _logged(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.critical:
            failure = event.get("log_failure")
            error = repr(failure.value) if isinstance(failure, Failure) else formatEvent(event)
            self.wrong.append(f"an internal error was logged: {error}")

    @property
    def is_over(self) -> bool:
        """
        Whether all clients were told how their jobs ended.
        """
        waiting = any(not request.over for request in self.requests)
        waiting |= any(not reading.over for reading in self.readings)
        waiting |= any(not pushing.over for pushing in self.pushings)
        return not waiting and not self.daemon.filling

    # -------------------------------------------------------------- the time

    def wait(self, seconds: float) -> None:
        """
        Let some time pass.
        """
        until = self.now + seconds
        while self.now < until and not self.wrong:
            size = TICK if self._moving() or self._later else 5.0
            calls = self.daemon.clock.getDelayedCalls()
            if size > TICK and calls:
                due = min(call.getTime() for call in calls) - self.daemon.clock.seconds()
                size = min(size, max(TICK, due))
            size = min(size, until - self.now)
            self.now += size
            self.daemon.clock.advance(size)
            self.daemon.settle()
            self._feed()
            for due, call in [each for each in self._later if each[0] <= self.now]:
                self._later.remove((due, call))
                call()
            self.daemon.settle()
            self.check()

    def check(self) -> None:
        """
        Check the invariants.
        """
        if not self.wrong:
            self.wrong += self.invariants.check()

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """
        Call a function after some seconds.
        """
        self._later.append((self.now + seconds, call))

    def _moving(self) -> bool:
        registries = self.daemon.hosts
        return any(each.open_bodies() or each.uploads.running() for each in registries)

    def _feed(self) -> None:
        """
        Have the registries send and accept a piece of each blob.
        """
        for registry in self.daemon.hosts:
            for body in registry.open_bodies():
                body.feed(PIECE)
        for registry in self.daemon.bases:
            for upload in registry.uploads.running():
                upload.feed(PIECE)

    # ------------------------------------------------------------- daemons

    def _start(self, wall: float | None, disk: Disk | None, world: World) -> Daemon:
        """
        Start the next daemon; its clients come back.
        """
        number = 1 if disk is None else self.daemon.number + 1
        daemon = self.daemon = Daemon.make(
            number, self.schedule.settings, self._path(number), self.limits, wall, disk, world
        )
        self.invariants.begin(daemon)
        if self.now < self.full_until:
            self._fill()
        for call, until in self.slow_until.items():
            if self.now < until:
                daemon.store.gate.hold(call)
        _ = Deferred.fromCoroutine(daemon.store.catalog.load())
        started = Deferred.fromCoroutine(daemon.jobs.start()).addErrback(self._not_started)
        daemon.settle()
        if not started.called and not daemon.store.gate.waiting("journal.begun"):
            self.wrong.append("the daemon does not start")

        async def find(repository: Repository) -> IRepository:
            return daemon.registries.repository(repository)

        daemon.mirrored.update(digest for _, digest in daemon.store.journal.recorded_fills)
        _ = daemon.jobs.mirror.resume(find)
        for request in tuple(self.requests):
            request.come_back(daemon.jobs, number)
        for pushing in self.pushings:
            pushing.come_back(daemon)
        daemon.settle()
        return daemon

    def _not_started(self, failure: Failure) -> None:
        self.wrong.append(f"the daemon does not start: {failure.value!r}")

    def _path(self, number: int) -> str:
        path = os.path.join(self._root, str(number))
        os.mkdir(path)
        return path

    def _unwind(self, daemon: Daemon) -> None:
        """
        Stop a daemon.
        """
        stopping = Deferred.fromCoroutine(daemon.jobs.stop(1.0))
        daemon.settle()
        for _ in range(20):
            if not stopping.called:
                daemon.clock.advance(1.0)
                daemon.settle()
        if not stopping.called:
            self.wrong.append("the daemon does not stop")

    def _discard(self, daemon: Daemon) -> None:
        """
        Take a dead daemon apart, whatever it does meanwhile.
        """
        for request in self.requests:
            request.daemon = 0
        for pushing in self.pushings:
            pushing.leave()
        for reading in self.readings:
            if reading.work is not None:
                reading.work.cancel()
        self.readings.clear()
        wrong = list(self.wrong)
        for call in HELD:
            daemon.store.gate.release(call)
        for registry in daemon.hosts:
            registry.gate.release("open")
        try:
            self._unwind(daemon)
        except Livelock:
            pass
        self.wrong[:] = wrong

    # --------------------------------------------------------------- steps

    def _begin(self, kind: str, *values: Any) -> None:
        request = Request(len(self.requests) + 1, kind, *values)
        request.authenticates = self.schedule.settings.credentials
        self.requests.append(request)
        request.begin(self.daemon.jobs, self.daemon.number)

    def pull(self, *values: Any) -> None:
        """
        A client pulls an image.
        """
        self._begin("pull", *values)

    def fill(self, *values: Any) -> None:
        """
        A container engine pulls the layers of an image.
        """
        self._begin("fill", *values)

    def read(self, name: str, client: str, which: float, part: float) -> None:
        """
        A client of the registry reads a layer.

        @param which: chooses the layer, from 0 to 1.
        @param part: the part after which it leaves.
        """
        if not self.daemon.jobs._runner.is_open:
            return
        image = images()[name]
        blob = image.layers[int(which * len(image.layers))].blob.descriptor
        credentials = Request(0, "pull", name, client, 0, True, True)
        credentials.authenticates = self.schedule.settings.credentials
        repository = Reference.parse(name).repository
        reading = BlobReading(blob=blob, most=int(part * blob.size))
        self.readings.append(reading)
        reading.begin(
            succeed(self.daemon.jobs.content(blob, repository, READER + client, credentials.credentials))
        )

    def mirror(self, name: str, client: str, which: float, part: float) -> None:
        """
        A client of the registry pulls a layer from an upstream that anybody may read.

        @param which: chooses the layer, from 0 to 1.
        @param part: the part after which it leaves; the store fetches the rest.
        """
        mirror, settings = self.daemon.jobs.mirror, self.schedule.settings
        if settings.credentials or not self.daemon.jobs._runner.is_open:
            return
        image = images()[name]
        blob = image.layers[int(which * len(image.layers))].blob.descriptor
        source = self.daemon.registries.repository(Reference.parse(name).repository)
        reading = BlobReading(blob=blob, most=int(part * blob.size))
        self.readings.append(reading)
        self.daemon.mirrored[blob.digest] += 1

        async def opening() -> IBlobReader:
            await mirror.manifest(source, "latest", READER + client)
            return await mirror.blob(source, blob.digest, READER + client)

        reading.begin(Deferred.fromCoroutine(opening()))

    def export(self, name: str, client: str, form: str) -> None:
        """
        A client exports an image.
        """
        if not self.daemon.jobs._runner.is_open:
            return
        request = Request(0, "pull", name, client, 0, True, True)
        request.authenticates = self.schedule.settings.credentials
        exporting = Exporting(image=name)
        self.readings.append(exporting)
        exporting.begin(self.daemon.jobs.export(name, form, READER + client, request.credentials))

    def push_here(self, name: str, returns: bool) -> None:
        """
        A client pushes an image to the daemon's own registry, and pulls it then.

        @param returns: whether it tries again after a restart.
        """
        pushing = Pushing(name, returns)
        self.pushings.append(pushing)
        pushing.begin(self.daemon)

    def prefetch(self, *values: Any) -> None:
        """
        A client has an image fetched for the registry.
        """
        self._begin("prefetch", *values)

    def import_archive(self, name: str, *values: Any) -> None:
        """
        A client imports an archive.
        """
        self._begin("import", imported(name), *values)

    def verify(self, *values: Any) -> None:
        """
        A client has an image verified, or everything.
        """
        self._begin("verify", *values)

    def damage(self, which: float) -> None:
        """
        The disk damages a tree.

        @param which: chooses one, from 0 to 1.
        """
        store = self.daemon.store
        found = sorted(store.integrity.trees(), key=str)
        if found:
            self.daemon.loses = self.invariants.damaged = True
            store.integrity.damage[found[int(which * len(found))]] = [Damage("file", "has other content")]

    def push(self, *values: Any) -> None:
        """
        A client pushes an image.
        """
        self._begin("push", *values)

    def copy(self, *values: Any) -> None:
        """
        A client copies an image.
        """
        self._begin("copy", *values)

    def cancel(self, which: float) -> None:
        """
        A client cancels a job.

        @param which: chooses one that has not ended, from 0 to 1.
        """
        waiting = [request for request in self.requests if not request.over]
        if waiting:
            request = waiting[int(which * len(waiting))]
            self.say(f"  {request}")
            request.cancel(self.daemon.jobs)

    def limit(self, name: str, value: Any) -> None:
        """
        A limit changes.
        """
        self.invariants.limits_changed()
        self.daemon.jobs.change_limits({name: value})

    def reload(self) -> None:
        """
        The configuration is read again: its limits are in force.
        """
        self.invariants.limits_changed()
        self.daemon.jobs.configure_limits(self.limits)

    def refuse(self, host: str, call: str, error: str, times: int) -> None:
        """
        A registry refuses some requests.
        """
        for registry in self._views(host):
            registry.gate.fail(call, error_of(error, host), times=times)

    def break_connections(self, host: str, error: str) -> None:
        """
        The connections to a registry break.
        """
        for registry in self._views(host):
            for body in registry.open_bodies():
                body.fail(error_of(error, host))
        for upload in registry.uploads.running():
            upload.fail(error_of(error, host))

    def mute(self, host: str, seconds: float) -> None:
        """
        A registry answers nothing for a while.
        """
        for registry in self._views(host):
            registry.gate.hold("open")
            self.later(seconds, partial(registry.gate.release, "open"))

    def spoil(self, host: str, number: int) -> None:
        """
        A registry sends wrong bytes of a layer, once.
        """
        blob = layer(number).blob
        data = blob.read()
        for registry in self._views(host):
            registry.corrupt(blob.digest, data[:-1] + bytes([data[-1] ^ 1]))
        self.daemon.spoiled.add(blob.digest)

    def slow_disk(self, call: str, seconds: float) -> None:
        """
        The disk does one kind of work no more, for a while.
        """
        self.slow_until[call] = max(self.slow_until.get(call, 0.0), self.now + seconds)
        self.daemon.store.gate.hold(call)
        self.later(seconds, lambda: self._hurry(call))

    def _hurry(self, call: str) -> None:
        if self.now >= self.slow_until[call]:
            self.daemon.store.gate.release(call)

    def fill_disk(self, seconds: float) -> None:
        """
        The disk is full for a while.
        """
        self.full_until = max(self.full_until, self.now + seconds)
        self._fill()
        self.later(seconds, self._free_disk)

    def _fill(self) -> None:
        self.daemon.store.blobs.free = 0
        self.daemon.loses = self.invariants.filled = True

    def _free_disk(self) -> None:
        if self.now >= self.full_until:
            self.daemon.store.blobs.free = 1 << 50

    def jump(self, seconds: float) -> None:
        """
        The wall clock is set.
        """
        self.daemon.wall_clock.set(self.daemon.wall_clock() + seconds)

    def kill(self, lost: float) -> None:
        """
        The daemon is killed, and the next one starts.

        @param lost: the share of what was not flushed that is lost, 0 to 1.
        """
        daemon = self.daemon
        disk, world = Disk.of(daemon.store, self.random, lost), World.of(daemon.bases)
        self._replace(daemon, disk, world)

    def stop(self, grace: float) -> None:
        """
        The daemon is stopped, and the next one starts.
        """
        stopping = Deferred.fromCoroutine(self.daemon.jobs.stop(grace))
        self.daemon.settle()
        until = self.now + grace + 30
        while not stopping.called and self.now < until and not self.wrong:
            self.wait(TICK)
        if not stopping.called:
            self.wrong.append("the daemon does not stop")
            return
        daemon = self.daemon
        disk, world = Disk.of(daemon.store, self.random, 0.0), World.of(daemon.bases)
        self._replace(daemon, disk, world)

    def _replace(self, daemon: Daemon, disk: Disk, world: World) -> None:
        # The old daemon's clients, disk and registries are its own now: what it does
        # while it is taken apart is of no consequence.
        self._discard(daemon)
        self._start(daemon.wall_clock(), disk, world)

    def stop_and_kill(self, grace: float, seconds: float, lost: float) -> None:
        """
        The daemon is killed while it stops.
        """
        stopping = Deferred.fromCoroutine(self.daemon.jobs.stop(grace))
        self.daemon.settle()
        self.wait(seconds)
        self.kill(lost)
        del stopping

    def remove(self, name: str) -> None:
        """
        An image is removed from the store.
        """
        self.daemon.loses = True
        self.invariants.removed.add(name)
        _ = self.daemon.jobs.image_admin.remove(name).addErrback(lambda failure: failure.trap(XferdError))

    def collect(self, partials: bool) -> None:
        """
        What nothing uses is removed.
        """
        self.daemon.loses = True
        collecting = self.daemon.jobs.image_admin.collect(False, partials)
        _ = collecting.addErrback(lambda failure: failure.trap(XferdError))

    def set_quota(self, size: int, seconds: float) -> None:
        """
        The store gets a quota for a while.
        """
        self.daemon.loses = self.invariants.filled = True
        self.invariants.removed.update(images(), map(imported, images()))
        self.daemon.jobs.quota = size

        def end() -> None:
            self.daemon.jobs.quota = 0

        self.later(seconds, end)

    def break_disk(self, call: str, times: int) -> None:
        """
        The disk refuses some calls.
        """
        self.daemon.loses = self.invariants.broken = True
        self.daemon.store.gate.fail(call, StoreError("the disk is broken"), times=times)

    def lose_worker(self, times: int) -> None:
        """
        Unpacking processes are killed.
        """
        self.invariants.workers_lost = True
        self.daemon.unpacker.gate.fail("unpack", WorkerLost("a process was killed"), times=times)

    def move_tag(self, name: str, other: str) -> None:
        """
        A tag stands for another image from now on.
        """
        host, _, path = name.partition("/")
        self.daemon.registries.registry(host).add(images()[other], path)

    def reconnect(self, which: float) -> None:
        """
        A client loses its connection, and follows its job again.
        """
        waiting = [request for request in self.requests if not request.over]
        if waiting:
            waiting[int(which * len(waiting))].reconnect(self.daemon.jobs, self.daemon.number)

    def _unended(self, which: float) -> str | None:
        """
        The ID of a job that has not ended, from 0 to 1.
        """
        jobs = [job.id for job in self.daemon.jobs._runner.jobs()]
        return jobs[int(which * len(jobs))] if jobs else None

    def pause_job(self, which: float, seconds: float) -> None:
        """
        A job is paused for some seconds, also over a restart of the daemon.

        @param which: chooses one that has not ended, from 0 to 1.
        """
        job_id = self._unended(which)
        if job_id is not None:
            self.invariants.limits_changed()
            self.say(f"  {job_id}")
            self.daemon.jobs.steering.change(job_id, paused=True, by="ann")
            self.later(seconds, lambda: self._resume_job(job_id))

    def _resume_job(self, job_id: str) -> None:
        if self.daemon.jobs._runner.get(job_id) is not None:
            self.invariants.limits_changed()
            self.daemon.jobs.steering.change(job_id, paused=False, by="ann")

    def pause(self, name: str, keep: bool, seconds: float) -> None:
        """
        Everything, a direction or a host is paused for some seconds.
        """
        self.invariants.limits_changed()
        # The disk may refuse to keep it.
        _ = self.daemon.jobs.steering.pause(name, keep=keep, by="ann").addErrback(_trap_store)
        self.later(seconds, lambda: self._resume(name))

    def _resume(self, name: str) -> None:
        self.invariants.limits_changed()
        _ = self.daemon.jobs.steering.resume(name).addErrback(_trap_store)

    def prioritize(self, which: float, priority: int) -> None:
        """
        A job gets another priority.

        @param which: chooses one that has not ended, from 0 to 1.
        """
        job_id = self._unended(which)
        if job_id is not None:
            self.invariants.limits_changed()
            self.daemon.jobs.steering.change(job_id, priority=priority, by="ann")

    def _views(self, host: str) -> list[FakeRegistry]:
        return [registry for registry in self.daemon.hosts if registry.host == host]

    def mend(self) -> None:
        """
        End all faults.
        """
        self.full_until = 0.0
        self.slow_until = dict.fromkeys(self.slow_until, 0.0)
        for _, call in self._later:
            call()
        self._later.clear()
        self._free_disk()
        for registry in self.daemon.hosts:
            registry.gate.mend()
        self.daemon.store.gate.mend()
        for job in self.daemon.jobs._runner.jobs():
            self._resume_job(job.id)
        for name in list(self.daemon.jobs._transfers.steering.holds()):
            self._resume(name)
        self.daemon.unpacker.gate.mend()
        self.daemon.settle()
        for request in self.requests:
            # Each user logs in: no job waits for credentials.
            if request.authenticates:
                self.daemon.jobs.supply(request.owner, request.credentials)
        self.daemon.settle()


def _trap_store(failure: Failure) -> None:
    """
    The journal refuses, or what is resumed has been resumed.
    """
    failure.trap(StoreError, NotFound)
