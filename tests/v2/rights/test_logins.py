"""
Tests for L{xferd.v2.rights.logins} and L{xferd.v2.rights.access}: users of the registry.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import evolve

from tests.jobs.case import HOST
from tests.v2.case import RegistryCase
from tests.v2.rights.users import basic, bearer, write_htpasswd
from tests.web.connection import Answer
from xferd.names import Digest
from xferd.testing.images import sample_image
from xferd.v2.rights.passwords import GUESSES
from xferd.v2.rights.rules import RightsRule
from xferd.v2.settings import RegistrySettings, UpstreamSettings
from xferd.web.peer_trust import Trust

ANN, WRONG = basic("ann", "right"), basic("ann", "wrong")


class UsersCase(RegistryCase):
    """
    A registry with a user, who has a right.
    """

    external_url: ClassVar[str] = ""

    def setUp(self) -> None:
        """
        Make the file of passwords.
        """
        self.htpasswd = write_htpasswd(self.mktemp(), {"ann": "right", "bob": "other"})
        self.settings = RegistrySettings(
            default=HOST,
            upstreams={HOST: UpstreamSettings()},
            htpasswd=self.htpasswd,
            external_url=self.external_url,
            rights=(RightsRule(("ann",), ("local/ann/**",), ("pull", "push")),),
        )
        super().setUp()
        self.add(sample_image(1))

    def ask(self, path: str, headers: dict[str, str] | None = None, host: str = "r.lan:5000") -> Answer:
        """
        Send a request as a stranger.
        """
        return self.request(path, headers={"Host": host, **(headers or {})}, trust=Trust.NONE)

    def challenge(self, answer: Answer) -> str:
        """
        The challenge of a refusal.
        """
        self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (401, "UNAUTHORIZED"))
        return str(answer.headers["www-authenticate"])


class BasicTests(UsersCase):
    """
    Basic credentials, where the URL of the registry is not certain.
    """

    def test_ping(self) -> None:
        """
        The root demands a login, also from root's clients: some take the challenge from
        there only.
        """
        for trust in (Trust.ALL, Trust.NONE):
            answer = self.request("/v2/", headers={"Host": "r.lan"}, trust=trust)
            self.assertEqual(self.challenge(answer), 'Basic realm="xferd"')
            self.assertEqual(answer.headers["docker-distribution-api-version"], "registry/2.0")
        self.assertEqual(self.ask("/v2/", ANN).status, 200)
        self.challenge(self.ask("/v2/", WRONG))
        for malformed in ("Basic x", "Basic YQ==", "Digest x", "Bearer x", ""):
            self.challenge(self.ask("/v2/", {"Authorization": malformed}))

    def test_anonymous(self) -> None:
        """
        A client without credentials pulls what is public, and so does one with empty
        credentials, as podman sends.
        """
        for headers in ({}, basic("", "")):
            self.assertEqual(self.ask("/v2/app/manifests/latest", headers).status, 200)
        self.assertEqual(self.ask("/v2/", basic("", "")).status, 200)

    def test_other_credentials(self) -> None:
        """
        A client that sends credentials of another registry pulls what is public.
        """
        self.assertEqual(self.ask("/v2/app/manifests/latest", WRONG).status, 200)

    def test_rights(self) -> None:
        """
        A user has the rights of the rules.  Without a login, the challenge comes; with
        another one, the answer does not depend on whether the repository exists.
        """
        path = "/v2/local/ann/app/manifests/latest"
        self.assertEqual(self.ask(path, ANN).status, 404)
        for headers in ({}, WRONG, basic("zoe", "right")):
            self.assertIn("Basic", self.challenge(self.ask(path, headers)))
        for refused, headers in ((path, basic("bob", "other")), ("/v2/local/x/manifests/1", ANN)):
            answer = self.ask(refused, headers)
            self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (403, "DENIED"))

    def test_guesses(self) -> None:
        """
        Guesses of passwords are limited.
        """
        for number in range(GUESSES):
            self.challenge(self.ask("/v2/", basic("ann", str(number))))
        answer = self.ask("/v2/", basic("ann", "another"))
        self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (429, "TOOMANYREQUESTS"))
        self.assertEqual(answer.headers["retry-after"], "6")


class TokenTests(UsersCase):
    """
    Tokens, where the URL of the registry is known.
    """

    external_url = "https://r.lan:5000"

    def token(self, query: str = "", headers: dict[str, str] | None = None) -> str:
        """
        Fetch a token.
        """
        answer = self.ask(f"/v2/token{query}", headers)
        self.assertEqual(answer.status, 200, answer.body)
        value = answer.json()
        self.assertEqual((value["token"], value["expires_in"]), (value["access_token"], 300))
        self.assertEqual(answer.headers["cache-control"], "no-store")
        return str(value["token"])

    def test_challenge(self) -> None:
        """
        The challenge has the URL of the token server, and the scope.
        """
        service = 'Bearer realm="https://r.lan:5000/v2/token",service="r.lan:5000"'
        self.assertEqual(self.challenge(self.ask("/v2/", host="inner")), service)
        answer = self.ask("/v2/local/ann/app/manifests/1")
        self.assertEqual(self.challenge(answer), f'{service},scope="repository:local/ann/app:pull"')

    def test_pull(self) -> None:
        """
        A token of a user has its rights, and one without credentials may pull what is
        public.
        """
        path = "/v2/local/ann/app/manifests/1"
        hers, nobodys = self.token("?service=x", ANN), self.token("?scope=repository:app:pull")
        self.assertEqual(self.ask(path, bearer(hers)).status, 404)
        self.assertIn('error="insufficient_scope"', self.challenge(self.ask(path, bearer(nobodys))))
        for token in (hers, nobodys):
            self.assertEqual(self.ask("/v2/", bearer(token)).status, 200)
            self.assertEqual(self.ask("/v2/app/manifests/latest", bearer(token)).status, 200)
        self.assertIn('error="invalid_token"', self.challenge(self.ask("/v2/", bearer("x"))))

    def test_basic(self) -> None:
        """
        Basic credentials are as good as a token.
        """
        self.assertEqual(self.ask("/v2/", ANN).status, 200)
        self.assertEqual(self.ask("/v2/local/ann/app/manifests/1", ANN).status, 404)

    def test_post(self) -> None:
        """
        The OAuth 2 form has the password in the body.
        """
        for form, status in (
            (b"grant_type=password&username=ann&password=right&service=x&client_id=c", 200),
            (b"grant_type=password&username=ann&password=wrong", 401),
            (b"grant_type=refresh_token&refresh_token=x", 401),
            (b"grant_type=password&service=x", 200),
            (b"", 401),
            (b"\xff", 400),
            (b"a=b&" * 100, 400),
        ):
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self.request("/v2/token", "POST", headers, form, Trust.NONE)
            self.assertEqual(answer.status, status, form)

    def test_wrong(self) -> None:
        """
        Wrong credentials get no token, and neither does a token.
        """
        for headers in (WRONG, {"Authorization": "Basic x"}, bearer(self.token(headers=ANN))):
            answer = self.ask("/v2/token", headers)
            self.assertEqual(
                (answer.status, answer.headers["www-authenticate"]), (401, 'Basic realm="xferd"')
            )

    def test_changes(self) -> None:
        """
        A token loses its rights with the password of its user, and with the rules.
        """
        path = "/v2/local/ann/app/manifests/1"
        token = self.token(headers=ANN)
        self.v2.reload(evolve(self.settings, rights=()))
        self.assertEqual(self.ask(path, bearer(token)).status, 403)
        self.v2.reload(self.settings)
        self.assertEqual(self.ask(path, bearer(token)).status, 404)
        write_htpasswd(self.htpasswd, {"ann": "changed!"})
        self.assertEqual(self.ask(path, bearer(token)).status, 401)


class PushTests(UsersCase):
    """
    Pushes and deletions.
    """

    def begin(self, name: str, headers: dict[str, str] | None = None, trust: Trust = Trust.NONE) -> Answer:
        """
        Begin an upload.
        """
        fields = {"Content-Length": "0", "Host": "localhost:5000", **(headers or {})}
        return self.request(f"/v2/{name}/blobs/uploads/", "POST", fields, trust=trust)

    def test_counted(self) -> None:
        """
        Requests with a login are counted by its result, and those without are not.
        """
        for headers in (ANN, ANN, WRONG, {}):
            self.begin("local/ann/app", headers)
        self.assertEqual(self.rights.logins, {"accepted": 2, "refused": 1})

    def test_push(self) -> None:
        """
        A push needs a right: by a rule, or by a trusted connection.
        """
        self.assertEqual(self.begin("local/ann/app", ANN).status, 202)
        for headers in ({}, WRONG):
            challenge = self.challenge(self.begin("local/ann/app", headers))
            self.assertIn('scope="repository:local/ann/app:pull,push"', challenge)
        for name, headers in (("local/ann/app", basic("bob", "other")), ("local/other", ANN)):
            self.assertEqual(self.begin(name, headers).status, 403, name)
        self.assertEqual(self.begin("local/any", trust=Trust.ALL).status, 202)

    def test_too_many(self) -> None:
        """
        Unfinished uploads are limited for each user: the clients behind a proxy have one address.
        """
        users = RightsRule(("*",), ("local/all/**",), ("push",))
        self.v2.reload(evolve(self.settings, rights=(users,)))
        self.store.incoming.most = 1
        for headers in (ANN, basic("bob", "other")):
            self.assertEqual(self.begin("local/all/app", headers).status, 202)
            self.assertEqual(self.begin("local/all/app", headers).status, 429)

    def test_browsers(self) -> None:
        """
        A page of another site has no rights by the connection of root's browser.
        """
        for headers in (
            {"Origin": "http://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Host": "evil.example:5000"},
        ):
            self.challenge(self.begin("local/any", headers, Trust.ALL))
            answer = self.request("/v2/local/any/manifests/1", "DELETE", headers, trust=Trust.ALL)
            self.challenge(answer)

    def test_delete(self) -> None:
        """
        Deletion is a right of its own.
        """
        path = "/v2/local/ann/app/manifests/1"
        answer = self.request(path, "DELETE", ANN, trust=Trust.NONE)
        self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (403, "DENIED"))
        self.assertEqual(self.request(path, "DELETE").status, 404)

    def test_mount(self) -> None:
        """
        A blob is mounted only from a repository that the client may read.
        """
        data = b"a blob"
        digest = Digest.of(data)
        uploaded = self.request(
            f"/v2/local/other/blobs/uploads/?digest={digest}",
            "POST",
            {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))},
            data,
        )
        self.assertEqual(uploaded.status, 201, uploaded.body)
        for query in (f"?mount={digest}&from=local/other", f"?mount={digest}"):
            fields = {"Content-Length": "0", **ANN}
            path = f"/v2/local/ann/app/blobs/uploads/{query}"
            self.assertEqual(self.request(path, "POST", fields, trust=Trust.NONE).status, 202, query)
            self.assertEqual(self.request(path, "POST", {"Content-Length": "0"}).status, 201, query)
            self.request(f"/v2/local/ann/app/blobs/{digest}", "DELETE")

    def test_catalog(self) -> None:
        """
        A client sees the names of repositories that it may read.
        """
        image = sample_image(1)
        for name in ("local/ann/app", "local/other"):
            for blob in image.blobs:
                data = blob.read()
                path = f"/v2/{name}/blobs/uploads/?digest={blob.digest}"
                self.request(path, "POST", {"Content-Type": "application/octet-stream"}, data)
            put = self.request(
                f"/v2/{name}/manifests/1",
                "PUT",
                {"Content-Type": image.manifest.media_type},
                image.manifest.data,
            )
            self.assertEqual(put.status, 201, put.body)
        self.ask("/v2/app/manifests/latest")
        public = f"{HOST}/app"
        for headers, names in (({}, [public]), (WRONG, [public]), (ANN, ["local/ann/app", public])):
            self.assertEqual(self.ask("/v2/_catalog", headers).json()["repositories"], sorted(names))
        everything = self.request("/v2/_catalog").json()["repositories"]
        self.assertEqual(everything, sorted(["local/ann/app", "local/other", public]))


class URLTests(UsersCase):
    """
    The URL of the token server without a setting.
    """

    def test_host(self) -> None:
        """
        C{Host} is used over loopback; elsewhere a proxy with TLS may be in front.
        """
        for host, realm in (
            ("localhost:5000", "http://localhost:5000/v2/token"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/token"),
            ("r.lan", ""),
            ('x",y="z', ""),
        ):
            challenge = self.challenge(self.ask("/v2/", host=host))
            self.assertTrue(challenge.startswith(f'Bearer realm="{realm}"' if realm else "Basic"), challenge)
