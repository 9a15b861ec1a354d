"""
The coordination of a fleet by real etcd.

The module is long because the same fleet meets one member, three, logins and certificates.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.fleet.conformance import BLOB, OTHER, SIZE, CoordinationConformance
from tests.integration.etcds import PASSWORD, USER, Etcd, Line, leader_of, start_cluster
from tests.integration.peers import PeerFailed
from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.client import EtcdClient
from xferd.fleet.etcd.coordination import EtcdCoordination
from xferd.fleet.etcd.session import KEPT_IN_A_LEASE
from xferd.fleet.etcd.settings import EtcdSettings
from xferd.interfaces.fleet import CALL_SECONDS, Node, Peer
from xferd.names import Digest
from xferd.testing.certificates import Authority


class EtcdCase(TestCase):
    """
    Nodes of a fleet, each with a line of its own to each member of etcd.

    @ivar members: the members.
    @ivar since: when the next node started, by its clock.
    """

    lease = 3.0
    since = 1e9
    members: list[Etcd]
    options: dict[str, str]

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start etcd.
        """
        self.reactor: Any = installed
        self.options = {}
        self.lines: dict[Any, list[Line]] = {}
        self.members = []
        self.addCleanup(lambda: Deferred.fromCoroutine(self.end()))
        await self.start_etcd()

    async def start_etcd(self) -> None:
        """
        Start one member.
        """
        member = Etcd(self.reactor, self.mktemp())
        self.members = [member]
        await member.start()

    async def end(self) -> None:
        """
        Stop everything.
        """
        for node, lines in self.lines.items():
            await node.stop()
            for line in lines:
                await line.close()
        for member in self.members:
            await member.kill()

    def make(self, name: str, url: str = "") -> Any:
        """
        Make a node.
        """
        lines = [Line(self.reactor, member.port) for member in self.members]
        schemes = [urlsplit(member.url).scheme for member in self.members]
        urls = tuple(f"{s}://127.0.0.1:{line.own}" for s, line in zip(schemes, lines, strict=True))
        client = EtcdClient(self.reactor, EtcdSettings.read(urls, **self.options))
        peer = Peer(name, url or f"http://{name}.example:5000")
        node = EtcdCoordination(
            self.reactor,
            client,
            Node(peer, "1.0", self.since),
            Random(1),
            lease_seconds=int(self.lease),
            collect_seconds=0.2,
        )
        self.lines[node] = lines
        return node

    def cut(self, node: Any) -> None:
        """
        Cut a node's lines.
        """
        for line in self.lines[node]:
            line.cut()

    def heal(self, node: Any) -> None:
        """
        Mend them.
        """
        for line in self.lines[node]:
            line.heal()

    def lose(self) -> Deferred[None]:
        """
        Kill etcd.
        """
        return Deferred.fromCoroutine(self._lose())

    async def _lose(self) -> None:
        for member in self.members:
            await member.kill()

    def regain(self) -> Deferred[None]:
        """
        Start etcd again without its data.
        """
        return Deferred.fromCoroutine(self._regain())

    async def _regain(self) -> None:
        for member in self.members:
            member.forget()
        starting = [Deferred.fromCoroutine(each.start(self.members)) for each in self.members]
        await gatherResults(starting)

    def passes(self, seconds: float) -> Deferred[None]:
        """
        Wait.
        """
        return deferLater(self.reactor, seconds)


