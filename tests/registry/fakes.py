"""
Fakes of the network: responses made by hand, an agent whose responses the test
sends, and a registry in memory.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from attrs import define, field, frozen
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IResolutionReceiver,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IResponse
from twisted.web.resource import Resource
from twisted.web.server import Request
from zope.interface import implementer

from xferd.media_types import OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.registry.transport.addresses import ResolvingReactor

T = TypeVar("T")


class FakeTransport:
    """
    The transport of a body.

    @ivar dropped: how often it was ended.
    @ivar flow: when it was paused and resumed.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.flow: list[str] = []

    def pauseProducing(self) -> None:
        """
        Note it.
        """
        self.flow.append("pause")

    def resumeProducing(self) -> None:
        """
        Note it.
        """
        self.flow.append("resume")

    def stopProducing(self) -> None:
        """
        Count.
        """
        self.dropped += 1


@implementer(IResponse)
class FakeResponse:
    """
    An answer whose body the test sends.
    """

    version = (b"HTTP", 1, 1)
    phrase = b""
    previousResponse: IResponse | None = None

    def __init__(
        self,
        code: int = 200,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        length: object = UNKNOWN_LENGTH,
    ) -> None:
        """
        @param body: the whole body, or L{None} if the test sends it later.
        """
        self.code = code
        self.headers = Headers({k: [v] for k, v in (headers or {}).items()})
        self.length = len(body) if body is not None else length
        self.transport = FakeTransport()
        self.request: IClientRequest = None  # type: ignore[assignment]
        self.protocol: IProtocol | None = None
        self._body = body

    def deliverBody(self, protocol: IProtocol) -> None:
        """
        Connect the reader.
        """
        assert self.protocol is None, "the body was delivered twice"
        self.protocol = protocol
        protocol.makeConnection(self.transport)  # type: ignore[arg-type]
        if self._body is not None:
            if self._body:
                self.send(self._body)
            self.end()

    def setPreviousResponse(self, response: IResponse) -> None:
        """
        Do nothing.
        """

    def send(self, data: bytes) -> None:
        """
        Send some of the body.
        """
        assert self.protocol is not None
        self.protocol.dataReceived(data)

    def end(self, error: Exception | None = None) -> None:
        """
        End the body.
        """
        assert self.protocol is not None
        self.protocol.connectionLost(Failure(error or ResponseDone()))


@define
class Asked:
    """
    One request that a L{ScriptedAgent} got.
    """

    method: bytes
    url: str
    headers: Headers
    body: IBodyProducer | None
    answer: Deferred[IResponse]
    cancelled: bool = False

    def header(self, name: str) -> str | None:
        """
        The first value of a header that was sent.
        """
        found = self.headers.getRawHeaders(name)
        return found[0] if found else None


