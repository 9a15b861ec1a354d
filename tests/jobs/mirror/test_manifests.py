"""
Tests for L{xferd.jobs.mirror.manifests}.
"""

from __future__ import annotations

from math import inf

from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs

from tests.jobs.case import HOST
from tests.jobs.mirror.case import APP, MirrorCase
from xferd.errors import (
    ConnectionFailed,
    Denied,
    ManifestUnknown,
    RegistryUnavailable,
    TimedOut,
    TooManyRequests,
)
from xferd.interfaces.hosts import Quota
from xferd.interfaces.mirror import TagPolicy
from xferd.platforms import Platform
from xferd.testing.images import AMD64, index_of, sample_image


class TagTests(MirrorCase):
    """
    Tags, while the upstream answers.
    """

    def test_fresh(self) -> None:
        """
        A tag that was checked a moment ago is not checked again.
        """
        for _ in range(3):
            self.assertEqual(self.found().document, self.image.manifest)
            self.wait(19)
        self.assertEqual(self.asked(), (0, 1))

    def test_checked(self) -> None:
        """
        An older one is checked by HEAD, which is fresh again if it is the same.
        """
        self.found()
        self.wait(60)
        for _ in range(2):
            self.assertEqual(self.found().warnings, ())
        self.assertEqual(self.asked(), (1, 1))
        self.wait(60)
        self.found()
        self.assertEqual(self.asked(), (2, 1))

    def test_moved(self) -> None:
        """
        A tag that has moved is fetched, and its old manifest stays, by digest.
        """
        self.found()
        self.wait(60)
        other = self.add(sample_image(2))
        self.assertEqual(self.found().document, other.manifest)
        self.assertEqual(self.asked(), (1, 2))
        self.assertEqual(self.found(str(self.image.digest)).document, self.image.manifest)
        self.assertEqual(self.asked(self.image.digest), (0, 0))

    def test_shared(self) -> None:
        """
        Clients that ask at the same time share a check, and a fetch.
        """
        for checks in (0, 1):
            self.registry.gate.hold("manifest")
            self.registry.gate.hold("resolve")
            asking = [self.ask(client=f"c{n}") for n in range(8)]
            self.registry.gate.release("manifest")
            self.registry.gate.release("resolve")
            self.settle()
            for each in asking:
                self.assertEqual(self.successResultOf(each).document, self.image.manifest)
            self.assertEqual(self.asked(), (checks, 1))
            self.wait(60)

    def test_left(self) -> None:
        """
        A client that leaves does not end the question of the others, and the answer
        is kept.
        """
        self.registry.gate.hold("manifest")
        asking = self.ask()
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.registry.gate.release("manifest")
        self.settle()
        self.found()
        self.assertEqual(self.asked(), (0, 1))

    def test_unknown(self) -> None:
        """
        What the upstream does not have is not asked for again for some seconds.
        """
        for _ in range(3):
            self.failureResultOf(self.ask("none"), ManifestUnknown)
            self.wait(4)
        self.assertEqual(self.asked("none"), (0, 1))
        self.wait(4)
        self.failureResultOf(self.ask("none"), ManifestUnknown)
        self.assertEqual(self.asked("none"), (0, 2))

    def test_lines(self) -> None:
        """
        An upstream that does not have a tag has not failed: that is no warning.  The journal
        keeps the attempts of jobs, and has none of these.
        """
        with capturedLogs() as events:
            self.failureResultOf(self.ask("none"), ManifestUnknown)
            self.registry.gate.fail("manifest", Denied("no", host=HOST, status=401))
            self.failureResultOf(self.ask("other"), Denied)
            self.found()
        failed = [each for each in events if each.get("event") == "attempt-failed"]
        self.assertEqual(
            [(each["code"], each["log_level"].name) for each in failed],
            [("MANIFEST_UNKNOWN", "debug"), ("DENIED", "warn")],
        )
        self.assertEqual(self.store.journal.recorded_attempts, [])

    def test_refusals_not_remembered(self) -> None:
        """
        A refusal concerns one request.
        """
        self.registry.gate.fail("manifest", Denied("no", host=HOST, status=401))
        self.failureResultOf(self.ask(), Denied)
        self.assertEqual(self.found().document, self.image.manifest)

    def test_bounded(self) -> None:
        """
        A client gets an error within ten seconds, and at once if there is no
        connection.
        """
        self.registry.gate.hold("manifest")
        asking = self.ask()
        self.wait(9.5)
        self.assertNoResult(asking)
        self.wait(0.5)
        self.failureResultOf(asking, TimedOut)
        self.registry.gate.release("manifest")
        self.registry.gate.fail("manifest", ConnectionFailed("refused", host=HOST), times=2)
        asking = self.ask()
        self.wait(0.5)
        self.failureResultOf(asking, ConnectionFailed)

    def test_ratelimit_asked_once(self) -> None:
        """
        Where the rate limit is reached, nothing more is asked.
        """
        self.registry.gate.fail("manifest", TooManyRequests("slow down", host=HOST, status=429))
        asking = self.ask()
        self.wait(1)
        self.failureResultOf(asking, TooManyRequests)
        self.assertEqual(self.asked(), (0, 1))

    def test_never_seen_digest(self) -> None:
        """
        A manifest is fetched by its digest, though no tag was requested before, and
        then never again.
        """
        for _ in range(2):
            self.assertEqual(self.found(str(self.image.digest)).document, self.image.manifest)
            self.clock.advance(1000)
        self.assertEqual(self.asked(self.image.digest), (1, 1))


