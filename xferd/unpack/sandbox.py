# -*- test-case-name: tests.unpack.test_sandbox -*-
"""
The sandbox of a layer's process: it drops every right that writing a tree does
not need.

The tree becomes its root directory, in a mount namespace of its own where no
device can be opened and no program executed; network and IPC namespaces come
from the worker.  Of root's capabilities, it keeps those that creating files
needs, and cannot regain others.  Where the kernel refuses the mount namespace,
C{chroot} changes the root directory and Landlock limits access to files.
After the threads have started, L{Sandbox.seal} allows few system calls.  A
measure that the kernel refuses is reported; unpacking continues without it.

Code from a layer must never run (moby GHSA-x86f-5xw2-fm2r, CVE-2019-14271: a
helper and a library out of the image), so Python cannot import anything after
L{enter}.

Imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from struct import pack
from typing import Final

from attrs import define

from xferd.unpack import landlock, seccomp
from xferd.unpack.rights import AS_ROOT, IN_NAMESPACE, Rights

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

_KEPT: Final = {Rights.NONE: 0, Rights.NAMESPACE: IN_NAMESPACE, Rights.ROOT: AS_ROOT}
"""The capabilities that a process keeps."""

_SETPCAP: Final = 1 << 8
"""Needed only to empty the bounding set."""

_NEWNS, _NEWIPC, _NEWNET = 0x00020000, 0x08000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 2, 4, 8, 32
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19
_MNT_DETACH = 2

MEMORY: Final = 1536 * 1024 * 1024
"""Bytes of a process's address space: enough for a zstd window of 128 MiB and 512 MiB of directories."""

OOM_SCORE: Final = 900
"""Of 1000: when memory is short, the kernel kills a layer's process before the daemon."""

_RECURSION = 10_000
"""Frames of recursion: enough for the components of the longest path."""

_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(parent: int) -> None:
    """
    Have the kernel kill this process when its parent ends.

    @param parent: the parent's process ID.
    """
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


@define
class Sandbox:
    """
    The sandbox of this process.

    @ivar missing: the reason for each measure of L{MEASURES} that is not in
        force.
    """

    missing: dict[str, str]

    def seal(self) -> None:
        """
        Refuse new processes and all system calls that unpacking does not make,
        irrevocably.  All threads have started.
        """
        with _recording(self.missing, "limits"):
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        with _recording(self.missing, "seccomp"):
            seccomp.install()


MEASURES: Final = (
    "limits",
    "oom_score",
    "network",
    "ipc",
    "mounts",
    "bounding_set",
    "capabilities",
    "landlock",
    "seccomp",
)
"""The measures that a kernel may refuse."""


def leave_network() -> dict[str, str]:
    """
    Move this process and its children to empty network and IPC namespaces.

    @return: as L{Sandbox.missing}.
    """
    missing: dict[str, str] = {}
    for measure, flag in (("network", _NEWNET), ("ipc", _NEWIPC)):
        with _recording(missing, measure):
            _call("unshare", flag)
    return missing


def enter(root: int, rights: Rights, size: int) -> Sandbox:
    """
    Make a directory this process's working directory and, where possible, its
    root, and drop rights, irrevocably.

    @param root: the directory's descriptor; from here on its number refers to
        the directory inside the sandbox.
    @param rights: what this process keeps of its rights.
    @param size: bytes of the largest file, at most.
    """
    missing: dict[str, str] = {}
    os.umask(0)
    sys.setrecursionlimit(_RECURSION)
    with _recording(missing, "limits"):
        _limit(size)
    with _recording(missing, "oom_score"), open("/proc/self/oom_score_adj", "wb", buffering=0) as score:
        score.write(b"%d" % OOM_SCORE)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with _recording(missing, "mounts"):
        _make_root(root)
    os.fchdir(root)
    if "mounts" in missing and rights is Rights.ROOT:
        os.chroot(b".")
    with _recording(missing, "bounding_set"):
        _empty_bounding_set()
    with _recording(missing, "capabilities"):
        _keep_capabilities(_KEPT[rights])
    if "mounts" in missing:
        with _recording(missing, "landlock"):
            landlock.restrict(root)
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    return Sandbox(missing)


@contextmanager
def _recording(missing: dict[str, str], measure: str) -> Iterator[None]:
    """
    Record a measure that the kernel refuses.
    """
    try:
        yield
    except OSError as e:
        missing[measure] = e.strerror or str(e)
    except ValueError as e:  # resource's
        missing[measure] = str(e)


def _limit(size: int) -> None:
    """
    Limit memory and file sizes, and disable core dumps.
    """
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (least, least))


def _make_root(root: int) -> None:
    """
    Make a directory the root of a mount namespace of its own, without any other
    mount.

    @param root: its descriptor, which refers to the new mount afterwards.  The
        old one would allow leaving by C{..}.
    """
    # The working directory moves into the namespace; descriptors do not.
    os.fchdir(root)
    _call("unshare", _NEWNS)
    # Unmounts propagate from the machine to here, and nothing propagates back.
    _call("mount", None, b"/", None, _MS_REC | _MS_SLAVE, None)
    _call("mount", b".", b".", None, _MS_BIND, None)
    # Only a path reaches the new mount; the descriptor is below it.
    os.chdir(os.readlink(f"/proc/self/fd/{root}"))
    mounted = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not os.path.samestat(os.fstat(mounted), os.fstat(root)):
            raise OSError(errno.ESTALE, "the tree was moved")
        _call("mount", None, b".", None, _MS_REMOUNT | _MS_BIND | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)
        os.dup2(mounted, root, inheritable=False)
        _call("pivot_root", b".", b".")
        _call("umount2", b".", _MNT_DETACH)
    finally:
        os.close(mounted)


def _empty_bounding_set() -> None:
    """
    Prevent regaining a capability, also by executing a program.
    """
    capability = 0
    while _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        if _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0):
            _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1


def _keep_capabilities(kept: int) -> None:
    """
    Keep these capabilities only.
    """
    header = pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    _call("capset", header, pack("=6I", low, low, 0, high, high, 0))


def _call(name: str, *arguments: int | bytes | None) -> None:
    """
    Call a function of the C library that returns 0 or sets C{errno}.
    """
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
