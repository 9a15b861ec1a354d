# -*- test-case-name: tests.transfer.test_attempt_record -*-
"""
Records of attempts, as the manager passes them to C{on_attempt}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from xferd.errors import XferdError, causes


def outcome(error: Exception | None) -> dict[str, str | None]:
    """
    The outcome of an attempt: its C{code}, for programs, and its C{error}, for
    people.  Both are L{None} for an attempt that succeeded.
    """
    if error is None:
        return {"code": None, "error": None}
    if isinstance(error, CancelledError):
        return {"code": "CANCELLED", "error": "cancelled"}
    ours = next((e for e in causes(error) if isinstance(e, XferdError)), None)
    if ours is None:
        # The names and texts of other errors are for the log, which has them.
        return {"code": XferdError.code, "error": "internal error; see the daemon's log"}
    return {"code": ours.code, "error": str(ours)}
