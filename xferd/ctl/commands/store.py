# -*- test-case-name: tests.ctl.commands.test_store -*-
"""
The images in the store: list, show, name, pin and remove them, and collect
garbage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xferd.ctl.columns import Column
from xferd.ctl.commands.arguments import Command, add_image, add_printing, add_required_platform
from xferd.ctl.display.job_view import count
from xferd.ctl.errors import Refused
from xferd.ctl.text import clean, cut, cut_front, cut_reference, plural, short, size

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from xferd.ctl.session import Session

_NOTHING: Final = "nothing"
"""What was freed, where nothing could be."""

_OWNERS: Final = (
    ("images", "image", "images"),
    ("repositories", "repository of the registry", "repositories of the registry"),
    ("jobs", "unfinished job", "unfinished jobs"),
)
"""What keeps content in the store: the members of C{held}, and the nouns for one and several."""


def _inspect_arguments(parser: ArgumentParser) -> None:
    add_image(parser)
    add_required_platform(parser)
    add_printing(parser, table=True)


def _tag_arguments(parser: ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument("name", metavar="NEW", help="the additional name, [HOST/]NAME[:TAG]")
    add_printing(parser)


def _remove_arguments(parser: ArgumentParser) -> None:
    _references_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="report the space without removing anything")


def _references_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("references", metavar="REF", nargs="+", help="an image, as 'xferctl images' lists it")
    add_printing(parser)


def _gc_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="report the space without freeing it")
    parser.add_argument(
        "--partials", action="store_true", help="remove partial blobs that no transfer uses, too"
    )
    add_printing(parser)


def images(_: Namespace, session: Session) -> None:
    """
    Run C{xferctl images}.
    """
    found = session.daemon.images()
    session.printer.rows(
        found,
        (
            Column("REFERENCE", lambda image: clean(image.get("reference")), crop=cut_reference),
            Column("DIGEST", lambda image: clean(image.get("digest")), short=short),
            Column("IMAGE ID", lambda image: clean(image.get("image_id")), short=short, spare=True),
            Column("LAYERS", lambda image: str(len(image.get("layers") or ())), right=True, spare=True),
            Column("SIZE", lambda image: size(count(image, "size")), right=True),
            Column("PULLED", lambda image: session.printer.ago(image.get("pulled"))),
            Column("", lambda image: "pinned" if image.get("pinned") is True else ""),
            Column("USED BY", lambda image: ", ".join(_users(image)), crop=cut),
        ),
    )


def _users(image: Mapping[str, Any]) -> Sequence[str]:
    """
    The names of the engines that need an image.
    """
    return list(dict.fromkeys(text.partition(": ")[0] for text in _texts(image)))


def _texts(image: Mapping[str, Any]) -> Sequence[str]:
    """
    What engines need an image for.
    """
    return [clean(text) for text in image.get("used_by") or ()]


def inspect(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl inspect}.
    """
    image = session.daemon.image(args.reference, args.platform)
    facts = [
        ("reference", clean(image.get("reference"))),
        ("digest", clean(image.get("digest"))),
        ("resolved", clean(image.get("resolved"))),
        ("source", clean(image.get("source"))),
        ("image ID", clean(image.get("image_id"))),
        ("platform", clean(image.get("platform"))),
        ("size", size(count(image, "size"))),
        ("pulled", session.printer.ago(image.get("pulled"))),
        ("named", session.printer.ago(image.get("created"))),
        ("pinned", "yes" if image.get("pinned") is True else ""),
        *(("used by", text) for text in _texts(image)),
    ]
    if session.printer.facts(image, facts):
        print(file=session.stdout)
        layers = image.get("layers") or ()
        session.printer.rows(
            layers,
            (
                Column("LAYER", lambda layer: clean(layer.get("digest")), crop=cut),
                Column("SIZE", lambda layer: size(count(layer, "size")), right=True),
                Column("TYPE", lambda layer: clean(layer.get("media_type")), crop=cut_front),
            ),
        )


def tag(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl tag}.
    """
    image = session.daemon.tag(args.reference, args.name)
    session.printer.facts(
        image, [("reference", clean(image.get("reference"))), ("digest", clean(image.get("digest")))]
    )


def pin(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl pin}.
    """
    _each(args.references, lambda reference: _pin(session, reference, True))


