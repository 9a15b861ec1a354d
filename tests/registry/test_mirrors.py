"""
Tests for L{xferd.registry.mirrors}, over registries in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from twisted.web.server import Request
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.registry.cases import ME, REPOSITORY
from tests.registry.fakes import MemoryRegistry, Sample, ScriptedAgent, failure_of, refuse
from xferd.credentials import Credentials, Secret
from xferd.errors import (
    ConfigError,
    ConnectionFailed,
    Denied,
    ManifestUnknown,
    RegistryUnavailable,
)
from xferd.hosts.circuit_breaker import FIRST_PAUSE, LONGEST_PAUSE
from xferd.interfaces.registry import IBlobBody, IKeychain, IRepository, Pushed
from xferd.media_types import OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Descriptor, Document
from xferd.registry.client import Registries
from xferd.registry.hosts.certs_d import CertsDirs
from xferd.registry.repository import RemoteRepository
from xferd.testing.fakes import FakeContent

HOST = REPOSITORY.host


@implementer(IAgent)
class Network:
    """
    Connects each host to a registry in memory, or to none.

    @ivar asked: the hosts of the requests, in order.
    """

    def __init__(self) -> None:
        self.servers: dict[str, MemoryRegistry] = {}
        self.asked: list[str] = []

    def add(self, host: str) -> MemoryRegistry:
        """
        Add a registry.
        """
        server = self.servers[host] = MemoryRegistry()
        return server

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """
        Send a request.
        """
        host = uri.decode().split("/")[2]
        self.asked.append(host)
        server = self.servers.get(host)
        if server is None:
            return fail(ConnectRefused())
        agent: IAgent = RequestTraversalAgent(server)
        return agent.request(method, uri, headers, bodyProducer)

    def take(self) -> list[str]:
        """
        The hosts that received requests since the last call.
        """
        asked, self.asked = self.asked, []
        return asked


@implementer(IKeychain)
class ByHost:
    """
    The user of the daemon at each host.
    """

    where = ""
    identity: Hashable = None
    account: Hashable = None

    def __init__(self, credentials: Mapping[str, Credentials]) -> None:
        self._credentials = credentials

    def lookup(self, host: str, path: str) -> Deferred[Credentials | None]:
        """
        Look it up.
        """
        return succeed(self._credentials.get(host))

    def forget(self, host: str) -> None:
        """
        There is nothing to forget.
        """


class MirrorCase(SynchronousTestCase):
    """
    A registry with two mirrors; all have the same image.
    """

    HOSTS_TOML = '[host."https://one.test"]\n[host."https://two.test"]\n'

    def setUp(self) -> None:
        """
        Make them.
        """
        self.clock = Clock()
        self.network = Network()
        self.sample = Sample.of(b"0123456789" * 100)
        self.digest = Digest.of(self.sample.layer)
        for host in ("one.test", "two.test", HOST):
            self.network.add(host).hold(self.sample)
        self.certs = Path(self.mktemp())
        self.say(self.HOSTS_TOML)
        self.credentials: dict[str, Credentials] = {}
        self.registries = Registries(
            self.clock,
            wall_clock=self.clock.seconds,
            certs_dirs=CertsDirs([str(self.certs)]),
            keychain=ByHost(self.credentials),
            agent=self.network,
        )

    def tearDown(self) -> None:
        """
        Whatever happened, no timer is left.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def say(self, text: str) -> None:
        """
        Write the registry's file.
        """
        path = self.certs / HOST / "hosts.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def manifest(self, wanted: str = "1") -> Deferred[Document]:
        """
        Request a manifest.
        """
        return self.registries.repository(REPOSITORY).manifest(wanted)

    def repository(self) -> RemoteRepository:
        """
        The repository.
        """
        return self.registries.repository(REPOSITORY)

    def push(self, digest: Digest) -> Deferred[Pushed]:
        """
        Push a blob.
        """
        return self.repository().push(digest, FakeContent(b""), (), None, lambda _: None, lambda _: None)

    def read(self, body: IBlobBody) -> bytes:
        """
        Read a body.
        """
        data = bytearray()
        self.successResultOf(body.deliver(data.extend))
        return bytes(data)

    def fault(self, host: str, answer: Callable[[Request], bytes]) -> None:
        """
        Let a server answer everything in one way.
        """
        self.network.servers[host].fault = answer


