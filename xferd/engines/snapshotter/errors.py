# -*- test-case-name: tests.engines.snapshotter.test_service -*-
"""
The errors of a snapshotter's calls, with the codes of gRPC by which containerd distinguishes
them apart.
"""

from __future__ import annotations

from typing import ClassVar, Final

MAX_SHOWN: Final = 128
"""Characters of a key in an error."""


class SnapshotError(Exception):
    """
    A call is refused.

    @cvar code: the code of gRPC.
    """

    code: ClassVar[int]


class BadCall(SnapshotError):
    """
    The engine asks for what never works: C{INVALID_ARGUMENT}.
    """

    code = 3


class SnapshotUnknown(SnapshotError):
    """
    There is no such snapshot: C{NOT_FOUND}.
    """

    code = 5

    def __init__(self, key: str, what: str = "snapshot") -> None:
        super().__init__(f"{what} {key[:MAX_SHOWN]!r} does not exist")


class SnapshotExists(SnapshotError):
    """
    There is a snapshot of this name: C{ALREADY_EXISTS}.
    """

    code = 6

    def __init__(self, key: str) -> None:
        super().__init__(f"snapshot {key!r} exists")


class NotPossible(SnapshotError):
    """
    The snapshot is in a state that does not allow it: C{FAILED_PRECONDITION}.
    """

    code = 9
