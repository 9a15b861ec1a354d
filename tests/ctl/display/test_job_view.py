# -*- test-case-name: tests.ctl.display.test_job_view -*-
"""
Tests for L{xferd.ctl.display.job_view}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.fake_daemon import DIGEST, job, layer, transfer
from xferd.ctl.api import Event
from xferd.ctl.display.job_view import JobView, RowView


class RowTests(SynchronousTestCase):
    """
    Tests for L{RowView}.
    """

    def view(self, state: str, moved: dict[str, Any] | None = None, **more: Any) -> RowView:
        """
        A layer of a pull in a state.
        """
        return RowView(layer(1, state, **more), transfer(1, **(moved or {})))

    def test_words(self) -> None:
        """
        States have words; an unknown one is escaped.
        """
        words = [self.view(state).state for state in ("waiting", "exists", "done", "new\x1b")]
        self.assertEqual(words, ["waiting", "already exists", "complete", r"new\x1b"])

    def test_sending_words(self) -> None:
        """
        The states of a blob that is sent have other words.
        """
        states = ("waiting", "uploading", "mounted", "exists", "done", "failed")
        words = [RowView(layer(1, state), {}, "push").state for state in states]
        self.assertEqual(words, ["waiting", "uploading", "mounted", "already there", "done", "failed"])

    def test_sending(self) -> None:
        """
        A blob that is sent has the progress of its bytes; a mounted one is complete and has no
        rate.
        """
        uploading = self.view("uploading", bytes_done=3_000_000)
        self.assertEqual((uploading.done, uploading.rate, uploading.ended), (3_000_000, 2_000_000.0, False))
        mounted = self.view("mounted")
        self.assertEqual((mounted.done, mounted.rate, mounted.ended), (10_000_000, 0.0, True))

    def test_ended(self) -> None:
        """
        A failed or cancelled row has ended, but is not in place.
        """
        for state, ended, in_place in [
            ("done", True, True),
            ("exists", True, True),
            ("failed", True, False),
            ("cancelled", True, False),
            ("registering", False, False),
        ]:
            view = self.view(state)
            self.assertEqual((view.ended, view.in_place), (ended, in_place), state)

    def test_done(self) -> None:
        """
        A layer's progress depends on its state.
        """
        more: dict[str, Any] = {"bytes_done": 7_000_000, "unpacked": 2_000_000}
        done = {
            state: self.view(state, **more).done
            for state in ("downloading", "unpacking", "registering", "exists")
        }
        self.assertEqual(
            done,
            {
                "downloading": 7_000_000,
                "unpacking": 2_000_000,
                "registering": 10_000_000,
                "exists": 10_000_000,
            },
        )

    def test_rate(self) -> None:
        """
        Only a downloading layer has a rate.
        """
        self.assertEqual(self.view("downloading").rate, 2_000_000.0)
        self.assertEqual(self.view("unpacking").rate, 0.0)
        self.assertEqual(self.view("downloading", {"rate": None}).rate, 0.0)

    def test_why(self) -> None:
        """
        The layer's reason precedes its transfer's, which does not count once the layer has
        ended.
        """
        moved = {"why": "slot 4 of 3"}
        self.assertEqual(self.view("waiting", moved, why="its parent").why, "its parent")
        self.assertEqual(self.view("waiting", moved).why, "slot 4 of 3")
        self.assertEqual(self.view("done", moved).why, "")

    def test_sharing(self) -> None:
        """
        A running transfer is shared if it has several watchers.
        """
        self.assertEqual(self.view("downloading", {"watchers": 3}).sharing, "shared by 3")
        self.assertEqual(self.view("downloading", {"watchers": 1}).sharing, "")
        self.assertEqual(self.view("done", {"watchers": 3}).sharing, "")

    def test_sparse(self) -> None:
        """
        A missing member is no error.
        """
        view = RowView({}, {})
        self.assertEqual((view.name, view.state, view.total, view.attempt, view.why), ("", "", 0, 1, ""))


class JobTests(SynchronousTestCase):
    """
    Tests for L{JobView}.
    """

    def test_transfers_reach_layers(self) -> None:
        """
        A transfer changes each of its layers, whichever event arrives first.
        """
        view = JobView(job())
        self.assertEqual(view.update(Event("transfer", transfer(1), False)), [])
        (first,) = view.update(Event("layer", layer(1, "downloading"), False))
        self.assertEqual(first.rate, 2_000_000.0)
        view.update(Event("layer", layer(2, "downloading", transfer="t1"), False))
        both = view.update(Event("transfer", transfer(1, rate=5.0), False))
        self.assertEqual([(layer.index, layer.rate) for layer in both], [(1, 5.0), (2, 5.0)])
        # Both layers come out of one stream of bytes.
        self.assertEqual(view.rate, 5.0)

    def test_order(self) -> None:
        """
        Layers are in the image's order, in any order of events.
        """
        view = JobView(job(layers=[layer(2), "x", layer(0)]))
        view.update(Event("layer", layer(1), False))
        self.assertEqual([layer.index for layer in view.rows], [0, 1, 2])

    def test_others(self) -> None:
        """
        Events of other kinds change nothing.
        """
        view = JobView(job())
        self.assertEqual(view.update(Event("image", {"id": "x"}, True)), [])
        self.assertEqual(view.job, job())

    def test_progress(self) -> None:
        """
        A job that is done is complete; progress never exceeds the total.
        """
        self.assertEqual(JobView(job(bytes_done=5)).done, 5)
        self.assertEqual(JobView(job("done", bytes_done=5)).done, 30_000_000)
        self.assertEqual(JobView(job(bytes_done=10**9)).done, 30_000_000)

    def test_error(self) -> None:
        """
        An error is shown with its code, escaped.
        """
        error = {"code": "DENIED", "message": "no\x07"}
        self.assertEqual(JobView(job("failed", error=error)).error, r"no\x07 (DENIED)")
        self.assertEqual(JobView(job("failed", error={"message": "no"})).error, "no")
        self.assertEqual(JobView(job()).error, "")

    def test_pinned(self) -> None:
        """
        The result has its digest, once.
        """
        self.assertEqual(JobView(job("done")).pinned, f"docker.io/library/alpine:latest@{DIGEST}")
        self.assertEqual(JobView(job("done", reference=f"x/y@{DIGEST}")).pinned, f"x/y@{DIGEST}")
        self.assertEqual(JobView(job()).pinned, "docker.io/library/alpine:latest")

    def test_title(self) -> None:
        """
        The title has the destination if it differs from the name.
        """
        name = "docker.io/library/alpine:latest"
        self.assertEqual(JobView(job()).title, name)
        self.assertEqual(JobView(job(kind="push", target=name)).title, name)
        view = JobView(job(kind="push", target="quay.io/me/a:1\x07"))
        self.assertEqual(view.title, rf"{name} -> quay.io/me/a:1\x07")

    def test_target(self) -> None:
        """
        The result of a push is the target with its digest, once, also if the target has a
        digest.
        """
        sent = job("done", kind="copy", target="quay.io/me/a:1")
        self.assertEqual(JobView(sent).pinned, f"quay.io/me/a:1@{DIGEST}")
        back = job("done", kind="push", reference=f"x/y@{DIGEST}", target=f"x/y@{DIGEST}")
        self.assertEqual(JobView(back).pinned, f"x/y@{DIGEST}")

    def test_sent(self) -> None:
        """
        A blob that was sent counts once.
        """
        rows = [layer(0, "exists"), layer(1, "mounted"), layer(2, "done"), layer(3, "uploading")]
        again = {**layer(2, "done"), "index": 4}
        view = JobView(job(kind="copy", layers=[*rows, again]))
        self.assertEqual((view.noun, view.sent), ("blob", 10_000_000))
        self.assertEqual(JobView(job()).noun, "layer")
