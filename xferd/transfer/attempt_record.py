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
    ours = next((e for e in causes(error) if isinstance(e, XferdError)), None)
    code = XferdError.code if ours is None else ours.code
    return {
        "code": "CANCELLED" if isinstance(error, CancelledError) else code,
        "error": str(ours or error) or type(ours or error).__name__,
    }
