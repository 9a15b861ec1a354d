"""
Tests for L{xferd.testing.tokens}.
"""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote, urlencode

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.testing.client import Client, Reply
from xferd.testing.faults import unavailable
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry
from xferd.testing.tokens import BasicGuard, TokenRequest, TokenServer, credentials

PULL = "repository:library/sample:pull"
PUSH = "repository:library/sample:pull,push"
MANIFEST = "/v2/library/sample/manifests/latest"


def basic(user: str, password: str) -> dict[str, str]:
    """
    The header for Basic credentials.
    """
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def bearer(token: str) -> dict[str, str]:
    """
    The header for a token.
    """
    return {"Authorization": f"Bearer {token}"}


class BasicGuardTests(SynchronousTestCase):
    """
    A registry with users and passwords.
    """

    def setUp(self) -> None:
        """
        Make a registry with one user.
        """
        clock = Clock()
        self.guard = BasicGuard({"ann": "secret"})
        self.registry = Registry(clock, guard=self.guard)
        self.registry.add(sample_image(0), "library/sample")
        self.client = Client(self.registry, clock)

    def test_let_in(self) -> None:
        """
        The password admits all requests.
        """
        for path in ("/v2/", MANIFEST):
            self.assertEqual(200, self.client.ask("GET", path, basic("ann", "secret")).status)
        self.assertEqual(0, self.guard.refused)

    def test_refused(self) -> None:
        """
        Other requests are challenged.
        """
        for headers in ({}, basic("ann", "wrong"), basic("bob", "secret"), bearer("x")):
            reply = self.client.ask("GET", "/v2/", headers)
            self.assertEqual(
                (401, 'Basic realm="test registry"'), (reply.status, reply.headers["www-authenticate"])
            )
        self.assertEqual(4, self.guard.refused)

    def test_seen(self) -> None:
        """
        The log has the credentials, its representation has not.
        """
        self.client.ask("GET", "/v2/", basic("ann", "secret"))
        exchange = self.registry.log[-1]
        self.assertEqual(basic("ann", "secret")["Authorization"], exchange.authorization)
        self.assertNotIn("Basic", repr(exchange))

    def test_credentials(self) -> None:
        """
        Other headers have no credentials.
        """
        self.assertEqual(("a", "b:c"), credentials(basic("a", "b:c")["Authorization"]))
        for header in (None, "", "Basic", "Basic ?", "Basic YQ==", "Bearer YTpi", "Basic /w=="):
            self.assertIsNone(credentials(header), header)


