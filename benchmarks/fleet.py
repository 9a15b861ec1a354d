# -*- test-case-name: tests.test_benchmarks -*-
"""
A fleet: nodes that pull an image at the same time over one line, one that joins later,
and what coordination costs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figures import Outcome, Row, Series
from benchmarks.hosts import Host, hosts
from benchmarks.images import Image
from benchmarks.peers import ROOT, Xferd
from benchmarks.places import in_memory
from benchmarks.processes import Failed, Program, find
from benchmarks.registry import Registry
from benchmarks.rounds import Setting

_NODES = 8
_MBIT, _LAN_MBIT = 40, 1000
_PORT, _ETCD_PORT = 5000, 2379
_BLOBS = 500


class Node(Xferd):
    """
    A node of a fleet.
    """

    def join(self, host: Host, number: int, etcd: str, secret: Path) -> None:
        """
        Take part in a fleet; before its start.
        """
        self.settings = (
            f'[registry]\nlisten = ["tcp:{_PORT}"]\n'
            f'[fleet]\netcd = ["{etcd}"]\nname = "n{number}"\nurl = "http://{host.address}:{_PORT}"\n'
            f'secret_file = "{secret}"\npeer_networks = ["10.98.1.0/24"]\n'
        )


def start_etcd(place: Path, address: str, within: Sequence[str] = ()) -> Program:
    """
    Start an etcd.

    @param place: a directory for its data and its log.
    @raise Failed: it does not start.
    """
    find("etcd")
    url = f"http://{address}:{_ETCD_PORT}"
    argv = ["etcd", "--data-dir", str(place / "etcd"), "--listen-client-urls", url]
    argv += ["--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:0"]
    etcd = Program([*within, *argv], place / "etcd.log")
    etcd.ready("ready to serve client")
    return etcd


def pull(setting: Setting, image: Image) -> Outcome:
    """
    Pull an image on one node, on eight at the same time, and on one that joins when all
    have it.  There is one round, and all of it counts: the line takes nearly all the time.
    """
    subject = f"upstream {_MBIT} Mbit/s, nodes {_LAN_MBIT} Mbit/s, {image}"
    rows: list[Row] = []
    with ExitStack() as stack:
        try:
            rates = [_MBIT, _LAN_MBIT, *[_LAN_MBIT] * (_NODES + 2)]
            upstream, coordinator, single, *others = stack.enter_context(hosts(rates))
            place = stack.enter_context(in_memory())
            registry = Registry(place, setting.registry.storage, upstream.address, upstream.within)
            stack.callback(registry.stop)
            stack.callback(start_etcd(place, coordinator.address, coordinator.within).stop)
            etcd = f"http://{coordinator.address}:{_ETCD_PORT}"
            secret = place / "secret"
            secret.write_text("the secret of all nodes of the fleet")
            secret.chmod(0o600)

            def node(host: Host, number: int = 0) -> Node:
                made = Node(stack.enter_context(in_memory()), registry.host, host.within)
                if number:
                    made.join(host, number, etcd, secret)
                stack.callback(made.stop)
                made.start()
                return made

            def measure(name: str, nodes: Sequence[Node]) -> None:
                before = registry.sent()
                clients = [each.pull(image.at(registry)) for each in nodes]
                took = max(client.finish() for client in clients)
                sent = registry.sent() - before
                setting.tell(f"  {name}: {took:.3f} s, sent {sent / image.size:.3f}")
                facts = {"sent / image": sent / image.size}
                if rows:
                    facts["it / alone"] = took / rows[0].series.median
                rows.append(Row(name, "s", Series([took]), facts))

            measure("one node alone", [node(single)])
            nodes = [node(host, number) for number, host in enumerate(others[:_NODES], 1)]
            measure(f"{_NODES} nodes at once", nodes)
            measure("one that joins later", [node(others[_NODES], _NODES + 1)])
        except Failed as e:
            return Outcome("fleet-pull", subject, rows, [str(e)])
    return Outcome("fleet-pull", subject, rows, [])


def coordination(setting: Setting) -> Outcome:
    """
    Look blobs up at an etcd, claim and announce them.
    """
    subject = f"{_BLOBS} blobs, one after the other"
    with ExitStack() as stack:
        try:
            place = stack.enter_context(in_memory())
            stack.callback(start_etcd(place, "127.0.0.1").stop)
            argv = [sys.executable, "-m", "benchmarks.claims", f"http://127.0.0.1:{_ETCD_PORT}"]
            environ = {"PYTHONPATH": ROOT, "PYTHONSAFEPATH": "1"}
            waits: list[float] = []
            facts: dict[str, float] = {}
            for number in range(setting.runs):
                program = Program([*argv, str(_BLOBS)], place / f"run-{number}.log", environ)
                program.finish()
                wait, cpu, requests = json.loads(program.text().splitlines()[-1])
                waits.append(wait)
                facts = {"CPU ms": cpu, "requests": requests}
                setting.tell(f"  {wait:.3f} ms a blob")
        except Failed as e:
            return Outcome("fleet-coordination", subject, [], [str(e)])
    return Outcome("fleet-coordination", subject, [Row("xferd", "ms", Series(waits), facts)], [])


FLEET: dict[str, Callable[[Setting], Outcome]] = {"fleet-coordination": coordination}
"""The benchmarks by name that need no image; L{pull} needs one."""
