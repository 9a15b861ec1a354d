# -*- test-case-name: tests.ctl.image.test_unpack -*-
"""
Mounting layers on top of one another, with Linux's overlayfs.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from xferd.ctl.errors import ClientError
from xferd.unpack.flatten import copy_folder, is_kept
from xferd.unpack.overlay_merge import overlay_xattr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MS_RDONLY = 1
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_MOST_LAYERS: Final = 500
"""Of overlayfs."""

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class CannotMount(ClientError):
    """
    The layers cannot be mounted.
    """


def check_mountable(trees: Sequence[str]) -> None:
    """
    Make sure that it is worth trying.

    @param trees: the layers' trees, bottom first.
    @raise CannotMount: it is not.
    """
    if os.geteuid() != 0:
        raise CannotMount("only root can mount; without --mount the layers are copied")
    if not 0 < len(trees) <= _MOST_LAYERS:
        raise CannotMount(
            f"the image has {len(trees)} layers, and between 1 and {_MOST_LAYERS} can be mounted; "
            "without --mount they are copied"
        )
    if any(is_kept(tree) for tree in trees):
        raise CannotMount(
            "the layers belong to a daemon without root, which keeps owners beside the files; "
            "without --mount they are copied, with their owners"
        )


def mount(
    trees: Sequence[str], target: str, changes: str | None, chain_id: object = None, *, name: str = ""
) -> None:
    """
    Mount layers.

    @param trees: the layers' trees, bottom first.
    @param target: an empty directory.
    @param chain_id: what the top layer is registered as, if that is known: the
        list of mounts shows it, so that the daemon knows what not to collect.
    @param changes: an empty directory for what is changed, which must not be
        on an overlayfs itself; or L{None} to let nothing be changed.
    @param name: what errors call C{target}, where it is the path of a descriptor.
    @raise CannotMount: the kernel does not.
    @raise OSError: C{changes} cannot be written to.
    """
    layers = _visible(trees)[::-1]
    if changes is not None:
        for name in ("upper", "work"):
            os.mkdir(os.path.join(changes, name), 0o700)
        # The root of what is mounted is this one.
        copy_folder(trees[-1], os.path.join(changes, "upper"))
    elif len(layers) == 1:
        # One layer alone makes no overlay; an empty directory below it changes nothing.
        layers.append(target)
    opened: list[int] = []
    try:
        # All names together have to fit into a page of memory; a descriptor's number is a short name.
        opened.extend(os.open(path, _DIRECTORY) for path in layers)
        options = f"lowerdir={':'.join(map(str, opened))}"
        if changes is not None:
            for option, name in (("upperdir", "upper"), ("workdir", "work")):
                opened.append(os.open(os.path.join(changes, name), _DIRECTORY))
                options += f",{option}={opened[-1]}"
        source = b"overlay" if chain_id is None else f"xferd:{chain_id}".encode()
        flags = _MS_RDONLY if changes is None else 0
        place = os.fsencode(os.path.abspath(target))
        with _working_directory("/proc/self/fd"):
            code = _call("mount", source, place, b"overlay", flags, options.encode())
    finally:
        for descriptor in opened:
            os.close(descriptor)
    if code:
        raise CannotMount(
            f"the kernel does not mount the layers at {name or target}: {os.strerror(code)}; "
            "its log (dmesg) may say more, and without --mount they are copied"
        )


def _visible(trees: Sequence[str]) -> list[str]:
    """
    The trees of which something shows: the kernel does not look whether a
    root is opaque.

    @param trees: bottom first.
    """
    for number in range(len(trees) - 1, 0, -1):
        root = os.open(trees[number], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if overlay_xattr(root, "opaque") == b"y":
                return list(trees[number:])
        finally:
            os.close(root)
    return list(trees)


def unmount(target: str) -> None:
    """
    Take a mount away, whoever uses it; if there is none, do nothing.
    """
    _call("umount2", os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW)


def _call(name: str, *arguments: int | bytes) -> int:
    """
    Call a function of the C library.

    @return: the number of its error, or 0.
    """
    # Most runs of xferctl have no need for it.
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if getattr(libc, name)(*arguments) == 0 else ctypes.get_errno()


@contextmanager
def _working_directory(path: str) -> Iterator[None]:
    """
    Be in a directory for a moment.
    """
    before = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(path)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
