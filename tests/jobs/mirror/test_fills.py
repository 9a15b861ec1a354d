"""
Tests for L{xferd.jobs.mirror.fills}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred

from tests.jobs.mirror.test_blobs import BlobCase
from xferd.errors import CredentialsUnavailable, StoreError
from xferd.interfaces.journal import UnfinishedFill
from xferd.interfaces.registry import IRepository
from xferd.jobs.blobs.possession import PARTS
from xferd.jobs.mirror.fills import LONG, MOST
from xferd.names import Repository


class FillsTests(BlobCase):
    """
    A client requests a blob, and leaves.
    """

    def setUp(self) -> None:
        """
        Let 100,000 bytes arrive.
        """
        super().setUp()
        self.searched: list[Repository] = []
        self.registry.stall(self.digest)
        self.opening = self.open()
        self.registry.feed(self.digest, 100_000)
        self.settle()
        self.successResultOf(self.opening).close()

    async def find(self, repository: Repository) -> IRepository | None:
        """
        The repository, as the registry of the daemon finds it.
        """
        self.searched.append(repository)
        return self.source

    async def gone(self, repository: Repository) -> IRepository | None:
        """
        An upstream that the settings do not name any more.
        """
        self.searched.append(repository)
        return None

    def unfinished(self) -> list[UnfinishedFill]:
        """
        The recorded fills.
        """
        return list(self.store.journal.recorded_fills.values())

    def restart(self, *, kill: bool = True) -> None:
        """
        End the daemon, and start the next one.
        """
        kept = dict(self.store.journal.recorded_fills)
        self.stop(self.jobs)
        if kill:
            self.store.journal.recorded_fills = kept
        self.store.journal.restart()
        self.jobs = self.make_jobs()
        self.mirror = self.jobs.mirror
        self.start()

    def resume(self, find: Callable[[Repository], Awaitable[IRepository | None]] | None = None) -> None:
        """
        Begin the fills again.
        """
        resuming = self.mirror.resume(find or self.find)
        self.settle()
        self.successResultOf(resuming)

    def offsets(self) -> list[int]:
        """
        The offsets from which the blob was requested.
        """
        return [body.start for body in self.registry.bodies if body.digest == self.digest]

    def test_short(self) -> None:
        """
        A short fill is not recorded.
        """
        self.clock.advance(LONG / 2)
        self.registry.finish(self.digest)
        self.settle()
        self.wait(2 * LONG)
        self.assertTrue(self.has(self.digest))
        self.assertEqual(self.store.gate.count("journal.fill"), 0)

    def test_recorded(self) -> None:
        """
        A long one is, until it ends.
        """
        self.wait(LONG)
        (fill,) = self.unfinished()
        self.assertEqual((fill.repository, fill.blob.digest, fill.begun), (self.source.name, self.digest, 0))
        self.assertEqual(fill.blob.size, len(self.data))
        self.registry.finish(self.digest)
        self.settle()
        self.assertTrue(self.has(self.digest))
        self.assertEqual(self.unfinished(), [])

    def test_failed(self) -> None:
        """
        A fill that fails is not begun again: the next client does that.
        """
        self.wait(LONG)
        self.break_upstream()
        self.registry.fail(self.digest)
        self.wait(300)
        self.assertEqual(self.unfinished(), [])

    def test_killed(self) -> None:
        """
        After a kill, the fill goes on at its offset, without a client, and under its rights.
        """
        self.wait(LONG)
        self.restart()
        self.resume()
        self.assertEqual(self.searched, [self.source.name])
        # First the upstream has to prove that it has these bytes.
        self.assertLess(self.offsets()[-1], 100_000)
        for _ in range(PARTS):
            self.registry.feed(self.digest, 5_000)
            self.settle()
        self.assertEqual(self.offsets()[-1], 100_000)
        self.assertEqual([fill.begun for fill in self.unfinished()], [1])
        self.registry.finish(self.digest)
        self.settle()
        self.assertTrue(self.has(self.digest))
        self.assertEqual(self.unfinished(), [])
        self.assertEqual(self.store.catalog.origins(self.digest), {self.source.origin})

    def test_stopped(self) -> None:
        """
        After a stop, too.
        """
        self.wait(LONG)
        self.restart(kill=False)
        self.assertEqual(len(self.unfinished()), 1)
        self.resume()
        self.registry.finish(self.digest)
        self.settle()
        self.assertTrue(self.has(self.digest))

    def test_client_comes_back(self) -> None:
        """
        A client that requests the blob meanwhile shares the fill.
        """
        self.wait(LONG)
        self.restart()
        self.resume()
        opening = self.open()
        self.registry.finish(self.digest)
        self.settle()
        self.assertEqual(self.read(self.successResultOf(opening)), self.data)
        self.assertEqual(self.offsets().count(100_000), 1)

    def test_not_wanted(self) -> None:
        """
        A fill ends with the right to it.
        """
        self.wait(LONG)
        self.restart()
        before = len(self.offsets())
        self.resume(self.gone)
        self.assertEqual((len(self.offsets()), self.unfinished()), (before, []))

    def test_here(self) -> None:
        """
        A fill whose blob has come by another way is forgotten.
        """
        self.wait(LONG)
        self.restart()
        _ = self.store.blobs.put(self.digest, self.data)
        self.settle()
        before = len(self.offsets())
        self.resume()
        self.assertEqual((len(self.offsets()), self.unfinished()), (before, []))

    def test_helper_fails(self) -> None:
        """
        Where the credentials of the daemon's user cannot be had, the fill is forgotten, and this is
        logged.
        """
        self.wait(LONG)
        self.restart()

        async def refuse(repository: Repository) -> IRepository | None:
            raise CredentialsUnavailable("the helper is missing")

        self.resume(refuse)
        self.assertEqual(self.unfinished(), [])

    def test_journal_fails(self) -> None:
        """
        A journal that cannot be read does not keep the daemon from its start.
        """
        self.wait(LONG)
        self.restart()
        self.store.gate.fail("journal.fills", StoreError("broken"))
        self.resume()
        self.assertEqual(self.searched, [])

    def test_many_deaths(self) -> None:
        """
        A fill during which the daemon dies again and again is not begun again.
        """
        self.wait(LONG)
        for number in range(MOST):
            self.restart()
            self.resume()
            self.assertEqual([fill.begun for fill in self.unfinished()], [number + 1])
        self.restart()
        before = len(self.offsets())
        self.resume()
        self.assertEqual((len(self.offsets()), self.unfinished()), (before, []))

    def test_stopped_while_finding(self) -> None:
        """
        A daemon that is stopped at its start begins no fill, and forgets none.
        """
        self.wait(LONG)
        self.restart()
        found: Deferred[IRepository | None] = Deferred()
        resuming = self.mirror.resume(lambda _: found)
        self.settle()
        before = len(self.offsets())
        self.stop(self.jobs)
        found.callback(self.source)
        self.settle()
        self.successResultOf(resuming)
        self.assertEqual((len(self.offsets()), len(self.unfinished())), (before, 1))

    def test_wrong_bytes(self) -> None:
        """
        Bytes on the disk that the upstream cannot prove to have are not used.
        """
        self.wait(LONG)
        self.restart()
        self.store.blobs.partials[self.digest] = b"?" * 100_000
        self.registry.finish(self.digest)
        self.resume()
        self.settle()
        self.assertTrue(self.has(self.digest))
        self.assertEqual(self.offsets()[-1], 0)
