"""
Clients that wait while the daemon is restarted, with real daemons.
"""

from __future__ import annotations

import tarfile
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.integration.places import free_port
from tests.integration.programs import Xferd
from tests.integration.slow_proxy import SlowProxy
from tests.integration.test_daemon import reactor
from tests.integration.test_job_restarts import RATE, SIZE, SPARE, EachSignal, RestartCase
from xferd.ctl.address import Address
from xferd.ctl.client import LOST, Daemon
from xferd.ctl.display.board import Board
from xferd.testing.images import sample_image, write_layout
from xferd.testing.registry import Registry


class ClientCase(RestartCase):
    """
    Clients of jobs.
    """

    async def job_id(self, kind: str = "pull") -> str:
        """
        Wait for the only job of a kind.
        """

        async def look() -> list[Any]:
            return [job for job in await self.api("GET", "jobs") if job["kind"] == kind]

        (job,) = await self.until(look)
        return str(job["id"])

    def assert_waited(self, output: str) -> None:
        """
        A client has said once that it waits for the daemon.
        """
        # A slow start is reported again, with the time for which nothing has changed.
        said = [line for line in output.splitlines() if line == LOST]
        self.assertEqual(len(said), 1, output)


class WaitingTests(EachSignal, ClientCase):
    """
    xferctl waits for its job while the daemon is restarted.
    """

    async def interrupted(self, signal: str) -> None:
        """
        A pull says so in one line, and ends with 0.
        """
        _, reference = self.add(1, 1_000_000)
        pulling = Deferred.fromCoroutine(self.daemon.try_ctl("pull", reference))
        job_id = await self.job_id()
        await self.fetched(job_id, 300_000)
        await self.daemon.stop(signal)
        await self.start()
        output, errors, status = await pulling
        self.assertEqual((errors, status), ("", 0))
        self.assert_waited(output)
        self.assertIn(reference, output.splitlines()[-1])
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["restart"]), ("done", "rejoin"))
        self.assertLess(self.registry.bytes_sent, 1_600_000)


class FollowTests(EachSignal, ClientCase):
    """
    C{xferctl job --follow} waits for a job of another client.
    """

    async def interrupted(self, signal: str) -> None:
        """
        It says so in one line, and ends with 0 when the job is done.
        """
        _, reference = self.add(1, 1_000_000)
        job_id = (await self.daemon.ctl("pull", "--detach", reference)).strip()
        following = Deferred.fromCoroutine(self.daemon.try_ctl("job", "--follow", job_id))
        await self.fetched(job_id, 300_000)
        await self.daemon.stop(signal)
        await self.start()
        output, errors, status = await following
        self.assertEqual((errors, status), ("", 0))
        self.assert_waited(output)
        self.assertIn(reference, output.splitlines()[-1])
        self.assertEqual((await self.state(job_id, "done", "failed"))["state"], "done")


class PushTests(EachSignal, ClientCase):
    """
    C{xferctl push} waits for its job, to a registry that keeps upload sessions.
    """

    async def interrupted(self, signal: str) -> None:
        """
        It says so in one line, and ends with 0.  The upload continues at the offset of the registry.
        """
        source, target = Registry(reactor), Registry(reactor)
        for each in (source, target):
            await each.listen(reactor)
            self.addCleanup(each.stop)
        source.add(sample_image(1, SIZE, compression="tar"), "app", "1")
        reference = f"{source.host}/app:1"
        await self.daemon.ctl("pull", reference)
        proxy = SlowProxy(target.host, RATE)
        self.addCleanup(proxy.stop)
        proxy.hold(SIZE // 2)
        pushing = Deferred.fromCoroutine(self.daemon.try_ctl("push", reference, f"{proxy.address}/app:1"))
        job_id = await self.job_id("push")
        await self.until(lambda: proxy.sent["app"] >= SIZE // 2)
        await self.daemon.stop(signal)
        proxy.release()
        await self.start()
        output, errors, status = await pushing
        self.assertEqual((errors, status), ("", 0))
        self.assert_waited(output)
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["restart"]), ("done", "rejoin"))
        self.assertLess(proxy.sent["app"], SIZE + SPARE)