class OneMemberTests(CoordinationConformance, EtcdCase):
    """
    etcd with one member.
    """

    async def test_same_millisecond(self) -> None:
        """
        Two nodes claim a blob in the same millisecond, two hundred times: exactly one gets
        it each time.
        """
        nodes = await self.started("one", "two")
        winners = set()
        for n in range(200):
            digest = Digest.of(b"round %d" % n)
            order = nodes if n % 2 else nodes[::-1]
            claims = await gatherResults([node.claim(digest, SIZE, "a") for node in order])
            self.assertEqual(1, sum(claim.mine for claim in claims))
            self.assertEqual(1, len({claim.owner for claim in claims}))
            winners.add(claims[0].owner.name)
        self.assertEqual({"one", "two"}, winners)

    async def test_restarted(self) -> None:
        """
        etcd that is killed and started with its data knows what it knew; no node begins a
        new lease.
        """
        one, two = nodes = await self.started("one", "two")
        one.announce([BLOB])
        await self.found(two, lambda found: len(found.holders) == 1)
        mine = await one.claim(OTHER, SIZE, "a")
        (member,) = self.members
        await member.kill()
        for node in nodes:
            await self.is_available(node, False, 2.0)
        await member.start()
        for node in nodes:
            await self.is_available(node, seconds=6.0)
        found = await two.look([BLOB, OTHER])
        self.assertEqual(1, len(found[BLOB].holders))
        self.assertEqual(mine.revision, found[OTHER].claim.revision)

    async def test_frozen(self) -> None:
        """
        etcd that is frozen makes calls fail within two seconds.  When it is thawed,
        everything is known again.
        """
        one, two = await self.started("one", "two")
        one.announce([BLOB])
        await self.found(two, lambda found: len(found.holders) == 1)
        (member,) = self.members
        member.freeze()
        problem = await self.refused(two.look([BLOB]))
        self.assertIn(f"did not answer within {CALL_SECONDS:g} s", problem)
        await self.passes(self.lease + 2)
        member.thaw()
        await self.is_available(one, seconds=8.0)
        await self.is_available(two, seconds=8.0)
        await self.found(two, lambda found: len(found.holders) == 1, 8.0)

    async def test_full(self) -> None:
        """
        etcd that is full is read-only: nodes say so, and return when it has space again.
        """
        (member,) = self.members
        await member.kill()
        member.extra.append(f"--quota-backend-bytes={16 << 20}")
        await member.start()
        (node,) = await self.started("one")
        large = "x" * 120_000
        for n in range(200):
            try:
                await member.ctl("put", f"large-{n}", large)
            except PeerFailed:
                break
        else:
            self.fail("etcd does not become full")
        node.announce([BLOB])
        await self.is_available(node, False)
        self.assertIn("is full and read-only", node.problem)
        await self.passes(3.0)
        self.assertFalse(node.available)
        await member.ctl("del", "--prefix", "large")
        status = await member.ctl("endpoint", "status", "--write-out=json")
        await member.ctl("compact", str(json.loads(status)[0]["Status"]["header"]["revision"]))
        await member.ctl("defrag")
        await member.ctl("alarm", "disarm")

        async def is_claimed() -> bool:
            try:
                return bool((await node.claim(BLOB, SIZE, "a")).mine)
            except CoordinationUnavailable:
                return False

        await self.until(is_claimed, 10.0)

    async def test_alarms(self) -> None:
        """
        While etcd has an alarm, for space or for its data, a node is alone from its next
        writing on, says why, and returns when the alarm is disarmed.
        """
        (member,) = self.members
        node, other = await self.started("one", "two")
        client = EtcdClient(self.reactor, EtcdSettings.read((member.url,)))
        self.addCleanup(client.close)
        status = await client.call("/v3/maintenance/status", {})
        alarm = {"action": "ACTIVATE", "memberID": status["header"]["member_id"]}
        for kind, words in (("NOSPACE", "is full and read-only"), ("CORRUPT", "corrupt cluster")):
            await client.call("/v3/maintenance/alarm", {**alarm, "alarm": kind})
            digest = Digest.of(kind.encode())
            node.announce([digest])
            await self.is_available(node, False, 2.0)
            await self.passes(self.lease + 2)
            self.assertFalse(node.available)
            self.assertIn(words, node.problem)
            await member.ctl("alarm", "disarm")
            await self.is_available(node, seconds=8.0)
            await self.found(other, lambda found: len(found.holders) == 1, 3.0, digest)

    async def test_idle_frozen(self) -> None:
        """
        A node that asks nothing notices by its lease that etcd is frozen.
        """
        (node,) = await self.started("one")
        (member,) = self.members
        member.freeze()
        await self.is_available(node, False, self.lease / KEPT_IN_A_LEASE + CALL_SECONDS + 0.5)
        member.thaw()
        await self.is_available(node, seconds=8.0)

    async def test_compacted(self) -> None:
        """
        A watch from a revision that etcd has forgotten begins again.
        """
        one, two = await self.started("one", "two")
        heard: list[str] = []
        two.follow_pauses(lambda pause: heard.append(pause.host))
        one.pause("first.example", "daemon", 60.0, "429")
        one.announce([BLOB])
        await self.found(two, lambda found: len(found.holders) == 1)
        (member,) = self.members
        status = await member.ctl("endpoint", "status", "--write-out=json")
        await member.ctl("compact", str(json.loads(status)[0]["Status"]["header"]["revision"]))
        two._pauses._revision = 1
        self.heal(two)
        await self.passes(2.5)
        one.pause("second.example", "daemon", 60.0, "429")
        await self.passes(0.5)
        self.assertEqual(["first.example", "first.example", "second.example"], heard)
        self.assertTrue(two.available)

    async def test_same_name(self) -> None:
        """
        A second node with the name of another one is refused; the same node after a crash
        is not, and what it had made known is gone.
        """
        (one,) = await self.started("one")
        one.announce([BLOB])
        await one.claim(OTHER, SIZE, "a")
        (two,) = await self.started("two")
        await self.found(two, lambda found: len(found.holders) == 1)
        other = self.make("one", "http://other.example")
        other.start()
        await self.passes(1.0)
        self.assertFalse(other.available)
        self.assertIn("set fleet.name", other.problem)
        await other.stop()
        self.cut(one)
        again = self.make("one")
        again.start()
        await self.is_available(again)
        found = await two.look([BLOB, OTHER])
        self.assertEqual(((), None), (found[BLOB].holders, found[OTHER].claim))

    async def test_same_name_and_url(self) -> None:
        """
        Of two nodes with the same name and URL the earlier one notices the later one, and
        does not end its lease.
        """
        (one,) = await self.started("one")
        self.since = 2e9
        again = self.make("one")
        again.start()
        await self.is_available(again)
        await self.passes(self.lease)
        self.assertIn("another daemon has the name and the URL of this one", one.problem)
        self.assertEqual((one.available, again.available), (False, True))
        self.assertEqual([node.since for node in await again.nodes()], [2e9])

    async def test_another_server(self) -> None:
        """
        A server that is not etcd is one sentence.
        """
        for answer, expected in (
            (b"220 mail.example ESMTP\r\n", "not HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "something else than etcd's JSON"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "no JSON gateway"),
            (b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"ID":"x"}', "an unexpected answer"),
            (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (5 << 20), "more than"),
            (b"HTTP/1.1 200 OK\r\n\r\n{", "did not answer"),
            (b"", "did not answer"),
            (
                b"HTTP/1.1 307 Moved\r\nLocation: http://10.0.0.9/\r\nContent-Length: 2\r\n\r\n{}",
                "status 307",
            ),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20), "head"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "did not answer"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "something else than etcd's JSON"),
            (b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"ID":1e99}', "an unexpected answer"),
        ):
            server = Factory.forProtocol(Recorded)
            server.noisy = False
            server.answer = answer  # type: ignore[attr-defined]
            listening = self.reactor.listenTCP(0, server, interface="127.0.0.1")
            settings = EtcdSettings.read((f"http://127.0.0.1:{listening.getHost().port}",))
            client = EtcdClient(self.reactor, settings)
            node = EtcdCoordination(self.reactor, client, Node(Peer("one", "http://a"), "1", 0.0), Random(1))
            node.start()

            async def is_so(node: EtcdCoordination = node, expected: str = expected) -> bool:
                return expected in node.problem

            await self.until(is_so, 3.0)
            self.assertFalse(node.available)
            await node.stop()
            await listening.stopListening()