class OrderTests(MirrorCase):
    """
    Endpoints are tried in their order.
    """

    def test_first(self) -> None:
        """
        The first mirror serves everything, and receives the registry's name.
        """
        self.successResultOf(self.manifest())
        config = Descriptor(OCI_CONFIG, Digest.of(self.sample.config), len(self.sample.config))
        self.successResultOf(self.registries.repository(REPOSITORY).config(config))
        source = self.repository()
        verifyObject(IRepository, source)
        body = self.successResultOf(source.open(self.digest, 990))
        verifyObject(IBlobBody, body)
        self.assertEqual((body.start, body.total), (990, 1000))
        self.assertEqual(self.read(body), b"0123456789")
        self.assertEqual(self.network.take(), ["one.test"] * 3)
        self.assertEqual((source.host, source.label), (HOST, f"{HOST}/team/a"))
        self.assertIn("team/a", repr(source))

    def test_namespace(self) -> None:
        """
        A mirror gets C{ns}, the registry itself does not.
        """
        agent = ScriptedAgent()
        registries = Registries(
            self.clock,
            wall_clock=self.clock.seconds,
            certs_dirs=CertsDirs([str(self.certs)]),
            agent=agent,
        )
        asking = registries.repository(REPOSITORY).manifest("1")
        for url in (
            f"https://one.test/v2/team/a/manifests/1?ns={HOST}",
            f"https://two.test/v2/team/a/manifests/1?ns={HOST}",
            f"https://{HOST}/v2/team/a/manifests/1",
        ):
            self.assertEqual(agent.last.url, url)
            agent.respond(404)
        failure_of(self, asking, ManifestUnknown)

    def test_next(self) -> None:
        """
        What one server does not serve, for any reason, the next does.
        """
        for status in (401, 403, 404, 429, 500, 302, 400):
            self.network.take()
            self.clock.advance(LONGEST_PAUSE * 2)
            self.fault("one.test", lambda r, s=status: refuse(r, s, "NO", "no"))  # type: ignore[misc]
            self.successResultOf(self.manifest())
            # After a 401 without a challenge, the root is requested, once.
            asked = ["one.test", "two.test"] if status != 401 else ["one.test", "one.test", "two.test"]
            self.assertEqual(self.network.take(), asked, status)

    def test_last_error(self) -> None:
        """
        If every endpoint fails, the error is the registry's own.
        """
        self.fault("one.test", lambda r: refuse(r, 500, "NO", "no"))
        self.fault(HOST, lambda r: refuse(r, 403, "DENIED", "go away"))
        error = failure_of(self, self.manifest("2"), Denied)
        self.assertIn(f"{HOST} denies access", str(error))
        self.assertIn("go away", str(error))

    def test_wrong_bytes(self) -> None:
        """
        A mirror whose manifest has another digest is skipped.
        """
        self.network.servers["one.test"].manifests[str(Digest.of(self.sample.manifest))] = ("a/b", b"{}")
        self.successResultOf(self.manifest(str(Digest.of(self.sample.manifest))))
        self.assertEqual(self.network.take(), ["one.test", "two.test"])

    def test_capabilities(self) -> None:
        """
        A mirror without C{resolve} gets requests for digests only, one
        with C{resolve} alone none for blobs, and pushes go to endpoints
        with C{push}.
        """
        self.say(
            '[host."https://one.test"]\ncapabilities = ["pull"]\n'
            '[host."https://two.test"]\ncapabilities = ["resolve"]\n'
        )
        for wanted, host in (("1", "two.test"), (str(Digest.of(self.sample.manifest)), "one.test")):
            self.successResultOf(self.manifest(wanted))
            self.assertEqual(self.network.take(), [host])
        config = Digest.of(self.sample.config)
        self.assertEqual(self.successResultOf(self.push(config)), Pushed("exists"))
        self.assertEqual(self.network.take(), [HOST])
        self.say('capabilities = ["pull"]\nserver = "https://one.test"')
        putting = self.repository().put_manifest("1", Document(OCI_MANIFEST, b"{}", Digest.of(b"{}")))
        self.assertIn("'push'", str(failure_of(self, putting, ConfigError)))
        self.assertIn("'push'", str(failure_of(self, self.push(config), ConfigError)))
        self.assertEqual(self.network.take(), [])

    def test_credentials(self) -> None:
        """
        The registry's credentials are its own; a mirror gets those for its
        own host.
        """
        self.credentials[HOST] = ME
        for host in ("one.test", "two.test"):
            self.network.servers[host].user, self.network.servers[host].password = "me", "hunter2"
        self.successResultOf(self.manifest())
        self.assertEqual(self.network.take(), ["one.test", "two.test", HOST])
        self.credentials["two.test"] = ME
        self.successResultOf(self.manifest())
        self.assertEqual(self.network.take(), ["one.test", "two.test", "two.test"])

    def test_confirmed_by_itself(self) -> None:
        """
        The registry, and not a mirror, confirms that a client may read
        a blob.
        """
        self.successResultOf(self.repository().confirm(self.digest))
        self.assertEqual(self.network.take(), [HOST])

    def test_no_mirrors(self) -> None:
        """
        With C{mirrors=False}, all requests go to the registry itself.
        """
        registries = Registries(
            self.clock,
            wall_clock=self.clock.seconds,
            certs_dirs=CertsDirs([str(self.certs)]),
            mirrors=False,
            agent=self.network,
        )
        repository = registries.repository(REPOSITORY)
        self.successResultOf(repository.manifest("1"))
        self.successResultOf(repository.open(self.digest, 0)).abandon()
        self.assertEqual(self.network.take(), [HOST, HOST])

    def test_client(self) -> None:
        """
        A client's credentials are for the registry itself; mirrors get those
        of the daemon's user.
        """
        you = Credentials("you", Secret("secret"))
        for host, user, password in (
            ("one.test", "you", "secret"),
            ("two.test", "me", "hunter2"),
            (HOST, "you", "secret"),
        ):
            self.network.servers[host].user, self.network.servers[host].password = user, password
        mine = self.registries.seen_by({HOST: you})
        self.successResultOf(mine.repository(REPOSITORY).manifest("1"))
        self.assertEqual(self.network.take(), ["one.test", "two.test", HOST, HOST])
        self.credentials["two.test"] = ME
        self.successResultOf(mine.repository(REPOSITORY).manifest("1"))
        self.assertEqual(self.network.take()[-1], "two.test")
        self.assertIs(mine.endpoints(HOST), mine.endpoints(HOST))
        self.successResultOf(mine.check(HOST))

    def test_headers(self) -> None:
        """
        More headers go to their own server only, and replace none.
        """
        self.say(
            '[host."https://one.test"]\nheader = {x-a = ["1", "2"], accept = "no", host = "no"}\n'
            '[host."https://two.test"]\ndial_timeout = "1s"'
        )
        agent = ScriptedAgent()
        registries = Registries(
            self.clock,
            wall_clock=self.clock.seconds,
            certs_dirs=CertsDirs([str(self.certs)]),
            agent=agent,
        )
        asking = registries.repository(REPOSITORY).manifest("1")
        self.assertEqual(agent.last.headers.getRawHeaders("x-a"), ["1", "2"])
        self.assertNotIn("no", agent.last.headers.getRawHeaders("accept", []))
        self.assertIsNone(agent.last.header("host"))
        agent.respond(307, {"Location": "https://elsewhere.test/x"})
        self.assertIsNone(agent.last.header("x-a"))
        agent.respond(404)
        self.assertIsNone(agent.last.header("x-a"))
        asking.cancel()
        self.assertTrue(agent.last.cancelled)
        self.failureResultOf(asking)


