# -*- test-case-name: tests.ctl.test_view -*-
"""
Tests for L{xferd.ctl.view}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.daemon import DIGEST, job, layer, transfer
from xferd.ctl.client import Event
from xferd.ctl.view import LayerView, PullView


class LayerTests(SynchronousTestCase):
    """
    Tests for L{LayerView}.
    """

    def view(self, state: str, moved: dict[str, Any] | None = None, **more: Any) -> LayerView:
        """
        A layer in a state.
        """
        return LayerView(layer(1, state, **more), transfer(1, **(moved or {})))

    def test_words(self) -> None:
        """
        States read as people say them; one that nobody knows yet is harmless.
        """
        words = [self.view(state).state for state in ("waiting", "exists", "done", "new\x1b")]
        self.assertEqual(words, ["waiting", "already exists", "complete", r"new\x1b"])

    def test_done(self) -> None:
        """
        How far a layer is depends on what is done with it.
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
        Only what downloads has a rate.
        """
        self.assertEqual(self.view("downloading").rate, 2_000_000.0)
        self.assertEqual(self.view("unpacking").rate, 0.0)
        self.assertEqual(self.view("downloading", {"rate": None}).rate, 0.0)

    def test_why(self) -> None:
        """
        The layer's own reason goes before its transfer's, which is no news
        once the layer has ended.
        """
        moved = {"why": "slot 4 of 3"}
        self.assertEqual(self.view("waiting", moved, why="its parent").why, "its parent")
        self.assertEqual(self.view("waiting", moved).why, "slot 4 of 3")
        self.assertEqual(self.view("done", moved).why, "")

    def test_sharing(self) -> None:
        """
        A transfer is shared while it runs for more than one.
        """
        self.assertEqual(self.view("downloading", {"watchers": 3}).sharing, "shared by 3")
        self.assertEqual(self.view("downloading", {"watchers": 1}).sharing, "")
        self.assertEqual(self.view("done", {"watchers": 3}).sharing, "")

    def test_sparse(self) -> None:
        """
        What the daemon does not say is nothing, not an error.
        """
        view = LayerView({}, {})
        self.assertEqual((view.name, view.state, view.total, view.attempt, view.why), ("", "", 0, 1, ""))


class PullTests(SynchronousTestCase):
    """
    Tests for L{PullView}.
    """

    def test_transfers_reach_layers(self) -> None:
        """
        A transfer is news of each layer that it brings, whichever of the two
        is heard of first.
        """
        view = PullView(job())
        self.assertEqual(view.take(Event("transfer", transfer(1), False)), [])
        (first,) = view.take(Event("layer", layer(1, "downloading"), False))
        self.assertEqual(first.rate, 2_000_000.0)
        view.take(Event("layer", layer(2, "downloading", transfer="t1"), False))
        both = view.take(Event("transfer", transfer(1, rate=5.0), False))
        self.assertEqual([(layer.index, layer.rate) for layer in both], [(1, 5.0), (2, 5.0)])
        # Both layers come out of one stream of bytes.
        self.assertEqual(view.rate, 5.0)

    def test_order(self) -> None:
        """
        Layers are in the image's order, whatever the order of the news.
        """
        view = PullView(job(layers=[layer(2), "x", layer(0)]))
        view.take(Event("layer", layer(1), False))
        self.assertEqual([layer.index for layer in view.layers], [0, 1, 2])

    def test_others(self) -> None:
        """
        Events of other kinds change nothing.
        """
        view = PullView(job())
        self.assertEqual(view.take(Event("image", {"id": "x"}, True)), [])
        self.assertEqual(view.job, job())

    def test_progress(self) -> None:
        """
        A job that is done is whole; one that counts too far is not more.
        """
        self.assertEqual(PullView(job(bytes_done=5)).done, 5)
        self.assertEqual(PullView(job("done", bytes_done=5)).done, 30_000_000)
        self.assertEqual(PullView(job(bytes_done=10**9)).done, 30_000_000)

    def test_error(self) -> None:
        """
        An error is told with its code, harmlessly.
        """
        error = {"code": "DENIED", "message": "no\x07"}
        self.assertEqual(PullView(job("failed", error=error)).error, r"no\x07 (DENIED)")
        self.assertEqual(PullView(job("failed", error={"message": "no"})).error, "no")
        self.assertEqual(PullView(job()).error, "")

    def test_pinned(self) -> None:
        """
        What was pulled is named by its digest, once.
        """
        self.assertEqual(PullView(job("done")).pinned, f"docker.io/library/alpine:latest@{DIGEST}")
        self.assertEqual(PullView(job("done", reference=f"x/y@{DIGEST}")).pinned, f"x/y@{DIGEST}")
        self.assertEqual(PullView(job()).pinned, "docker.io/library/alpine:latest")