class ForeverTests(MirrorCase):
    """
    Tags that never move.
    """

    policy = TagPolicy(patterns=(("lat*", inf),))

    def test_not_checked(self) -> None:
        """
        Such a tag is not checked again.
        """
        self.fill()
        self.wait(100)
        self.assertEqual(self.found().document, self.image.manifest)
        self.assertEqual(self.asked(), (0, 1))


class StaleTests(MirrorCase):
    """
    Tags, while the upstream does not answer.
    """

    def setUp(self) -> None:
        """
        Have the image in the store, and an old check.
        """
        super().setUp()
        self.fill()
        self.wait(61)

    def test_down(self) -> None:
        """
        Without an upstream the tag is served as it was, with a warning, also in
        the hour after.
        """
        self.break_upstream()
        for _ in range(2):
            asking = self.ask()
            self.wait(1)
            found = self.successResultOf(asking)
            self.assertEqual(found.document, self.image.manifest)
            (warning,) = found.warnings
            self.assertIn(f"{APP}:latest is as it was 1 minute ago: its registry does not answer", warning)

    def test_error(self) -> None:
        """
        The same holds for its errors, and for its rate limit.
        """
        for error in (
            RegistryUnavailable("500", host=HOST, status=500),
            TooManyRequests("429", host=HOST, status=429),
        ):
            self.registry.gate.fail("resolve", error, times=2)
            asking = self.ask()
            self.wait(1)
            self.assertEqual(len(self.successResultOf(asking).warnings), 1)
            self.registry.gate.mend()

    def test_slow(self) -> None:
        """
        A client waits two seconds for the check, which goes on: the next client
        profits.
        """
        other = self.add(sample_image(2))
        self.registry.gate.hold("resolve")
        asking = self.ask()
        self.wait(1.75)
        self.assertNoResult(asking)
        self.wait(0.25)
        self.assertEqual(self.successResultOf(asking).document, self.image.manifest)
        self.registry.gate.release("resolve")
        self.settle()
        self.assertEqual(self.found().document, other.manifest)
        self.assertEqual(self.asked(), (1, 2))

    def test_slow_and_incomplete(self) -> None:
        """
        Where the client needs the upstream for the blobs, it waits for longer.
        """
        del self.store.blobs.contents[self.image.layers[0].blob.digest]
        for wanted in ("latest", str(self.image.digest)):
            self.registry.gate.hold("resolve")
            asking = self.ask(wanted)
            self.wait(5)
            self.assertNoResult(asking)
            self.registry.gate.release("resolve")
            self.settle()
            self.assertEqual(self.successResultOf(asking).warnings, ())
            self.wait(61)

    def test_too_old(self) -> None:
        """
        After a month the tag is not served any more; by digest the manifest is.
        """
        self.break_upstream()
        self.wall_clock.set(self.wall_clock() + 31 * 86400)
        asking = self.ask()
        self.wait(1)
        self.failureResultOf(asking, ConnectionFailed)
        self.assertEqual(self.found(str(self.image.digest)).document, self.image.manifest)

    def test_incomplete(self) -> None:
        """
        A manifest is not served if its blobs cannot be had, by tag or by digest.
        """
        self.break_upstream()
        del self.store.blobs.contents[self.image.layers[0].blob.digest]
        for wanted in ("latest", str(self.image.digest)):
            asking = self.ask(wanted)
            self.wait(1)
            self.failureResultOf(asking, ConnectionFailed)

    def test_incomplete_and_answering(self) -> None:
        """
        If the upstream answers, it is served.
        """
        del self.store.blobs.contents[self.image.layers[0].blob.digest]
        self.assertEqual(self.found(str(self.image.digest)).document, self.image.manifest)
        self.assertEqual(self.asked(self.image.digest), (1, 0))

    def test_gone(self) -> None:
        """
        A tag that the upstream no longer has is served with a warning.
        """
        self.registry.gate.fail("resolve", ManifestUnknown("gone", host=HOST, status=404))
        for _ in range(2):
            (warning,) = self.found().warnings
            self.assertIn("does not have it", warning)
        self.assertEqual(self.asked(), (1, 1))


