"""
Tests for L{xferd.v2.rights.access}.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request
from twisted.web.test.requesthelper import DummyChannel

from tests.v2.case import RegistryCase
from xferd.names import Repository
from xferd.store.threads import Threads
from xferd.testing.fake_keychain import FakeKeychain
from xferd.testing.fakes import FakeRegistries, FakeStore
from xferd.testing.images import sample_image
from xferd.testing.inline_threads import InlinePool, InlineReactor
from xferd.v2.names import Names
from xferd.v2.rights.access import Access
from xferd.v2.rights.guesses import Guesses
from xferd.v2.rights.htpasswd import HtpasswdFile
from xferd.v2.rights.logins import Logins
from xferd.v2.rights.passwords import Passwords
from xferd.v2.rights.proofs import Proofs
from xferd.v2.rights.rules import Action, RightsRule
from xferd.v2.rights.sources import Sources
from xferd.v2.rights.tokens import Tokens
from xferd.v2.settings import RegistrySettings
from xferd.web.peer_trust import Trust


def make_access(settings: RegistrySettings) -> Access:
    """
    The access to a registry without users.
    """
    clock, reactor = Clock(), cast("Any", InlineReactor())
    passwords = Passwords(HtpasswdFile(""), Threads(reactor, InlinePool(), "closed"), clock)
    registries = FakeRegistries(clock)
    return Access(
        settings,
        Logins(passwords, Tokens(clock), "", Counter()),
        Sources(registries, FakeKeychain(), clock.seconds),
        Proofs(FakeStore(clock, "/").catalog, clock.seconds),
        Guesses(clock.seconds, 1, 1.0),
    )


class RightsTests(SynchronousTestCase):
    """
    Decisions without a login.
    """

    def allowed(
        self, name: str, action: Action, *, trusted: bool = False, rights: tuple[RightsRule, ...] = ()
    ) -> bool:
        """
        Whether a client may do something.
        """
        settings = RegistrySettings(rights=rights)
        access = make_access(settings)
        channel: Any = DummyChannel()
        channel.trusted = trusted
        request = Request(channel)
        request.requestHeaders.addRawHeader(b"host", b"localhost:5000")
        target = Names(settings).find(name)
        deciding = Deferred.fromCoroutine(access.of(cast("Any", request), target, action))
        found: list[Any] = []
        deciding.addBoth(found.append)  # type: ignore[unused-awaitable]
        grant = found[0]
        if hasattr(grant, "repository"):
            self.assertEqual(grant.repository, target.repository)
            self.assertEqual(grant.source is None, target.upstream is None)
            return True
        return False

    def test_own(self) -> None:
        """
        Root and the daemon's user may do everything with xferd's own repositories,
        and others nothing.
        """
        for action in Action:
            self.assertTrue(self.allowed("local/app", action, trusted=True), action)
            self.assertFalse(self.allowed("local/app", action), action)

    def test_upstream(self) -> None:
        """
        Every client may pull from an upstream, nobody may push there, and the cache is
        root's and the daemon's user's.
        """
        for trusted in (True, False):
            self.assertTrue(self.allowed("library/alpine", Action.PULL, trusted=trusted))
            self.assertFalse(self.allowed("library/alpine", Action.PUSH, trusted=trusted))
            self.assertEqual(self.allowed("library/alpine", Action.DELETE, trusted=trusted), trusted)

    def test_rules(self) -> None:
        """
        A rule can open repositories for everybody.
        """
        rights = (RightsRule(("anonymous",), ("local/public/*", "docker.io/library/*"), ("pull", "delete")),)
        for name, action, allowed in (
            ("local/public/app", Action.PULL, True),
            ("local/public/app", Action.PUSH, False),
            ("local/app", Action.PULL, False),
            ("alpine", Action.DELETE, True),
            ("other/app", Action.DELETE, False),
        ):
            self.assertEqual(self.allowed(name, action, rights=rights), allowed, (name, action))

    def test_readable(self) -> None:
        """
        Of repositories of the catalog, those are returned that the client may pull.
        """
        rights = (RightsRule(("anonymous",), ("local/public/*",), ("pull",)),)
        access = make_access(RegistrySettings(rights=rights))
        channel: Any = DummyChannel()
        channel.trusted = False
        wanted = [
            Repository("localhost", "local/app"),
            Repository("localhost", "local/public/app"),
            Repository("docker.io", "library/alpine"),
        ]
        reading = Deferred.fromCoroutine(access.readable(cast("Any", Request(channel)), wanted))
        self.assertEqual(self.successResultOf(reading), wanted[1:])


class PublicUpstreamTests(RegistryCase):
    """
    An upstream whose policy is C{public}.
    """

    def test_anonymous(self) -> None:
        """
        The upstream is requested without the credentials of the daemon's user: a
        repository that it does not give to anybody is unknown here, for root, too.
        """
        self.add(sample_image(1))
        self.add(sample_image(2), "secret")
        self.registry.private.add("secret")
        for trust in (Trust.ALL, Trust.NONE):
            self.assertEqual(self.request("/v2/app/manifests/latest", trust=trust).status, 200)
            answer = self.request("/v2/secret/manifests/latest", trust=trust)
            self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (404, "NAME_UNKNOWN"))
