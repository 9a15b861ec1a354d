# -*- test-case-name: tests.ctl.image.test_users -*-
"""
Who a container's process is: an image's C{User}, looked up in the image's own
user database.  Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xferd.ctl.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator

_HIGHEST = 2**31 - 1
"""The highest number of a user or group, as docker and runc have it."""


class UnknownUser(ClientError):
    """
    The image wants to run as somebody whom it does not know.
    """


class User(NamedTuple):
    """
    The rights of a process.

    @ivar groups: the numbers of its groups, C{gid} first.  That one is always
        among them: else a process could leave it, and gain what is denied to
        it (CVE-2022-2995).
    @ivar home: the home directory, or C{""} for a user without one.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = ""


def find_user(wanted: str, passwd: bytes, group: bytes) -> User:
    """
    Look up a user.

    Without a group, it is the user's default group and all that list the
    user; with one, it is this alone (OCI image-spec, C{config.md}, "User").

    @param wanted: C{user}, C{uid}, C{user:group}, C{uid:gid}, C{uid:group} or
        C{user:gid}; empty for root.
    @param passwd: C{/etc/passwd} of the image; empty if it has none.
    @param group: C{/etc/group}.
    @raise UnknownUser: there is no such user or group.
    """
    name, _, group_name = wanted.partition(":")
    name = name or "0"
    number = _number(name)
    known = None
    for fields in _lines(passwd, 4):
        uid, gid = _number(fields[2]), _number(fields[3])
        if (
            uid is not None
            and gid is not None
            and (uid == number if number is not None else fields[0] == name)
        ):
            known = User(uid, gid, (), fields[5] if len(fields) > 5 else "")
            name = fields[0]
            break
    if known is None:
        if number is None:
            raise UnknownUser(f"the image wants to run as user {name!r}, whom its /etc/passwd does not have")
        known, name = User(_checked(number, name), 0, ()), ""
    groups = [(fields, gid) for fields in _lines(group, 3) if (gid := _number(fields[2])) is not None]
    if group_name:
        gid = _find_group(group_name, [(fields[0], gid) for fields, gid in groups])
        return known._replace(gid=gid, groups=(gid,))
    listed = [gid for fields, gid in groups if name and len(fields) > 3 and name in fields[3].split(",")]
    return known._replace(groups=tuple(dict.fromkeys([known.gid, *listed])))


def _find_group(wanted: str, groups: list[tuple[str, int]]) -> int:
    """
    A group's number.
    """
    number = _number(wanted)
    if number is not None:
        return _checked(number, wanted)
    for name, gid in groups:
        if name == wanted:
            return gid
    raise UnknownUser(f"the image wants to run as group {wanted!r}, which its /etc/group does not have")


def _checked(number: int, text: str) -> int:
    """
    A number that can be a user's or a group's.
    """
    if number > _HIGHEST:
        raise UnknownUser(f"the image wants to run with the number {text}, which is above {_HIGHEST}")
    return number


def _number(text: str) -> int | None:
    """
    A decimal number, if it is one.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _lines(data: bytes, least: int) -> Iterator[list[str]]:
    """
    The fields of each line that has enough of them.
    """
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        fields = line.strip().split(":")
        if len(fields) >= least and not line.startswith("#"):
            yield fields
