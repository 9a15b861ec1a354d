"""
Tests for L{xferd.web.guard}: who gets in.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Request

from tests.web.fakes import Answer, Connection, World
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
        Loopback's names and addresses are ours, with and without a port, and
        so are the configured ones.
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
        A name that an attacker's DNS may point at us is refused, on every
        path.
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
        No C{Host}, and more than one, are bad requests.
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
        A path that is not UTF-8 gets one sentence, also from a client that
        is refused for another reason, and its connection goes on; no traceback
        fills the log.
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
        A path that is as long as a request's first line may be is quoted in
        part.
        """
        for path in ("/" + "a" * 16_000, "/%FF" * 4_000, "/" + "\xa5" * 16_000):
            with capturedLogs() as events:
                answer = World().ask("GET", path, documented=False)
            self.assertLess(len(answer.json()["error"]["message"]), 500)
            for event in events:
                self.assertLess(len(str(formatEvent(event))), 500)

    def test_asterisk(self) -> None:
        """
        A request for C{*} is refused as any other is: by its host, or since
        there is no such path.
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
        So it is with a method.
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
        Begin a pull.
        """
        return World().ask("POST", "/api/v1/jobs", PULL, headers)

    def test_own_page(self) -> None:
        """
        Our own page may do everything.
        """
        answer = self.post(**{"Origin": "http://localhost:9337", "Sec-Fetch-Site": "same-origin"})
        self.assertEqual(answer.status, 202)

    def test_foreign_page(self) -> None:
        """
        Another site's page may not, not even one on another port.
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
        What the browser says of the request's site counts, too.
        """
        for site in ("cross-site", "same-site", "whatever"):
            self.assertEqual(self.post(**{"Sec-Fetch-Site": site}).status, 403, site)
        self.assertEqual(self.post(**{"Sec-Fetch-Site": "none"}).status, 202)

    def test_delete(self) -> None:
        """
        Cancelling is guarded likewise.
        """
        world = World()
        world.post({"kind": "pull", "reference": "a"})
        answer = world.ask("DELETE", "/api/v1/jobs/j1", headers={"Origin": "http://evil.example"})
        self.assertEqual(answer.status, 403)
        self.assertEqual(world.jobs.known["j1"]["state"], "running")

    def test_safe(self) -> None:
        """
        Reading is not guarded by it: no page can see the answer.
        """
        answer = World().ask("GET", "/api/v1/status", headers={"Origin": "http://evil.example"})
        self.assertEqual(answer.status, 200)
        self.assertNotIn("access-control-allow-origin", answer.headers)

    def test_form(self) -> None:
        """
        What a form can send is no job, whatever else it says.
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
        Make a world that asks for a token.
        """
        self.world = World(trusted=False, token="s3cret", hosts=["build.example"])

    def ask(self, path: str, authorization: str | None = None, **headers: str | None) -> Answer:
        """
        Ask with an C{Authorization}.
        """
        return self.world.ask("GET", path, headers={"Authorization": authorization, **headers})

    def test_right(self) -> None:
        """
        Who shows the token gets in, by whatever name.
        """
        for host in ("localhost", "whatever.example"):
            for authorization in ("Bearer s3cret", "bearer  s3cret"):
                self.assertEqual(self.ask("/api/v1/status", authorization, Host=host).status, 200)

    def test_wrong(self) -> None:
        """
        Who does not is told what to show.
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
        The page, which can ask for the token, and the health are open; the
        name must be ours there.
        """
        for path in ("/", "/static/page.css", "/healthz", "/readyz"):
            self.assertEqual(self.ask(path).status, 200, path)
            self.assertEqual(self.ask(path, Host="evil.example").status, 421, path)

    def test_socket(self) -> None:
        """
        A socket that is not trusted asks for the token as well.
        """
        self.assertEqual(self.world.ask("GET", "/api/v1/jobs", unix=True).status, 401)

    def test_read_only(self) -> None:
        """
        A read-only token permits to look: no change, and no archive, for which
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
        Where there is no token, nothing that is shown opens a listener that
        asks for one.
        """
        world = World(trusted=False, token=None)
        for authorization in (None, "Bearer ", "Bearer None"):
            answer = world.ask("GET", "/api/v1/status", headers={"Authorization": authorization})
            self.assertEqual(answer.status, 401)

    def test_no_token_is_no_key(self) -> None:
        """
        Where no token is set, showing an empty one opens nothing.
        """
        answer = World().ask("GET", "/", headers={"Authorization": "Bearer ", "Host": "evil.example"})
        self.assertEqual(answer.status, 421)


class AnswerTests(SynchronousTestCase):
    """
    What every answer carries, and what no request may do.
    """

    def test_headers(self) -> None:
        """
        Good and bad answers have the same safeguards, and give no version
        away.
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
        A path that is no text is a bad request, and no line in the log.
        """
        answer = World().ask("GET", "/api/v1/jobs/%ff")
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "BAD_REQUEST"))

    def test_bug_behind(self) -> None:
        """
        A bug of the router itself is a 500 that gives nothing away.
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
        Whatever the path, the answer is one of JSON, or the page.
        """
        world = World()
        world.jobs.present = []
        quoted = "".join(f"%{byte:02x}" for byte in path)
        answer = world.ask(method, f"/{quoted}")
        if path.strip(b"/"):
            self.assertIn(answer.status, (400, 404, 405))
            self.assertIn("code", answer.json()["error"])
