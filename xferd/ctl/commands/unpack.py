# -*- test-case-name: tests.ctl.image.test_unpack -*-
"""
C{xferctl unpack} and C{xferctl bundle}: a root file system, or a runtime
bundle, from an image in the store.
"""

from __future__ import annotations

import json
import os
from shlex import quote
from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import Command, add_image, add_output, add_required_platform
from xferd.ctl.display.choose import choose_display
from xferd.ctl.display.progress import Result
from xferd.ctl.errors import UsageError
from xferd.ctl.image.bundle import bundle_config
from xferd.ctl.image.runtime_config import Execution
from xferd.ctl.image.unpack import (
    StoredImage,
    check_free,
    copy_layers,
    mount_at,
    mount_in_bundle,
    new_directory,
)
from xferd.ctl.text import clean, plural

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping, Sequence

    from xferd.ctl.session import Session


def _shared_arguments(parser: ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument("directory", metavar="DIR", help="a directory that is empty or does not exist")
    add_required_platform(parser)
    parser.add_argument(
        "--mount", action="store_true", help="mount the layers instead of copying them (needs root)"
    )
    add_output(parser, "print progress and result as lines of JSON", "print only the path")


def _unpack_arguments(parser: ArgumentParser) -> None:
    _shared_arguments(parser)
    parser.add_argument("--read-only", action="store_true", help="with --mount: mount read-only")


def _bundle_arguments(parser: ArgumentParser) -> None:
    _shared_arguments(parser)
    parser.add_argument("--read-only", action="store_true", help="make the container's root read-only")


def unpack(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl unpack}.

    @raise CannotUnpack: it failed; the directory is unchanged.
    """
    if args.read_only and not args.mount:
        raise UsageError("--read-only needs --mount: a copy can always be changed")
    place = check_free(args.directory)
    image = _stored_image(args, session)
    display = choose_display(args, session, transient=True)
    if args.mount:
        mount_at(image, place, session.interrupts, read_only=args.read_only)
        summary = f"{image.reference}: {_layers(image)} mounted; unmount with 'umount {place}'"
        if not args.read_only:
            summary += f"; {place}.overlay holds the changes"
    else:
        with new_directory(place, session.interrupts) as making:
            summary = f"{image.reference}: {copy_layers(image, making, display)}"
    display.finish(_result(image, place, [summary], mounted=args.mount))


def bundle(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl bundle}.

    @raise CannotUnpack: it failed; the directory is unchanged.
    """
    place = check_free(args.directory)
    image = _stored_image(args, session)
    execution = Execution.of(image.config, args.args)
    display = choose_display(args, session, transient=True)
    notes = list(execution.notes)
    with new_directory(place, session.interrupts, own=args.mount) as making:
        root = os.path.join(making, "rootfs")
        os.mkdir(root, 0o755)
        if args.mount:
            mount_in_bundle(image, place, making, root, read_only=args.read_only)
            summary = f"{image.reference}: {_layers(image)} mounted; unmount with 'umount {place}/rootfs'"
        else:
            summary = f"{image.reference}: {copy_layers(image, root, display)}"
        config = bundle_config(image, execution, root, notes, read_only=args.read_only)
        with open(os.path.join(making, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file, indent=2)
            file.write("\n")
    lines = [*(f"note: {note}" for note in notes), summary]
    lines.append(f"start it with: runc run --bundle {quote(place)} {config['hostname']}")
    display.finish(_result(image, place, lines, mounted=args.mount, notes=notes))


def _stored_image(args: Namespace, session: Session) -> StoredImage:
    # Layers that an older daemon unpacked may lack attributes.
    for warning in session.daemon.renew(args.reference):
        session.warn(clean(warning))
    return StoredImage.of(session.daemon.image(args.reference, args.platform))


def _layers(image: StoredImage) -> str:
    return plural(len(image.trees), "layer")


def _result(
    image: StoredImage, place: str, lines: Sequence[str], *, mounted: bool, notes: Sequence[str] = ()
) -> Result:
    data = {
        "reference": image.reference,
        "digest": image.digest,
        "path": place,
        "mounted": mounted,
        "notes": list(notes),
    }
    return Result(place, lines, data)


COMMANDS: Final[Mapping[str, Command]] = {
    "unpack": Command(
        "REF DIR",
        _unpack_arguments,
        unpack,
        "The layers must be on this machine and readable.  With --mount they are mounted as an overlay, and "
        "changes go to DIR.overlay.",
        ("xferctl unpack alpine ./rootfs", "sudo xferctl unpack --mount --read-only alpine /mnt"),
    ),
    "bundle": Command(
        "REF DIR [-- ARG...]",
        _bundle_arguments,
        bundle,
        "The bundle is for runc, crun and other OCI runtimes.  ARG... replaces the image's own arguments "
        "(Cmd).",
        ("xferctl bundle alpine ./box -- /bin/echo hello", "sudo xferctl bundle --mount alpine /srv/box"),
        passes_arguments=True,
    ),
}