@implementer(IAgent)
class ScriptedAgent:
    """
    An agent whose answers the test gives, when it wants to.

    @ivar asked: the requests, oldest first.
    @ivar late: answers a request that is cancelled, if there is one.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.late: FakeResponse | None = None

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """
        Remember the request.
        """

        def cancel(answer: Deferred[IResponse]) -> None:
            asked.cancelled = True
            if self.late is not None:
                answer.callback(self.late)

        asked = Asked(method, uri.decode(), headers or Headers(), bodyProducer, Deferred(cancel))
        self.asked.append(asked)
        return asked.answer

    @property
    def last(self) -> Asked:
        """
        The newest request.
        """
        return self.asked[-1]

    def respond(
        self, code: int = 200, headers: Mapping[str, str] | None = None, body: bytes | None = b""
    ) -> FakeResponse:
        """
        Answer the newest request.
        """
        response = FakeResponse(code, headers, body)
        self.last.answer.callback(response)
        return response


@frozen
class Sample:
    """
    An image of one layer.
    """

    layer: bytes
    config: bytes
    manifest: bytes

    @classmethod
    def of(cls, layer: bytes = b"a layer") -> Sample:
        """
        Make one around some bytes.
        """
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer))]}}).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(OCI_CONFIG, Digest.of(config), len(config)).to_json(),
            "layers": [
                Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(layer), len(layer)).to_json()
            ],
        }
        return cls(layer, config, json.dumps(manifest).encode())


@define
class MemoryRegistry(Resource):
    """
    A registry as a resource of L{twisted.web}: some blobs, some manifests, and
    a hook for faults.

    @ivar log: method, path and headers of each request.
    @ivar fault: is called before each response; a result replaces the response.
    """

    isLeaf = True

    blobs: dict[str, bytes] = field(factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(factory=dict)
    user: str = ""
    password: str = ""
    log: list[tuple[str, str, Headers]] = field(factory=list)
    fault: Callable[[Request], bytes | int | None] = field(default=lambda _: None)

    def __attrs_post_init__(self) -> None:
        Resource.__init__(self)

    def hold(self, sample: Sample) -> None:
        """
        Hold an image, as C{1}.
        """
        for blob in (sample.layer, sample.config):
            self.blobs[str(Digest.of(blob))] = blob
        for name in ("1", str(Digest.of(sample.manifest))):
            self.manifests[name] = (OCI_MANIFEST, sample.manifest)

    def render(self, request: Request) -> bytes | int:
        """
        Answer.
        """
        path = request.path.decode()
        self.log.append((request.method.decode(), path, request.requestHeaders.copy()))
        special = self.fault(request)
        if special is not None:
            return special
        if self.user and request.getHeader("Authorization") != self.basic():
            request.setHeader("WWW-Authenticate", 'Basic realm="here"')
            return refuse(request, 401, "UNAUTHORIZED", "authentication required")
        if path == "/v2/":
            return b"{}"
        kind, _, name = path.rpartition("/")[0].rpartition("/")[2], None, path.rpartition("/")[2]
        if kind == "manifests":
            found = self.manifests.get(name)
            if found is None:
                return refuse(request, 404, "MANIFEST_UNKNOWN", "manifest unknown")
            request.setHeader("Content-Type", found[0])
            request.setHeader("Docker-Content-Digest", str(Digest.of(found[1])))
            return found[1]
        blob = self.blobs.get(name)
        if blob is None:
            return refuse(request, 404, "BLOB_UNKNOWN", "blob unknown to registry")
        return send_range(request, blob)

    def basic(self) -> str:
        """
        The credentials of the right user.
        """
        return "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode()

    def paths(self, part: str = "") -> list[str]:
        """
        The requested paths with C{part} in them.
        """
        return [path for _, path, _ in self.log if part in path]


def refuse(request: Request, status: int, code: str, message: str) -> bytes:
    """
    Answer with an error in OCI's form.
    """
    request.setResponseCode(status)
    return json.dumps({"errors": [{"code": code, "message": message, "detail": None}]}).encode()


def send_range(request: Request, blob: bytes) -> bytes:
    """
    Send a blob, or the part of it that was requested.
    """
    wanted = request.getHeader("Range")
    if wanted is None:
        return blob
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start, stop = int(first), min(int(last) + 1, len(blob)) if last else len(blob)
    if start >= len(blob):
        request.setResponseCode(416)
        request.setHeader("Content-Range", f"bytes */{len(blob)}")
        return b""
    request.setResponseCode(206)
    request.setHeader("Content-Range", f"bytes {start}-{stop - 1}/{len(blob)}")
    return blob[start:stop]


class Reader(Protocol):
    """
    Keeps the bytes that it receives, and the reason why its connection ended.
    """

    def __init__(self) -> None:
        self.data = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Append the bytes.
        """
        self.data += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """
        Keep the reason.
        """
        self.lost = reason


def failure_of(test: SynchronousTestCase, deferred: Deferred[T], kind: type[Exception]) -> Exception:
    """
    The error that a Deferred has failed with.
    """
    error = test.failureResultOf(deferred, kind).value
    assert isinstance(error, kind)
    return error


@implementer(IHostResolution)
@frozen
class _Resolution:
    """
    A resolution that is over.
    """

    name: str

    def cancel(self) -> None:
        """
        Do nothing: the request has ended.
        """


class _Elsewhere(WrappingFactory):
    """
    A client's factory that receives another address than the real one.
    """

    noisy = False

    def __init__(self, factory: Factory, host: str) -> None:
        super().__init__(factory)
        self._host = host

    def buildProtocol(self, addr: IAddress | None) -> ProtocolWrapper:
        """
        Build a protocol with another address.
        """
        kind = IPv6Address if ":" in self._host else IPv4Address
        protocol: ProtocolWrapper = super().buildProtocol(kind("TCP", self._host, 1))
        return protocol


@implementer(IHostnameResolver)
class NamingReactor(ResolvingReactor):
    """
    A reactor that knows the addresses of some names; an address stands for
    itself.  Connections to any address end at 127.0.0.1, and look as if they
    did not.

    @ivar names: the addresses of each name.
    @ivar connected: the addresses that were connected to.
    """

    def __init__(self, reactor: object, names: Mapping[str, Sequence[str]]) -> None:
        super().__init__(reactor, self)
        self.names = dict(names)
        self.connected: list[str] = []

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Factory,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """
        Connect to a port of this machine.
        """
        self.connected.append(host)
        connector: IConnector = self._reactor.connectTCP(
            "127.0.0.1", port, _Elsewhere(factory, host), timeout, bindAddress
        )
        return connector

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """
        Give the addresses of a name at once.
        """
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        is_address = isIPAddress(hostName) or isIPv6Address(hostName)
        for text in self.names.get(hostName, [hostName] if is_address else []):
            kind = IPv6Address if ":" in text else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", text, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution
