"""
Tests for every provider of L{ICoordination}.  A test case mixes
L{CoordinationConformance} in, and can make nodes of one cluster, cut them from it
and let time pass.

Long, since it is one class of all tests of one interface.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from xferd.errors import CoordinationUnavailable
from xferd.interfaces.fleet import MAX_HOLDERS, Claim, FleetPause, Found, ICoordination, Peer
from xferd.interfaces.hosts import Quota
from xferd.names import Digest

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

BLOB = Digest.of(b"a layer")
OTHER = Digest.of(b"another layer")
SIZE = 5 << 20


class CoordinationConformance(_Base):
    """
    Nodes of one cluster.
    """

    lease: float
    """Seconds of the lease of a node."""

    if TYPE_CHECKING:

        def make(self, name: str, url: str = "") -> Any:
            """
            Make a node that is not started, with the URL C{http://NAME.example:5000}.
            """

        def cut(self, node: Any) -> None:
            """
            Cut a node from the cluster.
            """

        def heal(self, node: Any) -> None:
            """
            End L{cut}.
            """

        def lose(self) -> Deferred[None]:
            """
            Stop the cluster, which forgets everything.
            """

        def regain(self) -> Deferred[None]:
            """
            Start the cluster again.
            """

        def passes(self, seconds: float) -> Deferred[None]:
            """
            Wait until some seconds have passed.
            """

    async def until(self, is_so: Callable[[], Coroutine[Any, Any, bool]], seconds: float) -> None:
        """
        Wait until something is so, at most some seconds.
        """
        for _ in range(int(seconds / 0.1) + 1):
            if await is_so():
                return
            await self.passes(0.1)
        self.fail(f"it was not so within {seconds:g} s")

    async def is_available(self, node: Any, available: bool = True, seconds: float = 3.0) -> None:
        """
        Wait until a node is available, or not.
        """

        async def is_so() -> bool:
            return bool(node.available is available)

        try:
            await self.until(is_so, seconds)
        except self.failureException:
            self.fail(f"after {seconds:g} s, the problem is {node.problem!r}")

    async def started(self, *names: str) -> list[Any]:
        """
        Start nodes, and wait until they are available.
        """
        nodes = [self.make(name) for name in names]
        for node in nodes:
            node.start()
        for node in nodes:
            # Logins of many nodes at once are slow: etcd computes bcrypt for each.
            await self.is_available(node, seconds=20.0)
        return nodes

    async def found(
        self, node: Any, is_so: Callable[[Found], bool], seconds: float = 3.0, digest: Digest = BLOB
    ) -> Found:
        """
        Wait until a look finds something.
        """
        found = Found()

        async def look() -> bool:
            nonlocal found
            try:
                found = (await node.look([digest]))[digest]
            except CoordinationUnavailable:
                return False
            return is_so(found)

        await self.until(look, seconds)
        return found

    async def refused(self, call: Deferred[Any]) -> str:
        """
        Expect that a call fails.

        @return: the message.
        """
        try:
            await call
        except CoordinationUnavailable as e:
            return str(e)
        return self.fail("it did not fail")

    # -------------------------------------------------------- availability

    async def test_interface(self) -> None:
        """
        A node provides its Interface.  It is not available before it is started,
        says why, and refuses calls.
        """
        node = self.make("one")
        verifyObject(ICoordination, node)
        self.assertFalse(node.available)
        self.assertTrue(node.problem)
        await self.refused(node.look([BLOB]))
        await self.refused(node.claim(BLOB, SIZE, "registry.example/app"))
        await self.refused(node.fresh_tag("tag"))
        await self.refused(node.nodes())
        await self.refused(node.claims())

    async def test_stopped(self) -> None:
        """
        What a node has made known vanishes when it stops.  After that it is not
        available.
        """
        one, two = await self.started("one", "two")
        one.announce([BLOB])
        await one.claim(OTHER, SIZE, "registry.example/app")
        await self.found(two, lambda found: len(found.holders) == 1)
        await one.stop()
        self.assertFalse(one.available)
        self.assertTrue(one.problem)
        found = await two.look([BLOB, OTHER])
        self.assertEqual({BLOB: Found(), OTHER: Found()}, found)
        self.assertEqual(["two"], [node.peer.name for node in await two.nodes()])
        await one.stop()

    async def test_nodes(self) -> None:
        """
        Every node is listed, with its URL, version and start.
        """
        one, _ = await self.started("one", "two")
        nodes = await one.nodes()
        peers = [Peer("one", "http://one.example:5000"), Peer("two", "http://two.example:5000")]
        self.assertEqual(peers, [node.peer for node in nodes])
        self.assertEqual([0, 0], [node.load for node in nodes])

    async def test_cut(self) -> None:
        """
        A node that is cut off refuses calls within two seconds, says why, and is
        available again when it is reached again.
        """
        one, two = await self.started("one", "two")
        one.announce([BLOB])
        await self.found(two, lambda found: len(found.holders) == 1)
        self.cut(one)
        waiting = one.look([BLOB])
        waiting.addErrback(lambda failure: failure.trap(CoordinationUnavailable) and None)
        await self.passes(2.2)
        self.assertIsNone(await waiting)
        self.assertFalse(one.available)
        self.assertTrue(one.problem)
        await self.refused(one.look([BLOB]))
        self.assertTrue(two.available)
        self.heal(one)
        await self.is_available(one, seconds=5.0)
        self.assertEqual("", one.problem)
        found = await one.look([BLOB])
        self.assertEqual(Found(), found[BLOB])

    async def test_expired(self) -> None:
        """
        What a node has made known vanishes a lease after it was cut off, and is
        made known again when it is reached again: without what it has withdrawn,
        and with what it has announced since.
        """
        one, two = await self.started("one", "two")
        third = Digest.of(b"a third layer")
        one.announce([BLOB, OTHER])
        claim = await one.claim(third, SIZE, "registry.example/app")
        await self.found(two, lambda found: len(found.holders) == 1)
        self.cut(one)
        await self.found(two, lambda found: not found.holders, self.lease + 3)
        self.assertEqual(Found(), (await two.look([third]))[third])
        one.withdraw([BLOB])
        one.announce([third])
        self.heal(one)
        await self.found(two, lambda found: len(found.holders) == 1, 15.0, OTHER)
        found = await self.found(two, lambda found: len(found.holders) == 1, 15.0, third)
        assert found.claim is not None
        self.assertEqual("one", found.claim.owner.name)
        self.assertEqual((), (await two.look([BLOB]))[BLOB].holders)
        one.release(claim)
        await self.found(two, lambda found: found.claim is None, digest=third)

    async def test_short_cut(self) -> None:
        """
        What changed while a node was cut off for less than a lease is made known
        when it is reached again.
        """
        one, two = await self.started("one", "two")
        claim = await one.claim(OTHER, SIZE, "registry.example/app")
        one.announce([BLOB])
        await self.found(two, lambda found: len(found.holders) == 1)
        self.cut(one)
        one.withdraw([BLOB])
        one.announce([OTHER])
        one.release(claim)
        self.heal(one)
        found = await self.found(two, lambda found: len(found.holders) == 1, 15.0, OTHER)
        self.assertIsNone(found.claim)
        await self.found(two, lambda found: not found.holders, 15.0)

    async def test_lost(self) -> None:
        """
        When the cluster is lost with all it knows, every node refuses calls, and
        makes everything known again when it is back.
        """
        one, two = nodes = await self.started("one", "two")
        one.announce([BLOB])
        claim = await one.claim(OTHER, SIZE, "registry.example/app")
        await self.found(two, lambda found: len(found.holders) == 1)
        await self.lose()
        for node in nodes:
            await self.is_available(node, False, self.lease)
            await self.refused(node.look([BLOB]))
        await self.regain()
        for node in nodes:
            await self.is_available(node, True, 15.0)
        await self.found(two, lambda found: len(found.holders) == 1, 15.0)
        found = await self.found(two, lambda found: found.claim is not None, 15.0, OTHER)
        one.release(claim)
        await self.found(two, lambda found: found.claim is None, digest=OTHER)
        assert found.claim is not None
        self.assertEqual("one", found.claim.owner.name)

    # --------------------------------------------------------------- blobs

    async def test_announced(self) -> None:
        """
        A blob that a node announces is found by the others, and not by itself.
        """
        one, two = await self.started("one", "two")
        one.announce([BLOB])
        found = await self.found(two, lambda found: len(found.holders) == 1)
        self.assertEqual(Found((Peer("one", "http://one.example:5000"),)), found)
        self.assertEqual({BLOB: Found(), OTHER: Found()}, await one.look([BLOB, OTHER]))
        self.assertEqual({}, await one.look([]))

    async def test_many(self) -> None:
        """
        Hundreds of blobs are announced, looked up and withdrawn.
        """
        one, two = await self.started("one", "two")
        digests = [Digest.of(b"%d" % n) for n in range(300)]
        one.announce(digests)

        async def count() -> int:
            return sum(len(found.holders) for found in (await two.look(digests)).values())

        async def all_found() -> bool:
            return await count() == 300

        await self.until(all_found, 10.0)
        one.withdraw(digests)

        async def none_found() -> bool:
            return await count() == 0

        await self.until(none_found, 10.0)

    async def test_withdrawn(self) -> None:
        """
        A blob that a node withdraws is found no longer, and one that it does not
        have may be withdrawn, too.
        """
        one, two = await self.started("one", "two")
        one.announce([BLOB])
        await self.found(two, lambda found: len(found.holders) == 1)
        one.withdraw([BLOB, OTHER])
        await self.found(two, lambda found: not found.holders)

    async def test_holders(self) -> None:
        """
        At most sixteen nodes announce a blob; when one of them withdraws it, it
        may be announced by another one.
        """
        nodes = await self.started(*(f"node-{n}" for n in range(MAX_HOLDERS)))
        (late,) = await self.started("late")
        for node in nodes:
            node.announce([BLOB])
        await self.found(late, lambda found: len(found.holders) == MAX_HOLDERS)
        late.announce([BLOB])
        late.announce([OTHER])
        await self.found(nodes[0], lambda found: len(found.holders) == 1, digest=OTHER)
        found = await nodes[0].look([BLOB])
        self.assertEqual(MAX_HOLDERS - 1, len(found[BLOB].holders))
        self.assertNotIn("late", [peer.name for peer in found[BLOB].holders])
        nodes[1].withdraw([BLOB])
        await self.found(late, lambda found: len(found.holders) == MAX_HOLDERS - 1)
        late.announce([BLOB])
        await self.found(nodes[1], lambda found: "late" in [peer.name for peer in found.holders])

    # -------------------------------------------------------------- claims

    async def test_claimed(self) -> None:
        """
        The first node that claims a blob gets it; others get its claim, and see
        it by a look.
        """
        one, two = await self.started("one", "two")
        mine = await one.claim(BLOB, SIZE, "registry.example/app")
        self.assertEqual(
            Claim(
                BLOB,
                Peer("one", "http://one.example:5000"),
                "registry.example/app",
                SIZE,
                mine.revision,
                True,
            ),
            mine,
        )
        theirs = await two.claim(BLOB, SIZE, "other.example/app")
        self.assertFalse(theirs.mine)
        self.assertEqual(
            (mine.owner, mine.source, mine.revision), (theirs.owner, theirs.source, theirs.revision)
        )
        self.assertEqual(Found((), theirs), (await two.look([BLOB]))[BLOB])
        self.assertEqual(Found((), mine), (await one.look([BLOB]))[BLOB])
        self.assertEqual(mine, await one.claim(BLOB, SIZE, "registry.example/app"))
        self.assertEqual([theirs], list(await two.claims()))

    async def test_released(self) -> None:
        """
        A claim that was released is free for others, and its old owner's release
        does not end theirs.
        """
        one, two = await self.started("one", "two")
        mine = await one.claim(BLOB, SIZE, "registry.example/app")
        one.release(mine)
        await self.found(two, lambda found: found.claim is None)
        theirs = await two.claim(BLOB, SIZE, "registry.example/app")
        self.assertTrue(theirs.mine)
        self.assertGreater(theirs.revision, mine.revision)
        one.release(mine)
        one.announce([OTHER])
        await self.found(two, lambda found: len(found.holders) == 1, digest=OTHER)
        self.assertEqual(theirs, (await two.look([BLOB]))[BLOB].claim)
        two.release(await one.claim(BLOB, SIZE, "registry.example/app"))
        await self.found(one, lambda found: found.claim is None)

    async def test_released_when_announced(self) -> None:
        """
        Where a claim was released after its blob was announced, nobody finds
        neither.
        """
        one, two = await self.started("one", "two")
        mine = await one.claim(BLOB, SIZE, "registry.example/app")
        one.announce([BLOB])
        one.release(mine)
        found = await self.found(two, lambda found: found.claim is None)
        self.assertEqual(1, len(found.holders))

    async def test_taken_over(self) -> None:
        """
        One of two nodes that take a claim over gets it, and its old owner does not
        end it.
        """
        one, two, three = await self.started("one", "two", "three")
        old = await one.claim(BLOB, SIZE, "registry.example/app")
        seen = (await two.look([BLOB]))[BLOB].claim
        self.assertIsNotNone(seen)
        first, second = await gatherResults([two.take_over(seen), three.take_over(seen)])
        self.assertEqual([False, True], sorted([first.mine, second.mine]))
        self.assertEqual(first.owner, second.owner)
        self.assertGreater(first.revision, old.revision)
        self.assertEqual((SIZE, "registry.example/app"), (first.size, first.source))
        one.release(old)
        one.announce([OTHER])
        await self.found(two, lambda found: len(found.holders) == 1, digest=OTHER)
        found = (await one.look([BLOB]))[BLOB].claim
        self.assertEqual((first.owner, first.revision, False), (found.owner, found.revision, found.mine))

    async def test_taken_over_when_free(self) -> None:
        """
        A claim that has ended is free to be taken over.
        """
        one, two = await self.started("one", "two")
        old = await one.claim(BLOB, SIZE, "registry.example/app")
        seen = (await two.look([BLOB]))[BLOB].claim
        one.release(old)
        await self.found(two, lambda found: found.claim is None)
        self.assertTrue((await two.take_over(seen)).mine)

    async def test_claim_expires(self) -> None:
        """
        The claim of a node that is cut off ends with its lease.
        """
        one, two = await self.started("one", "two")
        await one.claim(BLOB, SIZE, "registry.example/app")
        self.cut(one)
        await self.found(two, lambda found: found.claim is None, self.lease + 3)
        self.assertTrue((await two.claim(BLOB, SIZE, "registry.example/app")).mine)
        # Its old owner does not take it back.
        self.heal(one)
        await self.is_available(one, seconds=15.0)
        found = (await one.look([BLOB]))[BLOB].claim
        self.assertEqual(("two", False), (found.owner.name, found.mine))

    async def test_same_moment(self) -> None:
        """
        Of several nodes that claim a blob in the same moment, exactly one gets it,
        and all learn which.
        """
        nodes = await self.started(*(f"node-{n}" for n in range(4)))
        for n in range(20):
            digest = Digest.of(b"blob %d" % n)
            claims = await gatherResults([node.claim(digest, SIZE, "a") for node in nodes])
            self.assertEqual(1, sum(claim.mine for claim in claims))
            self.assertEqual(1, len({(claim.owner, claim.revision) for claim in claims}))

    # ------------------------------------------------------ tags and pauses

    async def test_tags(self) -> None:
        """
        The digest of a tag that was checked is known to all until its time is
        over.
        """
        one, two = await self.started("one", "two")
        key = "registry.example/app:1 öffentlich"
        self.assertIsNone(await two.fresh_tag(key))
        one.tag_checked(key, BLOB, self.lease)

        async def is_known() -> bool:
            return bool(await two.fresh_tag(key) == BLOB)

        await self.until(is_known, 3.0)
        self.assertIsNone(await two.fresh_tag("registry.example/app:2"))

        async def is_unknown() -> bool:
            return bool(await two.fresh_tag(key) is None)

        await self.until(is_unknown, self.lease + 3)

    async def test_pauses(self) -> None:
        """
        A pause or a quota is reported to the nodes that follow, to those that begin later
        with the rest of it, and not to its own node.
        """
        one, two, three = await self.started("one", "two", "three")
        heard: list[FleetPause] = []
        own: list[FleetPause] = []
        one.follow_pauses(own.append)
        end = two.follow_pauses(heard.append)
        await self.passes(0.5)
        quota = Quota(3, 100, 21600.0, 60.0)
        one.pause("registry.example", "daemon", 30.0, "429 Too Many Requests", quota)

        async def is_heard() -> bool:
            return bool(heard)

        await self.until(is_heard, 3.0)
        (pause,) = heard
        self.assertEqual(
            ("registry.example", "daemon", "429 Too Many Requests", "one"),
            (pause.host, pause.account, pause.reason, pause.node),
        )
        self.assertEqual((quota, 0), (pause.quota, pause.age))
        self.assertTrue(27 < pause.seconds <= 30, pause.seconds)
        await self.passes(2.0)
        late: list[FleetPause] = []
        three.follow_pauses(late.append)

        async def is_late() -> bool:
            return bool(late)

        await self.until(is_late, 3.0)
        self.assertTrue(24 < late[0].seconds < 28.5, late[0].seconds)
        self.assertAlmostEqual(30, late[0].seconds + late[0].age)
        self.assertEqual(quota, late[0].quota)
        end()
        one.pause("registry.example", "daemon", 40.0, "again")
        await self.passes(1.0)
        self.assertEqual(1, len(heard))
        self.assertEqual([], own)
