# -*- test-case-name: tests.ctl.test_keep -*-
"""
The commands of C{xferctl} that change the store without a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xferd.ctl.text import clean

if TYPE_CHECKING:
    from argparse import Namespace

    from xferd.ctl.session import Session


def tag(args: Namespace, session: Session) -> None:
    """
    Give an image another name.
    """
    image = session.daemon.tag(args.reference, args.name)
    session.printer.facts(
        image, [("reference", clean(image.get("reference"))), ("digest", clean(image.get("digest")))]
    )