class TroubleTests(MirrorCase):
    """
    Mirrors that are in trouble.
    """

    def test_rest(self) -> None:
        """
        A dead mirror is skipped for a while, then one request probes it.
        """
        server = self.network.servers.pop("one.test")
        for _ in range(3):
            self.successResultOf(self.manifest())
        self.assertEqual(self.network.take(), ["one.test", *["two.test"] * 3])
        self.clock.advance(FIRST_PAUSE)
        self.successResultOf(self.manifest())
        self.assertEqual(self.network.take(), ["one.test", "two.test"])
        self.clock.advance(FIRST_PAUSE)
        self.successResultOf(self.manifest())
        self.assertEqual(self.network.take(), ["two.test"])
        self.network.servers["one.test"] = server
        self.clock.advance(FIRST_PAUSE)
        self.successResultOf(self.manifest())
        self.successResultOf(self.manifest())
        self.assertEqual(self.network.take(), ["one.test"] * 2)

    def test_all_in_trouble(self) -> None:
        """
        Where the registry fails, too, mirrors that were not used are tried
        after all.
        """
        servers = dict(self.network.servers)
        self.network.servers.clear()
        failure_of(self, self.manifest(), ConnectionFailed)
        self.network.take()
        self.network.servers["two.test"] = servers["two.test"]
        self.successResultOf(self.manifest())
        self.assertEqual(self.network.take(), [HOST, "one.test", "two.test"])

    def test_nothing_to_mend(self) -> None:
        """
        If the registry lacks a blob, paused mirrors are not tried; if
        all fail, its error is reported.
        """
        del self.network.servers["one.test"], self.network.servers["two.test"]
        self.successResultOf(self.manifest())
        self.network.take()
        failure_of(self, self.manifest("2"), ManifestUnknown)
        self.assertEqual(self.network.take(), [HOST])
        self.fault(HOST, lambda r: refuse(r, 503, "NO", "busy"))
        error = failure_of(self, self.manifest("2"), RegistryUnavailable)
        self.assertIn(HOST, str(error))

    def test_broken_body(self) -> None:
        """
        After a body that breaks, the next endpoint resumes at the byte
        that is needed.
        """
        agent = ScriptedAgent()
        registries = Registries(
            self.clock,
            wall_clock=self.clock.seconds,
            certs_dirs=CertsDirs([str(self.certs)]),
            agent=agent,
        )
        source = registries.repository(REPOSITORY)
        opening = source.open(self.digest, 0)
        self.assertIn("one.test", agent.last.url)
        response = agent.respond(200, body=None)
        data = bytearray()
        delivery = self.successResultOf(opening).deliver(data.extend)
        response.send(b"01234")
        response.end(ConnectionLost())
        failure_of(self, delivery, ConnectionFailed)
        opening = source.open(self.digest, 5)
        self.assertIn("two.test", agent.last.url)
        self.assertEqual(agent.last.header("Range"), "bytes=5-")
        agent.respond(200, body=None)
        self.successResultOf(opening).abandon()

    def test_own_fault(self) -> None:
        """
        An error of the reader of a body does not count against the mirror.
        """
        body = self.successResultOf(self.repository().open(self.digest, 0))

        def sink(data: bytes) -> None:
            raise ZeroDivisionError

        self.failureResultOf(body.deliver(sink), ZeroDivisionError)
        self.successResultOf(self.repository().open(self.digest, 0)).abandon()
        self.assertEqual(self.network.take(), ["one.test"] * 2)

    def test_distrust(self) -> None:
        """
        A blob whose bytes were wrong comes from the registry itself, also for the next
        request.
        """
        self.repository().distrust(self.digest)
        source = self.repository()
        self.assertEqual(self.read(self.successResultOf(source.open(self.digest, 0))), self.sample.layer)
        self.assertEqual(self.network.take(), [HOST])

    def test_changed(self) -> None:
        """
        A file that changes counts at once; one that becomes bad does not.
        """
        before = self.registries.endpoints(HOST)
        self.assertIs(self.registries.endpoints(HOST), before)
        for text in ("", "x"):
            self.say(text)
            self.successResultOf(self.manifest())
            self.assertEqual(self.network.take(), [HOST])
