# -*- test-case-name: tests.ctl.image.test_users -*-
"""
The user of a container's process: an image's C{User}, looked up in the image's
own user database.  Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xferd.ctl.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator

_HIGHEST = 2**31 - 1
"""The highest user or group ID, as in docker and runc."""


class UnknownUser(ClientError):
    """
    The image's C{User} is not in its user database.
    """


class User(NamedTuple):
    """
    The identity of a process.

    @ivar groups: its group IDs, C{gid} first.  C{gid} is always among them:
        otherwise a process could drop that group and gain access that the
        group is denied (CVE-2022-2995).
    @ivar home: the home directory; may be empty.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = ""


def find_user(wanted: str, passwd: bytes, group: bytes) -> User:
    """
    Look up a user.

    Without a group in C{wanted}, the user has its default group and all groups
    that list it; with one, that group alone (OCI image-spec, C{config.md},
    "User").

    @param wanted: C{user}, C{uid}, C{user:group}, C{uid:gid}, C{uid:group} or
        C{user:gid}; empty for root.
    @param passwd: the image's C{/etc/passwd}; may be empty.
    @param group: the image's C{/etc/group}; may be empty.
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
            raise UnknownUser(f"the image runs as user {name!r}, which its /etc/passwd lacks")
        known, name = User(_checked(number, name), 0, ()), ""
    groups = [(fields, gid) for fields in _lines(group, 3) if (gid := _number(fields[2])) is not None]
    if group_name:
        gid = _find_group(group_name, [(fields[0], gid) for fields, gid in groups])
        return known._replace(gid=gid, groups=(gid,))
    listed = [gid for fields, gid in groups if name and len(fields) > 3 and name in fields[3].split(",")]
    return known._replace(groups=tuple(dict.fromkeys([known.gid, *listed])))


def _find_group(wanted: str, groups: list[tuple[str, int]]) -> int:
    number = _number(wanted)
    if number is not None:
        return _checked(number, wanted)
    for name, gid in groups:
        if name == wanted:
            return gid
    raise UnknownUser(f"the image runs as group {wanted!r}, which its /etc/group lacks")


def _checked(number: int, text: str) -> int:
    if number > _HIGHEST:
        raise UnknownUser(f"the image runs with the ID {text}, which is above {_HIGHEST}")
    return number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _lines(data: bytes, least: int) -> Iterator[list[str]]:
    """
    The fields of each line that has at least C{least}.
    """
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        fields = line.strip().split(":")
        if len(fields) >= least and not line.startswith("#"):
            yield fields