class ImportTests(EachSignal, ClientCase):
    """
    C{xferctl import} sends an archive over a slow line.
    """

    async def start(self, *options: str) -> Xferd:
        """
        Start a daemon on the same port each time.
        """
        if not hasattr(self, "port"):
            self.port = free_port()
        return await super().start("--listen", f"tcp:{self.port}:interface=127.0.0.1", *options)

    async def interrupted(self, signal: str) -> None:
        """
        Half of the archive is in the store.  It says so in one line, sends the archive again, and ends
        with 0.
        """
        layout, archive, name = self.place / "layout", self.place / "archive", "localhost/imported:1"
        write_layout(str(layout), {name: sample_image(1, 4 * SIZE, compression="tar")})
        with tarfile.open(archive, "w") as tar:
            tar.add(layout, ".")
        proxy = SlowProxy(f"127.0.0.1:{self.port}", 40_000_000.0)
        self.addCleanup(proxy.stop)
        proxy.hold(archive.stat().st_size // 2)
        client = Xferd(reactor, str(self.place / "client"))
        client.url = f"http://{proxy.address}"
        importing = Deferred.fromCoroutine(client.try_ctl("import", str(archive)))
        await self.until(lambda: proxy.sent[""] >= archive.stat().st_size // 2)
        job_id = await self.job_id("import")
        job = await self.api("GET", f"jobs/{job_id}")
        self.assertEqual(job["state"], "running")
        self.assertGreater(job["archive"]["received"], 0)
        await self.daemon.stop(signal)
        proxy.release()
        await self.start()
        output, errors, status = await importing
        self.assertEqual((errors, status), ("", 0))
        self.assert_waited(output)
        self.assertEqual((await self.state(job_id, "done", "failed"))["state"], "done")
        self.assertEqual([each["reference"] for each in await self.api("GET", "images")], [name])


class WatchTests(ClientCase):
    """
    xferctl watch follows everything over a restart of the daemon.
    """

    async def continues(self, signal: str) -> None:
        """
        The client learns that the stream starts over, and each change of a job's state is
        reported once.
        """
        _, before = self.add(1, 1_000)
        ended = (await self.daemon.ctl("pull", "--detach", before)).strip()
        await self.state(ended, "done")
        watching = deferToThread(self.watch, ended)
        _, reference = self.add(1, 1_000_000)
        job_id = (await self.daemon.ctl("pull", "--detach", reference)).strip()
        await self.fetched(job_id, 300_000)
        await self.daemon.stop(signal)
        await self.start()
        kinds, states = await watching
        self.assertEqual(kinds.count("begin"), 2)
        self.assertEqual(states.pop(ended), ["done"])
        seen = states.pop(job_id)
        self.assertEqual((seen[-1], states), ("done", {}))
        self.assertEqual([state for state, after in pairwise(seen) if state == after], [])

    def watch(self, ended: str) -> tuple[list[str], dict[str, list[str]]]:
        """
        Watch until another job is done.

        @param ended: a job that is done.
        @return: the kinds of all events, and by job the states that were reported.
        """
        board, kinds, states = Board(), list[str](), dict[str, list[str]]()
        for event in Daemon([Address.parse(self.daemon.url)], client="me").watch():
            kinds.append(event.kind)
            changed = board.update(event)
            if changed is not None:
                states.setdefault(changed.job["id"], []).append(changed.state)
                if changed.ended and changed.job["id"] != ended:
                    break
        return kinds, states

    async def test_stopped(self) -> None:
        """
        After SIGTERM.
        """
        await self.continues("TERM")

    async def test_killed(self) -> None:
        """
        After C{kill -9}.
        """
        await self.continues("KILL")
