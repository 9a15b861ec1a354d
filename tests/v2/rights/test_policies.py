"""
Tests for L{xferd.v2.rights.sources} and L{xferd.v2.rights.proofs}: the policies of
upstreams.
"""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, OTHER
from tests.v2.case import RegistryCase
from tests.v2.rights.users import basic, bearer, write_htpasswd
from tests.web.connection import Answer
from xferd.credentials import Credentials
from xferd.errors import ConnectionFailed, Denied
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.interfaces.registry import IRepository
from xferd.names import Digest, Repository
from xferd.realms import PASS, POLICIES, PUBLIC, listed
from xferd.testing.fake_registry import FakeRegistry, FakeRepository, Request
from xferd.testing.fakes import FakeRegistries
from xferd.testing.images import sample_image
from xferd.v2.rights.passwords import GUESSES
from xferd.v2.rights.proofs import KEEP
from xferd.v2.rights.rules import RightsRule
from xferd.v2.rights.sources import ListedRepository
from xferd.v2.settings import AccountRule, RegistrySettings, UpstreamSettings
from xferd.web.peer_trust import Trust

ANN, BOB = basic("ann", "right"), basic("bob", "other")
MANIFEST = "/v2/secret/manifests/latest"


class PolicyCase(RegistryCase):
    """
    A registry with a private repository upstream.
    """

    upstream = UpstreamSettings()
    holder = HOST

    def setUp(self) -> None:
        """
        Make the registry, and its users.
        """
        self.settings = RegistrySettings(
            default=HOST,
            upstreams={HOST: self.upstream},
            htpasswd=write_htpasswd(self.mktemp(), {"ann": "right", "bob": "other"}),
            rights=(
                RightsRule(("ann",), (f"{HOST}/secret",), ("pull",)),
                RightsRule(("bob",), ("local/**",), ("pull", "push")),
            ),
        )
        super().setUp()
        self.registry.private.add("secret")
        self.image = self.add(sample_image(1), "secret")
        self.layer = self.image.layers[0].blob
        self.blob = f"/v2/secret/blobs/{self.layer.digest}"
        self.by_digest = f"/v2/secret/manifests/{self.image.digest}"

    def ask(self, path: str, headers: dict[str, str] | None = None, trust: Trust = Trust.NONE) -> Answer:
        """
        Send a request, as a stranger by default.
        """
        return self.request(path, headers=headers, trust=trust)

    def change(self, **changes: object) -> None:
        """
        Change the upstream's settings.
        """
        upstream = evolve(self.upstream, **changes)  # type: ignore[arg-type]
        self.v2.reload(evolve(self.settings, upstreams={HOST: upstream}))

    def assert_refused(self, headers: dict[str, str] | None, status: int, trust: Trust = Trust.NONE) -> None:
        """
        A client gets nothing, by tag, by digest, or of the blobs.
        """
        for path in (MANIFEST, self.by_digest, self.blob):
            answer = self.ask(path, headers, trust)
            self.assertEqual(answer.status, status, (path, answer.body))
            self.assertNotIn(self.image.manifest.data[:50], answer.body)

    def assert_not_mounted(self, headers: dict[str, str]) -> None:
        """
        A client that may push cannot mount the layer, from the repository upstream, by any of
        its names, or without a name: it has to send the bytes.
        """
        self.assertTrue(self.store.blobs.has(self.layer.digest))
        origins = ("secret", f"{HOST}/secret", f"account@{HOST}/secret", f"pass@{HOST}/secret")
        for origin in (*(f"&from={each}" for each in origins), ""):
            path = f"/v2/local/app/blobs/uploads/?mount={self.layer.digest}{origin}"
            answer = self.request(path, "POST", headers, trust=Trust.NONE)
            self.assertEqual((answer.status, answer.headers["range"]), (202, "0-0"), origin)
        answer = self.ask(f"/v2/local/app/blobs/{self.layer.digest}", headers)
        self.assertEqual(answer.status, 404)
        self.assertEqual([each.host for each in self.store.catalog.holders(self.layer.digest)], [self.holder])

    def assert_served(self, headers: dict[str, str] | None, trust: Trust = Trust.NONE) -> None:
        """
        A client gets the image.
        """
        for path in (MANIFEST, self.by_digest):
            answer = self.ask(path, headers, trust)
            self.assertEqual((answer.status, answer.body), (200, self.image.manifest.data), path)
        answer = self.ask(self.blob, headers, trust)
        self.assertEqual((answer.status, answer.body), (200, self.layer.read()))


