# -*- test-case-name: tests.ctl.image.test_safe_directory -*-
"""
Directories to make something in that other users cannot exchange meanwhile.

A path is looked up anew each time that it is used.  Whoever may rename one of
its directories can put a link there in between, and root's work would go where
that link leads.  So a directory is opened once, looked at by its descriptor,
and used by its descriptor.
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
"""How a directory is opened that is not to be a link to one."""


class CannotUse(ClientError):
    """
    Nothing can be made in a directory; the text says why.
    """


@contextmanager
def opened(path: str, *, own: bool = False) -> Iterator[int]:
    """
    Open a directory to make something in.

    @param path: an absolute path without links.
    @param own: whether to refuse a directory that other users can exchange.
    @return: its descriptor (C{O_PATH}), valid in the block.
    @raise CannotUse: it is not there, or it or one above it belongs to another
        user, or others may write to it.
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
    See that no other user can exchange what is in a directory.

    @param path: the directory as errors name it.
    @param sticky: whether others may make files of their own there, as in C{/tmp}.
    @raise CannotUse: another user can.
    """
    found = os.fstat(descriptor)
    me = geteuid()
    why = ""
    if found.st_uid not in (0, me):
        why = f"belongs to user {found.st_uid}"
    elif not (sticky and found.st_mode & stat.S_ISVTX):
        if found.st_mode & stat.S_IWOTH:
            why = "can be written to by every user"
        elif found.st_mode & stat.S_IWGRP and (found.st_gid not in (0, os.getegid()) or _has_acl(descriptor)):
            why = f"can be written to by group {found.st_gid}"
    if why:
        raise CannotUse(
            f"{clean(path)} {why}, who could lead a mount elsewhere; "
            "name a directory that, with all above it, only you and root can change"
        )


def path_of(descriptor: int) -> str:
    """
    A path of a directory that is open, however it is called by now.
    """
    # With the dot it is no link.
    return f"/proc/self/fd/{descriptor}/."


def is_at(descriptor: int, name: str, parent: int) -> bool:
    """
    Whether a name in a directory is that of an open directory.
    """
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def _has_acl(descriptor: int) -> bool:
    """
    Whether the bits of the group are the mask of an access control list.
    """
    return "system.posix_acl_access" in os.listxattr(path_of(descriptor))
