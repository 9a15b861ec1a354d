"""
Tests for L{xferd.jobs.kept_credentials}.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.credentials import Credentials, Secret
from xferd.jobs.kept_credentials import KeptCredentials, memory_directory

ANN = Credentials(
    "ann", Secret("pass"), Secret("identity"), Secret("registry"), origin="a file", remedy="ask"
)
BOB = Credentials("bob", Secret("other"))

MOUNTS = r"""
1 0 254:0 / / rw shared:1 - ext4 /dev/vda rw
2 1 0:20 / /run rw,nosuid shared:2 - tmpfs tmpfs rw
3 2 254:1 / /run/disk rw - ext4 /dev/vdb rw
4 1 0:21 / /with\040space rw - tmpfs tmpfs rw
"""


class KeptCredentialsTests(SynchronousTestCase):
    """
    Credentials of jobs in files.
    """

    def setUp(self) -> None:
        """
        Choose a directory.
        """
        self.path = Path(self.mktemp())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.kept = KeptCredentials(str(self.path))

    def test_kept(self) -> None:
        """
        All members of the credentials are kept, for each job alone, in place of earlier
        ones.
        """
        self.kept.keep("a1", {"r.example": BOB})
        self.kept.keep("a1", {"r.example": ANN, "s.example": BOB})
        self.kept.keep("b2", {"r.example": BOB})
        again = KeptCredentials(str(self.path))
        found = again.read("a1")
        self.assertEqual(found, {"r.example": ANN, "s.example": BOB})
        self.assertEqual((found["r.example"].origin, found["r.example"].remedy), ("a file", "ask"))
        self.assertEqual(again.read("b2"), {"r.example": BOB})
        self.assertEqual(again.read("c3"), {})

    def test_modes(self) -> None:
        """
        Only this user can read them.
        """
        before = os.umask(0)
        try:
            self.kept.keep("a1", {"r.example": ANN})
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
        (file,) = self.path.iterdir()
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)

    def test_dropped(self) -> None:
        """
        They are removed with their job, and with jobs that are unknown.
        """
        for job_id in ("a1", "b2", "c3"):
            self.kept.keep(job_id, {"r.example": ANN})
        self.path.joinpath("b2.new").write_text("half")
        self.kept.drop("c3")
        self.kept.drop("c3")
        self.kept.keep_only({"a1"})
        self.assertEqual([file.name for file in self.path.iterdir()], ["a1"])

    def test_another_directory(self) -> None:
        """
        A directory that other users can read is not used.
        """
        self.path.mkdir(mode=0o755)
        self.kept.keep("a1", {"r.example": ANN})
        self.assertEqual(list(self.path.iterdir()), [])
        self.path.joinpath("a1").write_text('{"r.example": {}}')
        self.assertEqual(self.kept.read("a1"), {})

    def test_link(self) -> None:
        """
        Neither is one that is a symbolic link.
        """
        elsewhere = Path(self.mktemp())
        elsewhere.mkdir(mode=0o700)
        self.path.symlink_to(elsewhere)
        self.kept.keep("a1", {"r.example": ANN})
        self.assertEqual(list(elsewhere.iterdir()), [])

    def test_damaged(self) -> None:
        """
        A damaged file has none.
        """
        self.kept.keep("a1", {"r.example": ANN})
        for text in ("", "[]", '{"r.example": {}}', '{"r.example": 1}'):
            self.path.joinpath("a1").write_text(text)
            self.assertEqual(self.kept.read("a1"), {})

    def test_nowhere(self) -> None:
        """
        Without a directory nothing is kept.
        """
        kept = KeptCredentials(None)
        kept.keep("a1", {"r.example": ANN})
        kept.drop("a1")
        kept.keep_only(())
        self.assertEqual(kept.read("a1"), {})


class MemoryDirectoryTests(SynchronousTestCase):
    """
    The choice of a directory in memory.
    """

    def chosen(self, *directories: str) -> str | None:
        """
        The chosen directory.
        """
        mounts = self.mktemp()
        Path(mounts).parent.mkdir(parents=True, exist_ok=True)
        Path(mounts).write_text(MOUNTS.lstrip())
        return memory_directory(directories, "x", mounts)

    def test_first(self) -> None:
        """
        It is the first one on a tmpfs; the innermost mount counts.
        """
        self.assertEqual(self.chosen("/srv/data", "/run/xferd", "/with space"), "/run/xferd/x")
        self.assertEqual(self.chosen("/run/disk/x", "/running", "/with space"), "/with space/x")

    def test_none(self) -> None:
        """
        There may be none, and the mounts may be unknown.
        """
        self.assertIsNone(self.chosen("/srv", "/run/disk"))
        self.assertIsNone(memory_directory(("/run",), "x", "/nowhere"))
