# -*- test-case-name: tests.ctl.commands.test_store -*-
"""
The commands of C{xferctl} that change the store without a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xferd.ctl.display.job_view import count
from xferd.ctl.errors import Refused
from xferd.ctl.text import clean, size

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import Any

    from xferd.ctl.session import Session


def tag(args: Namespace, session: Session) -> None:
    """
    Give an image another name.
    """
    image = session.daemon.tag(args.reference, args.name)
    session.printer.facts(
        image, [("reference", clean(image.get("reference"))), ("digest", clean(image.get("digest")))]
    )


def pin(args: Namespace, session: Session) -> None:
    """
    Let images stay when the store needs room.
    """
    _each(args.references, lambda reference: _pin(session, reference, True))


def unpin(args: Namespace, session: Session) -> None:
    """
    Let images go when the store needs room.
    """
    _each(args.references, lambda reference: _pin(session, reference, False))


def _pin(session: Session, reference: str, pinned: bool) -> None:
    image = session.daemon.pin(reference, pinned)
    word = "pinned" if pinned else "unpinned"
    session.printer.facts(image, [(word, clean(image.get("reference")))])


def remove(args: Namespace, session: Session) -> None:
    """
    Take the names of images away, and free what nothing needs any more.
    """

    def remove_one(reference: str) -> None:
        answer = session.daemon.remove(reference)
        facts = [("removed", clean(answer.get("reference"))), ("freed", _freed(answer))]
        session.printer.facts(answer, facts)

    _each(args.references, remove_one)


def _each(references: Sequence[str], change: Callable[[str], None]) -> None:
    """
    Change some images.  One that cannot be changed does not keep the others
    from it.

    @raise Refused: there was such a one; the first of them.
    """
    refusal: Refused | None = None
    for reference in references:
        try:
            change(reference)
        except Refused as e:
            refusal = refusal or e
    if refusal is not None:
        raise refusal


def collect(args: Namespace, session: Session) -> None:
    """
    Free what nothing needs.
    """
    answer = session.daemon.collect(args.dry_run, args.partials)
    session.printer.facts(answer, [("would free" if args.dry_run else "freed", _freed(answer))])


def _freed(answer: dict[str, Any]) -> str:
    """
    What was freed, in words.
    """
    freed = answer.get("freed")
    if not isinstance(freed, dict):
        return ""
    parts = []
    for kind in ("blob", "tree", "layer", "partial"):
        number = count(freed, f"{kind}s")
        if number:
            parts.append(f"{number} {kind}{'' if number == 1 else 's'}")
    return f"{size(count(freed, 'bytes'))} ({', '.join(parts)})" if parts else "nothing"
