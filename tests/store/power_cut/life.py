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

from tests.store.support import fetch, layer_descriptor, one_life, plant
from tests.store.test_crash import LARGE, WANTED, life, migrate, parts, pushes, tidy_life
from xferd.names import Digest
from xferd.store.store import Store


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


LIVES: Final[Mapping[str, Callable[[str, Any], None]]] = {
    "life": life,
    "tidy_life": tidy_life,
    "parts": parts,
    "marked": marked,
    "pushes": pushes,
    "migrate": migrate,
    "heal": heal,
}
"""The lives, by name."""

if __name__ == "__main__":
    os.umask(0o022)
    LIVES[sys.argv[1]](sys.argv[2], lambda done: os.write(1, f"{done}\n".encode()))
