"""
Tests for L{xferd.unpack.layer_process}.
"""

from __future__ import annotations

import io
import os
import shutil
from hashlib import sha256
from typing import Any

from tests.unpack.layer_case import TAR, LayerCase
from tests.unpack.tars import (
    END,
    IS_ROOT,
    file,
    folder,
    gzipped,
    listing,
)
from xferd.errors import StoreError
from xferd.unpack import inflate, layer_process, protocol
from xferd.unpack.layer_process import Abandoned, GrowingBlob
from xferd.unpack.rights import Rights


class GrowingTests(LayerCase):
    """
    Tests for L{GrowingBlob}.
    """

    def growing(self, *lines: bytes) -> GrowingBlob:
        """
        Make a blob with these messages.
        """
        self.said: list[tuple[str, dict[str, Any]]] = []
        return GrowingBlob(
            io.BytesIO(b"".join(lines)), lambda line: self.said.append(protocol.decode(line.rstrip()))
        )

    def test_reads_as_far_as_told(self) -> None:
        """
        It never reads further than permitted, reports when it is hungry, and
        ends when the blob is sealed and all is read.
        """
        self.write(b"0123456789")
        source = self.growing(self.grown(4, False), self.grown(6, False), self.grown(6, True))
        source.open()
        room = memoryview(bytearray(10))
        self.assertEqual(source.readinto(room[:3]), 3)
        self.assertEqual(source.readinto(room[3:]), 1)
        self.assertEqual(self.said, [])
        self.assertEqual(source.readinto(room[4:]), 2)
        self.assertEqual(self.said, [("hungry", {"consumed": 4})])
        self.assertEqual(source.readinto(room[6:]), 0)
        self.assertEqual(source.readinto(room[6:]), 0)
        self.assertEqual(bytes(room[:7]), b"012345\0")
        self.assertEqual(len(self.said), 2)

    def test_renamed(self) -> None:
        """
        A partial file that was renamed before it was opened is found by the
        path in the seal; one that was opened stays open.
        """
        source = self.growing(self.grown(4, False, self.blob + ".partial"), self.sealed())
        source.open()
        self.assertEqual(self.said, [("hungry", {"consumed": 0})])
        os.unlink(self.blob)
        self.assertEqual(source.readinto(memoryview(bytearray(4))), 4)

    def test_gone(self) -> None:
        """
        A sealed blob that is missing, or shorter than announced, is an error
        of the store.
        """
        self.assertRaises(StoreError, self.growing(self.grown(4, True, "/nowhere")).open)
        source = self.growing(self.grown(40_000, True))
        source.open()
        while source.readinto(memoryview(bytearray(40_000))) == 40_000:
            self.fail("more than there is")
        self.assertRaises(StoreError, source.readinto, memoryview(bytearray(4)))

    def test_abandoned(self) -> None:
        """
        The work ends with the end of the messages.
        """
        self.assertRaises(Abandoned, self.growing().open)
        source = self.growing(self.grown(0, False), b"grown {half a li")
        source.open()
        self.assertRaises(Abandoned, source.readinto, memoryview(bytearray(4)))


class _Open:
    """
    No sandbox.
    """

    def seal(self) -> None:
        """
        See L{layer_process.Confined.seal}.
        """