class Recorded(Protocol):
    """
    Answers whatever it receives with its factory's answer.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Answer.
        """
        transport: Any = self.transport
        transport.write(self.factory.answer)


class LoginTests(CoordinationConformance, EtcdCase):
    """
    etcd with TLS and a login.
    """

    async def start_etcd(self) -> None:
        """
        Start one member.
        """
        member = Etcd(self.reactor, self.mktemp(), authority=Authority())
        self.members = [member]
        await member.start()
        await member.require_login()
        password = self.file(PASSWORD.encode())
        self.options = {"ca": member.ca, "user": USER, "password_file": password}

    async def _regain(self) -> None:
        await super()._regain()
        await self.members[0].require_login()

    def file(self, content: bytes) -> str:
        """
        Write a file.
        """
        path = Path(self.mktemp()).absolute()
        path.write_bytes(content)
        return str(path)

    async def problem(self, **options: str) -> str:
        """
        The problem of a node with other options.
        """
        kept, self.options = self.options, self.options | options
        node = self.make("other")
        self.options = kept
        node.start()

        async def has_problem() -> bool:
            return "not asked yet" not in node.problem

        await self.until(has_problem, 3.0)
        self.assertFalse(node.available)
        return str(node.problem)

    async def test_wrong_password(self) -> None:
        """
        A wrong password gives one sentence, and so does a missing one.
        """
        problem = await self.problem(password_file=self.file(b"incorrect"))
        self.assertIn("refuses the user of fleet.etcd_user", problem)
        self.assertNotIn("incorrect", problem)
        self.assertIn("wants a login", await self.problem(user="", password_file=""))

    async def test_wrong_authority(self) -> None:
        """
        A server that another authority has signed is refused.
        """
        self.assertIn("certificate", await self.problem(ca=self.file(Authority().pem)))

    async def test_token_lost(self) -> None:
        """
        A token that etcd has forgotten after a restart is renewed.
        """
        (node,) = await self.started("one")
        (member,) = self.members
        await member.kill()
        await member.start()
        await self.is_available(node, seconds=6.0)
        self.assertTrue((await node.claim(BLOB, SIZE, "a")).mine)


