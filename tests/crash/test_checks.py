"""
Tests for the checks of C{tests.crash} and of L{tests.soak}: each finds what it is for.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random
from typing import Any, cast

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.crash.site import Wrong
from tests.crash.store_check import StoreCheck
from tests.crash.traffic import lives, moved_twice
from tests.soak import SLACK, WARM_UP, Sample, Soak
from tests.store.support import StoreTestCase, pull, sample
from xferd.testing.answers import Exchange

IMAGE = sample("alpine", b"bottom", b"top")


class StoreCheckTests(StoreTestCase):
    """
    A store with one image.
    """

    def setUp(self) -> None:
        """
        Pull it.
        """
        super().setUp()
        self.run_now(pull(self.store, IMAGE))
        self.data = Path(self.path)
        self.check = StoreCheck(self.data)

    def assert_found(self, *parts: str) -> None:
        """
        As many problems are found, with these words.
        """
        problems = self.check.problems()
        self.assertEqual(len(problems), len(parts), problems)
        for problem, part in zip(problems, parts, strict=True):
            self.assertIn(part, problem)

    def test_whole(self) -> None:
        """
        The store is whole, and nothing is left over.
        """
        for tree in self.data.glob("trees/sha256/*"):
            (tree / "entries").touch()
        self.assert_found()
        self.assertEqual(self.check.names(), {str(IMAGE.image.reference)})
        self.assertEqual(self.check.left_over(), [])
        (self.data / "staging" / "x").touch()
        self.assertEqual(self.check.left_over(), [str(self.data / "staging/x")])

    def test_damaged(self) -> None:
        """
        A changed blob, a missing one, a missing tree and a missing parent are found.
        """
        for tree in self.data.glob("trees/sha256/*"):
            (tree / "entries").touch()
        self.assert_found()
        blob = self.data / "content/blobs/sha256" / IMAGE.image.layers[0].digest.hex
        right = blob.read_bytes()
        os.chmod(blob, 0o600)
        blob.write_bytes(b"x" * len(right))
        self.assert_found("differs from its digest")
        blob.unlink()
        self.assert_found(f"lacks blob sha256:{blob.name}")
        blob.write_bytes(right)
        assert IMAGE.image.chain_id is not None
        top = self.store.layers.get(IMAGE.image.chain_id)
        assert top is not None and top.parent is not None
        shutil.rmtree(self.data / "trees/sha256" / IMAGE.diff_ids[1].hex)
        self.assert_found("has no whole tree")
        (self.data / "layers/sha256" / top.parent.hex).unlink()
        self.assert_found("has no whole tree", "has no parent")
        (self.data / "layers/sha256" / top.chain_id.hex).unlink()
        self.assert_found("lacks layer")


def get(blob: str, size: int, asked: str | None = None) -> Exchange:
    """
    An answer with bytes of a blob.
    """
    return Exchange("GET", f"/v2/app/blobs/{blob}", asked, status=206, bytes_sent=size)


class MovedTwiceTests(SynchronousTestCase):
    """
    Bytes that are sent again after a kill.
    """

    def test_counted(self) -> None:
        """
        They count for the last kill of a daemon that got bytes of the blob; what one daemon was sent
        behind the beginning of a later stream does not count.
        """
        lives = [
            [get("a", 100), get("b", 100)],
            [get("b", 50, "bytes=90-")],
            [get("a", 50, "bytes=70-"), get("b", 10, "bytes=140-149")],
        ]
        self.assertEqual(moved_twice(lives), [40, 0])
        self.assertEqual(
            moved_twice([[get("a", 100), get("a", 9, "bytes=60-")], [get("a", 40, "bytes=69-")]]), [0]
        )

    def test_documents(self) -> None:
        """
        A config does not count.
        """
        log = [[get("a", 100), get("c", 50)], [get("a", 100), get("c", 50)]]
        self.assertEqual(moved_twice(log), [150])
        self.assertEqual(moved_twice(log, {"c"}), [100])

    def test_too_late(self) -> None:
        """
        The answers to requests that were under way at a kill are no daemon's: the next daemon, which
        is killed before it requests anything, was not sent them.
        """
        late = [get("a", 100), get("b", 100)]
        fetched = [get("a", 100), get("b", 100)]
        log = [*late, *fetched]
        self.assertEqual(moved_twice(lives([([], 2), (late, 2)], log)), [0, 0])
        # Those that were sent before the kill count.
        self.assertEqual(moved_twice(lives([(late[:1], 2), (late, 2)], log)), [100, 0])


class SoakTests(SynchronousTestCase):
    """
    The judgement of a soak.
    """

    def judge(self, name: str, growth: int) -> None:
        """
        Judge samples one of whose values grows.
        """
        soak = Soak(cast(Any, None), Random(0), cast(Any, None), cast(Any, None))
        first = Sample(90_000, 30, 16, 2, 0, 4000, 100)
        count = WARM_UP + 9
        soak.samples = [evolve(first, **{name: getattr(first, name) + growth * n}) for n in range(count)]
        soak.judge()

    def test_grows(self) -> None:
        """
        Whatever grows is found, and what stays the same is not.
        """
        for name, slack in SLACK.items():
            self.judge(name, 0)
            self.assertRaises(Wrong, self.judge, name, slack // 6 + 1)
        self.judge("journal", 0)
        self.assertRaises(Wrong, self.judge, "journal", 1000)