class HostsTests(MirrorCase):
    """
    What is known of an upstream decides whether it is asked.
    """

    def setUp(self) -> None:
        """
        Have the image in the store, and an old check.
        """
        super().setUp()
        self.fill()
        self.wait(61)

    def test_quota_low(self) -> None:
        """
        While few requests are left, tags are not checked: what the quota is for is
        new content.
        """
        self.hosts.answered(HOST, None, Quota(1, 100, 21600.0))
        (warning,) = self.found().warnings
        self.assertIn("rate limit", warning)
        self.assertEqual(self.asked(), (0, 1))
        other = self.add(sample_image(2), tag="new")
        self.assertEqual(self.found("new").document, other.manifest)

    def test_paused(self) -> None:
        """
        While the upstream wants a pause, nothing is asked.
        """
        self.registry.gate.fail("resolve", TooManyRequests("slow down", host=HOST, retry_after=30.0))
        for _ in range(3):
            self.assertEqual(len(self.found().warnings), 1)
        self.assertEqual(self.asked(), (1, 1))
        error = self.failureResultOf(self.ask("new"), TooManyRequests).value
        self.assertAlmostEqual(error.retry_after, 30.0, 0)
        self.wait(31)
        self.assertEqual(self.found().warnings, ())

    def test_down(self) -> None:
        """
        If it failed a moment ago, tags are served at once, and what is not here
        fails soon.
        """
        self.hosts.unreachable(HOST, ConnectionFailed("refused"))
        self.assertEqual(len(self.found().warnings), 1)
        self.assertEqual(self.asked(), (0, 1))
        self.registry.gate.hold("manifest")
        asking = self.ask("new")
        self.wait(2)
        self.failureResultOf(asking, TimedOut)
        self.registry.gate.release("manifest")


class DropTests(MirrorCase):
    """
    An upstream whose removals count here.
    """

    policy = TagPolicy(keep_gone=False)

    def test_dropped(self) -> None:
        """
        A tag that the upstream no longer has is removed; the manifest stays.
        """
        self.fill()
        self.wait(61)
        self.registry.gate.fail("resolve", ManifestUnknown("gone", host=HOST, status=404))
        for _ in range(2):
            self.failureResultOf(self.ask(), ManifestUnknown)
        self.assertEqual(self.store.catalog.tags(APP), [])
        self.assertEqual(self.found(str(self.image.digest)).document, self.image.manifest)