class ListedTests(SynchronousTestCase):
    """
    A repository under another name.
    """

    def test_listed(self) -> None:
        """
        Only the name is another one.
        """
        registry = FakeRegistries(Clock()).registry(HOST)
        original = FakeRepository(registry, Repository(HOST, "app"))
        other = ListedRepository(original, Repository(f"pass@{HOST}", "app"))
        verifyObject(IRepository, other)
        self.assertEqual(other.name, Repository(f"pass@{HOST}", "app"))
        for name in ("host", "label", "identity", "account"):
            self.assertEqual(getattr(other, name), getattr(original, name))
        self.assertEqual(other.origin, f"pass@{HOST}/app")

    def test_origin(self) -> None:
        """
        What comes without credentials is public whatever the policy is.
        """
        registry = FakeRegistries(Clock()).registry(HOST)
        original = FakeRepository(registry, Repository(HOST, "app"), anonymous=True)
        other = ListedRepository(original, Repository(f"pass@{HOST}", "app"))
        self.assertEqual(other.origin, PUBLIC)


class AccountTests(PolicyCase):
    """
    C{account}: the upstream is requested with the credentials of the daemon's user.
    """

    upstream = UpstreamSettings(policy="account")
    holder = f"account@{HOST}"

    def test_mount(self) -> None:
        """
        A user without a right cannot mount what another one pulled, whatever the policy is
        by now.
        """
        self.assert_served(ANN)
        self.assert_not_mounted(BOB)
        self.change(policy="public")
        self.assert_not_mounted(BOB)

    def test_rights(self) -> None:
        """
        Clients need a right: without a login they get a challenge, and without a right
        the repository is unknown.
        """
        self.assert_served(ANN)
        self.assert_refused(None, 401)
        self.assert_refused(BOB, 404)
        self.assert_refused(basic("ann", "wrong"), 401)

    def test_root(self) -> None:
        """
        Root has no right by its connection, unless the setting says so.
        """
        self.assert_served(ANN)
        self.assert_refused(None, 401, Trust.ALL)
        self.change(root_may=True)
        self.assert_served(None, Trust.ALL)
        self.assert_refused(None, 401)

    def test_policy_changes(self) -> None:
        """
        What came with the credentials is not served after the upstream has become
        public: anonymous clients get what it gives to anybody.
        """
        self.assert_served(ANN)
        self.change(policy="public")
        self.assert_refused(None, 404)
        self.assert_refused(None, 404, Trust.ALL)
        self.change(policy="account")
        self.assert_served(ANN)

    def test_other_repository(self) -> None:
        """
        A blob is served in repositories that have it only.
        """
        self.assert_served(ANN)
        self.add(sample_image(1, seed=2), "app")
        self.change(policy="public")
        self.assertEqual(self.ask("/v2/app/manifests/latest").status, 200)
        self.assertEqual(self.ask(f"/v2/app/blobs/{self.layer.digest}").status, 404)
        self.assertEqual(self.ask(f"/v2/app/manifests/{self.image.digest}").status, 404)

    def test_digest_named_elsewhere(self) -> None:
        """
        A public upstream that names the digest of a private blob gets nothing for its
        clients, whether it has no such blob or pretends to have it.
        """
        self.assert_served(ANN)
        hostile = UpstreamSettings()
        self.v2.reload(evolve(self.settings, upstreams={HOST: self.upstream, OTHER: hostile}))
        self.other.add(self.image, "x")
        blob = f"/v2/{OTHER}/x/blobs/{self.layer.digest}"
        self.other.remove_blob("x", self.layer.digest)
        self.assertEqual(self.ask(f"/v2/{OTHER}/x/manifests/latest").status, 200)
        self.assertEqual(self.ask(blob).status, 404)
        self.other.put_blob("x", self.layer.digest, bytes(len(self.layer.read())))
        for headers in ({}, {"Range": "bytes=0-9"}):
            answer = self.ask(blob, headers)
            self.assertEqual(answer.status, 502)
            self.assertNotIn(self.layer.read()[:10], answer.body)
        self.assert_served(ANN)

    def test_catalog(self) -> None:
        """
        Its content is listed apart from public content.
        """
        self.assert_served(ANN)
        self.assertEqual(self.store.catalog.repositories(), [Repository(f"account@{HOST}", "secret")])

    def test_accounts(self) -> None:
        """
        An entry of the daemon's credentials can be for some repositories.
        """
        robot = self.registries.registry(HOST, "robot")
        robot.add(sample_image(3), "secret")
        self.keychain_credentials = Credentials.of("robot", "x")
        self.change(accounts=(AccountRule(("secr*",), f"{HOST}/team"),))
        answer = self.ask(MANIFEST, ANN)
        self.assertEqual((answer.status, answer.body), (200, sample_image(3).manifest.data))
        self.assertEqual(self.keychain.asked, [(HOST, "team")])
        self.keychain_credentials = None
        self.assertEqual(self.ask("/v2/secret/manifests/other", ANN).status, 404)


