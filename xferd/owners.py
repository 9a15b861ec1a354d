# -*- test-case-name: tests.test_owners -*-
"""
The owners of the files in a layer, which size the range of IDs that a container
engine gives to a user namespace.

Pure.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen

MOST_OWNERS: Final = 4096
"""Users, and groups, of one layer that are listed, at most."""


@frozen
class Owners:
    """
    The users and groups that own files in a layer.

    @ivar users: their IDs, ascending.
    @ivar groups: the same for groups.
    @ivar complete: whether these are all.  Otherwise there are more than
        L{MOST_OWNERS} of one kind, and each kind has its largest ID only.
    """

    users: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """
        Convert to JSON.
        """
        return {"users": list(self.users), "groups": list(self.groups), "complete": self.complete}

    @classmethod
    def from_json(cls, value: Any) -> Owners:
        """
        Convert the result of L{to_json}.

        @raise KeyError: it is another value.
        @raise TypeError: the same.
        @raise ValueError: the same.
        """
        users, groups = (tuple(int(each) for each in value[kind]) for kind in ("users", "groups"))
        return cls(users, groups, bool(value["complete"]))


class OwnerSet:
    """
    Collects the owners of a layer's files, in bounded memory.
    """

    def __init__(self) -> None:
        self._last = (-1, -1)
        self._users: set[int] = set()
        self._groups: set[int] = set()
        self._complete = True

    def add(self, user: int, group: int) -> None:
        """
        Add the owners of a file.
        """
        # Most files have the owners of the file before.
        if (user, group) != self._last:
            self._last = user, group
            for owner, owners in ((user, self._users), (group, self._groups)):
                owners.add(owner)
                if len(owners) > MOST_OWNERS:
                    self._complete = False
                    largest = max(owners)
                    owners.clear()
                    owners.add(largest)

    def owners(self) -> Owners:
        """
        The owners so far.
        """
        if self._complete:
            return Owners(tuple(sorted(self._users)), tuple(sorted(self._groups)))
        return Owners((max(self._users),), (max(self._groups),), False)
