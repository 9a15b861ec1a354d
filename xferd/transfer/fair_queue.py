# -*- test-case-name: tests.transfer.test_slots -*-
"""
Turns: in which order those who wait are served.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import count
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from xferd.transfer.pauses import HostAccount

W = TypeVar("W")


@frozen
class Turn:
    """
    Who waits.

    The higher priority goes first; then the clients take turns; within a
    client the oldest job goes first, and of that the bottom layer.

    @ivar client: who asked.
    @ivar priority: higher goes first; 0 is usual.
    @ivar job: the job's number, counted up from the oldest.
    @ivar layer: the layer's index, 0 for the bottom one.
    """

    client: str
    priority: int
    job: int
    layer: int


# All is kept as lists in order, found by bisection: moving even 100,000
# pointers by one costs less than a few comparisons in Python, and unlike a
# heap a list can lose an entry from its middle.


@define(eq=False)
class _Client:
    """
    A client that waits somewhere.

    @ivar round: when it last had its turn, or came: the lowest is next.
    """

    name: str
    round: int
    cells: set[_Cell] = field(factory=set)


@define(eq=False)
class _Cell:
    """
    What one client wants of one host with one priority.

    @ivar entries: job, layer, number, waiter: in order.
    """

    lane: _Lane
    priority: int
    client: _Client
    entries: list[tuple[int, int, int, Any]] = field(factory=list)


@define(eq=False)
class _Lane:
    """
    Those who wait for one host.

    @ivar rotation: priority (negative), round, cell: in order.  A client has
        one cell for each priority, so the first two are unique.
    """

    cells: dict[tuple[int, str], _Cell] = field(factory=dict)
    rotation: list[tuple[int, int, _Cell]] = field(factory=list)


class FairQueue(Generic[W]):
    """
    Who waits for which host, in the order of their turns.

    The waiters of a party that is paused stand aside: they keep their places,
    and L{first} does not look at them.

    With n waiting for h hosts, each step costs some h + log n.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._aside: dict[HostAccount, _Lane] = {}
        self._clients: dict[str, _Client] = {}
        self._rounds = count()

    @property
    def hosts(self) -> list[str]:
        """
        The hosts for which somebody waits who does not stand aside.
        """
        return list(self._lanes)

    def enter(self, place: str | HostAccount, turn: Turn, number: int, waiter: W) -> None:
        """
        Queue C{waiter} under one of its turns.

        @param place: the host, or the party with which it stands aside.
        @param number: its own, counted up as waiters come.
        """
        lane = self._table(place).setdefault(place, _Lane())
        cell = lane.cells.get((turn.priority, turn.client))
        if cell is None:
            client = self._clients.get(turn.client)
            if client is None:
                # Who comes new stands behind those who wait already.
                client = self._clients[turn.client] = _Client(turn.client, next(self._rounds))
            cell = lane.cells[turn.priority, turn.client] = _Cell(lane, turn.priority, client)
            client.cells.add(cell)
            insort(lane.rotation, (-cell.priority, client.round, cell))
        insort(cell.entries, (turn.job, turn.layer, number, waiter))

    def leave(self, place: str | HostAccount, turn: Turn, number: int, waiter: W) -> None:
        """
        Take out what was entered.
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
        Who is next, and in which client's turn.

        @param rank: of a host: those of the lowest one go first; L{None} for
            a host for which nothing may start.
        """
        # Hosts are few, and rounds belong to the clients, not to the lanes:
        # one look at the head of each lane is enough.
        best: tuple[int, ...] | None = None
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
        A client had its turn: the others come first now.
        """
        client = self._clients[name]
        now = next(self._rounds)
        for cell in client.cells:
            rotation = cell.lane.rotation
            del rotation[bisect_left(rotation, (-cell.priority, client.round, cell))]
            insort(rotation, (-cell.priority, now, cell))
        client.round = now

    def in_order(self) -> Iterator[W]:
        """
        All who wait, in the order in which they would be served if every
        host were open and nobody else came.  Not to be used over a change.
        """
        rotation = dict.fromkeys(sorted(self._clients.values(), key=lambda c: c.round))
        seen: set[object] = set()
        for priority in sorted({cell.priority for c in rotation for cell in c.cells}, reverse=True):
            entries = {
                client: merge(*(cell.entries for cell in client.cells if cell.priority == priority))
                for client in rotation
            }
            while entries:
                for client in [c for c in rotation if c in entries]:
                    waiter = next((w for _, _, _, w in entries[client] if w not in seen), None)
                    if waiter is None:
                        del entries[client]
                        continue
                    seen.add(waiter)
                    rotation[client] = rotation.pop(client)
                    yield waiter