class PassTests(PolicyCase):
    """
    C{pass}: the client's own credentials are proven upstream.
    """

    upstream = UpstreamSettings(policy="pass")
    holder = f"pass@{HOST}"

    def setUp(self) -> None:
        """
        Give one user the image.
        """
        super().setUp()
        self.with_users, self.settings = self.settings, evolve(self.settings, htpasswd="")
        self.v2.reload(self.settings)
        self.hers: FakeRegistry = self.registries.registry(HOST, "ann")
        self.his: FakeRegistry = self.registries.registry(HOST, "bob")
        self.hers.add(self.image, "secret")

    def deny(self, registry: FakeRegistry) -> None:
        """
        Let a registry refuse each proof.
        """
        for what in ("resolve", "confirm", "manifest", "open"):
            registry.gate.fail(what, Denied("no", host=HOST, status=401), times=1000)

    def test_rights(self) -> None:
        """
        The client whose credentials the upstream accepts gets the image; others get
        nothing of it, while it is in the store.
        """
        self.assert_served(ANN)
        self.deny(self.his)
        self.assert_refused(BOB, 404)
        self.assert_refused(None, 401)
        self.assert_refused(None, 401, Trust.ALL)
        self.assert_served(ANN)

    def test_unknown_there(self) -> None:
        """
        A client for whom the upstream has no such repository gets nothing.
        """
        self.assert_served(ANN)
        self.assert_refused(BOB, 404)

    def test_content_differs(self) -> None:
        """
        Where two clients see different content under one tag, each gets its own.
        """
        self.assert_served(ANN)
        other = sample_image(1, seed=2)
        self.his.add(other, "secret")
        answer = self.ask(MANIFEST, BOB)
        self.assertEqual((answer.status, answer.body), (200, other.manifest.data))
        self.assertEqual(self.ask(self.by_digest, BOB).status, 404)
        self.assertEqual(self.ask(self.blob, BOB).status, 404)
        self.assert_served(ANN)

    def test_proofs(self) -> None:
        """
        A proof is good for a while, for the blobs of the manifest, too; then the
        upstream confirms it again.
        """
        proofs = [Request("confirm", "secret", "latest")]
        for _ in range(3):
            self.assert_served(ANN)
        asked = [request for request in self.hers.requests if request.kind == "confirm"]
        self.assertEqual(asked, proofs)
        self.clock.advance(KEEP)
        self.deny(self.hers)
        self.assert_refused(ANN, 404)

    def test_blob_alone(self) -> None:
        """
        A blob whose manifest the client has not asked for is confirmed by itself.
        """
        self.assert_served(ANN)
        self.his.add(self.image, "secret")
        self.assertEqual(self.ask(self.blob, BOB).status, 200)
        self.assertEqual([r.kind for r in self.his.requests], ["confirm"])
        self.assertEqual(self.ask(self.blob, BOB).status, 200)
        self.assertEqual([r.kind for r in self.his.requests], ["confirm"])

    def test_upstream_down(self) -> None:
        """
        Without an upstream there is no proof; one that is there remains good.
        """
        self.assert_served(ANN)
        for registry in (self.hers, self.his):
            registry.gate.fail("resolve", ConnectionFailed("down", host=HOST), times=1000)
        self.assert_served(ANN)
        self.assertEqual(self.ask(MANIFEST, BOB).status, 502)

    def test_anonymous(self) -> None:
        """
        What the upstream gives to anybody needs no credentials.
        """
        self.registry.private.clear()
        self.assert_served(None)

    def test_guesses(self) -> None:
        """
        Wrong credentials are counted by user: others at the same address continue.
        """
        self.deny(self.his)
        for number in range(GUESSES):
            self.assertEqual(
                self.ask(f"/v2/secret/manifests/{number}", basic("bob", str(number))).status, 404
            )
        self.assertEqual(self.ask(MANIFEST, basic("bob", "x")).status, 429)
        self.assert_served(ANN)

    def test_at_once(self) -> None:
        """
        Requests of one client that wait for proofs are not guesses.
        """
        connections = [self.connect(Trust.NONE) for _ in range(3 * GUESSES)]
        for number, connection in enumerate(connections):
            connection.send("GET", f"/v2/secret/manifests/{number}", {"Host": "x", **ANN})
        self.settle()
        self.assertEqual({connection.answer().status for connection in connections}, {404})

    def test_ping(self) -> None:
        """
        The root demands credentials; a login that an upstream accepts is right.
        """
        self.assertEqual(self.ask("/v2/").status, 401)
        self.assertEqual(self.ask("/v2/", ANN).status, 200)
        self.his.gate.fail("check", Denied("no", host=HOST, status=401), times=1000)
        self.assertEqual(self.ask("/v2/", BOB).status, 401)

    def test_token(self) -> None:
        """
        A token has the credentials with which the upstream is requested.  A login without
        a scope is checked at once.
        """
        token = self.ask("/v2/token?scope=repository:secret:pull", ANN).json()["token"]
        self.assertEqual(self.ask("/v2/", bearer(token)).status, 200)
        self.assert_served(bearer(token))
        self.deny(self.his)
        self.his.gate.fail("check", Denied("no", host=HOST, status=401), times=1000)
        his = self.ask("/v2/token?scope=repository:secret:pull", BOB).json()["token"]
        self.assert_refused(bearer(his), 404)
        self.assertEqual(self.ask("/v2/token", BOB).status, 401)
        nobodys = self.ask("/v2/token").json()["token"]
        self.assert_refused(bearer(nobodys), 401)

    def test_lists(self) -> None:
        """
        Tags and referrers are listed for a client that has proven a right to the repository.
        """
        paths = ("/v2/secret/tags/list", f"/v2/secret/referrers/{self.image.digest}")
        for path in paths:
            self.assertEqual(self.ask(path).status, 401, path)
            self.assertEqual(self.ask(path, ANN).status, 404, path)
        self.assert_served(ANN)
        for path in paths:
            self.assertEqual(self.ask(path, ANN).status, 200, path)
            self.assertEqual(self.ask(path, BOB).status, 404, path)
            self.assertEqual(self.ask(path).status, 401, path)

    def test_own_users(self) -> None:
        """
        Passwords of xferd's own users, right or wrong, are not sent to an upstream.
        """
        self.v2.reload(self.with_users)
        for credentials in (ANN, basic("ann", "wrong")):
            self.assert_refused(credentials, 401)
            self.ask("/v2/", credentials)
            self.ask("/v2/token", credentials)
        self.assertEqual(self.hers.requests, [])
        self.registries.registry(HOST, "zoe").add(self.image, "secret")
        self.assert_served(basic("zoe", "x"))
        self.assertEqual(self.ask("/v2/", basic("zoe", "x")).status, 200)

    def test_mount(self) -> None:
        """
        A blob that a client reached with its own credentials cannot be mounted: by another
        client, by one of xferd's own users, or by the client itself.
        """
        self.assert_served(ANN)
        self.settings = evolve(
            self.settings, rights=(RightsRule(("anonymous",), ("local/**",), ("pull", "push")),)
        )
        self.v2.reload(self.settings)
        self.assert_not_mounted({})
        self.assert_not_mounted(ANN)
        self.v2.reload(self.with_users)
        self.assert_not_mounted(BOB)

    def test_malformed(self) -> None:
        """
        Malformed credentials are ignored.
        """
        self.assert_refused({"Authorization": "Basic x"}, 401)
        self.assertEqual(self.ask(f"/v2/secret/blobs/{Digest.of(b'x')}", ANN).status, 404)


class ContinuedTests(PolicyCase):
    """
    The repositories from which the next daemon continues downloads.
    """

    def found(self, name: Repository) -> IRepository | None:
        """
        The upstream's repository of a name in the catalog.
        """
        result: IRepository | None = self.successResultOf(Deferred.fromCoroutine(self.v2.upstream(name)))
        return result

    def test_policies(self) -> None:
        """
        It continues with the credentials that the policy demands, and not at all where the
        policy has changed, or where each client needs credentials of its own.
        """
        name = Repository(HOST, "secret")
        for policy in POLICIES:
            self.change(policy=policy)
            for other in POLICIES:
                found = self.found(listed(name, other))
                if policy == other != PASS:
                    assert found is not None
                    self.assertEqual(found.name, listed(name, policy))
                else:
                    self.assertIsNone(found, (policy, other))

    def test_unknown(self) -> None:
        """
        No policy is found for an upstream that the settings no longer name, or for a local repository.
        """
        for host in (OTHER, LOCAL_HOST):
            self.assertIsNone(self.found(Repository(host, "secret")))
