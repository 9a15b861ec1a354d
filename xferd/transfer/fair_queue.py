# -*- test-case-name: tests.transfer.test_fair_queue -*-
"""
The fair queue: priorities, then clients in turn, by their weights, then the oldest job's
bottom layer.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping
from heapq import heapify, heappop, heapreplace, merge
from itertools import count
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from xferd.interfaces.transfer import HostAccount

W = TypeVar("W")

_Round = tuple[float, int]
"""When a client's turn comes: the lowest one is next.  The number, counted up, makes it unique."""


@frozen
class Turn:
    """
    What decides the order of a waiter.

    The highest priority goes first; then the clients take turns, a client of weight 3
    three for each one of a client of weight 1; of one client the oldest job goes first,
    and of that the bottom layer.

    @ivar client: the client that asked.
    @ivar priority: higher goes first; 0 is usual.
    @ivar job: the number of the job, counted up from the oldest.
    @ivar layer: the index of the layer, 0 for the bottom one.
    """

    client: str
    priority: int
    job: int
    layer: int


# Everything is kept in sorted lists, searched by bisection: to move even 100,000
# pointers by one costs less than a few comparisons in Python, and an entry can be
# removed from the middle of a list, unlike from a heap.


@define(eq=False)
class _Client:
    """
    A client with waiters.

    @ivar round: its place in the order of turns; replaced when it arrives and after each of its turns.
    """

    name: str
    round: _Round
    cells: set[_Cell] = field(factory=set)


@define(eq=False)
class _Cell:
    """
    The waiters of one client for one host with one priority.

    @ivar entries: job, layer, number, waiter; sorted.
    """

    lane: _Lane
    priority: int
    client: _Client
    entries: list[tuple[int, int, int, Any]] = field(factory=list)


@define(eq=False)
class _Lane:
    """
    The waiters for one host.

    @ivar rotation: negative priority, round, cell; sorted.  A client has one
        cell for each priority, so the first two are unique.
    """

    cells: dict[tuple[int, str], _Cell] = field(factory=dict)
    rotation: list[tuple[int, _Round, _Cell]] = field(factory=list)


class FairQueue(Generic[W]):
    """
    The waiters for each host, in the order of their turns.

    Waiters may be set aside with an account: they keep their places, and
    L{first} does not look at them.

    With n waiters for h hosts, each operation costs about h + log n.
    """

    def __init__(self, weights: Mapping[str, int] | None = None) -> None:
        """
        @param weights: the weights of clients; 1 for others.  They may change.
        """
        self._weights = {} if weights is None else weights
        self._lanes: dict[str, _Lane] = {}
        self._aside: dict[HostAccount, _Lane] = {}
        self._clients: dict[str, _Client] = {}
        self._numbers = count()
        self._served = 0.0

    @property
    def hosts(self) -> list[str]:
        """
        The hosts with waiters that are not set aside.
        """
        return list(self._lanes)

    def enter(self, place: str | HostAccount, turn: Turn, number: int, waiter: W) -> None:
        """
        Queue C{waiter} under one of its turns.

        @param place: the host, or the account with which it is set aside.
        @param number: its number, counted up as waiters arrive.
        """
        lane = self._table(place).setdefault(place, _Lane())
        cell = lane.cells.get((turn.priority, turn.client))
        if cell is None:
            client = self._clients.get(turn.client)
            if client is None:
                # A new client stands behind those of its weight that wait already.
                client = self._clients[turn.client] = _Client(turn.client, self._next_round(turn.client))
            cell = lane.cells[turn.priority, turn.client] = _Cell(lane, turn.priority, client)
            client.cells.add(cell)
            insort(lane.rotation, (-cell.priority, client.round, cell))
        insort(cell.entries, (turn.job, turn.layer, number, waiter))

    def leave(self, place: str | HostAccount, turn: Turn, number: int, waiter: W) -> None:
        """
        Remove C{waiter} under one of its turns.
        """
        lane = self._table(place)[place]
        cell = lane.cells[turn.priority, turn.client]
        del cell.entries[bisect_left(cell.entries, (turn.job, turn.layer, number, waiter))]
        if cell.entries:
            return
        client = cell.client
        del lane.rotation[bisect_left(lane.rotation, (-cell.priority, client.round, cell))]
        del lane.cells[turn.priority, turn.client]
        client.cells.remove(cell)
        if not client.cells:
            del self._clients[client.name]
        if not lane.cells:
            del self._table(place)[place]

    def first(self, rank: Callable[[str], int | None]) -> tuple[W, str] | None:
        """
        The next waiter, and the client in whose turn it is.

        @param rank: returns the rank of a host: the lowest one goes first; L{None}
            for a host where nothing may start.
        """
        # Hosts are few, and rounds belong to the clients, not to the lanes:
        # one look at the head of each lane is enough.
        best: tuple[Any, ...] | None = None
        found: tuple[W, str] | None = None
        for host, lane in self._lanes.items():
            priority, turn, cell = lane.rotation[0]
            job, layer, number, waiter = cell.entries[0]
            above = rank(host)
            head = (above or 0, priority, turn, job, layer, number)
            if above is not None and (best is None or head < best):
                best = head
                found = waiter, cell.client.name
        return found

    def _table(self, place: str | HostAccount) -> dict[Any, _Lane]:
        return self._lanes if isinstance(place, str) else self._aside

    def served(self, name: str) -> None:
        """
        A client has had its turn: put it behind all others of its weight.
        """
        client = self._clients[name]
        self._served = max(self._served, client.round[0])
        now = self._next_round(name)
        for cell in client.cells:
            rotation = cell.lane.rotation
            del rotation[bisect_left(rotation, (-cell.priority, client.round, cell))]
            insort(rotation, (-cell.priority, now, cell))
        client.round = now

    def _next_round(self, name: str) -> _Round:
        return self._served + 1 / self._weights.get(name, 1), next(self._numbers)

    def in_order(self) -> Iterator[W]:
        """
        The waiters that are not set aside, in the order in which they would be
        served if every host were open and no other waiter arrived.  Invalid
        after a change.
        """
        clients = {client: client.round for client in self._clients.values()}
        numbers = count(max((number for _, number in clients.values()), default=0) + 1)
        served = self._served
        seen: set[object] = set()
        for priority in sorted({cell.priority for c in clients for cell in c.cells}, reverse=True):
            entries = {
                client: merge(*(cell.entries for cell in client.cells if cell.priority == priority))
                for client in clients
            }
            rotation = [(*round_, client) for client, round_ in clients.items()]
            heapify(rotation)
            while rotation:
                turn, _, client = rotation[0]
                waiter = next((w for _, _, _, w in entries[client] if w not in seen), None)
                if waiter is None:
                    heappop(rotation)
                    continue
                seen.add(waiter)
                served = max(served, turn)
                clients[client] = served + 1 / self._weights.get(client.name, 1), next(numbers)
                heapreplace(rotation, (*clients[client], client))
                yield waiter
