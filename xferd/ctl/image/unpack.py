# -*- test-case-name: tests.ctl.image.test_unpack -*-
"""
An image's root file system, copied or mounted from the layers in the store.

The daemon only names the directories of the layers.  The client does the work
with its user's rights, so it can make no file that its user could not make.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from os import geteuid
from secrets import token_hex
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xferd.ctl.display.progress import Progress
from xferd.ctl.errors import ClientError
from xferd.ctl.image.overlay import check_mountable, mount, unmount
from xferd.ctl.image.safe_directory import FOLDER, check_own, is_at, opened, path_of
from xferd.ctl.interrupts import CommandInterrupted
from xferd.ctl.text import clean, plural, size
from xferd.errors import XferdError
from xferd.unpack.flatten import flatten
from xferd.unpack.rights import Rights, own_rights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xferd.ctl.display.progress import ProgressDisplay
    from xferd.ctl.interrupts import Interrupts
    from xferd.unpack.flatten import Progress as Copied


_FILE_WORK: Final = 16 * 1024
"""The bytes whose copying takes as long as making a file."""


class CannotUnpack(ClientError):
    """
    The root file system cannot be made.
    """


class StoredImage(NamedTuple):
    """
    An image in the store, with readable layers.

    @ivar reference: its name.
    @ivar digest: its manifest's digest.
    @ivar config: its config.
    @ivar trees: its layers' trees, bottom first.
    @ivar chain_id: the chain ID of the top layer, if the daemon reports it.
    """

    reference: str
    digest: str
    config: dict[str, Any]
    trees: list[str]
    chain_id: str | None = None

    @classmethod
    def of(cls, image: dict[str, Any]) -> StoredImage:
        """
        Read the daemon's description of an image.

        @raise CannotUnpack: it is not an image, or its layers cannot be read.
        """
        reference = clean(image.get("reference"))
        config, trees = image.get("config"), image.get("trees")
        if not isinstance(trees, list) or not all(isinstance(tree, str) for tree in trees):
            raise CannotUnpack(
                "the daemon is older than this xferctl and does not report the layers' directories; "
                "upgrade it"
            )
        if not isinstance(config, dict):
            raise CannotUnpack(f"{reference} is an artifact, not a container image, and cannot be unpacked")
        for tree in trees:
            try:
                os.scandir(tree).close()
            except PermissionError as e:
                raise CannotUnpack(
                    f"the layers are in {clean(tree)}, which you may not read; "
                    "run this as the daemon's user or root"
                ) from e
            except OSError as e:
                raise CannotUnpack(
                    f"the layers are in {clean(tree)} on the daemon's machine; "
                    f"it cannot be read here: {e.strerror}"
                ) from e
        chain_id = image.get("chain_id")
        return cls(
            reference,
            clean(image.get("digest")),
            config,
            trees,
            chain_id if isinstance(chain_id, str) and chain_id.isprintable() else None,
        )

    @property
    def name(self) -> str:
        """
        The last part of the repository's name: C{alpine}.
        """
        return self.reference.partition("@")[0].rpartition("/")[2].partition(":")[0]


def check_free(directory: str) -> str:
    """
    Check that a directory is absent or empty.

    @return: its absolute path, without links.
    @raise CannotUnpack: it is neither.
    """
    place = os.path.realpath(directory)
    try:
        with os.scandir(place) as found:
            if next(found, None) is not None:
                raise CannotUnpack(
                    f"{directory} is not empty; name an empty directory, or one that does not exist"
                )
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(place)):
            raise CannotUnpack(
                f"the directory {os.path.dirname(place)} does not exist; create it first"
            ) from None
    except OSError as e:
        raise CannotUnpack(f"{directory} cannot be used: {e.strerror}") from e
    if os.path.ismount(place):
        raise CannotUnpack(f"{directory} is a mount point; name a directory below it")
    return place


@contextmanager
def new_directory(place: str, interrupts: Interrupts, *, own: bool = False) -> Iterator[str]:
    """
    Make a directory that gets its name at the end of the block.  If the block
    fails, the directory is removed and its C{rootfs} unmounted.

    @param place: the absolute path.
    @param own: whether to refuse a parent that other users can exchange.
    @return: a path of the directory, which has mode 0700 and is beside
        C{place}.  The path stays valid when others rename directories.
    @raise CannotUnpack: it cannot be made, or the block failed.
    @raise CannotUse: another user can exchange the parent directory.
    @raise CommandInterrupted: the user interrupted the command.
    """
    above, name = os.path.split(place)
    with ExitStack() as opened_here:
        parent = opened_here.enter_context(opened(above, own=own))
        making: str | None = None
        descriptor = -1
        try:
            with interrupts.held():
                hidden = f".{name[:100]}.{token_hex(4)}"
                os.mkdir(hidden, 0o700, dir_fd=parent)
                try:
                    descriptor = os.open(hidden, os.O_RDONLY | FOLDER, dir_fd=parent)
                    opened_here.callback(os.close, descriptor)
                    _disinherit(descriptor)
                except BaseException:
                    # Another user may have exchanged it for one that is not empty.
                    with suppress(OSError):
                        os.rmdir(hidden, dir_fd=parent)
                    raise
                making = hidden
            yield path_of(descriptor)
            with interrupts.held():
                os.rename(making, name, src_dir_fd=parent, dst_dir_fd=parent)
                making = None
            if not is_at(descriptor, name, parent):
                raise CannotUnpack(
                    f"another user has exchanged {place}; name a directory that only you can change"
                )
        except KeyboardInterrupt as e:
            raise CommandInterrupted(f"interrupted; {place} was not made") from e
        except XferdError as e:
            raise CannotUnpack(f"{e} ({e.code})") from e
        except OSError as e:
            raise CannotUnpack(f"cannot make {place}: {e.strerror or e}") from e
        finally:
            if making is not None:
                with interrupts.held():
                    unmount(os.path.join(path_of(descriptor), "rootfs"))
                    if is_at(descriptor, making, parent):
                        rmtree(making, dir_fd=parent)


def _disinherit(descriptor: int) -> None:
    """
    Remove the group and the access control lists that a new directory
    inherited: everything in it would inherit them in turn.

    @raise CannotUnpack: it is not the directory that was made.
    """
    if os.fstat(descriptor).st_uid != geteuid() or os.listdir(descriptor):
        raise CannotUnpack("another user has exchanged the new directory; name one that only you can change")
    os.fchown(descriptor, -1, os.getegid())
    os.fchmod(descriptor, 0o700)
    for name in os.listxattr(descriptor):
        if name.startswith("system.posix_acl_"):
            os.removexattr(descriptor, name)


def copy_layers(image: StoredImage, root: str, display: ProgressDisplay) -> str:
    """
    Copy the layers.

    @return: the number of files and their size, in words.
    """
    with display:
        done = flatten(
            image.trees,
            root,
            lambda copied: display.show(copy_progress(copied)),
            privileged=own_rights() is Rights.ROOT,
        )
    return f"{plural(done.entries, 'file')}, {size(done.size)}"


def copy_progress(copied: Copied) -> Progress:
    """
    The progress of a copy.  A file counts as work even if it is empty.
    """
    if not copied.entries_total:
        return Progress("reading layers", 0, 0, None)
    total = copied.entries_total * _FILE_WORK + copied.size_total
    return Progress(
        "copying",
        copied.size,
        copied.size_total,
        (copied.entries * _FILE_WORK + copied.size) / total,
        f"{copied.entries}/{copied.entries_total} files",
        {
            "entries_done": copied.entries,
            "entries_total": copied.entries_total,
            "bytes_done": copied.size,
            "bytes_total": copied.size_total,
        },
    )


def mount_at(image: StoredImage, place: str, interrupts: Interrupts, *, read_only: bool) -> None:
    """
    Mount the layers at a directory, which is made if it does not exist.

    @raise CannotUse: another user can exchange it, or a directory above it.
    """
    check_mountable(image.trees)
    above, name = os.path.split(place)
    changes = None if read_only else f"{name}.overlay"
    made: list[str] = []
    with interrupts.held(), ExitStack() as opened_here:
        parent = opened_here.enter_context(opened(above, own=True))

        def folder(name: str, mode: int) -> int:
            os.mkdir(name, mode, dir_fd=parent)
            made.append(name)
            return existing(name)

        def existing(name: str) -> int:
            descriptor = os.open(name, os.O_PATH | FOLDER, dir_fd=parent)
            opened_here.callback(os.close, descriptor)
            return descriptor

        try:
            try:
                target = existing(name)
            except FileNotFoundError:
                target = folder(name, 0o755)
            else:
                check_own(target, place, sticky=False)
                if os.listdir(path_of(target)):
                    raise CannotUnpack(
                        f"{place} is not empty; name an empty directory, or one that does not exist"
                    )
            kept = None
            if changes is not None:
                try:
                    kept = path_of(folder(changes, 0o700))
                except FileExistsError as e:
                    raise CannotUnpack(
                        f"{place}.overlay holds the changes of an earlier mount; remove it first"
                    ) from e
            mount(image.trees, path_of(target), kept, image.chain_id, name=place)
        except BaseException as e:
            for path in made:
                rmtree(path, dir_fd=parent)
            if isinstance(e, OSError):
                raise CannotUnpack(f"cannot make {place}: {e.strerror or e}") from e
            raise


def mount_in_bundle(image: StoredImage, place: str, making: str, root: str, *, read_only: bool) -> None:
    """
    Mount the layers inside a bundle, which also holds the changes.
    """
    check_mountable(image.trees)
    changes = None
    if not read_only:
        changes = os.path.join(making, "overlay")
        os.mkdir(changes, 0o700)
    mount(image.trees, root, changes, image.chain_id, name=f"{place}/rootfs")
