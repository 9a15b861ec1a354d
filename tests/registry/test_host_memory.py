"""
Tests for what the registry client reports to the memory of hosts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.web.server import Request

from tests.registry.cases import HOST, ME, REPOSITORY, ClientCase
from tests.registry.fakes import failure_of, refuse
from tests.registry.pushing import Pushing
from xferd.credentials import Credentials, Secret
from xferd.errors import ConnectionFailed, ManifestUnknown, RegistryUnavailable, TooManyRequests
from xferd.hosts.circuit_breaker import FIRST_PAUSE
from xferd.hosts.memory import HostMemory
from xferd.interfaces.hosts import Availability, Quota
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Document
from xferd.registry.capabilities import Capabilities, KnownCapabilities
from xferd.registry.client import Registries
from xferd.testing.faults import Drop, SetHeader, too_many_requests, unavailable

ANN = Credentials("ann", Secret("of ann"))


class ReportCase(ClientCase):
    """
    A client with a memory, and a registry that names quotas.
    """

    def setUp(self) -> None:
        """
        Give the client a memory.
        """
        super().setUp()
        self.memory = HostMemory(self.clock, wall_clock=self.wall_clock)
        self.registries = Registries(
            self.clock,
            wall_clock=self.wall_clock,
            agent=self.agent,
            memory=self.memory,
            salt=lambda: b"1" * 32,
        )

    def name_quota(self, **fields: str) -> None:
        """
        Have every response name a quota.
        """

        def fault(request: Request) -> None:
            for name, value in fields.items():
                request.setHeader(name.replace("_", "-"), value)

        self.server.fault = fault

    def availability(self) -> Availability:
        """
        What is known of the registry.
        """
        return self.memory.state(HOST).availability


class ReportTests(ReportCase):
    """
    Quotas and failures.
    """

    def test_quota(self) -> None:
        """
        The quota of each response is known, for the account of its request.
        """
        self.name_quota(ratelimit_limit="100;w=21600", ratelimit_remaining="76;w=21600")
        self.successResultOf(self.repository.manifest("1"))
        self.assertEqual(self.memory.state(HOST).quota, Quota(76, 100, 21600.0))

    def test_accounts(self) -> None:
        """
        Two clients of one registry have quotas of their own, and their names
        have nothing of their passwords.
        """
        for credentials, left in ((ME, "5"), (ANN, "80")):
            self.name_quota(ratelimit_limit="100", ratelimit_remaining=left)
            client = self.registries.seen_by({HOST: credentials})
            self.successResultOf(client.repository(REPOSITORY).manifest("1"))
        mine = self.registries.seen_by({HOST: ME}).repository(REPOSITORY).account
        hers = self.registries.seen_by({HOST: ANN}).repository(REPOSITORY).account
        self.assertIs(self.memory.state(HOST, mine).availability, Availability.QUOTA_LOW)
        self.assertTrue(self.memory.state(HOST, hers).ok)
        self.assertTrue(self.memory.state(HOST).ok)
        (host,) = self.memory.hosts()
        self.assertEqual({a.account for a in host.accounts}, {str(mine)[:12], str(hers)[:12]})

    def test_bad_headers(self) -> None:
        """
        Headers that cannot be read are ignored, and the request succeeds.
        """
        self.name_quota(ratelimit_limit="a lot", ratelimit_remaining="-1", x_ratelimit_remaining="\x7f")
        self.successResultOf(self.repository.manifest("1"))
        self.assertIsNone(self.memory.state(HOST).quota)

    def test_refused(self) -> None:
        """
        A 429 means that the quota is used up, until the time that it names.
        """
        self.name_quota(ratelimit_limit="100;w=21600", ratelimit_remaining="76;w=21600")
        self.successResultOf(self.repository.manifest("1"))

        def fault(request: Request) -> bytes:
            request.setHeader("Retry-After", "3600")
            return refuse(request, 429, "TOOMANYREQUESTS", "slow down")

        self.server.fault = fault
        failure_of(self, self.repository.manifest("1"), TooManyRequests)
        self.assertEqual(self.memory.state(HOST).quota, Quota(0, 100, 21600.0, 3600.0))
        self.assertIs(self.availability(), Availability.QUOTA_LOW)

    def test_refused_with_quota(self) -> None:
        """
        The same, where the refusal has headers with the quota.
        """

        def fault(request: Request) -> bytes:
            request.setHeader("RateLimit", "limit=10, remaining=1, reset=30")
            return refuse(request, 429, "TOOMANYREQUESTS", "slow down")

        self.server.fault = fault
        failure_of(self, self.repository.manifest("1"), TooManyRequests)
        self.assertEqual(self.memory.state(HOST).quota, Quota(0, 10, None, 30.0))

    def test_redirect(self) -> None:
        """
        The quota counts that the registry itself names, also with a redirect;
        its storage's does not.
        """

        def fault(request: Request) -> bytes | None:
            host = request.getHeader("Host")
            request.setHeader("X-RateLimit-Remaining", "76" if host == HOST else "3")
            if host == HOST and "/blobs/" in request.path.decode():
                request.setHeader("Location", f"https://storage.example{request.uri.decode()}")
                request.setResponseCode(307)
                return b""
            return None

        self.server.fault = fault
        self.read_body(self.successResultOf(self.open_blob()))
        self.assertEqual(self.memory.state(HOST).quota, Quota(76))
        self.assertEqual([host.host for host in self.memory.hosts()], [HOST])

    def test_down(self) -> None:
        """
        A server error opens the circuit, which keeps no request of a transfer
        back; a response closes it, also one that refuses.
        """
        self.server.fault = lambda request: refuse(request, 503, "UNAVAILABLE", "down")
        failure_of(self, self.repository.manifest("1"), RegistryUnavailable)
        state = self.memory.state(HOST)
        self.assertEqual((state.availability, state.seconds), (Availability.DOWN, FIRST_PAUSE))
        self.assertIn("down", state.why)
        self.server.fault = lambda _: None
        failure_of(self, self.repository.manifest("unknown"), ManifestUnknown)
        self.assertIs(self.availability(), Availability.OK)

    def test_no_connection(self) -> None:
        """
        A failed connection counts, whatever the request is for.
        """
        document = Document(OCI_MANIFEST, self.sample.manifest, Digest.of(self.sample.manifest))
        self.agent.request = lambda *_: fail(ConnectRefused())  # type: ignore[method-assign]
        requests: list[Callable[[], Deferred[Any]]] = [
            lambda: self.registries.check(HOST),
            lambda: self.repository.manifest("1"),
            lambda: self.repository.confirm(self.digest),
            lambda: self.repository.put_manifest("1", document),
            lambda: self.repository.referrers(self.digest),
            self.open_blob,
        ]
        for n, request in enumerate(requests, 1):
            failure_of(self, request(), ConnectionFailed)
            self.assertEqual(self.memory.hosts()[0].failures, n)
            self.clock.advance(1000)


class CapabilitiesTests(ReportCase):
    """
    The features of registries outlive the daemon.
    """

    def known(self) -> Capabilities:
        """
        The features, as the next daemon knows them.
        """
        return KnownCapabilities(self.memory, self.clock.seconds).of(HOST)

    def test_restart(self) -> None:
        """
        What was found is known to the next daemon.
        """
        found = self.known()
        self.assertEqual(found, Capabilities())
        found.learn(chunks=False)
        self.assertTrue(found.too_large(1024 * 1024))
        self.assertEqual(self.known(), Capabilities(chunks=False, most=512 * 1024))

    def test_same_again(self) -> None:
        """
        What is known already is not reported again.
        """
        reports: list[object] = []
        Capabilities(least=5, report=reports.append).learn(least=5)
        self.assertEqual(reports, [])

    def test_cleared(self) -> None:
        """
        When a host is cleared, all features are assumed again, also by clients
        that exist.
        """
        known = KnownCapabilities(self.memory, self.clock.seconds)
        found = known.of(HOST)
        found.learn(finds_blobs=False)
        self.successResultOf(self.memory.clear("other.example"))
        self.assertFalse(found.finds_blobs)
        self.successResultOf(self.memory.clear(HOST))
        self.assertEqual(found, Capabilities())
        self.assertIs(known.of(HOST), found)

    def test_of_another_version(self) -> None:
        """
        Features that this version does not know are not used.
        """
        self.memory.learned(HOST, {"chunks": False, "telepathy": True})
        self.assertEqual(self.known(), Capabilities())


class WireTests(Pushing):
    """
    The same over real sockets, with a registry that has faults.
    """

    @property
    def memory(self) -> HostMemory:
        """
        The client's memory.
        """
        memory = self.client._context.memory
        assert isinstance(memory, HostMemory)
        return memory

    async def test_push(self) -> None:
        """
        The quota of a push's responses is known, and a 429 uses it up.
        """
        self.registry.faults.plant(SetHeader("RateLimit-Remaining", "42"), times=None)
        await self.push()
        host = self.registry.host
        self.assertEqual(self.memory.state(host).quota, Quota(42))
        self.registry.faults.clear()
        self.plant(too_many_requests("120"), "POST")
        await self.fails(TooManyRequests, b"another")
        state = self.memory.state(host)
        self.assertEqual(
            (state.availability, state.why), (Availability.QUOTA_LOW, f"0 requests to {host} are left")
        )

    async def test_down(self) -> None:
        """
        A broken connection opens the circuit, and so does a server error; the
        next success closes it.
        """
        host = self.registry.host
        for fault, error in ((Drop(), ConnectionFailed), (unavailable(), RegistryUnavailable)):
            self.registry.faults.plant(fault, times=None)
            await self.fails(error)
            self.assertIs(self.memory.state(host).availability, Availability.DOWN)
            self.registry.faults.clear()
            await self.push()
            self.assertTrue(self.memory.state(host).ok)
