"""
An etcd in memory, as far as the coordination uses it, on a clock.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.answers import LeaseGone
from xferd.fleet.etcd.messages import encoded

Message = dict[str, Any]


@define
class _Key:
    value: str
    lease: int
    created: int
    modified: int


class FakeEtcd:
    """
    In the place of an L{EtcdClient <xferd.fleet.etcd.client.EtcdClient>}.

    @ivar calls: the paths and messages of all calls.
    @ivar problem: the reason for which calls fail, or the empty string.
    @ivar refuses_puts: whether it is full.
    @ivar answers: answers by path, in the place of its own.
    @ivar held: where it is a list, calls take effect only when they are made from it.
    """

    def __init__(self, clock: Clock) -> None:
        self.calls: list[tuple[str, Message]] = []
        self.problem = ""
        self.refuses_puts = False
        self.answers: dict[str, Message] = {}
        self.held: list[Callable[[], None]] | None = None
        self.keys: dict[str, _Key] = {}
        self.leases: dict[int, tuple[float, float]] = {}
        self.revision = 1
        self.closed = 0
        self.watches: list[tuple[Callable[[Message], object], Deferred[None]]] = []
        self._clock = clock
        self._number = 100

    def note_nodes(self, number: int) -> None:
        """
        It has no logins.
        """

    async def call(self, path: str, message: Message) -> Message:
        """
        Answer a request.
        """
        self.calls.append((path, message))
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(lambda: waiting.callback(None))
            await waiting
        if self.problem:
            raise CoordinationUnavailable(self.problem)
        if path in self.answers:
            return self.answers[path]
        self.expire()
        name = path.rpartition("/")[2]
        answer: Message = getattr(self, f"_{name}")(message)
        return answer

    async def stream(self, path: str, message: Message, each: Callable[[Message], object]) -> None:
        """
        Keep a watch open.
        """
        self.calls.append((path, message))
        ending: Deferred[None] = Deferred()
        self.watches.append((each, ending))
        try:
            await ending
        finally:
            self.watches = [watch for watch in self.watches if watch[1] is not ending]

    def close(self) -> Deferred[None]:
        """
        Count the call.
        """
        self.closed += 1
        return succeed(None)

    def paths(self) -> list[str]:
        """
        The paths of the calls since the last time.
        """
        found = [path for path, _ in self.calls]
        self.calls.clear()
        return found

    def expire(self) -> None:
        """
        Remove what has expired.
        """
        for lease, (_, ends) in list(self.leases.items()):
            if ends <= self._clock.seconds():
                self.end_lease(lease)

    def end_lease(self, lease: int) -> None:
        """
        End a lease.
        """
        del self.leases[lease]
        self.keys = {key: found for key, found in self.keys.items() if found.lease != lease}

    # ------------------------------------------------------------- requests

    def _grant(self, message: Message) -> Message:
        self._number += 1
        seconds = float(message["TTL"])
        self.leases[self._number] = (seconds, self._clock.seconds() + seconds)
        return {"ID": str(self._number), "TTL": message["TTL"]}

    def _keepalive(self, message: Message) -> Message:
        lease = int(message["ID"])
        if lease not in self.leases:
            return {"result": {"ID": message["ID"]}}
        seconds, _ = self.leases[lease]
        self.leases[lease] = (seconds, self._clock.seconds() + seconds)
        return {"result": {"ID": message["ID"], "TTL": str(int(seconds))}}

    def _revoke(self, message: Message) -> Message:
        if int(message["ID"]) not in self.leases:
            raise LeaseGone("lease not found")
        self.end_lease(int(message["ID"]))
        return {}

    def _timetolive(self, message: Message) -> Message:
        _, ends = self.leases.get(int(message["ID"]), (0, 0.0))
        return {"TTL": str(int(ends - self._clock.seconds()) if ends else -1)}

    def _txn(self, message: Message) -> Message:
        before = self.revision
        self.revision += 1
        response = self._transaction(message)
        if not any(found.modified == self.revision for found in self.keys.values()):
            self.revision = before
        return {"header": {"revision": str(self.revision)}, **response}

    def _transaction(self, message: Message) -> Message:
        holds = all(self._holds(each) for each in message.get("compare", []))
        done = [self._do(each) for each in message.get("success" if holds else "failure", [])]
        return ({"succeeded": True} if holds else {}) | ({"responses": done} if done else {})

    def _holds(self, condition: Message) -> bool:
        found = self.keys.get(b64decode(condition["key"]).decode())
        if condition["target"] == "CREATE":
            return (found.created if found else 0) == int(condition["create_revision"])
        if condition["target"] == "MOD":
            return (found.modified if found else 0) == int(condition["mod_revision"])
        return (found.lease if found else 0) == int(condition["lease"])

    def _do(self, operation: Message) -> Message:
        ((kind, what),) = operation.items()
        if kind == "request_txn":
            return {"response_txn": {"header": {}, **self._transaction(what)}}
        key = b64decode(what["key"]).decode()
        if kind == "request_put":
            if self.refuses_puts:
                raise CoordinationUnavailable("full")
            lease = int(what["lease"])
            if lease not in self.leases:
                raise LeaseGone("lease not found")
            old = self.keys.get(key)
            self.keys[key] = _Key(what["value"], lease, old.created if old else self.revision, self.revision)
            self._notify(key)
            return {"response_put": {"header": {"revision": str(self.revision)}}}
        if kind == "request_delete_range":
            self.keys.pop(key, None)
            return {"response_delete_range": {}}
        end = b64decode(what["range_end"]).decode() if "range_end" in what else key + "\0"
        found = [self._pair(each) for each in sorted(self.keys) if key <= each < end]
        counted = {"count": str(len(found))} if found else {}
        if what.get("count_only"):
            return {"response_range": counted}
        most = int(what.get("limit", 0)) or None
        return {"response_range": counted | ({"kvs": found[:most]} if found else {})}

    def _pair(self, key: str) -> Message:
        found = self.keys[key]
        return {
            "key": encoded(key),
            "value": found.value,
            "lease": str(found.lease),
            "mod_revision": str(found.modified),
        }

    def _notify(self, key: str) -> None:
        if key.startswith("/xferd/1/pauses/"):
            for each, _ in list(self.watches):
                each({"result": {"events": [{"kv": self._pair(key)}]}})
