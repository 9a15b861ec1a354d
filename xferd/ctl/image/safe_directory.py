# -*- test-case-name: tests.ctl.image.test_safe_directory -*-
"""
Directories that other users cannot exchange while root works in them.

The kernel resolves a path at each use.  A user who may rename one of its
directories can put a link there between two uses, and root would work where
the link leads.  Therefore a directory is opened once, and checked and used by
its descriptor.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from os import geteuid
from typing import TYPE_CHECKING, Final

from xferd.ctl.errors import ClientError
from xferd.ctl.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""The flags for opening a directory that must not be a link."""


class CannotUse(ClientError):
    """
    A directory cannot be used, or another user could exchange it.
    """


@contextmanager
def opened(path: str, *, own: bool = False) -> Iterator[int]:
    """
    Open a directory to create files in.

    @param path: an absolute path without links.
    @param own: whether to refuse a directory that other users can exchange.
    @return: its descriptor (C{O_PATH}), valid in the block.
    @raise CannotUse: it does not exist; or with C{own}, another user owns it
        or a directory above it, or may write to one of them.
    """
    descriptor = os.open("/", os.O_PATH | FOLDER)
    here = "/"
    try:
        for name in filter(None, path.split("/")):
            if own:
                check_own(descriptor, here)
            here = os.path.join(here, name)
            try:
                below = os.open(name, os.O_PATH | FOLDER, dir_fd=descriptor)
            except OSError as e:
                raise CannotUse(f"{clean(here)} cannot be used: {e.strerror}") from e
            os.close(descriptor)
            descriptor = below
        if own:
            check_own(descriptor, here)
        yield descriptor
    finally:
        os.close(descriptor)


def check_own(descriptor: int, path: str, *, sticky: bool = True) -> None:
    """
    Check that no other user can exchange the entries of a directory.

    @param path: the directory's name in errors.
    @param sticky: whether others may create their own files there, as in C{/tmp}.
    @raise CannotUse: another user can.
    """
    found = os.fstat(descriptor)
    me = geteuid()
    why = ""
    if found.st_uid not in (0, me):
        why = f"belongs to user {found.st_uid}"
    elif not (sticky and found.st_mode & stat.S_ISVTX):
        if found.st_mode & stat.S_IWOTH:
            why = "is writable by every user"
        elif found.st_mode & stat.S_IWGRP and (found.st_gid not in (0, os.getegid()) or _has_acl(descriptor)):
            why = f"is writable by group {found.st_gid}"
    if why:
        raise CannotUse(
            f"{clean(path)} {why}, which could redirect the mount; "
            "name a directory that only you and root can change, also all directories above it"
        )


def path_of(descriptor: int) -> str:
    """
    A path of an open directory, valid after a rename.
    """
    # Without the dot it would be a symbolic link.
    return f"/proc/self/fd/{descriptor}/."


def is_at(descriptor: int, name: str, parent: int) -> bool:
    """
    Whether a directory's entry is an open directory.
    """
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def _has_acl(descriptor: int) -> bool:
    """
    Whether a directory has an access control list, whose mask the group bits
    then show.
    """
    return "system.posix_acl_access" in os.listxattr(path_of(descriptor))
