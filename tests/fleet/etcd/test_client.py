"""
Tests for L{xferd.fleet.etcd.client}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.registry.fakes import FakeResponse, ScriptedAgent
from xferd.credentials import Secret
from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.answers import LeaseGone, MemberFailed, TokenRefused
from xferd.fleet.etcd.client import MAX_ANSWER, STREAM_SECONDS, EtcdClient
from xferd.fleet.etcd.race import NEXT_SECONDS
from xferd.fleet.etcd.settings import EtcdSettings
from xferd.interfaces.fleet import CALL_SECONDS


class ClientCase(SynchronousTestCase):
    """
    A client of three members, whose answers the test sends.
    """

    urls: tuple[str, ...] = ("http://a:1", "http://b:2", "http://c:3")
    user = ""

    def setUp(self) -> None:
        """
        Make a client.
        """
        self.clock = Clock()
        self.agent = ScriptedAgent()
        settings = EtcdSettings(EtcdSettings.read(self.urls).endpoints, self.user, Secret("secret"))
        self.client = EtcdClient(self.clock, settings, agent=lambda *_: self.agent)

    def tearDown(self) -> None:
        """
        Whatever happened, no timer is left.
        """
        self.assertEqual([], self.clock.getDelayedCalls())

    def call(self) -> Deferred[dict[str, Any]]:
        """
        Make a request.
        """
        return Deferred.fromCoroutine(self.client.call("/v3/kv/txn", {"n": 1}))

    def answer(self, value: object, code: int = 200) -> FakeResponse:
        """
        Answer the newest request.
        """
        return self.agent.respond(code, body=json.dumps(value).encode())

    def refuse(self, n: int) -> None:
        """
        Refuse a connection.
        """
        self.agent.asked[n].answer.errback(ConnectRefused())

    def hosts(self) -> list[str]:
        """
        The members that were asked, in order.
        """
        return [each.url[7] for each in self.agent.asked]

    def problem(self, calling: Deferred[Any]) -> str:
        """
        The message of a failure.
        """
        return str(self.failureResultOf(calling, CoordinationUnavailable).value)


class MemberTests(ClientCase):
    """
    Several members.
    """

    def test_answered(self) -> None:
        """
        The answer of the first member is the result.  The request asks members without a
        leader to fail at once.
        """
        calling = self.call()
        self.answer({"a": 1})
        self.assertEqual({"a": 1}, self.successResultOf(calling))
        last = self.agent.last
        self.assertEqual((b"POST", "http://a:1/v3/kv/txn"), (last.method, last.url))
        self.assertEqual("true", last.header("Grpc-Metadata-Hasleader"))
        self.assertIsNone(last.header("Authorization"))

    def test_next(self) -> None:
        """
        When a member refuses, the next one is asked, and stays the first from then on.
        """
        calling = self.call()
        self.refuse(0)
        self.answer({})
        self.successResultOf(calling)
        calling = self.call()
        self.answer({})
        self.successResultOf(calling)
        self.assertEqual(["a", "b", "b"], self.hosts())

    def test_slow(self) -> None:
        """
        When a member does not answer soon, the next one is asked, too, and the first answer
        counts.
        """
        calling = self.call()
        self.clock.advance(NEXT_SECONDS)
        self.assertEqual(["a", "b"], self.hosts())
        self.agent.asked[0].answer.callback(FakeResponse(body=b"{}"))
        self.successResultOf(calling)
        self.assertTrue(self.agent.asked[1].cancelled)

    def test_no_leader(self) -> None:
        """
        A member that cannot serve now is as one that does not answer.
        """
        calling = self.call()
        self.answer({"error": "etcdserver: no leader", "code": 14}, 503)
        self.agent.respond(502, body=b"<html>bad gateway</html>")
        self.answer({})
        self.successResultOf(calling)
        self.assertEqual(["a", "b", "c"], self.hosts())

    def test_all_refuse(self) -> None:
        """
        When all members refuse, the first is asked once more by a new connection, and the
        error names one of them.
        """
        calling = self.call()
        for n in range(4):
            self.assertNoResult(calling)
            self.refuse(n)
        self.assertIn("etcd: no answer from a:1", self.problem(calling))
        self.assertEqual(["a", "b", "c", "a"], self.hosts())

    def test_silent(self) -> None:
        """
        When no member answers, a request fails after two seconds.
        """
        calling = self.call()
        self.clock.pump([0.1] * 19)
        self.assertNoResult(calling)
        self.clock.pump([0.1] * 2)
        self.assertEqual(
            f"etcd at a:1, b:2, c:3 did not answer within {CALL_SECONDS:g} s", self.problem(calling)
        )
        self.assertTrue(all(each.cancelled for each in self.agent.asked))

    def test_endless(self) -> None:
        """
        An answer that goes on and on fails after two seconds, or at its limit.
        """
        calling = self.call()
        response = self.agent.respond(body=None)
        for _ in range(25):
            if not calling.called:
                response.send(b" ")
            self.clock.advance(0.1)
        self.assertIn("did not answer", self.problem(calling))
        calling = self.call()
        response = self.agent.respond(body=None)
        response.send(b" " * MAX_ANSWER)
        response.send(b" ")
        self.assertIn("more than", self.problem(calling))

    def test_cancelled(self) -> None:
        """
        Cancelling ends the request, before and after its head.
        """
        early = self.call()
        early.cancel()
        self.failureResultOf(early, CancelledError)
        self.assertTrue(self.agent.last.cancelled)
        late = self.call()
        response = self.agent.respond(body=None)
        late.cancel()
        self.failureResultOf(late, CancelledError)
        self.assertEqual(1, response.transport.dropped)


class AnswerTests(ClientCase):
    """
    Answers of one member that are no success.
    """

    urls = ("http://a:1",)

    def said(self, value: object, code: int = 400) -> str:
        """
        The message for an answer, which is final.
        """
        calling = self.call()
        self.answer(value, code)
        return self.problem(calling)

    def test_errors(self) -> None:
        """
        Each error of etcd is one sentence, with the remedy where there is one.
        """
        self.assertIn(
            "full and read-only",
            self.said({"error": "etcdserver: mvcc: database space exceeded", "code": 8}, 429),
        )
        self.assertIn("fleet.etcd_user", self.said({"error": "etcdserver: user name is empty", "code": 3}))
        self.assertIn(
            "refuses the user",
            self.said({"error": "etcdserver: authentication failed, invalid user ID or password", "code": 3}),
        )
        self.assertIn(
            "refuses the user", self.said({"error": "etcdserver: permission denied", "code": 7}, 403)
        )
        self.assertIn("too large", self.said({"error": "etcdserver: request is too large", "code": 3}))
        self.assertIn("older than 3.4", self.said({"x": 1}, 404))
        self.assertIn("status 400", self.said({"error": {"message": 5}}))
        calling = self.call()
        self.answer({"error": "etcdserver: requested lease not found", "code": 5}, 404)
        self.failureResultOf(calling, LeaseGone)
        calling = self.call()
        self.answer({"error": "etcdserver: invalid auth token", "code": 16}, 401)
        self.failureResultOf(calling, TokenRefused)

    def test_hostile(self) -> None:
        """
        What is not JSON, or no object, is not etcd's.
        """
        for body in (b"", b"hello", b"[]", b"1", b'"x"', b"\xff\xfe", b"[" * 100000, b"9" * 5000):
            calling = self.call()
            self.agent.respond(body=body)
            self.assertIn("something else than etcd's JSON", self.problem(calling))

    def test_common_name(self) -> None:
        """
        A certificate that etcd's gateway refuses is named.
        """
        calling = self.call()
        self.agent.respond(
            400, body=b"CommonName of client sending a request against gateway will be ignored\n"
        )
        self.assertIn("fleet.etcd_certificate", self.problem(calling))

    def test_long_error(self) -> None:
        """
        A long error is cut, and control characters are removed.
        """
        said = self.said({"error": "\x1b[2J" + "x" * 100000, "code": 3})
        self.assertLess(len(said), 400)
        self.assertTrue(said.isprintable())

    def test_redirect(self) -> None:
        """
        A redirect is not followed.
        """
        calling = self.call()
        self.agent.respond(307, {"Location": "http://evil:1/"}, b"{}")
        self.problem(calling)
        self.assertEqual(["a"], self.hosts())


class UserTests(ClientCase):
    """
    A user with a password.
    """

    urls = ("http://a:1",)
    user = "xferd"

    def alive(self) -> None:
        """
        Answer that etcd is there.
        """
        self.assertEqual("http://a:1/v3/maintenance/status", self.agent.last.url)
        self.assertIsNone(self.agent.last.header("Authorization"))
        self.answer({"raftAppliedIndex": "7"})

    def log_in(self, token: object) -> None:
        """
        Answer a login.
        """
        self.alive()
        self.assertEqual("http://a:1/v3/auth/authenticate", self.agent.last.url)
        self.assertIsNone(self.agent.last.header("Authorization"))
        self.answer({"token": token})

    def test_token(self) -> None:
        """
        The first requests get a token together, and send it.
        """
        first, second = self.call(), self.call()
        self.assertEqual(1, len(self.agent.asked))
        self.log_in("abc.1")
        self.assertEqual(["abc.1"] * 2, [each.header("Authorization") for each in self.agent.asked[2:]])
        for each in self.agent.asked[2:]:
            each.answer.callback(FakeResponse(body=b"{}"))
        self.successResultOf(first)
        self.successResultOf(second)

    def test_expired(self) -> None:
        """
        A token that is refused is renewed once, also where several requests had it.
        """
        calling, other = self.call(), self.call()
        self.log_in("old.1")
        for each in self.agent.asked[2:]:
            each.answer.callback(
                FakeResponse(401, body=b'{"error": "etcdserver: invalid auth token", "code": 16}')
            )
        self.alive()
        self.clock.advance(1.0)
        self.assertEqual("http://a:1/v3/auth/authenticate", self.agent.last.url)
        self.answer({"token": "new.1"})
        self.assertEqual("new.1", self.agent.last.header("Authorization"))
        self.assertEqual(8, len(self.agent.asked))
        for each in self.agent.asked[6:]:
            each.answer.callback(
                FakeResponse(401, body=b'{"error": "etcdserver: invalid auth token", "code": 16}')
            )
        self.assertIn("does not accept the login", self.problem(calling))
        self.assertIn("does not accept the login", self.problem(other))

    def test_refused(self) -> None:
        """
        A refusal of the password does not name it, and stays the reason until the next
        login.
        """
        problem = ""
        for _ in range(2):
            calling = self.call()
            self.alive()
            self.clock.advance(1.0)
            self.answer(
                {"error": "etcdserver: authentication failed, invalid user ID or password", "code": 3}, 400
            )
            problem = self.problem(calling)
            self.assertIn("refuses the user of fleet.etcd_user", problem)
            self.assertNotIn("secret", problem)
        self.assertEqual(problem, self.problem(self.call()))
        self.assertEqual(4, len(self.agent.asked))

    def test_slow_login(self) -> None:
        """
        A login that takes longer than a request is made once, at one member, and serves
        later requests.
        """
        calling = self.call()
        self.alive()
        self.clock.pump([0.1] * 21)
        self.assertIn("did not answer a login within 2 s", self.problem(calling))
        later = self.call()
        self.clock.pump([0.1] * 11)
        self.assertEqual(2, len(self.agent.asked))
        self.answer({"token": "abc.1"})
        self.answer({})
        self.successResultOf(later)

    def test_silent(self) -> None:
        """
        After a request without an answer, the token is kept, unless etcd has lost changes
        that it had made before.
        """
        calling = self.call()
        self.log_in("old.8")
        for _ in range(2):
            self.clock.advance(CALL_SECONDS)
            self.assertIn("etcd at a:1 did not answer within 2 s", self.problem(calling))
            calling = self.call()
            self.answer({"raftAppliedIndex": "8"})
            self.assertEqual("old.8", self.agent.last.header("Authorization"))
        self.answer({})
        self.successResultOf(calling)
        self.client._login.doubt()
        calling = self.call()
        self.alive()
        self.clock.advance(1.0)
        self.assertEqual("http://a:1/v3/auth/authenticate", self.agent.last.url)
        self.answer({"token": "new"})
        self.answer({})
        self.successResultOf(calling)

    def test_wrong_token(self) -> None:
        """
        A malformed token is refused.
        """
        for token in ("", 5, "a\r\nb", "\u00e4", "x" * 8193, None):
            calling = self.call()
            self.log_in(token)
            self.assertIn("without a token", self.problem(calling))
            self.clock.advance(60)

    def test_wrong_status(self) -> None:
        """
        So is a malformed number of changes.
        """
        changes: Any
        for changes in ("many", -(1 << 70), [7], {}):
            calling = self.call()
            self.answer({"raftAppliedIndex": changes})
            self.assertIn("an unexpected answer", self.problem(calling))


class StreamTests(ClientCase):
    """
    Streams.
    """

    urls = ("http://a:1",)

    def stream(self) -> Deferred[None]:
        """
        Begin a stream.
        """
        self.messages: list[Any] = []
        return Deferred.fromCoroutine(self.client.stream("/v3/watch", {"n": 1}, self.messages.append))

    def test_messages(self) -> None:
        """
        Each line is a message, however it is cut into pieces.
        """
        streaming = self.stream()
        response = self.agent.respond(body=None)
        for piece in (b'{"a"', b':1}\n\n{"a":2}\n{', b'"a":3}\n'):
            response.send(piece)
        self.assertEqual([{"a": 1}, {"a": 2}, {"a": 3}], self.messages)
        response.end()
        self.successResultOf(streaming)

    def test_ends(self) -> None:
        """
        A stream without traffic ends after some minutes, to begin again.
        """
        streaming = self.stream()
        response = self.agent.respond(body=None)
        self.clock.advance(STREAM_SECONDS)
        self.assertIsNone(self.successResultOf(streaming))
        self.assertEqual(1, response.transport.dropped)

    def test_cancelled(self) -> None:
        """
        Cancelling drops it.
        """
        streaming = self.stream()
        response = self.agent.respond(body=None)
        streaming.cancel()
        self.failureResultOf(streaming, CancelledError)
        self.assertEqual(1, response.transport.dropped)

    def test_broken(self) -> None:
        """
        A stream that breaks, is refused, has an error or something else in it fails.
        """
        streaming = self.stream()
        self.agent.respond(body=None).end(ConnectionResetError())
        self.failureResultOf(streaming, MemberFailed)
        streaming = self.stream()
        self.agent.respond(503, body=b'{"error":"no leader","code":14}')
        self.failureResultOf(streaming, MemberFailed)
        for line in (b"x\n", b"[]\n", b'{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}\n'):
            streaming = self.stream()
            response = self.agent.respond(body=None)
            response.send(line)
            self.failureResultOf(streaming, CoordinationUnavailable)
            self.assertEqual(1, response.transport.dropped)

    def test_endless_line(self) -> None:
        """
        A message without an end is refused.
        """
        streaming = self.stream()
        response = self.agent.respond(body=None)
        for _ in range(17):
            if not streaming.called:
                response.send(b"x" * 65536)
        self.assertIn("too long", self.problem(streaming))