class RunTests(LayerCase):
    """
    Tests for L{layer_process.run}, within this process and so without a sandbox.
    """

    def run_layer(self, *lines: bytes, **changes: Any) -> list[tuple[str, dict[str, Any]]]:
        """
        Run a layer's process and return its messages.
        """
        said: list[tuple[str, dict[str, Any]]] = []

        def confine(root: int, rights: Rights, size: int) -> _Open:
            self.addCleanup(os.umask, os.umask(0))
            self.assertEqual(
                (rights, size),
                (
                    Rights.ROOT if IS_ROOT else Rights.NONE,
                    max(self.task(**changes)["limits"]["size"], 1 << 30),
                ),
            )
            return _Open()

        layer_process.run(
            self.task(**changes),
            io.BytesIO(b"".join(lines)),
            lambda line: said.append(protocol.decode(line.rstrip())),
            confine,
        )
        return said

    def test_result(self) -> None:
        """
        The tree is written, and the facts are reported.
        """
        said = self.run_layer(self.sealed())
        facts = {
            "diff_id": f"sha256:{sha256(TAR).hexdigest()}",
            "tar_size": len(TAR),
            "size": 11,
            "entries": 3,
            "owners": {"users": [0], "groups": [0], "complete": True},
        }
        self.assertEqual(said, [("implied", {"paths": [".", "e"]}), ("result", facts)])
        self.assertEqual(sorted(listing(self.staged)), ["d", "d/f", "e", "e/g"])

    def test_bytes_behind_the_end(self) -> None:
        """
        Bytes after the tar's end are part of its digest, and the result waits
        for the seal.
        """
        whole = TAR + os.urandom(3000)
        self.write(gzipped(whole))
        size = os.path.getsize(self.blob)
        said = self.run_layer(self.grown(100, False), self.grown(size, False), self.sealed())
        self.assertEqual([verb for verb, _ in said], ["hungry", "hungry", "implied", "result"])
        self.assertEqual(said[-1][1]["diff_id"], f"sha256:{sha256(whole).hexdigest()}")

    def test_many_implied(self) -> None:
        """
        Implied directories are reported in as many lines as necessary, with
        their bytes unchanged.
        """
        self.patch(layer_process, "_IMPLIED", 50)
        names = [b"\xff%d" % n * 5 for n in range(20)]
        self.write(b"".join(file(name + b"/f") for name in names) + END)
        said = self.run_layer(self.sealed())
        batches = [body["paths"] for verb, body in said if verb == "implied"]
        self.assertGreater(len(batches), 5)
        found = {path.encode("latin-1") for batch in batches for path in batch}
        self.assertEqual(found, {b".", *names})

    def test_progress_at_the_end(self) -> None:
        """
        Progress is reported for the directories too, which get their
        attributes when all entries have been read.
        """
        self.patch(layer_process, "_PROGRESS", 0.0)
        self.write(b"".join(folder(b"d%d/" % n) for n in range(50)) + END)
        said = self.run_layer(self.sealed())
        ends = [verb for verb, body in said if verb == "progress" and body["entries"] == 50]
        self.assertGreaterEqual(len(ends), 50)

    def test_progress(self) -> None:
        """
        Progress is reported while the blob is read.
        """
        self.patch(layer_process, "_PROGRESS", 0.0)
        self.patch(inflate, "BUFFER_SIZE", 512)
        said = self.run_layer(self.sealed())
        self.assertEqual(said[0], ("progress", {"consumed": os.path.getsize(self.blob), "entries": 0}))
        self.assertGreater([body["entries"] for verb, body in said if verb == "progress"][-1], 1)

    def test_errors(self) -> None:
        """
        Errors of the layer, of the disk and of xferd are reported by their
        codes.
        """

        def code(*lines: bytes, **changes: Any) -> str:
            [(verb, body)] = self.run_layer(*lines, **changes)
            self.assertEqual(verb, "error")
            self.assertTrue(body["message"])
            found: str = body["code"]
            return found

        self.assertEqual(code(self.sealed(), entries=1), "LAYER_INVALID")
        self.assertEqual(code(self.sealed(), size=1024), "LAYER_INVALID")
        self.write(b"no tar" * 1000)
        self.assertEqual(code(self.sealed()), "LAYER_INVALID")
        self.assertEqual(code(self.grown(1, True, "/nowhere")), "STORE_FAILED")
        self.assertEqual(code(self.grown(1, True, self.folder)), "STORE_FAILED")
        shutil.rmtree(self.staged)
        self.assertEqual(code(self.sealed()), "STORE_FAILED")
        os.symlink(self.folder, self.staged)
        self.assertEqual(code(self.sealed()), "STORE_FAILED")
        os.unlink(self.staged)
        os.mkdir(self.staged)

    def test_bug(self) -> None:
        """
        A bug is reported as one, with its place on standard error.
        """
        out, into = os.pipe()
        self.addCleanup(os.close, out)
        real = os.write
        self.patch(os, "write", lambda fd, data: real(into if fd == 2 else fd, data))
        self.patch(layer_process, "TreeWriter", lambda *_: 1 // 0)
        [(verb, body)] = self.run_layer(self.sealed())
        os.close(into)
        self.assertEqual((verb, body["code"]), ("error", "WORKER_LOST"))
        self.assertIn("internal error; see the daemon's log", body["message"])
        logged = os.read(out, 10_000)
        self.assertIn(b"layer_process.py:", logged)
        self.assertIn(b"ZeroDivisionError", logged)

    def test_abandoned(self) -> None:
        """
        After the end of the messages, nothing is reported.
        """
        self.assertEqual(self.run_layer(self.grown(50, False)), [("hungry", {"consumed": 50})])

    def test_memory(self) -> None:
        """
        A layer for which the memory of its process does not do is invalid.
        """
        said: list[bytes] = []

        def confine(root: int, rights: Rights, size: int) -> _Open:
            raise MemoryError

        layer_process.run(self.task(), io.BytesIO(self.sealed()), said.append, confine)
        self.assertEqual(
            [protocol.decode(line) for line in said],
            [
                (
                    "error",
                    {
                        "code": "LAYER_INVALID",
                        "message": "the layer takes more than 1610612736 bytes of memory to unpack",
                    },
                )
            ],
        )

    def test_inherited_modes(self) -> None:
        """
        Group and setgid bit of the staging directory do not spread.
        """
        if not IS_ROOT:
            self.skipTest("only root gives directories away")
        os.chown(self.staged, 7, 8)
        os.chmod(self.staged, 0o2700)
        self.run_layer(self.sealed())
        for name in ("", "d", "e/g"):
            info = os.stat(os.path.join(self.staged, name))
            self.assertEqual((info.st_uid, info.st_gid, info.st_mode & 0o7000), (0, 0, 0))
