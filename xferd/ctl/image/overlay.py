# -*- test-case-name: tests.ctl.image.test_overlay -*-
"""
Mounting layers with Linux's overlayfs.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from xferd.ctl.errors import ClientError
from xferd.unpack.flatten import copy_root_metadata, is_unprivileged
from xferd.unpack.overlay_merge import overlay_xattr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MS_RDONLY = 1
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_MOST_LAYERS: Final = 500
"""The limit of overlayfs."""

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class CannotMount(ClientError):
    """
    The layers cannot be mounted.
    """


def check_mountable(trees: Sequence[str]) -> None:
    """
    Check the conditions of a mount.

    @param trees: the layers' trees, bottom first.
    @raise CannotMount: the layers cannot be mounted.
    """
    if os.geteuid() != 0:
        raise CannotMount("only root can mount; omit --mount to copy the layers")
    if not 0 < len(trees) <= _MOST_LAYERS:
        raise CannotMount(
            f"the image has {len(trees)} layers, and 1 to {_MOST_LAYERS} can be mounted; "
            "omit --mount to copy them"
        )
    if any(is_unprivileged(tree) for tree in trees):
        raise CannotMount(
            "the daemon does not run as root and stores the files' owners in attributes, which a mount would "
            "not apply; omit --mount to copy the layers"
        )


def mount(
    trees: Sequence[str], target: str, changes: str | None, chain_id: object = None, *, name: str = ""
) -> None:
    """
    Mount layers.

    @param trees: the layers' trees, bottom first.
    @param target: an empty directory.
    @param changes: an empty directory for changes, which must not be on an
        overlayfs; L{None} mounts read-only.
    @param chain_id: the top layer's chain ID, if known.  The kernel's list of
        mounts shows it, and the daemon keeps mounted layers.
    @param name: the name of C{target} in errors, where it is the path of a
        descriptor.
    @raise CannotMount: the kernel refuses the mount.
    @raise OSError: C{changes} cannot be written.
    """
    layers = _visible(trees)[::-1]
    if changes is not None:
        for name in ("upper", "work"):
            os.mkdir(os.path.join(changes, name), 0o700)
        # This directory becomes the root of the mount.
        copy_root_metadata(trees[-1], os.path.join(changes, "upper"))
    elif len(layers) == 1:
        # An overlay needs two layers; the second one is an empty directory.
        layers.append(target)
    opened: list[int] = []
    try:
        # All names together must fit into one memory page; the number of a descriptor is short.
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
            f"the kernel refuses to mount the layers at {name or target}: {os.strerror(code)}; "
            "see its log (dmesg), or omit --mount to copy the layers"
        )


def _visible(trees: Sequence[str]) -> list[str]:
    """
    The trees from the topmost opaque root upwards: overlayfs ignores the
    opaque attribute of a layer's root.

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
    Detach a mount, even while in use; do nothing if there is none.
    """
    _call("umount2", os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW)


def _call(name: str, *arguments: int | bytes) -> int:
    """
    Call a function of the C library.

    @return: its error number, or 0.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if getattr(libc, name)(*arguments) == 0 else ctypes.get_errno()


@contextmanager
def _working_directory(path: str) -> Iterator[None]:
    """
    Change the working directory during the block.
    """
    before = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(path)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
