"""
Tests for L{xferd.engines.cri.image_service}.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.engines.grpc.pipe import Pipe
from tests.engines.grpc.wire import Outcome, Wire
from xferd.engines.cri.image_service import MAX_ANSWER, ImageService
from xferd.engines.cri.pull_credentials import PullCredentials
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.grpc.messages import MAX_MESSAGE, encode
from xferd.engines.grpc.server import GrpcFactory
from xferd.engines.grpc.service import Call, GrpcService, raw_streaming, raw_unary
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto.cri_pb2 import AuthConfig, ImageSpec, PullImageRequest, PullImageResponse

IMAGE = "r.example/app:1"
PULL = PullImageRequest(image=ImageSpec(image=IMAGE), auth=AuthConfig(username="ann", password="p"))


class Containerd:
    """
    What is behind: an image service that the test decides.
    """

    def __init__(self, credentials: PullCredentials) -> None:
        self.credentials = credentials
        self.calls: list[tuple[Call, bytes]] = []
        self.users: list[str] = []
        self.pulling: Deferred[bytes] | None = None
        self.cancelled = 0
        self.size = 10

    def services(self) -> list[GrpcService]:
        """
        Both versions.
        """
        methods = {
            "ListImages": raw_unary(self.list),
            "StreamImages": raw_streaming(self.stream),
            "PullImage": raw_unary(self.pull),
            "ImageStatus": raw_unary(self.status),
        }
        return [GrpcService(f"runtime.{version}.ImageService", methods) for version in ("v1", "v1alpha2")]

    async def list(self, request: bytes, call: Call) -> bytes:
        """
        One answer.
        """
        self.calls.append((call, request))
        return bytes(self.size)

    async def stream(self, request: bytes, call: Call) -> AsyncGenerator[bytes, None]:
        """
        Three answers.
        """
        for number in range(3):
            yield b"%d" % number

    async def status(self, request: bytes, call: Call) -> bytes:
        """
        An error.
        """
        raise GrpcError(Status.NOT_FOUND, "no such image")

    def pull(self, request: bytes, call: Call) -> Deferred[bytes]:
        """
        Wait for the test.
        """

        def cancel(_: object) -> None:
            self.cancelled += 1

        self.calls.append((call, request))
        self.users = [c.username for c in self.credentials.credentials_of(IMAGE).values()]
        self.pulling = Deferred(cancel)
        return self.pulling


class ImageServiceTests(SynchronousTestCase):
    """
    L{ImageService}.
    """

    def setUp(self) -> None:
        """
        A client of ours, and containerd behind.
        """
        self.reactor = MemoryReactorClock()
        self.credentials = PullCredentials()
        self.containerd = Containerd(self.credentials)
        self.client = GrpcClient("/c.sock", self.reactor, MAX_ANSWER)  # type: ignore[arg-type]
        service = ImageService(self.client, self.credentials)
        self.wire = Wire(GrpcFactory(service.services(), self.reactor, lambda transport: 0))
        self.behind = GrpcFactory(self.containerd.services(), self.reactor, lambda transport: 0)
        self.pipe: Pipe | None = None
        self.addCleanup(self.wire.lose)

    def exchange(self) -> None:
        """
        Deliver in all directions until nothing moves.
        """
        if self.reactor.unixClients:
            self.pipe = Pipe.accept(self.reactor, self.behind)
            self.addCleanup(self.pipe.lose)
        for _ in range(40):
            if self.pipe is not None:
                self.pipe.exchange()
            self.wire.exchange()

    def call(self, method: str, request: bytes = b"", version: str = "v1", **headers: str) -> Outcome:
        """
        A call of our client.
        """
        outcome = self.wire.call(f"/runtime.{version}.ImageService/{method}", request, *headers.items())
        self.exchange()
        return outcome

    def test_forwarded(self) -> None:
        """
        Requests and answers pass as they are, of both versions, with metadata and time.
        """
        for version in ("v1", "v1alpha2"):
            outcome = self.call(
                "ListImages", b"\xffanything", version, traceparent="00-1", **{"grpc-timeout": "2S"}
            )
            self.assertEqual((outcome.messages, outcome.status), ([bytes(10)], 0))
        for call, request in self.containerd.calls:
            self.assertEqual(request, b"\xffanything")
            self.assertEqual((call.metadata, call.timeout), ({"traceparent": "00-1"}, 2))

    def test_stream(self) -> None:
        """
        A stream of answers is forwarded.
        """
        self.assertEqual(self.call("StreamImages").messages, [b"0", b"1", b"2"])

    def test_error(self) -> None:
        """
        containerd's errors are forwarded, also of methods that it does not have.
        """
        outcome = self.call("ImageStatus")
        self.assertEqual((outcome.status, outcome.message), (5, "no such image"))
        self.assertEqual(self.call("Unheard").status, 12)

    def test_large(self) -> None:
        """
        An answer over the usual limit is forwarded, as kubelet takes it.
        """
        self.containerd.size = MAX_MESSAGE + 100
        self.wire.begin("/runtime.v1.ImageService/ListImages")
        (stream,) = self.wire.calls
        self.wire.calls[stream].reader._limit = MAX_ANSWER
        self.wire.send(stream, encode(b""))
        self.exchange()
        self.assertEqual([len(m) for m in self.wire.calls[stream].messages], [MAX_MESSAGE + 100])

    def test_unavailable(self) -> None:
        """
        Without containerd a call is C{UNAVAILABLE}.
        """
        outcome = self.wire.call("/runtime.v1.ImageService/ListImages", b"")
        Pipe.refuse(self.reactor)
        self.wire.exchange()
        self.assertEqual(outcome.status, 14)

    def test_pull(self) -> None:
        """
        The credentials of a pull are there while it runs, and the request passes whole.
        """
        request = PULL.SerializeToString() + b"\xca\x3e\x01x"
        outcome = self.call("PullImage", request)
        self.assertEqual(self.containerd.users, ["ann"])
        self.assertEqual(self.containerd.calls[0][1], request)
        assert self.containerd.pulling is not None
        self.containerd.pulling.callback(PullImageResponse(image_ref="sha256:a").SerializeToString())
        self.exchange()
        self.assertEqual(PullImageResponse.FromString(outcome.messages[0]).image_ref, "sha256:a")
        self.assertEqual(len(self.credentials), 0)

    def test_pull_cancelled(self) -> None:
        """
        A client that leaves cancels the pull, and its credentials go.
        """
        self.call("PullImage", PULL.SerializeToString())
        (stream,) = self.wire.calls
        self.wire.reset(stream)
        self.exchange()
        self.assertEqual(self.containerd.cancelled, 1)
        self.assertEqual(len(self.credentials), 0)

    def test_pull_malformed(self) -> None:
        """
        A malformed request is forwarded, and containerd refuses it.
        """
        self.call("PullImage", b"\x0a\xff")
        self.assertEqual((self.containerd.calls[0][1], self.containerd.users), (b"\x0a\xff", []))