class CertificateTests(EtcdCase):
    """
    etcd that requires client certificates.
    """

    async def start_etcd(self) -> None:
        """
        Start one member.
        """
        member = Etcd(self.reactor, self.mktemp(), authority=Authority(), client_certificates=True)
        self.members = [member]
        self.options = {"ca": member.ca}
        await member.start()

    async def problem(self) -> str:
        """
        Start a node, and wait for an outcome.

        @return: its problem, or the empty string.
        """
        node = self.make("one")
        node.start()
        while not node.available and "not asked yet" in node.problem:
            await self.passes(0.1)
        return str(node.problem)

    async def test_certificates(self) -> None:
        """
        A node with a certificate is accepted; one without is refused.  When a login is
        required, too, etcd refuses certificates with a common name, and the node says so.
        """
        self.assertIn("etcd", await self.problem())
        (member,) = self.members
        self.options |= {"certificate": member.certificate, "key": member.key}
        self.assertEqual("", await self.problem())
        await member.require_login()
        self.assertIn("refuses fleet.etcd_certificate, as it has a CommonName", await self.problem())


class ClusterTests(CoordinationConformance, EtcdCase):
    """
    etcd with three members.
    """

    async def start_etcd(self) -> None:
        """
        Start three members.
        """
        self.members = await start_cluster(self.reactor, self.mktemp(), 3)

    async def works(self, one: Any, two: Any, seconds: float, text: str) -> None:
        """
        Wait until a claim of one node is seen by another one.
        """
        digest = Digest.of(text.encode())

        async def is_claimed() -> bool:
            try:
                return bool((await one.claim(digest, SIZE, "a")).mine)
            except CoordinationUnavailable:
                return False

        await self.until(is_claimed, seconds)
        await self.found(two, lambda found: found.claim is not None, seconds, digest)

    async def test_leader_killed(self) -> None:
        """
        When the leader is killed, the nodes continue with the others within seconds, and
        nothing that they have made known is lost.
        """
        one, two = await self.started("one", "two")
        one.announce([BLOB])
        await self.found(two, lambda found: len(found.holders) == 1)
        leader = await leader_of(self.members)
        await leader.kill()
        await self.works(one, two, 8.0, "after")
        self.assertEqual(1, len((await two.look([BLOB]))[BLOB].holders))
        await leader.start(self.members)
        await self.works(two, one, 8.0, "again")

    async def test_leader_frozen(self) -> None:
        """
        When the leader is frozen, the nodes continue with the others within seconds.
        """
        one, two = await self.started("one", "two")
        leader = await leader_of(self.members)
        leader.freeze()
        await self.works(one, two, 10.0, "frozen")
        leader.thaw()
        await self.works(two, one, 8.0, "thawed")

    async def test_follower_frozen(self) -> None:
        """
        When the member that a node uses is frozen, and is no leader, no call fails.
        """
        leader = await leader_of(self.members)
        self.members.sort(key=lambda member: member is leader)
        one, two = await self.started("one", "two")
        self.members[0].freeze()
        self.assertTrue((await one.claim(BLOB, SIZE, "a")).mine)
        self.assertTrue((await one.claim(OTHER, SIZE, "a")).mine)
        self.assertIsNotNone((await two.look([BLOB]))[BLOB].claim)
        self.members[0].thaw()

    async def test_quorum_lost(self) -> None:
        """
        A member that is left alone answers nothing: the nodes say so within two seconds of a
        call, and return when the others do.
        """
        one, two = await self.started("one", "two")
        for member in self.members[1:]:
            await member.kill()
        await self.refused(one.look([BLOB]))
        self.assertFalse(one.available)
        starting = [Deferred.fromCoroutine(each.start(self.members)) for each in self.members[1:]]
        await gatherResults(starting)
        await self.works(one, two, 10.0, "again")
