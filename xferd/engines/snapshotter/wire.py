# -*- test-case-name: tests.engines.snapshotter.test_wire -*-
"""
What the daemon and the snapshotter send each other: the gRPC service C{xferd.Engines}
of the daemon, whose messages are JSON.

  - C{Attach}: L{Hello} to a stream of one L{Served}; open as long as both live.
  - C{Report}: L{Report} to nothing, after each change.
  - C{Provide}: L{Wanted} to a stream of one L{Provided}; the daemon holds a lease on the
    layer until the snapshotter ends the call.

Members that one side does not know are ignored, so that a newer xferd can add some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeVar

from attrs import asdict, field, frozen

from xferd.credentials import Credentials
from xferd.engines.grpc.status import GrpcError, Status
from xferd.errors import XferdError
from xferd.interfaces.layer_source import Promise, WantedLayer
from xferd.names import Digest, Reference

SERVICE: Final = "xferd.Engines"
ATTACH: Final = f"/{SERVICE}/Attach"
REPORT: Final = f"/{SERVICE}/Report"
PROVIDE: Final = f"/{SERVICE}/Provide"


class Readable(Protocol):
    """
    A message.
    """

    @classmethod
    def from_json(cls, value: Any) -> Any:
        """
        Read it.
        """


M = TypeVar("M", bound=Readable)


@frozen
class Hello:
    """
    The snapshotter.

    @ivar pid: its process.
    @ivar version: its version of xferd.
    """

    pid: int
    version: str

    @classmethod
    def from_json(cls, value: Any) -> Hello:
        """
        Read it.
        """
        return cls(int(value["pid"]), str(value["version"]))


@frozen
class ServedEngine:
    """
    An engine to serve.

    @ivar socket: its unix socket.
    @ivar address: containerd's own.
    @ivar cri: whether to forward CRI's C{ImageService}.
    @ivar in_namespace: whether the daemon is root of a user namespace, and the trees are
        those of one.
    """

    socket: str
    address: str
    cri: bool
    in_namespace: bool = False

    @classmethod
    def from_json(cls, value: Any) -> ServedEngine:
        """
        Read it.
        """
        in_namespace = bool(value.get("in_namespace", False))
        return cls(str(value["socket"]), str(value["address"]), bool(value["cri"]), in_namespace)


@frozen
class Served:
    """
    What to serve.

    @ivar version: the daemon's version of xferd.
    @ivar isolated: whether clients have to prove that they may have a layer.
    @ivar engines: by their names.
    """

    version: str
    isolated: bool
    engines: Mapping[str, ServedEngine] = field(factory=dict, hash=False)

    @classmethod
    def from_json(cls, value: Any) -> Served:
        """
        Read it.
        """
        engines = {str(name): ServedEngine.from_json(each) for name, each in value["engines"].items()}
        return cls(str(value["version"]), bool(value["isolated"]), engines)


@frozen
class EngineReport:
    """
    The state of an engine.

    @ivar problem: why it is not served, or L{None}.
    @ivar prepares: the layers that it asked for, by result.
    @ivar removed: the number of layers that it has removed.
    @ivar last_removed: the names of the last of these.
    """

    problem: str | None
    prepares: Mapping[str, int] = field(factory=dict, hash=False)
    removed: int = 0
    last_removed: tuple[str, ...] = ()


@frozen
class Report:
    """
    The state of all engines that the snapshotter serves.
    """

    engines: Mapping[str, EngineReport] = field(factory=dict, hash=False)

    @classmethod
    def from_json(cls, value: Any) -> Report:
        """
        Read it.
        """
        return cls(
            {
                str(name): EngineReport(
                    None if each["problem"] is None else str(each["problem"]),
                    {str(how): int(count) for how, count in each["prepares"].items()},
                    # An older snapshotter does not report these.
                    int(each.get("removed", 0)),
                    tuple(map(str, each.get("last_removed", ()))),
                )
                for name, each in value["engines"].items()
            }
        )


@frozen
class Wanted:
    """
    A layer that an engine wants: the arguments of
    L{ILayerSource.obtain<xferd.interfaces.layer_source.ILayerSource.obtain>}.
    """

    engine: str
    wanted: WantedLayer
    below: Digest | None
    credentials: Mapping[str, Credentials] = field(factory=dict, hash=False, repr=False)

    def to_json(self) -> Mapping[str, Any]:
        """
        Write it, with the secrets.
        """
        wanted = self.wanted
        return {
            "engine": self.engine,
            "chain_id": str(wanted.chain_id),
            "image": None if wanted.image is None else str(wanted.image),
            "named": wanted.named,
            "below": None if self.below is None else str(self.below),
            "credentials": {host: each.reveal() for host, each in self.credentials.items()},
        }

    @classmethod
    def from_json(cls, value: Any) -> Wanted:
        """
        Read it.
        """
        image, below = value["image"], value["below"]
        wanted = WantedLayer(
            Digest.parse(value["chain_id"]),
            None if image is None else Reference.parse(image),
            str(value["named"]),
        )
        credentials = {str(host): Credentials.revealed(each) for host, each in value["credentials"].items()}
        return cls(str(value["engine"]), wanted, None if below is None else Digest.parse(below), credentials)


@frozen
class Provided:
    """
    The answer.

    @ivar declined: why there is no layer; else L{None}, and the others are those of a
        L{Promise}.
    """

    declined: str | None = None
    number: int = 0
    size: int = 0
    how: str = ""

    @classmethod
    def of(cls, promise: Promise) -> Provided:
        """
        A layer.
        """
        return cls(None, promise.number, promise.size, promise.how)

    @classmethod
    def from_json(cls, value: Any) -> Provided:
        """
        Read it.
        """
        declined = value["declined"]
        return cls(
            None if declined is None else str(declined),
            int(value["number"]),
            int(value["size"]),
            str(value["how"]),
        )


def encode(message: Any) -> bytes:
    """
    A message as it is sent.
    """
    return json.dumps(message.to_json() if isinstance(message, Wanted) else asdict(message)).encode()


def decode(kind: type[M], content: bytes) -> M:
    """
    Read a message.

    @raise GrpcError: it is not one of that class.
    """
    try:
        found: M = kind.from_json(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, XferdError) as e:
        raise GrpcError(Status.INVALID_ARGUMENT, f"the message is no {kind.__name__}") from e
    return found
