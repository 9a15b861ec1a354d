# -*- test-case-name: tests.ctl.test_demo -*-
"""
C{xferctl demo}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace

    from xferd.ctl.session import Session


def demo(args: Namespace, session: Session) -> None:
    """
    Show it.
    """
