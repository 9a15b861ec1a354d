"""
Tests for L{xferd.jobs.reasons}.
"""

from __future__ import annotations

from tests.transfer.case import EngineTests, SlotWork
from xferd.jobs.reasons import describe, explain
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.reason import NO_REASON, PLACES, Obstacle, Reason
from xferd.transfer.slots import Slots

WORDS = {
    NO_REASON: "",
    Reason(Obstacle.DISK, detail="the disk is full"): "the disk is full",
    Reason(Obstacle.PAUSE, 12, "one.example"): "one.example asked to wait 12 s",
    Reason(Obstacle.INTERVAL, 9, "one.example"): (
        "one.example permits few more requests; the next one is made in 9 s"
    ),
    Reason(Obstacle.HOST_LIMIT, 1, "one.example"): "one.example has its 1 download slot in use",
    Reason(Obstacle.HOST_LIMIT, 2, "one.example"): "one.example has its 2 download slots in use",
    Reason(Obstacle.THIN_LINE, 2, "one.example"): "more than 2 at once are too slow at one.example",
    Reason(Obstacle.QUEUE, 1): "waiting for a download slot, 1st in line",
    Reason(Obstacle.QUEUE, 2): "waiting for a download slot, 2nd in line",
    Reason(Obstacle.QUEUE, 3): "waiting for a download slot, 3rd in line",
    Reason(Obstacle.QUEUE, 11): "waiting for a download slot, 11th in line",
    Reason(Obstacle.QUEUE, 22): "waiting for a download slot, 22nd in line",
    Reason(Obstacle.QUEUE, PLACES): "waiting for a download slot, 100th in line",
    Reason(Obstacle.QUEUE, PLACES + 1): "waiting for a download slot, behind 100 others or more",
    Reason(Obstacle.LENT, 3): "in a further slot, as others hold all 3",
    Reason(Obstacle.SLOW): "under a tenth of its fair share for 30 s; it keeps no others waiting",
    Reason(Obstacle.DISCARDED, detail="some bytes were wrong"): "some bytes were wrong",
    Reason(Obstacle.BANDWIDTH, detail="global"): "slowed by the download limit",
    Reason(Obstacle.BANDWIDTH, detail="host r.example"): "slowed by the download limit of r.example",
    Reason(Obstacle.BANDWIDTH, detail="client ci"): "slowed by the download limit of client ci",
    Reason(Obstacle.BANDWIDTH, detail="job f00d"): "slowed by the download limit of job f00d",
    Reason(Obstacle.BACK_OFF, 5, "cut"): "trying again in 5 s: cut",
    Reason(Obstacle.DOWNLOAD): "waiting for its download",
    Reason(Obstacle.UNPACKING): "waiting for its bytes to be unpacked",
    Reason(Obstacle.PARENT): "waiting for the parent layer",
    Reason(Obstacle.TOKEN, detail="one.example"): "waiting for a token for one.example",
    Reason(
        Obstacle.HELPER, detail="docker-credential-x"
    ): "waiting for the credential helper docker-credential-x",
    Reason(Obstacle.CONFIRMATION, detail="one.example"): (
        "waiting for one.example to confirm that it has the blob"
    ),
    Reason(Obstacle.MOUNT, detail="one.example"): (
        "waiting for one.example to mount the blob from another repository"
    ),
    Reason(Obstacle.SILENCE, 12, "one.example"): "no bytes for 12 s from one.example",
    Reason(Obstacle.SILENCE, 5): "no bytes for 5 s",
    Reason(Obstacle.WORKER): "waiting for a free unpacking worker",
    Reason(Obstacle.WRITING): "waiting for the disk to write it",
    Reason(Obstacle.PAUSED, detail="everything is paused by root"): "everything is paused by root",
    Reason(Obstacle.WORK, detail="waiting for rain"): "waiting for rain",
    Reason(Obstacle.CLIENT, detail="ci"): "waiting for its client to send more of the archive",
    Reason(Obstacle.MEMORY): "waiting for memory for manifests: other copies use it",
    Reason(Obstacle.FILE_DESCRIPTORS): "waiting for file descriptors: all are in use",
    Reason(Obstacle.PREDECESSOR): "waiting for its predecessor's work to end",
    Reason(Obstacle.CANCELLATION): "waiting for its work to end",
    Reason(Obstacle.FAILURE, detail="no access"): "no access",
}


class ReasonsTests(EngineTests):
    """
    Every reason has a text.
    """

    def test_words(self) -> None:
        """
        Each obstacle is described with its number and its detail.
        """
        self.assertEqual({reason.obstacle for reason in WORDS}, set(Obstacle))
        for reason, words in WORDS.items():
            self.assertEqual(describe(reason, "download"), words)

    def test_silence(self) -> None:
        """
        The text of silence names what is missing, by the kind of the transfer.
        """
        reason = Reason(Obstacle.SILENCE, 4, "one.example")
        for kind, words in {
            "upload": "no bytes for 4 s to one.example",
            "document": "no answer for 4 s from one.example",
            "unpacking": "no bytes unpacked for 4 s",
        }.items():
            self.assertEqual(describe(reason, kind), words)

    def test_nouns(self) -> None:
        """
        The text names the kind of a slot.
        """
        reason = Reason(Obstacle.QUEUE, 1)
        for kind, small, noun in (
            ("upload", False, "an upload slot"),
            ("upload", True, "a small upload slot"),
            ("unpacking", False, "an unpacking worker"),
            ("document", False, "a slot"),
        ):
            self.assertEqual(describe(reason, kind, small=small), f"waiting for {noun}, 1st in line")

    def test_snapshot(self) -> None:
        """
        A snapshot has the words for the transfer's own slots.
        """
        self.manager = TransferManager(
            self.clock,
            wall_clock=self.clock.seconds,
            slots=self.slots,
            small=Slots(1, self.clock),
            small_size=10,
            retry=self.policy,
            kind="download",
        )
        work = SlotWork()
        watchers = [
            self.manager.request(size, work, digest="", size=size, turn=Turn("client", 0, 0, 0))
            for size in (9, 8)
        ]
        self.turn()
        self.assertEqual(
            [explain(watcher.transfer).why for watcher in watchers],
            ["", "waiting for a small download slot, 1st in line"],
        )
