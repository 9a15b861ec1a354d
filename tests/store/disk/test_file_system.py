"""
Tests for L{xferd.store.disk.file_system}.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import resource
import stat
import tempfile
from collections.abc import Callable
from threading import Event
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from xferd.errors import DiskFull, StoreError
from xferd.store.disk import file_system
from xferd.store.disk.file_system import (
    FileSystemFlush,
    flushed,
    make_directory,
    move,
    remove,
    trying_to,
    write_file,
)


def become_nobody(case: SynchronousTestCase) -> str:
    """
    Do without the rights of root until the test ends.

    @return: a directory where there are enough left.
    """
    directory = tempfile.mkdtemp()
    case.addCleanup(remove, directory, Event())
    if os.geteuid() == 0:
        os.chown(directory, 65534, 65534)
        os.seteuid(65534)
        case.addCleanup(os.seteuid, 0)
    return directory


def nest(path: str, name: str, depth: int) -> None:
    """
    Make directories within each other.
    """
    fd = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


class Recorder:
    """
    Writes down the order in which functions of L{os} are called.
    """

    def __init__(self, case: SynchronousTestCase, *names: str) -> None:
        self.calls: list[str] = []
        for name in names:
            case.patch(os, name, self._recording(name, getattr(os, name)))

    def _recording(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kw: Any) -> Any:
            result = real(*args, **kw)
            if name == "fsync":
                kind = "directory" if os.path.isdir(f"/proc/self/fd/{args[0]}") else "file"
                self.calls.append(f"fsync {kind}")
            else:
                self.calls.append(name)
            return result

        return call


class WriteTests(SynchronousTestCase):
    """
    Files that are there whole or not at all.
    """

    def setUp(self) -> None:
        """
        Make a directory to write in.
        """
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "name")

    def test_order(self) -> None:
        """
        The bytes are on the disk before the name is given, and the name
        before the call returns.
        """
        recorder = Recorder(self, "fsync", "rename")
        write_file(self.path, b"data", self.directory)
        self.assertEqual(recorder.calls, ["fsync file", "rename", "fsync directory"])
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), b"data")
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

    def test_failure_leaves_nothing(self) -> None:
        """
        A write that fails leaves the old file, and no other.
        """
        write_file(self.path, b"old", self.directory)

        def full(_fd: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(os, "fsync", full)
        self.assertRaises(OSError, write_file, self.path, b"new", self.directory)
        self.assertEqual(os.listdir(self.directory), ["name"])
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), b"old")

    def test_failure_after_the_rename(self) -> None:
        """
        A directory that cannot be synchronised is an error as well.
        """

        fsync = os.fsync

        def refuse(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EIO, "Input/output error")
            fsync(fd)

        self.patch(os, "fsync", refuse)
        self.assertRaises(OSError, write_file, self.path, b"new", self.directory)
        self.assertEqual(os.listdir(self.directory), ["name"])

    def test_move(self) -> None:
        """
        A rename is followed by the flush of the directory it goes to.
        """
        write_file(self.path, b"data", self.directory)
        recorder = Recorder(self, "fsync", "rename")
        move(self.path, self.path + "2")
        self.assertEqual(recorder.calls, ["rename", "fsync directory"])

    def test_make_directory(self) -> None:
        """
        A new directory gets its mode independent of the umask; an existing one
        is unchanged.
        """
        self.addCleanup(os.umask, os.umask(0o077))
        make_directory(self.path, 0o755)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o755)
        os.chmod(self.path, 0o711)
        make_directory(self.path, 0o755)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o711)

    def test_make_directory_over_a_file(self) -> None:
        """
        A file in the way is an error.
        """
        write_file(self.path, b"", self.directory)
        self.assertRaises(NotADirectoryError, make_directory, self.path, 0o755)

    def refuse_flushes(self) -> None:
        """
        Let each flush of the file system fail.
        """

        def refuse(fd: int) -> int:
            os.fstat(fd)
            return -1

        self.patch(file_system, "_syncfs", refuse)
        self.patch(ctypes, "get_errno", lambda: errno.EIO)

    def test_flushed(self) -> None:
        """
        The file system of any path is flushed after a block, by a descriptor that was opened
        before it, and a failure is reported.
        """
        files = os.listdir("/proc/self/fd")
        with flushed(self.directory):
            paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            opened = [os.readlink(path) for path in paths if os.path.exists(path)]
            self.assertIn(os.path.abspath(self.directory), opened)
        self.assertRaises(FileNotFoundError, flushed(self.path).__enter__)
        self.refuse_flushes()
        with self.assertRaises(OSError) as raised, flushed(self.directory):
            pass
        self.assertEqual(raised.exception.errno, errno.EIO)
        with self.assertRaises(ValueError), flushed(self.directory):
            raise ValueError("not flushed")
        self.assertEqual(os.listdir("/proc/self/fd"), files)

    def test_flushes_leave_nothing(self) -> None:
        """
        A flush makes no library, whose functions would be garbage in a circle.
        """

        def libraries() -> int:
            return sum(type(each) is ctypes.CDLL for each in gc.get_objects())

        gc.disable()
        self.addCleanup(gc.enable)
        before = libraries()
        with flushed(self.directory):
            pass
        self.assertEqual(libraries(), before)

    def test_file_system_flush(self) -> None:
        """
        A flush that fails concerns all who began before it, and none who begin later.
        """
        files = os.listdir("/proc/self/fd")
        disk = FileSystemFlush(self.directory)
        disk.open()
        disk.flush()
        disk.check(disk.failures)
        known = disk.failures
        self.refuse_flushes()
        disk.flush()
        for _ in range(2):
            error = self.assertRaises(OSError, disk.check, known)
            self.assertEqual((error.errno, error.strerror), (errno.EIO, os.strerror(errno.EIO)))
        disk.check(disk.failures)
        disk.close()
        disk.close()
        self.assertEqual(os.listdir("/proc/self/fd"), files)


class TryingTests(SynchronousTestCase):
    """
    Errors of the file system in one sentence.
    """

    def refused(self, number: int) -> StoreError:
        """
        The errors of the store for an errno.
        """
        with self.assertRaises(StoreError) as caught, trying_to("write x"):
            raise OSError(number, os.strerror(number))
        error = caught.exception
        assert isinstance(error, StoreError)
        return error

    def test_full(self) -> None:
        """
        A full disk and an exhausted quota are the same to the operator.
        """
        for number in (errno.ENOSPC, errno.EDQUOT):
            error = self.refused(number)
            self.assertIsInstance(error, DiskFull)
            self.assertEqual(
                str(error), "cannot write x: no space is left; free some on that disk and try again"
            )

    def test_other(self) -> None:
        """
        Any other error has the system's message, and keeps the cause.
        """
        error = self.refused(errno.EROFS)
        self.assertEqual(str(error), "cannot write x: Read-only file system")
        self.assertIsInstance(error.__cause__, OSError)


class RemoveTests(SynchronousTestCase):
    """
    Trees are removed, whatever their content.
    """

    def setUp(self) -> None:
        """
        Think of a path.
        """
        self.path = self.mktemp()

    def test_kinds(self) -> None:
        """
        A file, a link and nothing at all are removed; what a link leads to
        stays.
        """
        os.makedirs(os.path.join(self.path, "kept"))
        link = os.path.join(self.path, "link")
        os.symlink("kept", link)
        remove(link, Event())
        remove(link, Event())
        self.assertEqual(os.listdir(self.path), ["kept"])
        os.symlink(os.path.abspath(self.path), os.path.join(self.path, "kept", "up"))
        os.mkfifo(os.path.join(self.path, "kept", "fifo"))
        remove(os.path.join(self.path, "kept"), Event())
        self.assertEqual(os.listdir(self.path), [])

    def test_longer_than_a_path_may_be(self) -> None:
        """
        A tree is removed whose paths the system would not take.
        """
        os.mkdir(self.path)
        nest(self.path, "n" * 200, 30)
        remove(self.path, Event())
        self.assertFalse(os.path.exists(self.path))

    def test_deeper_than_calls_may_be(self) -> None:
        """
        A tree of thousands of directories within each other is removed, with few descriptors.
        """
        os.makedirs(os.path.join(self.path, "beside"))
        nest(self.path, "n", 3000)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 200, before[1]))
        remove(self.path, Event())
        self.assertFalse(os.path.exists(self.path))

    def test_many_entries(self) -> None:
        """
        Directories with more entries than are in memory at once are removed, too.
        """
        self.patch(file_system, "_BATCH", 3)
        for name in ("a", "b", "c", "d"):
            os.makedirs(os.path.join(self.path, name, "inner"))
            for number in range(10):
                os.symlink("x", os.path.join(self.path, name, str(number)))
        remove(self.path, Event())
        self.assertFalse(os.path.exists(self.path))

    def test_stop(self) -> None:
        """
        When the daemon stops, the rest is left where it is.
        """
        os.makedirs(os.path.join(self.path, "a", "b"))
        stop = Event()
        stop.set()
        remove(self.path, stop)
        self.assertTrue(os.path.isdir(os.path.join(self.path, "a", "b")))

    def test_stop_inside(self) -> None:
        """
        A removal that is stopped deep in a tree leaves the directories above.
        """
        os.makedirs(os.path.join(self.path, "a", "b"))

        class Later(Event):
            asked = 0

            def is_set(self) -> bool:
                self.asked += 1
                return self.asked > 1

        remove(self.path, Later())
        self.assertTrue(os.path.isdir(os.path.join(self.path, "a", "b")))

    def test_closed_directories(self) -> None:
        """
        Without the rights of root, directories that their mode closes are
        opened first.
        """
        directory = become_nobody(self)
        if os.geteuid() == 0:
            raise SkipTest("cannot do without the rights of root")
        inner = os.path.join(directory, "closed", "inner")
        os.makedirs(inner)
        os.chmod(inner, 0)
        os.chmod(os.path.join(directory, "closed"), 0o500)
        remove(os.path.join(directory, "closed"), Event())
        self.assertEqual(os.listdir(directory), [])
