"""
Tests for L{xferd.fleet.downloads}, L{xferd.fleet.peer_source} and all that they use
between nodes.

The module is long because a peer can fail in many ways, and each is tried in the same fleet.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.fleet.case import HOST, FleetCase, Node
from xferd.fleet.downloads import DOUBT
from xferd.fleet.places import AT_ONCE, LEAST
from xferd.interfaces.fleet import LEASE_SECONDS, Claim, Peer
from xferd.jobs.blobs.fleet_attempts import LOOK
from xferd.names import Digest
from xferd.testing.images import sample_image

UPSTREAM = f"{HOST}/app"


class SharedTests(FleetCase):
    """
    Blobs that peers have, or fetch.
    """

    def test_holder(self) -> None:
        """
        A blob that a peer has comes from there, and upstream sends no byte.
        """
        one, two = self.node(), self.node()
        first = one.pull()
        self.wait(3)
        second = two.pull()
        self.wait(3)
        self.check(one, first)
        self.check(two, second)
        self.assertEqual(self.requests(), [0])
        self.assertEqual(two.sources(second), [("peer n1", None)])
        self.assertEqual(two.fleet.figures.received, len(self.data))
        self.assertEqual(one.door.sent, len(self.data))
        # Peers' bytes count for no registry.
        self.assertEqual(two.jobs.figures().fetched.get(HOST, 0), 0)

    def test_growing(self) -> None:
        """
        A blob that a peer fetches comes from there while it grows.
        """
        one, first, two, second = self.half()
        self.registry.finish(self.digest)
        self.wait(3)
        self.check(one, first)
        self.check(two, second)
        self.assertEqual(self.requests(), [0])

    def test_at_once(self) -> None:
        """
        Of nodes that begin in the same millisecond, one asks upstream.
        """
        nodes = [self.node() for _ in range(8)]
        pulls = [node.pull() for node in nodes]
        self.wait(5)
        for node, pull in zip(nodes, pulls, strict=True):
            self.check(node, pull)
        self.assertEqual(self.requests(), [0])

    def test_released(self) -> None:
        """
        When all is done, nobody claims anything, and all have announced the blob.
        """
        nodes = [self.node() for _ in range(3)]
        for node in nodes:
            node.pull()
        self.wait(5)
        self.assertEqual(self.successResultOf(self.now(nodes[0].coordination.claims())), [])
        found = self.successResultOf(self.now(nodes[0].coordination.look([self.digest])))
        self.assertEqual({peer.name for peer in found[self.digest].holders}, {"n2", "n3"})

    def test_cancelled(self) -> None:
        """
        Where the owner's pull is cancelled, the claim is free, and a follower goes on
        from its own bytes.
        """
        one, first, two, second = self.half()
        one.jobs.cancel(first)
        self.wait(1)
        self.registry.finish(self.digest)
        self.wait(3)
        self.check(two, second)
        self.assertEqual(self.requests(), [0, len(self.data) // 2])
        self.assertEqual(two.sources(second)[-1], (UPSTREAM, None))

    def test_follower_cancelled(self) -> None:
        """
        A follower that leaves does not disturb the owner.
        """
        one, first, two, second = self.half()
        two.jobs.cancel(second)
        self.wait(1)
        self.assertEqual(one.door.followers.counts(), {})
        self.registry.finish(self.digest)
        self.wait(3)
        self.check(one, first)
        self.assertEqual(self.requests(), [0])

    def test_many(self) -> None:
        """
        However many blobs a node wants, peers send it a limited number at the same time,
        and all of them in the end.
        """
        one, two = self.node(), self.node()
        images = [sample_image(1, size=1_100_000, seed=seed) for seed in range(AT_ONCE + 4)]
        for seed, image in enumerate(images):
            self.registry.add(image, f"image{seed}")
            one.pull(f"image{seed}")
        self.wait(5)
        before = len(self.registry.requests)
        one.door._bandwidth.rate = 1
        pulls = [two.pull(f"image{seed}") for seed in range(len(images))]
        self.wait(0.5)
        self.assertEqual(two.fleet.places.free, 0)
        one.door._bandwidth.rate = 0
        self.wait(5)
        for pull in pulls:
            self.assertEqual(self.state(two, pull), "done")
        blobs = [r for r in self.registry.requests[before:] if r.kind == "blob"]
        self.assertEqual(blobs, [])
        self.assertEqual(two.fleet.places.free, AT_ONCE)

    def test_small(self) -> None:
        """
        Small blobs take no part in it.
        """
        one, two = self.node(), self.node()
        small = sample_image(1, size=100_000, seed=7)
        self.registry.add(small, "small")
        # By then they have listed the nodes.
        self.wait(1)
        before = self.cluster.requests
        one.pull("small")
        two.pull("small")
        self.wait(1, step=0.1)
        self.assertEqual(self.registry.count("blob", small.layers[0].blob.digest), 2)
        self.assertEqual(self.cluster.requests, before)


class TroubleTests(FleetCase):
    """
    Peers that do not deliver.
    """

    def test_owner_dies(self) -> None:
        """
        The owner dies at half of the blob: a follower takes the claim over and asks
        upstream for the rest only.
        """
        one, _, two, second = self.half()
        self.network.kill(one.address)
        one.coordination.freeze()
        self.wait(1)
        self.registry.finish(self.digest)
        self.wait(5)
        self.check(two, second)
        self.assertEqual(self.requests(), [0, len(self.data) // 2])
        self.assertEqual(two.fleet.figures.takeovers, 1)
        self.assertEqual([source for source, _ in two.sources(second)], ["peer n1", UPSTREAM])

    def test_owner_stalls(self) -> None:
        """
        The owner is frozen: after 5 s a follower takes over.
        """
        one, _, two, second = self.half()
        self.network.freeze(one.address)
        one.coordination.freeze()
        self.wait(4)
        self.assertEqual(self.requests(), [0])
        self.wait(8)
        self.assertEqual(self.requests(), [0, len(self.data) // 2])
        self.registry.finish(self.digest)
        self.wait(3)
        self.check(two, second)

    def test_upstream_stalls(self) -> None:
        """
        Where the owner's upstream stalls, a follower takes over, too, and the owner
        gets the blob in the end.
        """
        one, first, two, second = self.half()
        self.wait(8)
        self.assertEqual(self.requests(), [0, len(self.data) // 2])
        self.registry.finish(self.digest)
        self.wait(5)
        self.check(one, first)
        self.check(two, second)

    def test_wrong_bytes(self) -> None:
        """
        A peer that sends wrong bytes is left out for all blobs, and named.
        """
        one, two = self.node(), self.node()
        one.pull()
        self.wait(3)
        spoilt = bytearray(self.data)
        spoilt[1_000_000] ^= 1
        one.store.blobs.contents[self.digest] = bytes(spoilt)
        one.store.blobs.mirror(one.store.blobs.path(self.digest), spoilt)
        second = two.pull()
        self.wait(5)
        self.check(two, second)
        self.assertEqual(two.sources(second), [("peer n1", "DIGEST_MISMATCH"), (UPSTREAM, None)])
        self.assertEqual(two.fleet.figures.distrusted, ("n1",))
        # Also for other blobs.
        other = sample_image(1, size=self.size, seed=5)
        self.registry.add(other, "other")
        one.pull("other")
        self.wait(3)
        third = two.pull("other")
        self.wait(5)
        self.assertEqual(two.sources(third), [(f"{HOST}/other", None)])

    def test_wrong_bytes_on_the_way(self) -> None:
        """
        Where the bytes of the node that fetches are changed on their way, its followers
        leave it at once with what was right, one takes over, and the others follow that
        one, the former owner among them.
        """
        nodes = [self.node() for _ in range(4)]
        self.registry.stall(self.digest)
        pulls = [nodes[0].pull()]
        self.wait(1)
        self.registry.feed(self.digest, 2_000_000)
        pulls += [node.pull() for node in nodes[1:]]
        self.wait(2)
        spoil = self.data[2_010_000:2_010_100]
        self.network.twist(nodes[0].address, lambda data: data.replace(spoil, bytes(100)))
        self.registry.feed(self.digest, 50_000)
        self.wait(1)
        first, *others = self.registry._reading(self.digest)
        self.assertEqual(others, [], "the former owner goes on")
        first.finish()
        self.wait(3)
        for node, pull in zip(nodes, pulls, strict=True):
            self.check(node, pull)
        _, offset = self.requests()
        self.assertTrue(2_000_000 <= offset < 2_050_000, offset)
        taker = next(node for node in nodes if node.fleet.figures.takeovers)
        self.assertEqual(nodes[0].sources(pulls[0])[-1], (f"peer {taker.name}", None))
        self.assertEqual(taker.fleet.figures.distrusted, ("n1",))

    def test_wrong_bytes_passed_on(self) -> None:
        """
        A peer that passes wrong bytes on before it can verify them is not to blame.
        """
        one, two, three = (self.node(max_followers=1) for _ in range(3))
        self.registry.stall(self.digest)
        first = one.pull()
        self.wait(1)
        self.network.twist(one.address, lambda data: data.replace(self.data[5000:5100], bytes(100)))
        second = two.pull()
        self.wait(1)
        third = three.pull()
        self.wait(1)
        self.assertEqual(three.fleet.depths[self.digest], 2)
        self.registry.finish(self.digest)
        self.wait(12)
        for node, pull in ((one, first), (two, second), (three, third)):
            self.check(node, pull)
        self.assertNotIn("n2", three.fleet.figures.distrusted)

    def test_lie(self) -> None:
        """
        A peer that has announced a blob, and does not have it, is passed over, and
        withdraws it.
        """
        one, two = self.node(), self.node()
        one.coordination.announce([self.digest])
        self.wait(2)
        second = two.pull()
        self.wait(5)
        self.check(two, second)
        self.assertEqual(two.sources(second), [("peer n1", "BLOB_UNKNOWN"), (UPSTREAM, None)])
        found = self.successResultOf(self.now(two.coordination.look([self.digest])))
        self.assertEqual(found[self.digest].holders, ())

    def test_wrong_secret(self) -> None:
        """
        A node with another secret gets nothing, and pulls from upstream.
        """
        one, two = self.node(), self.node(secret=b"another secret, as long")
        one.pull()
        self.wait(3)
        second = two.pull()
        self.wait(5)
        self.check(two, second)
        self.assertEqual(two.sources(second), [("peer n1", "REGISTRY_ERROR"), (UPSTREAM, None)])
        self.assertEqual(one.door.sent, 0)

    def test_impostor(self) -> None:
        """
        An answer that does not prove to come from the fleet is not used.
        """
        one, two = self.node(secret=b"another secret, as long"), self.node()
        one.door._prover.check = two.door._prover.check  # type: ignore[method-assign]
        one.pull()
        self.wait(3)
        two.pull()
        self.wait(5)
        self.assertEqual(self.requests(), [0, 0])

    def test_hostile_url(self) -> None:
        """
        An address outside of C{peer_networks} gets no request and no proof, whether it
        is in a claim, an announcement or behind a name.
        """
        evil = self.node(url="http://192.0.2.1:5000")
        named = self.node(url="http://rebinding.example:5000")
        odd = self.node(url="http://10.0.0.9:5000/steal?")
        two = self.node()
        two.reactor.names["rebinding.example"] = "192.0.2.7"
        for node in (evil, named, odd):
            node.coordination.announce([self.digest])
        claim = self.now(evil.coordination.claim(self.digest, len(self.data), "evil"))
        self.wait(2)
        self.assertIsInstance(self.successResultOf(claim), Claim)
        second = two.pull()
        self.wait(5)
        self.check(two, second)
        self.assertEqual(self.network.tried, [])

    def test_silent(self) -> None:
        """
        Where no peer answers, upstream is asked within seconds.
        """
        nodes = [self.node() for _ in range(4)]
        for node in nodes[:3]:
            node.coordination.announce([self.digest])
        self.wait(2)
        for node in nodes[:3]:
            self.network.freeze(node.address)
        pull = nodes[3].pull()
        self.wait(4)
        self.assertEqual(self.requests(), [])
        self.wait(4)
        self.check(nodes[3], pull)

    def test_busy(self) -> None:
        """
        Where the only peer stays busy for more than 10 s, upstream is asked.
        """
        one, two = self.node(max_followers=0), self.node()
        one.pull()
        self.wait(3)
        second = two.pull()
        self.wait(9.5)
        self.assertEqual(self.requests(), [0])
        self.wait(3)
        self.check(two, second)
        self.assertEqual(self.requests(), [0, 0])
        self.assertEqual(two.fleet.figures.takeovers, 0)

    def test_contradiction(self) -> None:
        """
        Where what is claimed is never found, however long each claim takes, upstream is
        asked after 10 s.
        """
        two = self.node()
        claimed: list[float] = []

        def claim(digest: Digest, size: int, source: str) -> Deferred[Claim]:
            claimed.append(self.clock.seconds())
            owner = Peer(f"nobody{len(claimed)}", "http://10.0.0.77:5000")
            return deferLater(self.clock, 1.5, lambda: Claim(digest, owner, source, size, 1, False))

        two.coordination.claim = claim  # type: ignore[method-assign]
        pull = two.pull()
        self.wait(DOUBT + 3)
        self.assertEqual(self.requests(), [0])
        self.wait(3)
        self.check(two, pull)

    def test_doubt(self) -> None:
        """
        Where peers accept requests and send nothing, one after the other, upstream is
        asked after 10 s, and not before.
        """
        nodes = [self.node() for _ in range(6)]
        for node in nodes[:5]:
            node.pull()
        self.wait(4)
        for node in nodes[:5]:
            self.network.twist(node.address, lambda data: b"" if len(data) > 2000 else data)
        before = len(self.requests())
        pull = nodes[5].pull()
        self.wait(DOUBT - 0.5)
        self.assertEqual(len(self.requests()), before)
        self.wait(1)
        self.assertEqual(len(self.requests()), before + 1)
        self.wait(3)
        self.check(nodes[5], pull)

    def test_slow_peers(self) -> None:
        """
        Peers that send other blobs slowly hold a further one back for 10 s, and not
        for ever.
        """
        one, two = self.node(), self.node()
        images = [sample_image(1, size=1_100_000, seed=seed) for seed in range(AT_ONCE + 1)]
        for seed, image in enumerate(images):
            self.registry.add(image, f"image{seed}")
            one.pull(f"image{seed}")
        self.wait(5)
        before = len(self.registry.requests)
        one.door._bandwidth.rate = LEAST // 2
        pulls = [two.pull(f"image{seed}") for seed in range(len(images))]
        self.wait(DOUBT - 1)
        self.assertEqual(len([r for r in self.registry.requests[before:] if r.kind == "blob"]), 0)
        self.wait(3)
        wanted = [r.wanted for r in self.registry.requests[before:] if r.kind == "blob"]
        self.assertEqual(len(wanted), 1)
        done = [self.state(two, pull) for pull in pulls]
        self.assertEqual(done.count("done"), 1)

    def test_slow_uplink(self) -> None:
        """
        Where a node sends slowly by its settings, all peers that get bytes get some often:
        none takes it for a silent one.
        """
        one, *others = (self.node() for _ in range(7))
        one.pull()
        self.wait(3)
        one.door._bandwidth.rate = 600_000
        pulls = [node.pull() for node in others]
        self.wait(len(others) * len(self.data) / 600_000 + 5, step=0.1)
        for node, pull in zip(others, pulls, strict=True):
            self.check(node, pull)
            self.assertEqual(node.sources(pull), [("peer n1", None)])
        self.assertEqual(self.requests(), [0])

    def test_silent_owner(self) -> None:
        """
        Where the owner answers nobody from the start, one follower takes its claim over,
        and the others follow that one: upstream sends the blob once.
        """
        one, *others = (self.node() for _ in range(6))
        self.registry.stall(self.digest)
        one.pull()
        self.wait(1)
        self.network.freeze(one.address)
        one.coordination.freeze()
        self.registry.finish(self.digest)
        pulls = []
        for node in others:
            pulls.append(node.pull())
            self.wait(1)
        self.wait(20)
        for node, pull in zip(others, pulls, strict=True):
            self.check(node, pull)
        self.assertEqual(self.requests(), [0, 0])

    def test_thawed_owner(self) -> None:
        """
        An owner that was frozen until others have the blob takes the rest from them.
        """
        one, first, two, second = self.half()
        self.network.freeze(one.address)
        one.coordination.freeze()
        self.wait(8)
        self.assertEqual(self.requests(), [0, len(self.data) // 2])
        self.registry._reading(self.digest)[-1].finish()
        self.wait(1)
        self.check(two, second)
        one.coordination.thaw()
        self.network.thaw(one.address)
        self.wait(8)
        self.check(one, first)
        self.assertEqual(self.requests(), [0, len(self.data) // 2])
        self.assertEqual(one.sources(first)[-1], ("peer n2", None))

    def test_got_meanwhile(self) -> None:
        """
        A node that looked before another one claimed the blob, and claims it when that
        one has it and has released its claim, does not ask upstream.
        """
        one, two = self.node(), self.node()
        download = two.fleet.begin(self.blob.descriptor)
        assert download is not None
        repository = self.registry.repository("app")
        self.assertIsNone(self.successResultOf(self.now(download.peer(repository))))
        first = one.pull()
        self.wait(3)
        self.check(one, first)
        self.assertIs(self.successResultOf(self.now(download.claim(repository, 0))), False)
        self.assertIsNotNone(self.successResultOf(self.now(download.peer(repository))))
        download.end(False)
        self.wait(2)
        self.assertEqual(self.successResultOf(self.now(one.coordination.claims())), [])

    def test_paused_upstream(self) -> None:
        """
        A pause of upstream does not keep a node from its peers, and a peer's trouble
        does not pause upstream.
        """
        one, two, three = self.node(), self.node(), self.node()
        one.pull()
        self.wait(3)
        two.jobs._transfers.layers._downloads.slots.pause(HOST, 600.0)
        second = two.pull()
        self.wait(3)
        self.check(two, second)
        for node in (one, two):
            self.network.kill(node.address)
        third = three.pull()
        self.wait(3)
        self.check(three, third)
        self.assertEqual(len(self.requests()), 2)

    def test_peer_while_paused(self) -> None:
        """
        A node that waits for the end of upstream's pause finds a peer that got the blob
        meanwhile, and follows it without a slot.
        """
        one, two = self.node(), self.node()
        second = two.pull()
        two.jobs._transfers.layers._downloads.slots.pause(HOST, 600.0)
        self.wait(20)
        self.assertEqual(self.requests(), [])
        first = one.pull()
        self.wait(LOOK + 2)
        self.check(one, first)
        self.check(two, second)
        self.assertEqual(two.sources(second), [("peer n1", None)])

    def test_waiting_is_no_doubt(self) -> None:
        """
        The time that a node waits for a slot is not that of a silent peer: it follows the
        node that has claimed the blob just before.
        """
        one, two = self.node(), self.node()
        pause = two.jobs._transfers.layers._downloads.slots.pause
        second = two.pull()
        pause(HOST, LOOK * 1.5)
        self.wait(LOOK * 1.5 - 0.5)
        self.registry.stall(self.digest)
        first = one.pull()
        self.wait(3)
        self.assertEqual(self.requests(), [0])
        self.registry.finish(self.digest)
        self.wait(3)
        self.check(one, first)
        self.check(two, second)
        self.assertEqual(self.requests(), [0])

    def test_denied(self) -> None:
        """
        Where upstream refuses the owner, its pull fails and its claim is free.
        """
        one, two = self.node(), self.node()
        self.registry.stall(self.digest)
        first = one.pull()
        self.wait(1)
        second = two.pull()
        self.wait(1)
        one.jobs.cancel(first)
        self.registry.finish(self.digest)
        self.wait(5)
        self.check(two, second)


class CutOffTests(FleetCase):
    """
    One node that is cut off from its peers, or from the coordination.
    """

    def test_follower(self) -> None:
        """
        A follower that is cut from its peers asks upstream for the rest, for itself
        only: the claim stays the owner's.
        """
        nodes = [self.node() for _ in range(4)]
        self.registry.stall(self.digest)
        pulls = [node.pull() for node in nodes[:3]]
        self.wait(1)
        self.registry.feed(self.digest, 1_000_000)
        self.wait(1)
        owner = next(node for node in nodes if node.fleet.depths.get(self.digest) == 0)
        cut = next(node for node in nodes[:3] if node is not owner)
        self.network.split(lambda one, other: cut.address in (one, other))
        for _ in range(9):
            self.registry.feed(self.digest, 10_000)
            self.wait(1)
        self.assertEqual(self.requests(), [0, 1_000_000])
        claims = self.successResultOf(self.now(nodes[3].coordination.claims()))
        self.assertEqual([claim.owner.name for claim in claims], [owner.name])
        pulls.append(nodes[3].pull())
        self.registry.finish(self.digest)
        self.wait(5)
        for node, pull in zip(nodes, pulls, strict=True):
            self.check(node, pull)
        self.assertEqual(self.requests(), [0, 1_000_000])
        self.assertEqual([node.fleet.figures.takeovers for node in nodes], [0] * 4)

    def test_new(self) -> None:
        """
        A node that is cut from the coordination gets what another one fetches, and what
        others have.
        """
        nodes = [self.node() for _ in range(4)]
        self.wait(3)
        nodes[3].coordination.cut()
        self.wait(3)
        self.registry.stall(self.digest)
        pulls = [nodes[0].pull()]
        self.wait(1)
        self.registry.feed(self.digest, 1_000_000)
        pulls.append(nodes[3].pull())
        self.wait(1)
        self.assertEqual(nodes[3].bytes_done(), 1_000_000)
        self.registry.finish(self.digest)
        self.wait(3)
        self.check(nodes[0], pulls[0])
        self.check(nodes[3], pulls[1])
        self.assertEqual(self.requests(), [0])

    def test_first(self) -> None:
        """
        What a node that is cut from the coordination fetches first, others follow; when
        it is back, the claim is its own.
        """
        nodes = [self.node() for _ in range(4)]
        self.wait(3)
        nodes[0].coordination.cut()
        self.wait(3)
        self.registry.stall(self.digest)
        pulls = [nodes[0].pull()]
        self.wait(1)
        self.registry.feed(self.digest, 1_000_000)
        pulls += [node.pull() for node in nodes[1:]]
        self.wait(1)
        self.assertEqual([node.bytes_done() for node in nodes], [1_000_000] * 4)
        nodes[0].coordination.heal()
        for _ in range(10):
            self.registry.feed(self.digest, 1000)
            self.wait(1)
        claims = self.successResultOf(self.now(nodes[1].coordination.claims()))
        self.assertEqual([claim.owner.name for claim in claims], ["n1"])
        self.registry.finish(self.digest)
        self.wait(3)
        for node, pull in zip(nodes, pulls, strict=True):
            self.check(node, pull)
        self.assertEqual(self.requests(), [0])


class LostCoordinationTests(FleetCase):
    """
    Coordination that is lost.
    """

    def test_before(self) -> None:
        """
        Nodes that know each other share nevertheless.
        """
        nodes = [self.node() for _ in range(4)]
        self.wait(3)
        self.cluster.lose()
        self.wait(3)
        pulls = [node.pull() for node in nodes]
        self.wait(5)
        for node, pull in zip(nodes, pulls, strict=True):
            self.check(node, pull)
        self.assertEqual(self.requests(), [0])

    def test_fetched_before(self) -> None:
        """
        What a node has from the time before is found there.
        """
        nodes = [self.node() for _ in range(4)]
        self.wait(2)
        nodes[0].pull()
        self.wait(3)
        self.cluster.lose()
        self.wait(3)
        pulls = [node.pull() for node in nodes[1:]]
        self.wait(5)
        for node, pull in zip(nodes[1:], pulls, strict=True):
            self.check(node, pull)
        self.assertEqual(self.requests(), [0])

    def test_unknown(self) -> None:
        """
        Nodes that have not heard of each other go on alone.
        """
        self.cluster.lose()
        one, two = self.node(), self.node()
        self.wait(3)
        pulls = [one.pull(), two.pull()]
        self.wait(5)
        self.check(one, pulls[0])
        self.check(two, pulls[1])
        self.assertEqual(self.requests(), [0, 0])

    def test_first_dies(self) -> None:
        """
        Where the one that fetches dies as well, another one goes on for all.
        """
        nodes = [self.node() for _ in range(5)]
        self.wait(3)
        self.cluster.lose()
        self.wait(3)
        self.registry.stall(self.digest)
        pulls = [node.pull() for node in nodes]
        self.wait(1)
        self.registry.feed(self.digest, 1_000_000)
        self.wait(1)
        owner = next(node for node in nodes if node.fleet.depths.get(self.digest) == 0)
        self.network.kill(owner.address)
        self.wait(3)
        self.registry.finish(self.digest)
        self.wait(10)
        for node, pull in zip(nodes, pulls, strict=True):
            if node is not owner:
                self.check(node, pull)
        self.assertEqual(self.requests(), [0, 1_000_000])

    def test_in_the_middle(self) -> None:
        """
        What is in transit between nodes goes on.
        """
        one, first, two, second = self.half()
        self.cluster.lose()
        self.wait(3)
        self.registry.finish(self.digest)
        self.wait(5)
        self.check(one, first)
        self.check(two, second)
        self.assertEqual(self.requests(), [0])

    def test_with_the_owner(self) -> None:
        """
        Where the owner dies as well, the follower asks upstream for the rest.
        """
        one, _, two, second = self.half()
        self.cluster.lose()
        self.network.kill(one.address)
        self.wait(3)
        self.registry.finish(self.digest)
        self.wait(5)
        self.check(two, second)
        self.assertEqual(self.requests(), [0, len(self.data) // 2])

    def test_regained(self) -> None:
        """
        When it is back, nodes share again.
        """
        one, two = self.node(), self.node()
        self.cluster.lose()
        self.wait(3)
        one.pull()
        self.wait(3)
        self.cluster.regain()
        self.wait(LEASE_SECONDS)
        second = two.pull()
        self.wait(3)
        self.check(two, second)
        self.assertEqual(self.requests(), [0])


class TreeTests(FleetCase):
    """
    More followers than a node may have.
    """

    size = 1_500_000

    def test_tree(self) -> None:
        """
        Twenty nodes follow one that sends to two at a time: all get the blob, upstream
        sends it once, and no node sends it to more than two at a time.
        """
        nodes = [self.node(max_followers=2) for _ in range(21)]
        self.registry.stall(self.digest)
        pulls = [nodes[0].pull()]
        self.wait(1)
        self.registry.feed(self.digest, 100_000)
        pulls += [node.pull() for node in nodes[1:]]
        most = 0
        for _ in range(25):
            self.registry.feed(self.digest, 50_000)
            self.wait(0.25)
            most = max([most, *(count for node in nodes for count in node.door.followers.counts().values())])
        self.registry.finish(self.digest)
        self.wait(5)
        for node, pull in zip(nodes, pulls, strict=True):
            self.check(node, pull)
        self.assertEqual(self.requests(), [0])
        self.assertEqual(most, 2)
        self.assertLessEqual(nodes[0].door.sent, 3 * len(self.data))

    def test_owner_of_many_dies(self) -> None:
        """
        Of many followers one takes over, and the others follow that one.
        """
        nodes = [self.node() for _ in range(8)]
        self.registry.stall(self.digest)
        pulls = [nodes[0].pull()]
        self.wait(1)
        self.registry.feed(self.digest, 700_000)
        pulls += [node.pull() for node in nodes[1:]]
        self.wait(1)
        self.network.kill(nodes[0].address)
        nodes[0].coordination.freeze()
        self.wait(3)
        self.registry.finish(self.digest)
        self.wait(5)
        for node, pull in zip(nodes[1:], pulls[1:], strict=True):
            self.check(node, pull)
        self.assertEqual(self.requests(), [0, 700_000])
        self.assertEqual(sum(node.fleet.figures.takeovers for node in nodes), 1)

    def chain(self) -> tuple[list[Node], list[str]]:
        """
        Four nodes, each of which follows the one before, with half of the blob.
        """
        nodes = [self.node(max_followers=1) for _ in range(4)]
        self.registry.stall(self.digest)
        pulls = []
        for node in nodes:
            pulls.append(node.pull())
            self.wait(1)
        self.registry.feed(self.digest, 700_000)
        self.wait(1)
        self.assertEqual([node.bytes_done() for node in nodes], [700_000] * 4)
        self.assertEqual([node.fleet.depths[self.digest] for node in nodes], [0, 1, 2, 3])
        return nodes, pulls

    def test_first_of_chain_freezes(self) -> None:
        """
        Where the owner freezes, the node that follows it takes over in time for those that
        follow it in turn: they stay.
        """
        nodes, pulls = self.chain()
        self.network.freeze(nodes[0].address)
        nodes[0].coordination.freeze()
        self.wait(6)
        self.registry.finish(self.digest)
        self.wait(5)
        for node, pull in zip(nodes[1:], pulls[1:], strict=True):
            self.check(node, pull)
        self.assertEqual(self.requests(), [0, 700_000])
        self.assertEqual(nodes[2].sources(pulls[2]), [("peer n2", None)])

    def test_middle_of_chain_freezes(self) -> None:
        """
        Where a node in the middle freezes, those behind it go back to the owner.
        """
        nodes, pulls = self.chain()
        self.network.freeze(nodes[1].address)
        nodes[1].coordination.freeze()
        for _ in range(14):
            self.registry.feed(self.digest, 50_000)
            self.wait(1)
        self.registry.finish(self.digest)
        self.wait(5)
        for number in (0, 2, 3):
            self.check(nodes[number], pulls[number])
        self.assertEqual(nodes[2].sources(pulls[2])[-1], ("peer n1", None))
        self.assertEqual(nodes[3].sources(pulls[3]), [("peer n3", None)])