def unpin(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl unpin}.
    """
    _each(args.references, lambda reference: _pin(session, reference, False))


def _pin(session: Session, reference: str, pinned: bool) -> None:
    image = session.daemon.pin(reference, pinned)
    word = "pinned" if pinned else "unpinned"
    session.printer.facts(image, [(word, clean(image.get("reference")))])


def remove(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl rm}.
    """

    if args.dry_run:
        answer = session.daemon.collect(True, False, args.references)
        facts = [("would remove", clean(reference)) for reference in args.references]
        _print_dry_run(session, answer, facts)
        return

    def remove_one(reference: str) -> None:
        answer = session.daemon.remove(reference)
        facts = [("removed", clean(answer.get("reference"))), ("freed", _freed(answer))]
        facts += [("kept for", clean(text)) for text in answer.get("used_by") or ()]
        session.printer.facts(answer, facts)

    _each(args.references, remove_one)


def _each(references: Sequence[str], change: Callable[[str], None]) -> None:
    """
    Change each image, also after one was refused.

    @raise Refused: the first refusal.
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
    Run C{xferctl gc}.
    """
    answer = session.daemon.collect(args.dry_run, args.partials)
    if args.dry_run:
        _print_dry_run(session, answer, [])
    else:
        freed = _freed(answer)
        session.printer.facts(answer, [("freed", freed), *(_held(answer) if freed == _NOTHING else ())])


def _print_dry_run(session: Session, answer: dict[str, Any], facts: Sequence[tuple[str, str]]) -> None:
    """
    Print what a collection would free, and what it would keep.
    """
    freed = _freed(answer)
    shown = [*facts, ("would free", freed), *(_held(answer) if freed == _NOTHING else _engines(answer))]
    session.printer.facts(answer, shown, width=max(len(name) for name, _ in shown) + 2)


def _engines(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """
    What is kept for container engines.
    """
    return [("kept for", _kept(each)) for each in answer.get("kept") or () if count(each, "layers")]


def _held(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """
    What holds the space, where nothing can be freed.
    """
    held = answer.get("held")
    if not isinstance(held, dict):
        return _engines(answer)
    owners = [
        f"{number} {one if number == 1 else many}"
        for name, one, many in _OWNERS
        if (number := count(held, name))
    ]
    parts = [f"{size(count(held, name))} in {name}" for name in ("blobs", "trees") if count(held, name)]
    facts = [("kept for", f"{', '.join(owners)}: {', '.join(parts)}")] if owners and parts else []
    facts += _engines(answer)
    if count(held, "arriving"):
        partials = f"the next pulls: {size(count(held, 'arriving'))} in partial blobs (see --partials)"
        facts.append(("kept for", partials))
    return facts or [("held", "the store is empty")]


def _kept(kept: dict[str, Any]) -> str:
    layers, number = plural(count(kept, "layers"), "layer"), size(count(kept, "bytes"))
    by = ", ".join(clean(text) for text in kept.get("by") or ())
    return f"{clean(kept.get('user'))}: {layers}, {number}" + (f" ({by})" if by else "")


def _freed(answer: dict[str, Any]) -> str:
    freed = answer.get("freed")
    if not isinstance(freed, dict):
        return ""
    parts = []
    for kind in ("blob", "tree", "layer", "partial"):
        number = count(freed, f"{kind}s")
        if number:
            parts.append(plural(number, kind))
    return f"{size(count(freed, 'bytes'))} ({', '.join(parts)})" if parts else _NOTHING


COMMANDS: Final[Mapping[str, Command]] = {
    "images": Command(
        "",
        lambda parser: add_printing(parser, table=True),
        images,
        examples=(
            "xferctl images",
            "xferctl images --no-trunc",
            "xferctl images --format 'table {{.reference}}\\t{{.digest}}'",
        ),
    ),
    "inspect": Command(
        "REF",
        _inspect_arguments,
        inspect,
        "With --json it prints the image's config and the directories of its layers, too.",
        ("xferctl inspect alpine", "xferctl inspect --json --platform linux/arm64 alpine"),
    ),
    "tag": Command(
        "REF NEW",
        _tag_arguments,
        tag,
        examples=("xferctl tag alpine registry.example.com/base:1",),
    ),
    "rm": Command(
        "REF...",
        _remove_arguments,
        remove,
        "This removes the names and the content that no other image, job, mount or engine uses.",
        ("xferctl rm alpine:3.19 debian:bullseye", "xferctl rm --dry-run alpine:3.19"),
    ),
    "pin": Command(
        "REF...",
        _references_arguments,
        pin,
        "When the disk fills up, the daemon may remove images to make space.  It keeps pinned ones.",
        ("xferctl pin alpine",),
    ),
    "unpin": Command("REF...", _references_arguments, unpin, examples=("xferctl unpin alpine",)),
    "gc": Command(
        "",
        _gc_arguments,
        collect,
        examples=("xferctl gc --dry-run", "xferctl gc --partials"),
    ),
}
