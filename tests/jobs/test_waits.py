"""
Tests for L{xferd.jobs.waits}: why jobs wait, in words, as data, in events and in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from tests.jobs.case import HOST, JobsCase
from xferd.errors import DiskFull, TooManyRequests
from xferd.interfaces.job_json import REASONS
from xferd.interfaces.jobs import Event
from xferd.json_encoding import rfc3339
from xferd.store.disk.free_space import LEAST
from xferd.testing.images import sample_image
from xferd.transfer.reason import Obstacle

SLOW_DOWN = TooManyRequests("slow down", host=HOST, status=429, retry_after=40)
STALLED = f"no bytes for 5 s from {HOST}"


class WaitsTests(JobsCase):
    """
    Pulls that wait.
    """

    downloads = 1

    def reason(self, job_id: str) -> Mapping[str, Any]:
        """
        The reason of a job that waits.
        """
        reason = self.job(job_id)["reason"]
        self.assertIsNotNone(reason, self.job(job_id))
        self.assertIn(reason["what"], REASONS)
        return dict(reason)

    def wait_logged(self, seconds: float) -> list[str]:
        """
        Let some time pass.

        @return: what the log says of waits meanwhile.
        """
        with capturedLogs() as events:
            self.wait(seconds)
        return [line for line in map(formatEvent, events) if " waits: " in line]

    def test_rate_limit_before_manifest(self) -> None:
        """
        A pull whose manifest is refused for a while has the reason from the beginning: in
        words, as data, in its events and in the log.
        """
        self.add(sample_image(1))
        self.registry.gate.fail("manifest", SLOW_DOWN)
        began = self.wall_clock()
        job_id = self.pull()
        stream = self.jobs.events(job_id)
        self.settle()
        got: Deferred[list[Event]] = stream.get()
        self.settle()
        said = "trying again in 40 s: slow down"
        reason = {
            "what": "back-off",
            "whom": HOST,
            "since": rfc3339(began),
            "until": rfc3339(began + 40),
            "place": None,
        }
        job = self.job(job_id)
        self.assertEqual((job["why"], job["reason"], job["until"]), (said, reason, reason["until"]))
        event = self.successResultOf(got)[-1].data
        self.assertEqual((event["why"], event["reason"]), (said, reason))
        (document,) = self.jobs.transfers()
        self.assertEqual((document["why"], document["reason"]), (said, reason))
        stream.close()
        waits = self.jobs.figures().job_waits
        self.assertEqual((set(waits), waits["back-off"], waits["token"]), (set(REASONS), (1, 0.0), (0, 0.0)))
        lines = self.wait_logged(8)
        self.assertEqual(self.jobs.figures().job_waits["back-off"], (1, 8.0))
        since = f"(since {rfc3339(began)})"
        self.assertEqual(
            lines, [f"pull of {HOST}/app:latest for ci waits: trying again in 37 s: slow down {since}"]
        )
        self.wait(34)
        self.assert_done(job_id)
        self.assertEqual((self.job(job_id)["why"], self.job(job_id)["reason"]), ("", None))

    def test_mute_before_manifest(self) -> None:
        """
        A registry that does not answer is the reason after three seconds, with the time since
        the request.
        """
        self.add(sample_image(1))
        self.registry.gate.hold("manifest")
        began = self.wall_clock()
        job_id = self.pull()
        self.settle()
        self.wait(2)
        self.assertEqual(self.job(job_id)["why"], "")
        self.wait(3)
        self.assertEqual(self.job(job_id)["why"], f"no answer for 5 s from {HOST}")
        self.assertEqual(
            (self.reason(job_id)["what"], self.reason(job_id)["since"]), ("silence", rfc3339(began))
        )
        self.registry.gate.release("manifest")
        self.settle()
        self.assert_done(job_id)

    def test_stalled(self) -> None:
        """
        A job whose only running layer stalls has that reason; one of whose layers moves has
        none.
        """
        image = self.add(sample_image(2, size=50_000))
        first = image.layers[0].blob.digest
        self.registry.stall(first)
        job_id = self.pull()
        self.settle()
        self.registry.feed(first, 10)
        self.wait(1)
        self.assertEqual((self.job(job_id)["why"], self.job(job_id)["reason"]), ("", None))
        lines = self.wait_logged(5)
        layers = self.job(job_id)["layers"]
        self.assertEqual(
            [layer["why"] for layer in layers], [STALLED, "waiting for a download slot, 1st in line"]
        )
        self.assertEqual(self.job(job_id)["why"], STALLED)
        self.assertEqual(layers[1]["reason"]["place"], 1)
        self.assertEqual(self.transfer("download", first)["rate"], 0)
        self.assertRegex("\n".join(lines), f"pull of .* for ci waits: no bytes for [0-9] s from {HOST}")
        self.assertIn(
            f"pull of {HOST}/app:latest for ci waits: waiting for a download slot, 1st in line (since ",
            "\n".join(lines),
        )
        self.registry.feed(first, 10)
        self.settle()
        self.wait(0.5)
        self.assertEqual(self.job(job_id)["why"], "")
        self.registry.finish(first)
        self.settle()
        self.assert_done(job_id)

    def test_told_of_silence(self) -> None:
        """
        A stream of events gets the silence of a transfer, though nothing happens; then no
        further event.
        """
        image = self.add(sample_image(1, size=50_000))
        digest = image.layers[0].blob.digest
        self.registry.stall(digest)
        job_id = self.pull()
        self.settle()
        self.registry.feed(digest, 10)
        stream = self.jobs.events(job_id)
        self.wait(2)
        _ = stream.get()
        self.wait(4)
        got: Deferred[list[Event]] = stream.get()
        self.settle()
        events = {(e.kind, e.data.get("kind")): e.data for e in self.successResultOf(got)}
        for key in (("job", "pull"), ("layer", None), ("transfer", "download")):
            self.assertRegex(events[key]["why"], f"^no bytes for [0-9] s from {HOST}$", key)
        self.assertEqual(events["transfer", "unpacking"]["why"], "waiting for its download")
        quiet = stream.get()
        self.wait(10)
        self.assertNoResult(quiet)
        stream.close()

    def test_own_work(self) -> None:
        """
        What the work of a job waits for itself is its reason, until that is over.
        """
        self.add(sample_image(1))
        self.store.gate.fail("images.put", DiskFull("no space is left"))
        self.store.blobs.free = LEAST // 2
        job_id = self.pull()
        self.wait(1)
        self.assertIn("is full", self.job(job_id)["why"])
        self.assertEqual((self.reason(job_id)["what"], self.reason(job_id)["whom"]), ("disk", ""))
        self.store.blobs.free = LEAST
        self.wait(3)
        self.assert_done(job_id)

    def test_cancelled(self) -> None:
        """
        A job that is cancelled while it waits has no reason any more, and leaves nothing.
        """
        self.add(sample_image(1))
        self.registry.gate.fail("manifest", SLOW_DOWN)
        job_id = self.pull()
        self.wait(1)
        self.jobs.cancel(job_id)
        self.settle()
        job = self.job(job_id)
        self.assertEqual((job["state"], job["why"], job["reason"]), ("cancelled", "", None))
        self.assert_idle()

    def test_reasons(self) -> None:
        """
        Each obstacle is a reason of the API by the same name, except C{NONE} and C{FAILURE}.
        """
        values = {each.value for each in Obstacle} - {"none", "failure"}
        self.assertEqual(values - set(REASONS), set())
