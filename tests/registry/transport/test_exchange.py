"""
Tests for L{xferd.registry.transport.exchange}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.registry.fakes import FakeResponse, ScriptedAgent, failure_of
from xferd.credentials import Secret
from xferd.errors import ConnectionFailed, RegistryError, TimedOut
from xferd.registry.transport.errors import CredentialsUsed
from xferd.registry.transport.exchange import MAX_REDIRECTS, VIA, Authorization, Exchange, Response
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.urls import Origin
from xferd.registry.transport.zones import OutOfZone, Zone

_PROOF = Authorization(Secret("Bearer secret"), CredentialsUsed())
_START = "https://hub.example/v2/a/blobs/x"


class OriginTests(SynchronousTestCase):
    """
    An origin is scheme, host and port.
    """

    def test_equal(self) -> None:
        """
        The default port may be written or not; case does not count.
        """
        self.assertEqual(Origin.of("https://A.example/x"), Origin.of("https://a.example:443/y?z"))
        for other in ("http://a.example", "https://a.example:444", "https://b.a.example"):
            self.assertNotEqual(Origin.of("https://a.example"), Origin.of(other))

    def test_refused(self) -> None:
        """
        What no request should be made to has no origin.
        """
        for url in (
            "file:///etc/passwd",
            "ftp://a/",
            "https:///x",
            "https://u:p@a/",
            "https://a:x/",
            "x",
            "",
        ):
            self.assertRaises(ValueError, Origin.of, url)

    def test_zone(self) -> None:
        """
        An address shows its zone, and so does the name of this machine.
        """
        for host in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]"):
            self.assertIs(Origin.of(f"http://{host}/").zone, Zone.LOOPBACK, host)
        self.assertIs(Origin.of("http://10.0.0.1/").zone, Zone.PRIVATE)
        self.assertIsNone(Origin.of("http://a.example/").zone)


class ExchangeTests(SynchronousTestCase):
    """
    L{Exchange} follows redirects by its own hand.
    """

    def setUp(self) -> None:
        """
        Make an exchange over an agent whose answers are ours.
        """
        self.clock = Clock()
        self.agent = ScriptedAgent()
        self.exchange = Exchange(lambda *_: self.agent, self.clock, Timeouts(connect=1, tls=2, headers=3))

    def tearDown(self) -> None:
        """
        Whatever happened, no timer is left.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def _get(self, url: str = _START, host: str = "hub.example") -> Deferred[Response]:
        return Deferred.fromCoroutine(self.exchange.get(url, {"Range": "bytes=5-"}, _PROOF, host=host))

    def _redirect(self, location: str, body: bytes | None = b"") -> FakeResponse:
        return self.agent.respond(307, {"Location": location}, body)

    def test_answer(self) -> None:
        """
        An answer comes with its body unread, and knows where it came from.
        """
        getting = self._get()
        response = self.agent.respond(404, body=None)
        answer = self.successResultOf(getting)
        self.assertEqual(answer.status, 404)
        self.assertEqual((answer.is_own, answer.where), (True, "hub.example"))
        self.assertIsNone(response.protocol)
        self.assertEqual(self.agent.last.header("Authorization"), "Bearer secret")
        self.assertEqual(self.agent.last.header("Range"), "bytes=5-")

    def test_redirected(self) -> None:
        """
        A redirect to another origin is followed without credentials, with the
        query as it is and all other headers.
        """
        getting = self._get()
        self._redirect("https://cdn.example/b?X-Sig=a%2Fb+c%3d&d=|é")
        self.assertEqual(self.agent.last.url, "https://cdn.example/b?X-Sig=a%2Fb+c%3d&d=|%C3%A9")
        self.assertIsNone(self.agent.last.header("Authorization"))
        self.assertEqual(self.agent.last.header("Range"), "bytes=5-")
        self.agent.respond(200)
        answer = self.successResultOf(getting)
        self.assertEqual((answer.is_own, answer.where), (False, "cdn.example"))

    def test_via(self) -> None:
        """
        The identity of the daemon is sent to the registry's own server alone.
        """
        self.exchange = Exchange(
            lambda *_: self.agent, self.clock, Timeouts(connect=1, tls=2, headers=3), via="1234"
        )
        getting = self._get()
        self.assertEqual(self.agent.last.header(VIA), "1234")
        self._redirect("https://cdn.example/b")
        self.assertIsNone(self.agent.last.header(VIA))
        self.agent.respond(200)
        self.successResultOf(getting)

    def test_same_origin(self) -> None:
        """
        A redirect within the origin, absolute or relative, keeps credentials.
        """
        getting = self._get()
        self._redirect("/other?x=1")
        self.assertEqual(self.agent.last.url, "https://hub.example/other?x=1")
        self._redirect("https://HUB.example:443/third")
        self.assertEqual(self.agent.last.header("Authorization"), "Bearer secret")
        self.agent.respond(200)
        self.assertTrue(self.successResultOf(getting).is_own)

    def test_back_again(self) -> None:
        """
        After a redirect to another origin, credentials are not sent again.
        """
        getting = self._get()
        self._redirect("https://other.example/")
        self._redirect(_START)
        self.assertIsNone(self.agent.last.header("Authorization"))
        self.agent.respond(200)
        self.assertFalse(self.successResultOf(getting).is_own)

    def test_other_port_or_scheme(self) -> None:
        """
        Another port or scheme is another origin.
        """
        for start, location in (
            (_START, "https://hub.example:8443/"),
            ("http://hub.example/", "https://hub.example/"),
        ):
            getting = self._get(start)
            self._redirect(location)
            self.assertIsNone(self.agent.last.header("Authorization"))
            self.agent.respond(200)
            self.successResultOf(getting)

    def test_refused_targets(self) -> None:
        """
        Redirects to other schemes, to plain HTTP, to nowhere, or from outside
        to this machine's own addresses and private ones, in whatever spelling,
        are refused without showing the URL.
        """
        for location in (
            "file:///etc/passwd",
            "",
            "http://cdn.example/secret",
            "https://127.0.0.1:8500/secret",
            "https://169.254.169.254/secret",
            "https://10.0.0.1/secret",
            "https://2130706433/secret",
            "https://127.1/secret",
            "https://0177.0.0.1/secret",
            "https://[::ffff:127.0.0.1]/secret",
            "https://user:secret@cdn.example/",
            "https://cdn.example:secret/",
        ):
            getting = self._get()
            self._redirect(location)
            error = failure_of(self, getting, RegistryError)
            self.assertIn("refused", str(error))
            self.assertNotIn("secret", str(error))

    def test_own_machine_may(self) -> None:
        """
        A registry on this machine may use storage on this machine.
        """
        getting = self._get("http://localhost:5000/v2/", "localhost:5000")
        self._redirect("http://127.0.0.1:9000/b")
        self.agent.respond(200)
        self.successResultOf(getting)

    def test_led_from(self) -> None:
        """
        Requests are made by an agent for the zone of the server that led to
        them: none for the registry's own, then that of the last response.
        """
        chosen: list[Zone | None] = []
        addresses = ["10.0.0.1", "10.0.0.1", "8.8.8.8", None]

        def choose(fresh: bool, led_from: Zone | None) -> ScriptedAgent:
            chosen.append(led_from)
            return self.agent

        self.exchange = Exchange(
            choose, self.clock, Timeouts(), address_of=lambda _: addresses[len(self.agent.asked) - 1]
        )
        getting = self._get()
        self._redirect("/here")
        self._redirect("https://cdn.example/")
        self._redirect("https://hub.example/back")
        self.agent.respond(200)
        self.assertIs(self.successResultOf(getting).zone, Zone.PUBLIC)
        # The agent for the registry's own server serves twice.
        self.assertEqual(chosen, [None, Zone.PRIVATE, Zone.PUBLIC])

    def test_led_start(self) -> None:
        """
        An URL that another server named is not the registry's own, and
        is not requested outside the zones where that server may lead.
        """
        for url in ("https://10.0.0.1/", "https://[::1]/", "https://cdn.example/"):
            getting = Deferred.fromCoroutine(
                self.exchange.get(url, {}, None, host="hub.example", led_from=Zone.PUBLIC)
            )
            if url != "https://cdn.example/":
                self.assertIn("hub.example leads to", str(failure_of(self, getting, RegistryError)))
                self.assertEqual(self.agent.asked, [])
            else:
                self.agent.respond(200, {"Warning": '299 - "x"'})
                answer = self.successResultOf(getting)
                self.assertEqual((answer.is_own, answer.warnings), (False, ()))

    def test_refused_address(self) -> None:
        """
        An address that the connection refuses is an error that names the host,
        and not the address.
        """
        getting = self._get()
        self._redirect("https://cdn.example/")
        self.agent.last.answer.errback(OutOfZone(Zone.LOOPBACK))
        error = failure_of(self, getting, RegistryError)
        self.assertEqual(
            str(error),
            "hub.example leads to cdn.example, which is refused: it is a loopback address of this machine",
        )

    def test_allows_private(self) -> None:
        """
        A registry that may lead to private networks may do so itself; whom it
        leads to may not lead on, from a public address.
        """
        self.exchange = Exchange(
            lambda *_: self.agent, self.clock, Timeouts(), allows_private=lambda host: host == "hub.example"
        )
        getting = self._get()
        self._redirect("https://10.0.0.1/")
        self._redirect("https://10.0.0.2/")
        self.agent.respond(200)
        self.assertIs(self.successResultOf(getting).zone, Zone.PRIVATE)
        for first, second in (("https://127.0.0.1/", ""), ("https://cdn.example/", "https://10.0.0.1/")):
            getting = self._get()
            self._redirect(first)
            if second:
                self._redirect(second)
            self.assertIn("refused", str(failure_of(self, getting, RegistryError)))

    def test_bad_start(self) -> None:
        """
        An URL that cannot be requested is an error of the registry that
        named it.
        """
        failure_of(self, self._get("gopher://x/"), RegistryError)
        self.assertEqual(self.agent.asked, [])

    def test_too_many(self) -> None:
        """
        Endless redirects are refused.
        """
        getting = self._get()
        for n in range(MAX_REDIRECTS + 1):
            self._redirect(f"/{n}")
        failure_of(self, getting, RegistryError)
        self.assertEqual(len(self.agent.asked), MAX_REDIRECTS + 1)

    def test_too_slow(self) -> None:
        """
        Slow redirects time out before they are too many.
        """
        self.exchange = Exchange(lambda *_: self.agent, self.clock, Timeouts(connect=1, tls=1, headers=10))
        getting = self._get()
        for n in range(6):
            self.assertNoResult(getting)
            self.clock.advance(11)
            self._redirect(f"/{n}")
        error = failure_of(self, getting, TimedOut)
        self.assertIn("still redirects after 60 s", str(error))

    def test_body_of_redirect(self) -> None:
        """
        A redirect's small body is read, a large one dropped: neither is left
        to hang.
        """
        getting = self._get()
        small = self._redirect("/2", b"moved")
        large = self.agent.respond(307, {"Location": "/3"}, b"x" * 20000)
        self.assertIsNotNone(small.protocol)
        self.assertEqual((small.transport.dropped, large.transport.dropped), (0, 1))
        endless = self._redirect("/4", None)
        self.assertEqual(len(self.agent.asked), 3)
        self.clock.advance(5)
        self.assertEqual(endless.transport.dropped, 1)
        self.agent.respond(200)
        self.successResultOf(getting)

    def test_no_answer(self) -> None:
        """
        Without an answer in time, the request is cancelled, even if the agent
        does not react.
        """
        getting = self._get()
        self.clock.advance(6)
        error = failure_of(self, getting, TimedOut)
        self.assertEqual(getattr(error, "phase", ""), "headers")
        self.assertTrue(self.agent.last.cancelled)

    def test_failure(self) -> None:
        """
        The agent's errors are translated.
        """
        getting = self._get()
        self.agent.last.answer.errback(ConnectRefused())
        self.assertIn("no answer from hub.example: ", str(failure_of(self, getting, ConnectionFailed)))

    def test_bug(self) -> None:
        """
        A bug is not taken for a fault of the network.
        """
        getting = self._get()
        self.agent.last.answer.errback(NameError("x"))
        failure_of(self, getting, NameError)

    def test_cancelled(self) -> None:
        """
        Cancelling cancels the request, and is reported as such.
        """
        getting = self._get()
        getting.cancel()
        self.failureResultOf(getting, CancelledError)
        self.assertTrue(self.agent.last.cancelled)

    def test_warnings(self) -> None:
        """
        A registry's warning is logged once, harmlessly; a foreign host's and
        other codes are not.
        """
        seen: list[str] = []

        def observe(event: dict[str, object]) -> None:
            if str(event.get("log_format")) == "{host} warns: {text}":
                seen.append(str(event["text"]))

        globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, observe)  # type: ignore[arg-type]
        for text in ('299 - "soon\x1b[1m gone"', '299 - "soon\x1b[1m gone"', '199 - "x"', '299 - "other"'):
            getting = self._get()
            self.agent.respond(200, {"Warning": text})
            self.successResultOf(getting)
        getting = self._get()
        self._redirect("https://cdn.example/")
        self.agent.respond(200, {"Warning": '299 - "foreign"'})
        self.assertEqual(self.successResultOf(getting).warnings, ())
        self.assertEqual(seen, ["soon [1m gone", "other"])

    def test_warnings_of_an_answer(self) -> None:
        """
        Each response has the warnings of all that led to it, logged before or
        not.
        """
        for _ in range(2):
            getting = self._get()
            self.agent.respond(307, {"Location": "https://hub.example/v2/b", "Warning": '299 - "moved"'}, b"")
            self.agent.respond(200, {"Warning": '299 - "old"'})
            self.assertEqual(self.successResultOf(getting).warnings, ("moved", "old"))

    def test_late_answer(self) -> None:
        """
        An answer that comes after the end is dropped.
        """
        self.agent.late = FakeResponse()
        getting = self._get()
        getting.cancel()
        self.failureResultOf(getting, CancelledError)
        self.assertEqual(self.agent.late.transport.dropped, 1)
