# -*- test-case-name: tests.engines.snapshotter.test_pulls -*-
"""
Pulls of the layers that engines ask for: one job for each image, whichever engines,
namespaces and layers it is for.  Clients that send credentials of their own have a job
of their own, which shares its transfers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xferd.credentials import Credentials
from xferd.errors import Interrupted, NotFound, XferdError
from xferd.interfaces.job_json import JobJSON
from xferd.interfaces.jobs import IJobs
from xferd.interfaces.store import IStore, Layer
from xferd.names import Digest, Reference

PATIENCE: Final = 10.0
"""
Seconds for which a pull that no engine waits for continues, and for which what it has
downloaded is kept: engines ask for one layer after the other.
"""


ANSWERED_WITHIN: Final = 15.0
"""
Seconds within which a registry has to answer xferd with the manifest, which the engine
has just got from it.  Otherwise the engine fetches the layers itself, instead of waiting
for all attempts of xferd's.
"""

_Key = tuple[Reference, frozenset[tuple[str, Credentials]]]


class NotPulled(Exception):
    """
    A layer could not be obtained; the text is the reason.
    """


@define(eq=False)
class _Flight:
    """
    The pull of one image.

    States: I{running}; I{done}, while its layers are kept for the next request;
    I{closed}.

    @ivar release: releases the lease on what the pull downloads.
    @ivar waiting: the wait of each request, with the layer that it waits for.
    @ivar timer: ends the pull, or what it keeps, if no request comes.
    @ivar answering: ends the pull if the registry does not answer.
    """

    key: _Key
    release: Callable[[], None]
    job_id: str = ""
    done: bool = False
    waiting: dict[Deferred[Layer], tuple[Digest, Deferred[Layer]]] = field(factory=dict)
    timer: IDelayedCall | None = None
    answering: IDelayedCall | None = None


class LayerPulls:
    """
    Pulls layers for all engines of the daemon.
    """

    def __init__(self, jobs: IJobs, store: IStore, clock: IReactorTime) -> None:
        self._jobs = jobs
        self._store = store
        self._clock = clock
        self._flights: dict[_Key, _Flight] = {}
        store.free_space.follow(self._space_changed)

    def layer(
        self,
        image: Reference,
        chain_id: Digest,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> Deferred[Layer]:
        """
        Obtain a layer of an image.  The caller holds a lease on the store.

        @param image: has the digest of the image's manifest.
        @param client: the owner of the job, should one begin.
        @return: fires when the layer is registered.  Cancelling ends the wait; the job is
            cancelled if no other request waits for it.
        @raise NotPulled: the job cannot begin or has failed, or the image has no such
            layer.
        """
        key = image, frozenset((credentials or {}).items())
        flight = self._flights.get(key) or self._begin(key, client)
        # Fired by the layer's arrival or by the end of the job.
        waiter: Deferred[Layer] = Deferred(lambda d: self._left(flight, d))
        arrival = self._store.layers.arrival(chain_id)
        flight.waiting[waiter] = chain_id, arrival
        self._stop_timer(flight)
        _ = arrival.addCallbacks(lambda layer: self._answer(flight, waiter, layer), lambda _: None)
        if flight.done and flight.waiting:
            self._refuse_all(flight, f"{image} has no layer {chain_id}")
            self._start_timer(flight)
        return waiter

    def stop(self) -> None:
        """
        End all waits, and cancel the pulls that no job of another client needs.
        """
        for flight in tuple(self._flights.values()):
            self._give_up(flight, "xferd is stopping")

    def _begin(self, key: _Key, client: str) -> _Flight:
        """
        Begin to pull an image.
        """
        image, credentials = key
        if self._store.free_space.paused:
            raise NotPulled(self._store.free_space.why)
        flight = _Flight(key, self._store.gc.lease())

        def ended(job: JobJSON) -> None:
            self._ended(flight, job)

        try:
            flight.job_id = self._jobs.pull_layers(str(image), client, ended, dict(credentials))["id"]
        except XferdError as e:
            flight.release()
            raise NotPulled(str(e)) from e
        self._flights[key] = flight
        flight.answering = self._clock.callLater(ANSWERED_WITHIN, self._check_answer, flight)
        return flight

    def _check_answer(self, flight: _Flight) -> None:
        """
        End the pull if the registry has not answered yet.
        """
        if not flight.done and not self._jobs.get(flight.job_id)["layers_total"]:
            self._give_up(flight, f"its registry has not answered xferd within {ANSWERED_WITHIN:.0f} s")

    def _space_changed(self) -> None:
        """
        On a full disk, jobs wait for space; engines do not.
        """
        if self._store.free_space.paused:
            for flight in tuple(self._flights.values()):
                self._give_up(flight, self._store.free_space.why)

    def _give_up(self, flight: _Flight, why: str) -> None:
        """
        End a pull.
        """
        self._close(flight)
        self._refuse_all(flight, why)
        self._cancel_job(flight)

    def _ended(self, flight: _Flight, job: JobJSON) -> None:
        """
        The job has ended, well or not.
        """
        if self._flights.get(flight.key) is not flight:
            return
        flight.done = True
        if job["state"] == "done":
            self._refuse_all(flight, f"{flight.key[0]} has no such layer")
            self._start_timer(flight)
            return
        error = job["error"]
        why = f"job {flight.job_id} was cancelled" if error is None else error["message"]
        self._close(flight)
        self._refuse_all(flight, why)

    def _answer(self, flight: _Flight, waiter: Deferred[Layer], layer: Layer) -> None:
        """
        End a wait: the layer is there.
        """
        del flight.waiting[waiter]
        if not flight.waiting:
            self._start_timer(flight)
        waiter.callback(layer)

    def _refuse_all(self, flight: _Flight, why: str) -> None:
        """
        End the waits for layers that have not come.
        """
        waiting, flight.waiting = flight.waiting, {}
        for waiter, (_, arrival) in waiting.items():
            arrival.cancel()
            waiter.errback(NotPulled(why))

    def _left(self, flight: _Flight, waiter: Deferred[Layer]) -> None:
        """
        A request has ended its wait.
        """
        _, arrival = flight.waiting.pop(waiter)
        arrival.cancel()
        if not flight.waiting:
            self._close(flight)
            self._cancel_job(flight)

    def _start_timer(self, flight: _Flight) -> None:
        self._stop_timer(flight)
        if self._flights.get(flight.key) is flight:
            flight.timer = self._clock.callLater(PATIENCE, self._unwanted, flight)

    def _stop_timer(self, flight: _Flight) -> None:
        timer, flight.timer = flight.timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _unwanted(self, flight: _Flight) -> None:
        """
        End a pull, or release its layers, as no engine has requested one for some time.
        """
        self._close(flight)
        self._cancel_job(flight)

    def _close(self, flight: _Flight) -> None:
        """
        Forget a pull, and release what it has downloaded.
        """
        self._stop_timer(flight)
        if flight.answering is not None and flight.answering.active():
            flight.answering.cancel()
        flight.release()
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _cancel_job(self, flight: _Flight) -> None:
        if flight.done:
            return
        flight.done = True
        try:
            self._jobs.cancel(flight.job_id)
        except (NotFound, Interrupted):
            pass  # It ended at the same time.