class TokenServerTests(SynchronousTestCase):
    """
    A registry that trusts a token server.
    """

    def setUp(self) -> None:
        """
        Make a registry and its token server.
        """
        self.clock = Clock()
        self.tokens = TokenServer(self.clock, users={"ann": "secret"}, lifetime=100)
        self.tokens.realm = "http://auth.test/token"
        self.registry = Registry(self.clock, guard=self.tokens)
        self.registry.add(sample_image(0), "library/sample")
        self.client = Client(self.registry, self.clock)
        self.auth = Client(self.tokens, self.clock)

    def fetch(self, scope: str = PULL, headers: dict[str, str] | None = None) -> Reply:
        """
        Request a token in the older form.
        """
        return self.auth.ask("GET", f"/token?service=registry.test&scope={quote(scope)}", headers)

    def token(self, scope: str = PULL, headers: dict[str, str] | None = None) -> str:
        """
        Fetch a token in the older form.
        """
        token = self.fetch(scope, headers).json()["token"]
        assert isinstance(token, str)
        return token

    def assertChallenge(self, reply: Reply, more: str) -> None:
        """
        A reply is a challenge.
        """
        self.assertEqual(401, reply.status)
        self.assertEqual(
            f'Bearer realm="http://auth.test/token",service="registry.test"{more}',
            reply.headers["www-authenticate"],
        )

    def test_challenge(self) -> None:
        """
        A request without a token is challenged with realm, service and scope.
        """
        self.assertChallenge(self.client.ask("GET", "/v2/"), "")
        self.assertChallenge(self.client.ask("GET", MANIFEST), f',scope="{PULL}"')
        reply = self.client.ask("POST", "/v2/library/sample/blobs/uploads/", body=b"")
        self.assertChallenge(reply, f',scope="{PUSH}"')

    def test_anonymous_pull(self) -> None:
        """
        Anonymous clients may pull, but not push.
        """
        token = self.token(PUSH)
        self.assertEqual(200, self.client.ask("GET", MANIFEST, bearer(token)).status)
        reply = self.client.ask("POST", "/v2/library/sample/blobs/uploads/", bearer(token), b"")
        self.assertChallenge(reply, f',scope="{PUSH}",error="insufficient_scope"')
        self.assertEqual([TokenRequest("GET", None, "registry.test", (PUSH,), (PULL,))], self.tokens.fetches)

    def test_no_anonymous(self) -> None:
        """
        Pulling can require a user, too.
        """
        self.tokens.anonymous = False
        reply = self.client.ask("GET", MANIFEST, bearer(self.token()))
        self.assertChallenge(reply, f',scope="{PULL}",error="insufficient_scope"')

    def test_user(self) -> None:
        """
        A user with the right password has all rights.
        """
        token = self.token(PUSH, basic("ann", "secret"))
        reply = self.client.ask("POST", "/v2/library/sample/blobs/uploads/", bearer(token), b"")
        self.assertEqual(202, reply.status)
        for headers in (basic("ann", "wrong"), {"Authorization": "Basic ?"}):
            self.assertEqual(401, self.fetch(PUSH, headers).status)

    def test_other_repository(self) -> None:
        """
        A token is valid for its scope only.
        """
        token = self.token("repository:other:pull")
        self.assertEqual(401, self.client.ask("GET", MANIFEST, bearer(token)).status)
        self.assertEqual(200, self.client.ask("GET", "/v2/", bearer(token)).status)

    def test_several_scopes(self) -> None:
        """
        A request can have several scopes.
        """
        reply = self.auth.ask("GET", f"/token?scope={quote(PULL)}&scope=repository:other:pull")
        self.assertEqual(200, self.client.ask("GET", MANIFEST, bearer(reply.json()["token"])).status)
        self.assertEqual((PULL, "repository:other:pull"), self.tokens.fetches[-1].scopes)
        self.assertIsNone(self.tokens.fetches[-1].service)

    def test_expiry(self) -> None:
        """
        A token is invalid after its lifetime, or when it is revoked.
        """
        token = self.token()
        self.clock.advance(99)
        self.assertEqual(200, self.client.ask("GET", MANIFEST, bearer(token)).status)
        self.clock.advance(1)
        expired = f',scope="{PULL}",error="invalid_token"'
        self.assertChallenge(self.client.ask("GET", MANIFEST, bearer(token)), expired)
        token = self.token()
        self.tokens.revoke()
        self.assertChallenge(self.client.ask("GET", MANIFEST, bearer(token)), expired)

    def test_forms(self) -> None:
        """
        The token is in one field, the other or both, with or without a lifetime.
        """
        self.assertEqual(
            {"token", "expires_in", "issued_at"},
            set(value := self.fetch().json()),
        )
        self.assertEqual((100, "1970-01-01T00:00:00Z"), (value["expires_in"], value["issued_at"]))
        self.tokens.tell_lifetime = False
        for name, names in (("access_token", {"access_token"}), ("both", {"token", "access_token"})):
            self.tokens.field = name
            value = self.fetch().json()
            self.assertEqual((names, 1), (set(value), len(set(value.values()))))

    def post(self, **form: str) -> Reply:
        """
        Request a token in the OAuth 2 form.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        wanted = {"service": "registry.test", "scope": PUSH, "client_id": "test", **form}
        return self.auth.ask("POST", "/token", headers, urlencode(wanted).encode())

    def test_oauth(self) -> None:
        """
        A password gives a token and a refresh token, which gives the next token.
        """
        one = self.post(grant_type="password", username="ann", password="secret").json()
        two = self.post(grant_type="refresh_token", refresh_token=one["refresh_token"]).json()
        for value in (one, two):
            reply = self.client.ask("POST", "/v2/library/sample/blobs/uploads/", bearer(value["token"]), b"")
            self.assertEqual(202, reply.status)
        self.assertEqual([("POST", "ann")] * 2, [(f.method, f.user) for f in self.tokens.fetches])

    def test_oauth_refused(self) -> None:
        """
        A wrong password, an unknown refresh token, an unknown or an incomplete grant is
        refused.
        """
        for form in (
            {"grant_type": "password", "username": "ann", "password": "wrong"},
            {"grant_type": "password", "username": "bob", "password": "x"},
            {"grant_type": "password"},
            {"grant_type": "refresh_token", "refresh_token": "x"},
            {"grant_type": "refresh_token"},
            {"grant_type": "other"},
            {},
        ):
            self.assertEqual(401, self.post(**form).status)

    def test_no_oauth(self) -> None:
        """
        A server without the OAuth 2 form refuses it with any status, and accepts an
        identity token as a password.
        """
        made = self.tokens.refresh_token("ann")
        self.tokens.refuse_oauth = 405
        self.assertEqual(405, self.post(grant_type="refresh_token", refresh_token=made).status)
        self.assertEqual(200, self.auth.ask("GET", "/token", basic("", made)).status)
        self.assertEqual("ann", self.tokens.fetches[-1].user)
        self.assertEqual(401, self.auth.ask("GET", "/token", basic("", "x")).status)

    def test_offline_token(self) -> None:
        """
        The older form returns a refresh token on request; one can also be made before.
        """
        for headers, there in ((basic("ann", "secret"), True), (None, False)):
            reply = self.auth.ask("GET", "/token?offline_token=true", headers)
            self.assertEqual(there, "refresh_token" in reply.json())
        made = self.tokens.refresh_token("ann")
        self.assertEqual(200, self.post(grant_type="refresh_token", refresh_token=made).status)

    def test_faults(self) -> None:
        """
        A token server has faults, too; its exchanges are logged.
        """
        self.tokens.faults.plant(unavailable(500))
        self.assertEqual([500, 200], [self.fetch().status for _ in range(2)])
        self.assertEqual(2, len(self.tokens.log))
        self.assertEqual(1, len(self.tokens.fetches))
