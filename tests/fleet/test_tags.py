"""
Tests for L{xferd.fleet.tags}.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.credentials import Credentials
from xferd.fleet.accounts import FleetAccounts
from xferd.fleet.memory import MemoryCluster
from xferd.fleet.proofs import Secrets
from xferd.fleet.tags import FleetTags
from xferd.interfaces.mirror import ISharedTags
from xferd.names import Digest, Repository
from xferd.realms import PUBLIC, listed
from xferd.testing.fake_keychain import FakeKeychain

T = TypeVar("T")

APP = Repository("docker.io", "library/app")
OLD, NEW = Digest.of(b"old"), Digest.of(b"new")


@define
class Source:
    """
    What the tags of a repository are shared by.
    """

    name: Repository = APP
    origin: str = PUBLIC
    account: Hashable = "anonymous"


class TagsTests(SynchronousTestCase):
    """
    Two nodes of a fleet.
    """

    def setUp(self) -> None:
        """
        Start them.
        """
        self.clock = Clock()
        self.cluster = MemoryCluster(self.clock, latency=0.01)
        self.secret = b"0123456789abcdef"
        self.one, self.two = self.node("one"), self.node("two")
        self.pump()

    def node(self, name: str, credentials: Callable[[], Credentials | None] = lambda: None) -> FleetTags:
        """
        Start a node.
        """
        member = self.cluster.join(name, f"http://{name}:5000")
        member.start()
        tags = FleetTags(member, FleetAccounts(Secrets(self.secret), FakeKeychain(credentials)))
        self.assertTrue(verifyObject(ISharedTags, tags))
        return tags

    def pump(self, seconds: float = 1.0) -> None:
        """
        Let time pass.
        """
        for _ in range(10):
            self.clock.advance(seconds / 10)

    def fresh(self, node: FleetTags, source: Source, held: Digest = OLD, tag: str = "latest") -> bool:
        """
        Whether a tag is fresh for a node.
        """
        asking = node.is_fresh(source, tag, held)  # type: ignore[arg-type]
        self.pump()
        return self.successResultOf(asking)

    def checked(self, node: FleetTags, source: Source, ttl: float = 60.0) -> None:
        """
        A node has checked a tag.
        """
        node.checked(source, "latest", OLD, ttl)  # type: ignore[arg-type]
        self.pump()

    def test_public(self) -> None:
        """
        A public tag that one node has checked is fresh for the other, if it has the same
        digest, until its time is over.
        """
        self.assertFalse(self.fresh(self.two, Source()))
        self.checked(self.one, Source())
        self.assertTrue(self.fresh(self.two, Source()))
        self.assertFalse(self.fresh(self.two, Source(), NEW))
        self.assertFalse(self.fresh(self.two, Source(), tag="edge"))
        self.assertFalse(self.fresh(self.two, Source(Repository("ghcr.io", "library/app"))))
        self.pump(60)
        self.assertFalse(self.fresh(self.two, Source()))

    def test_own(self) -> None:
        """
        What the daemon reads with its own credentials is fresh for nodes with the same ones,
        and for no others.
        """
        bob, eve = (lambda: Credentials.of("bob", "a")), (lambda: Credentials.of("eve", "b"))
        first, second, third = self.node("first", bob), self.node("second", bob), self.node("third", eve)
        self.pump()
        source = Source(listed(APP, "account"), "credentials@docker.io/library/app", None)
        self.checked(first, source)
        found = [self.fresh(node, source) for node in (second, third, self.one)]
        self.assertEqual(found, [True, False, False])
        self.assertFalse(self.fresh(second, Source()))

    def test_clients(self) -> None:
        """
        What a client reads with its own credentials is shared with nobody.
        """
        source = Source(listed(APP, "pass"), "pass@docker.io/library/app", "c0ffee")
        self.checked(self.one, source)
        requests = self.cluster.requests
        self.assertFalse(self.fresh(self.one, source))
        self.assertFalse(self.fresh(self.two, source))
        self.pump()
        self.assertEqual(self.cluster.requests, requests)

    def test_unavailable(self) -> None:
        """
        Without coordination nothing is fresh, at once, and nothing fails.
        """
        self.checked(self.one, Source())
        asking = self.two.is_fresh(Source(), "latest", OLD)  # type: ignore[arg-type]
        self.cluster.lose()
        self.pump(3)
        self.assertFalse(self.successResultOf(asking))
        self.assertFalse(self.successResultOf(self.two.is_fresh(Source(), "latest", OLD)))  # type: ignore[arg-type]
        self.checked(self.two, Source())

    def test_cancelled(self) -> None:
        """
        Cancelling ends the wait.
        """
        asking = self.two.is_fresh(Source(), "latest", OLD)  # type: ignore[arg-type]
        asking.cancel()
        self.failureResultOf(asking, CancelledError)

    def test_stop(self) -> None:
        """
        A node stops although a helper does not answer.
        """
        keychain = FakeKeychain()
        keychain.held = Deferred()
        member = self.cluster.join("x", "http://x:5000")
        member.start()
        self.pump()
        tags = FleetTags(member, FleetAccounts(Secrets(self.secret), keychain))
        tags.checked(Source(account=None, origin="o"), "latest", OLD, 60.0)  # type: ignore[arg-type]
        self.successResultOf(tags.stop())
