"""
The lives of daemons that are recorded: C{python -m tests.store.power_cut.life LIFE PATH}.

Each step that is done is written to stdout, which the recording has in its place among
the other system calls.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.store.conformance.journal import job
from tests.store.support import fetch, layer_descriptor, one_life, plant
from tests.store.test_crash import LARGE, PART, PARTS, WANTED, life, migrate, parts, pushes, tidy_life
from xferd.interfaces.journal import UnfinishedFill
from xferd.interfaces.webhooks import Delivery
from xferd.names import Digest, Repository
from xferd.store.store import Store

IMPORTED: Final = PARTS, b"a small layer"
"""Layers of an archive."""

PAUSE: Final = "pause/all"
SETTINGS: Final[Mapping[str, Any]] = {PAUSE: {"by": "ops"}, "limits": {"downloads": 2}}
"""Settings that are kept."""

FILL: Final = UnfinishedFill(Repository("r.example", "app"), layer_descriptor(b"mirrored"), 1)
"""A download for clients of the mirror."""


def heal(path: str, say: Any) -> None:
    """
    A blob and a tree of an image are found damaged and replaced; then there is no other tree.

    @param say: called with each step that is done.
    """
    blob, diff_id = WANTED.blobs[0], WANTED.diff_ids[0]

    async def live(store: Store) -> None:
        await store.integrity.quarantine_blob(Digest.of(blob))
        say("blob quarantined")
        await fetch(store, blob)
        say("blob fetched")
        await store.integrity.condemn_tree(diff_id)
        say("tree condemned")
        await plant(store, blob)
        parent = None
        for each in WANTED.blobs:
            layer = await store.layers.register(parent, Digest.of(each), layer_descriptor(each))
            parent = layer.chain_id
        say("tree renewed")
        await store.integrity.condemn_tree(diff_id)
        say("tree condemned again")
        await store.integrity.quarantine_tree(diff_id)
        say("tree quarantined")

    one_life(path, live)


def marked(path: str, say: Any) -> None:
    """
    A blob that arrives in three attempts, each with enough bytes for a mark.

    @param say: called with each step that is done.
    """

    async def live(store: Store) -> None:
        for size in (300_000, 600_000):
            blob = await store.blobs.partial(Digest.of(LARGE), len(LARGE))
            for offset in range(blob.offset, size, 100_000):
                blob.write(LARGE[offset : offset + 100_000])
            blob.close()
        await fetch(store, LARGE)
        say(f"blob {Digest.of(LARGE)}")

    one_life(path, live)


def imports(path: str, say: Any) -> None:
    """
    Blobs of an archive, which arrive without a digest, and one that is given up.

    @param say: called with each step that is done.
    """

    async def live(store: Store) -> None:
        for data in IMPORTED:
            blob = await store.blobs.anonymous()
            for start in range(0, len(data), PART):
                blob.write(data[start : start + PART])
            say(f"blob {await blob.commit()}")
        blob = await store.blobs.anonymous()
        blob.write(b"given up")
        blob.close()

    one_life(path, live)


def records(path: str, say: Any) -> None:
    """
    Records of the journal beside jobs: what is paused, limits, the messages of webhooks, and
    downloads for clients of the mirror.

    @param say: called with each step that is done.
    """

    async def live(store: Store) -> None:
        journal = store.journal
        journal.announce = lambda record: [Delivery(f"{record['id']}-a", "a", 5.0, 0, 7.0, "body")]
        for name, value in SETTINGS.items():
            await journal.record_setting(name, value)
            say(f"setting {name}")
        await journal.record_job(job(1))
        await journal.record_job(job(1, "done"))
        say("delivery job-1-a")
        recorded = journal.record_fill(FILL)
        await journal.flush()
        await recorded
        say("fill")
        await journal.record_setting(PAUSE, None)
        say("resumed")

    one_life(path, live)


LIVES: Final[Mapping[str, Callable[[str, Any], None]]] = {
    "life": life,
    "tidy_life": tidy_life,
    "parts": parts,
    "marked": marked,
    "pushes": pushes,
    "migrate": migrate,
    "heal": heal,
    "imports": imports,
    "records": records,
}
"""The lives, by name."""

if __name__ == "__main__":
    os.umask(0o022)
    LIVES[sys.argv[1]](sys.argv[2], lambda done: os.write(1, f"{done}\n".encode()))