class IndexTests(MirrorCase):
    """
    Indexes.
    """

    def test_one_platform(self) -> None:
        """
        Without an upstream, an index is served if one of its images is here.
        """
        other = sample_image(2)
        index = index_of({AMD64: self.image, Platform("linux", "arm64"): other})
        self.registry.add(index, "app", "many")
        self.found("many")
        self.found(str(self.image.digest))
        self.break_upstream()
        self.wait(61)
        asking = self.ask("many")
        self.wait(1)
        self.failureResultOf(asking, ConnectionFailed)
        self.registry.gate.mend()
        self.fill()
        self.break_upstream()
        self.wait(61)
        asking = self.ask("many")
        self.wait(1)
        self.assertEqual(self.successResultOf(asking).document, index.document)


class JobsImagesTests(MirrorCase):
    """
    Images that jobs pulled, for a client that may have them.
    """

    images = True

    def setUp(self) -> None:
        """
        Pull the image.
        """
        super().setUp()
        self.pulled()

    def test_down(self) -> None:
        """
        They are served under their names if the upstream is down: by tag with a
        warning, and by digest.
        """
        self.wait(61)
        self.break_upstream()
        asking = self.ask()
        self.wait(1)
        found = self.successResultOf(asking)
        self.assertEqual(found.document, self.image.manifest)
        self.assertEqual(len(found.warnings), 1)
        self.assertEqual(self.found(str(self.image.digest)).document, self.image.manifest)
        self.assertEqual(self.store.catalog.repositories(), [])

    def test_old(self) -> None:
        """
        They are served as long as they have their names.
        """
        self.wall_clock.set(self.wall_clock() + 100 * 86400)
        self.break_upstream()
        asking = self.ask()
        self.wait(1)
        (warning,) = self.successResultOf(asking).warnings
        self.assertIn("100 days ago", warning)

    def test_refused(self) -> None:
        """
        They are served if the upstream does not give them to anybody, also where a tag
        that it no longer has is removed.
        """
        self.policy = TagPolicy(keep_gone=False)
        for error in (Denied, ManifestUnknown):
            self.wait(61)
            self.registry.gate.fail("resolve", error("no", host=HOST))
            found = self.found()
            self.assertEqual((found.document, len(found.warnings)), (self.image.manifest, 1))

    def test_checked(self) -> None:
        """
        If it answers, it decides what the name stands for; nothing is fetched
        twice.
        """
        self.assertEqual(self.found().document, self.image.manifest)
        self.assertEqual(self.asked(), (1, 1))
        self.assertEqual(self.store.catalog.tags(APP), ["latest"])
        other = self.add(sample_image(2))
        self.wait(61)
        self.assertEqual(self.found().document, other.manifest)


class PrivateImagesTests(MirrorCase):
    """
    Images that jobs pulled, for a client that may have what the upstream gives to
    anybody: they may be private.
    """

    def setUp(self) -> None:
        """
        Pull the image.
        """
        super().setUp()
        self.pulled()

    def test_upstream_decides(self) -> None:
        """
        The upstream is requested, by digest and by tag, and its refusal counts.
        """
        for wanted in (str(self.image.digest), "latest"):
            self.registry.gate.fail("manifest", Denied("no", host=self.registry.host))
            self.failureResultOf(self.ask(wanted), Denied)
            self.registry.gate.mend()
            self.assertEqual(self.found(wanted).document, self.image.manifest)

    def test_down(self) -> None:
        """
        Without an answer, they are not served.
        """
        self.break_upstream()
        for wanted in ("latest", str(self.image.digest)):
            asking = self.ask(wanted)
            self.wait(1)
            self.failureResultOf(asking, ConnectionFailed)
