# -*- test-case-name: tests.ctl.commands.test_store -*-
"""
The images in the store: list, show, name, pin and remove them, and collect
garbage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import Command, add_image, add_json, add_required_platform
from xferd.ctl.display.job_view import count
from xferd.ctl.errors import Refused
from xferd.ctl.text import clean, plural, short, size

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from xferd.ctl.session import Session


def _inspect_arguments(parser: ArgumentParser) -> None:
    add_image(parser)
    add_required_platform(parser)
    add_json(parser)


def _tag_arguments(parser: ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument("name", metavar="NEW", help="the additional name, [HOST/]NAME[:TAG]")
    add_json(parser)


def _references_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("references", metavar="REF", nargs="+", help="an image, as 'xferctl images' lists it")
    add_json(parser)


def _gc_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="report the space without freeing it")
    parser.add_argument(
        "--partials", action="store_true", help="remove partial blobs that no transfer uses, too"
    )
    add_json(parser)


def images(_: Namespace, session: Session) -> None:
    """
    Run C{xferctl images}.
    """
    found = session.daemon.images()
    rows = [
        (
            clean(image.get("reference")),
            short(image.get("digest")),
            short(image.get("image_id")),
            str(len(image.get("layers") or ())),
            size(count(image, "size")),
            session.printer.ago(image.get("created")),
            "pinned" if image.get("pinned") is True else "",
            ", ".join(_users(image)),
        )
        for image in found
    ]
    heads = ("REFERENCE", "DIGEST", "IMAGE ID", "LAYERS", "SIZE", "PULLED", "", "USED BY")
    session.printer.rows(found, heads, rows, ("LAYERS", "SIZE"))


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
        ("pulled", session.printer.ago(image.get("created"))),
        ("pinned", "yes" if image.get("pinned") is True else ""),
        *(("used by", text) for text in _texts(image)),
    ]
    if session.printer.facts(image, facts):
        print(file=session.stdout)
        layers = image.get("layers") or ()
        rows = [
            (clean(layer.get("digest")), size(count(layer, "size")), clean(layer.get("media_type")))
            for layer in layers
        ]
        session.printer.rows(layers, ("LAYER", "SIZE", "TYPE"), rows, ("SIZE",))


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
    facts = [("would free" if args.dry_run else "freed", _freed(answer))]
    if args.dry_run:
        facts += [("kept for", _kept(each)) for each in answer.get("kept") or () if count(each, "layers")]
    session.printer.facts(answer, facts)


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
    return f"{size(count(freed, 'bytes'))} ({', '.join(parts)})" if parts else "nothing"


COMMANDS: Final[Mapping[str, Command]] = {
    "images": Command("List the images in the store", "", add_json, images),
    "inspect": Command(
        "Show one image in the store",
        "REF",
        _inspect_arguments,
        inspect,
        "With --json it prints the image's config and the directories of its layers, too.",
        ("xferctl inspect alpine", "xferctl inspect --json --platform linux/arm64 alpine"),
    ),
    "tag": Command(
        "Add a name to an image in the store",
        "REF NEW",
        _tag_arguments,
        tag,
        examples=("xferctl tag alpine registry.example.com/base:1",),
    ),
    "rm": Command(
        "Remove images from the store",
        "REF...",
        _references_arguments,
        remove,
        "This removes the names and the content that no other image, job, mount or engine uses.",
        ("xferctl rm alpine:3.19 debian:bullseye",),
    ),
    "pin": Command(
        "Keep images when the store needs disk space",
        "REF...",
        _references_arguments,
        pin,
        "When the disk fills up, the daemon may remove images to make space.  It keeps pinned ones.",
        ("xferctl pin alpine",),
    ),
    "unpin": Command(
        "Undo 'xferctl pin'", "REF...", _references_arguments, unpin, examples=("xferctl unpin alpine",)
    ),
    "gc": Command(
        "Remove content that no image, job, mount or engine uses",
        "",
        _gc_arguments,
        collect,
        examples=("xferctl gc --dry-run", "xferctl gc --partials"),
    ),
}
