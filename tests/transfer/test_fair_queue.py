"""
Tests for L{xferd.transfer.fair_queue} and L{xferd.transfer.request_queue}: the
order of the grants.
"""

from __future__ import annotations

from itertools import product

from tests.transfer.slots_case import SlotsCase, turn
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.slots import Slots


class OrderTests(SlotsCase):
    """
    The order of the grants.
    """

    def test_arrival(self) -> None:
        """
        Equal requests are granted in the order of their arrival.
        """
        requests = [self.queue(str(n), turn()) for n in range(5)]
        self.assertEqual(self.drain(*requests), ["0", "1", "2", "3", "4"])

    def test_jobs_and_layers(self) -> None:
        """
        Of one client, the oldest job's bottom layer is first.
        """
        turns = [turn(job=2), turn(job=1, layer=1), turn(job=1, layer=0), turn(job=3)]
        requests = [self.queue(f"{t.job}.{t.layer}", t) for t in turns]
        self.assertEqual(self.drain(*requests), ["1.0", "1.1", "2.0", "3.0"])

    def test_clients_take_turns(self) -> None:
        """
        A client with few requests does not wait behind one with many.
        """
        requests = [self.queue(f"a{n}", turn("a", n)) for n in range(4)]
        requests += [self.queue(f"b{n}", turn("b", 100 + n)) for n in range(2)]
        requests += [self.queue("c0", turn("c", 200))]
        self.assertEqual(self.drain(*requests), ["a0", "b0", "c0", "a1", "b1", "a2", "a3"])

    def test_weights(self) -> None:
        """
        A client of weight 3 has three turns for each one of another client, also after
        its weight has changed; what is shown agrees with it.
        """
        weights = {"a": 3}
        self.slots = Slots(1, self.clock, weights=weights)
        self.holder = self.queue("holder", turn("holder"))
        requests = [self.queue(f"{c}{n}", turn(c, n)) for n in range(8) for c in "ab"]
        places = self.slots._queue.places()
        shown = [place for request, place in places.items() if request is not self.holder]
        self.assertEqual(shown, list(range(1, 17)))
        names = {
            request: f"{c}{n}" for request, (n, c) in zip(requests, product(range(8), "ab"), strict=True)
        }
        expected = [names[request] for request in places]
        order = "".join(name[0] for name in self.drain(*requests))
        self.assertEqual("".join(name[0] for name in expected), order)
        self.assertEqual((order[:8].count("a"), order[:4].count("a")), (6, 3))
        self.assertEqual(order[-5:], "bbbbb")
        weights.clear()
        self.holder = self.queue("holder", turn("holder"))
        requests = [self.queue(f"{c}{n}", turn(c, n)) for n in range(4) for c in "ab"]
        self.assertEqual("".join(name[0] for name in self.drain(*requests)), "abababab")

    def test_priority(self) -> None:
        """
        A higher priority goes before every turn.
        """
        requests = [
            self.queue("low", turn("a", 1, priority=-1)),
            self.queue("usual", turn("b", 2)),
            self.queue("high", turn("b", 3, priority=5)),
            self.queue("also high", turn("b", 4, priority=5)),
        ]
        self.assertEqual(self.drain(*requests), ["high", "also high", "usual", "low"])

    def test_no_overtaking(self) -> None:
        """
        A request that is made between the release of a slot and the clean turn
        in which it is granted overtakes no other.
        """
        first = self.queue("first", turn())
        self.holder.release()
        second = self.queue("second", turn(priority=0))
        self.assertEqual((first.held, second.held), (False, False))
        self.assertEqual(self.drain(first, second), ["first", "second"])

    def test_many_turns(self) -> None:
        """
        A request with several turns is granted in the best of them, and once.
        """
        requests = [self.queue("a", turn("a", 1)), self.queue("b", turn("b", 2))]
        requests.append(self.queue("both", turn("a", 9), turn("b", 1), turn("c", 5, priority=-1)))
        self.assertEqual(self.drain(*requests), ["a", "both", "b"])

    def test_turns_come_and_go(self) -> None:
        """
        A request moves up when a better turn is added, and down when it is
        removed.
        """
        first, second = self.queue("first", turn(job=1)), self.queue("second", turn(job=2))
        second.add(turn(job=0))
        self.assertEqual(second.reason(), Reason(Obstacle.QUEUE, 1))
        second.discard(turn(job=0))
        self.assertEqual(second.reason(), Reason(Obstacle.QUEUE, 2))
        second.add(turn(job=0))
        self.assertEqual(self.drain(first, second), ["second", "first"])

    def test_equal_turns(self) -> None:
        """
        A turn that was added twice has to be removed twice, and the last turn
        stays.
        """
        first, second = self.queue("first", turn(job=1)), self.queue("second", turn(job=2))
        second.add(turn(job=0))
        second.add(turn(job=0))
        second.discard(turn(job=0))
        second.discard(turn(job=2))
        second.discard(turn(job=0))
        second.discard(turn(job=77))
        self.assertEqual(self.drain(first, second), ["second", "first"])

    def test_turns_of_a_holder(self) -> None:
        """
        The turns of a request that holds a slot may change, without effect.
        """
        self.holder.add(turn("b"))
        self.holder.discard(turn("holder"))
        self.assertEqual(self.slots.queued, 0)
        self.assertEqual(self.drain(), [])
