"""
Tests for L{xferd.web.guard}: access control.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Request

from tests.web.connection import Answer, Connection
from tests.web.world import World
from xferd.access_tokens import AccessTokens, Right
from xferd.web.client_limits import ClientLimits
from xferd.web.guard import Guard
from xferd.web.page_login import PageLogin
from xferd.web.peer_trust import Trust
from xferd.web.security_headers import SECURITY_HEADERS
from xferd.web.site import WebSite

PULL = b'{"kind": "pull", "reference": "alpine"}'


class HostTests(SynchronousTestCase):
    """
    The C{Host} header, against DNS rebinding.
    """

    def test_ours(self) -> None:
        """
        Names and addresses of loopback are accepted, with and without a port,
        and so are the configured names.
        """
        world = World(hosts=["Build.Example"])
        for host in (
            "localhost",
            "LOCALHOST:9337",
            "xferd.localhost",
            "127.0.0.1:9337",
            "127.8.8.8",
            "[::1]:9337",
            "build.example:80",
        ):
            self.assertEqual(world.ask("GET", "/api/v1/status", headers={"Host": host}).status, 200, host)

    def test_foreign(self) -> None:
        """
        A foreign name, to which an attacker's DNS may give the daemon's
        address, is refused on every path.
        """
        world = World(hosts=["build.example"])
        for host in (
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "8.8.8.8",
            "a b",
            "",
            "[::1",
        ):
            for path in ("/api/v1/status", "/", "/healthz"):
                answer = world.ask("GET", path, headers={"Host": host})
                self.assertEqual(answer.status, 421, (host, path))
                self.assertEqual(answer.json()["error"]["code"], "MISDIRECTED_REQUEST")

    def test_one(self) -> None:
        """
        A request without C{Host}, or with several, is a bad request.
        """
        world = World()
        self.assertEqual(world.ask("GET", "/healthz", headers={"Host": None}).status, 400)
        connection = world.connect()
        connection.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n")
        self.assertEqual(connection.answer().status, 400)

    def test_socket(self) -> None:
        """
        On the unix socket the header may be anything, or absent.
        """
        world = World()
        for host in ("docker", "%2Frun%2Fxferd.sock", "\xff", None):
            answer = world.ask("GET", "/api/v1/status", headers={"Host": host}, unix=True)
            self.assertEqual(answer.status, 200, host)


class PathTests(SynchronousTestCase):
    """
    Bytes of any kind in a request's first line.
    """

    def test_not_text(self) -> None:
        """
        A path that is not UTF-8 is refused with one sentence, also for a client
        that is refused for another reason; the connection stays open, and no
        traceback is logged.
        """
        world = World(trusted=False, token="s3cret")
        for path in (b"/api/v1/images/a\xa5", b"/\x80", b"/api/v1/jobs/\x7f", b"/%A5", b"/%1b[31m"):
            connection = world.connect()
            for host, method in ((b"localhost", b"GET"), (b"evil.example", b"POST")):
                with capturedLogs() as events:
                    connection.protocol.dataReceived(
                        b"%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n" % (method, path, host)
                    )
                answer = connection.answer()
                self.assertIn(answer.status, (400, 401, 404, 421), path)
                self.assertTrue(answer.json()["error"]["message"].isprintable())
                self.assertFalse(connection.transport.disconnecting)
                lines = [str(formatEvent(event)) for event in events]
                self.assertTrue(all(line.isascii() and len(line) < 500 for line in lines), lines)
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_long(self) -> None:
        """
        A path of the maximum length of the first line is quoted in part.
        """
        for path in ("/" + "a" * 16_000, "/%FF" * 4_000, "/" + "\xa5" * 16_000):
            with capturedLogs() as events:
                answer = World().ask("GET", path, documented=False)
            self.assertLess(len(answer.json()["error"]["message"]), 500)
            for event in events:
                self.assertLess(len(str(formatEvent(event))), 500)

    def test_asterisk(self) -> None:
        """
        A request for C{*} is refused like others: for its host, or because no
        such path exists.
        """
        for method in (b"OPTIONS", b"GET", b"POST"):
            for host, statuses in ((b"evil.example", (403, 421)), (b"localhost", (404, 405))):
                connection = World().connect()
                connection.protocol.dataReceived(
                    b"%s * HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n" % (method, host)
                )
                self.assertIn(connection.answer().status, statuses, (method, host))

    def test_method(self) -> None:
        """
        The same holds for a method.
        """
        answer = World().ask("A" * 16_000, "/api/v1/jobs", documented=False)
        self.assertEqual(answer.status, 405)
        self.assertLess(len(answer.json()["error"]["message"]), 500)


class OriginTests(SynchronousTestCase):
    """
    C{Origin}, against forged requests.
    """

    def post(self, **headers: str | None) -> Answer:
        """
        Start a pull.
        """
        return World().ask("POST", "/api/v1/jobs", PULL, headers)

    def test_own_page(self) -> None:
        """
        The daemon's own page is accepted for every request.
        """
        answer = self.post(**{"Origin": "http://localhost:9337", "Sec-Fetch-Site": "same-origin"})
        self.assertEqual(answer.status, 202)

    def test_foreign_page(self) -> None:
        """
        A page of another site is refused, also one on another port.
        """
        for origin in (
            "http://evil.example",
            "http://localhost:8000",
            "null",
            "",
            "http://localhost:9337.evil",
        ):
            answer = self.post(Origin=origin)
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (403, "FORBIDDEN"), origin)

    def test_fetch_metadata(self) -> None:
        """
        The browser's own headers about the site of the page count as well.
        """
        for site in ("cross-site", "same-site", "whatever"):
            self.assertEqual(self.post(**{"Sec-Fetch-Site": site}).status, 403, site)
        self.assertEqual(self.post(**{"Sec-Fetch-Site": "none"}).status, 202)

    def test_delete(self) -> None:
        """
        Cancelling is protected in the same way.
        """
        world = World()
        world.post({"kind": "pull", "reference": "a"})
        answer = world.ask("DELETE", "/api/v1/jobs/j1", headers={"Origin": "http://evil.example"})
        self.assertEqual(answer.status, 403)
        self.assertEqual(world.jobs.known["j1"]["state"], "running")

    def test_safe(self) -> None:
        """
        Reading is not protected in this way: no foreign page can see the
        response.
        """
        answer = World().ask("GET", "/api/v1/status", headers={"Origin": "http://evil.example"})
        self.assertEqual(answer.status, 200)
        self.assertNotIn("access-control-allow-origin", answer.headers)

    def test_form(self) -> None:
        """
        A body that a form can send is no job, whatever its origin.
        """
        for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
            answer = self.post(**{"Content-Type": media_type})
            self.assertEqual(
                (answer.status, answer.json()["error"]["code"]), (415, "UNSUPPORTED_MEDIA_TYPE"), media_type
            )


class TokenTests(SynchronousTestCase):
    """
    The bearer token of listeners that are not trusted.
    """

    def setUp(self) -> None:
        """
        Make a server that requires a token.
        """
        self.world = World(trusted=False, token="s3cret", hosts=["build.example"])

    def ask(self, path: str, authorization: str | None = None, **headers: str | None) -> Answer:
        """
        Send a request with C{Authorization}.
        """
        return self.world.ask("GET", path, headers={"Authorization": authorization, **headers})

    def test_right(self) -> None:
        """
        A request with the token is accepted, for every host name.
        """
        for host in ("localhost", "whatever.example"):
            for authorization in ("Bearer s3cret", "bearer  s3cret"):
                self.assertEqual(self.ask("/api/v1/status", authorization, Host=host).status, 200)

    def test_wrong(self) -> None:
        """
        A request with a wrong token is refused with a description of the right
        header.
        """
        for authorization in (
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer s3cre",
            "Bearer S3CRET",
            "Basic s3cret",
            "s3cret",
        ):
            for path in ("/api/v1/status", "/api/v1/events", "/nope"):
                answer = self.ask(path, authorization)
                self.assertEqual((answer.status, answer.json()["error"]["code"]), (401, "UNAUTHORIZED"))
                self.assertEqual(answer.headers["www-authenticate"], 'Bearer realm="xferd"')
        self.assertEqual(self.world.jobs.streams, [])

    def test_open(self) -> None:
        """
        The page, which prompts for the token, and the health are public; the
        host name has to be the daemon's.
        """
        for path in ("/", "/static/page.css", "/healthz", "/readyz"):
            self.assertEqual(self.ask(path).status, 200, path)
            self.assertEqual(self.ask(path, Host="evil.example").status, 421, path)

    def test_socket(self) -> None:
        """
        An untrusted socket requires the token as well.
        """
        self.assertEqual(self.world.ask("GET", "/api/v1/jobs", unix=True).status, 401)

    def test_read_only(self) -> None:
        """
        A read-only token permits reading: no change, and no archive, for which
        the daemon would use its own credentials.
        """
        self.world.tokens.add("looker", Right.LOOK)
        for path in ("/api/v1/status", "/api/v1/images", "/metrics", "/"):
            for method in ("GET", "HEAD"):
                answer = self.world.ask(method, path, headers={"Authorization": "Bearer looker"})
                self.assertEqual(answer.status, 200, path)
        for method, path, body in (
            ("POST", "/api/v1/jobs", PULL),
            ("DELETE", "/api/v1/jobs/j1", None),
            ("PATCH", "/api/v1/limits", b"{}"),
            ("POST", "/api/v1/auth", b"{}"),
            ("GET", "/api/v1/archives/alpine", None),
            ("HEAD", "/api/v1/archives/alpine", None),
        ):
            answer = self.world.ask(method, path, body, {"Authorization": "Bearer looker"})
            self.assertEqual(answer.status, 403, path)
            if method != "HEAD":
                self.assertIn("this token is read_only", answer.json()["error"]["message"])
        self.assertEqual((self.world.jobs.known, self.world.jobs.exported), ({}, []))

    def test_none_is_set(self) -> None:
        """
        If no token is configured, no credentials grant access to a listener
        that requires one.
        """
        world = World(trusted=False, token=None)
        for authorization in (None, "Bearer ", "Bearer None"):
            answer = world.ask("GET", "/api/v1/status", headers={"Authorization": authorization})
            self.assertEqual(answer.status, 401)

    def test_no_token_is_no_key(self) -> None:
        """
        If no token is configured, an empty one grants no access.
        """
        answer = World().ask("GET", "/", headers={"Authorization": "Bearer ", "Host": "evil.example"})
        self.assertEqual(answer.status, 421)


class AnswerTests(SynchronousTestCase):
    """
    Headers of every response, and invalid requests.
    """

    def test_headers(self) -> None:
        """
        All responses have the same security headers, and none names a version.
        """
        for path in ("/", "/api/v1/jobs", "/nope", "/static/main.js"):
            answer = World().ask("GET", path)
            for name, value in SECURITY_HEADERS.items():
                self.assertEqual(answer.headers.get_all(name.decode()), [value.decode()], path)
        policy = SECURITY_HEADERS[b"content-security-policy"]
        self.assertNotIn(b"unsafe", policy)
        self.assertIn(b"frame-ancestors 'none'", policy)

    def test_bad_path(self) -> None:
        """
        An invalid path is a bad request, and is not logged.
        """
        answer = World().ask("GET", "/api/v1/jobs/%ff")
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "BAD_REQUEST"))

    def test_bug_behind(self) -> None:
        """
        A bug in the router is a 500 without details.
        """

        class Broken(Resource):
            isLeaf = True

            def render(self, request: Request) -> bytes:
                raise ZeroDivisionError("secret")

        world = World()
        guard = Guard(Broken(), tokens=AccessTokens(), hosts=set(), page_login=PageLogin(world.clock))
        site = WebSite(guard, world.clock, places=ClientLimits(lambda: 2), trust=Trust.ALL)
        connection = Connection(site, world.PEER, world.TCP)
        connection.send("GET", "/", {"Host": "localhost"})
        answer = connection.answer()
        self.assertEqual(answer.status, 500)
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=40), st.sampled_from(["GET", "POST", "DELETE", "BREW"]))
    def test_any_path(self, path: bytes, method: str) -> None:
        """
        For every path, the response is JSON or the page.
        """
        world = World()
        world.jobs.present = []
        quoted = "".join(f"%{byte:02x}" for byte in path)
        answer = world.ask(method, f"/{quoted}")
        if path.strip(b"/"):
            self.assertIn(answer.status, (400, 404, 405))
            self.assertIn("code", answer.json()["error"])
