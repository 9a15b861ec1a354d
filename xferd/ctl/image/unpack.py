# -*- test-case-name: tests.ctl.image.test_unpack -*-
"""
C{xferctl unpack} and C{xferctl bundle}: a root file system out of an image in
the store, copied or mounted.

The daemon only says where the layers are.  The work is done here, with the
rights of whoever asked, so that a client can make no file that its user could
not make.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from os import geteuid
from secrets import token_hex
from shlex import quote
from shutil import rmtree
from typing import TYPE_CHECKING, Any, NamedTuple

from xferd.ctl.display.copying import choose_display
from xferd.ctl.errors import ClientError
from xferd.ctl.image.overlay import check_mountable, mount, unmount
from xferd.ctl.image.rootfs import RootFS
from xferd.ctl.image.runtime_config import Execution, Volume, runtime_config
from xferd.ctl.image.safe_directory import FOLDER, check_own, is_at, opened, path_of
from xferd.ctl.image.users import find_user
from xferd.ctl.interrupts import Interrupted
from xferd.ctl.text import clean, size
from xferd.errors import XferdError
from xferd.unpack.flatten import flatten
from xferd.unpack.sandbox import is_privileged

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from xferd.ctl.display.copying import CopyDisplay
    from xferd.ctl.interrupts import Interrupts
    from xferd.ctl.session import Session


class CannotUnpack(ClientError):
    """
    There will be no root file system; the text says why.
    """


class Stack(NamedTuple):
    """
    An image of the store, as far as it matters here.

    @ivar reference: its name.
    @ivar digest: its manifest's digest.
    @ivar config: its config.
    @ivar trees: its layers' trees, bottom first; each can be read.
    @ivar chain_id: what the top one is registered as, if the daemon says it.
    """

    reference: str
    digest: str
    config: dict[str, Any]
    trees: list[str]
    chain_id: str | None = None

    @classmethod
    def of(cls, image: dict[str, Any]) -> Stack:
        """
        Read what the daemon says of an image.

        @raise CannotUnpack: it is no image, or its layers cannot be read.
        """
        reference = clean(image.get("reference"))
        config, trees = image.get("config"), image.get("trees")
        if not isinstance(trees, list) or not all(isinstance(tree, str) for tree in trees):
            raise CannotUnpack("the daemon does not say where layers are: it is older than this xferctl")
        if not isinstance(config, dict):
            raise CannotUnpack(f"{reference} is an artifact, not a container image; it cannot be unpacked")
        for tree in trees:
            try:
                os.scandir(tree).close()
            except PermissionError as e:
                raise CannotUnpack(
                    f"the layers are in {clean(tree)}, which you may not read; be the daemon's user, or root"
                ) from e
            except OSError as e:
                raise CannotUnpack(
                    f"the layers are in {clean(tree)} on the daemon's machine; "
                    f"here that cannot be read: {e.strerror}"
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


def unpack(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl unpack} was told.

    @raise CannotUnpack: there is nothing at DIR that was not there before.
    """
    place = _free(args.directory)
    stack = _stack(args, session)
    display = choose_display("unpack", args, session)
    if args.mount:
        _mount_at(stack, place, session.interrupts, read_only=args.read_only)
        said = f"{stack.reference}: {_layers(stack)} mounted; 'umount {place}' ends it"
        if not args.read_only:
            said += f", and {place}.overlay keeps what was changed"
    else:
        with _whole(place, session.interrupts) as making:
            said = f"{stack.reference}: {_fill(stack, making, display)}"
    display.finish(said, _result(stack, place, mounted=args.mount), [])


def bundle(args: Namespace, session: Session) -> None:
    """
    Do what C{xferctl bundle} was told.

    @raise CannotUnpack: there is nothing at DIR that was not there before.
    """
    place = _free(args.directory)
    stack = _stack(args, session)
    execution = Execution.of(stack.config, args.args)
    display = choose_display("bundle", args, session)
    notes = list(execution.notes)
    with _whole(place, session.interrupts, own=args.mount) as making:
        root = os.path.join(making, "rootfs")
        os.mkdir(root, 0o755)
        if args.mount:
            _mount_in(stack, place, making, root, read_only=args.read_only)
            said = f"{stack.reference}: {_layers(stack)} mounted; 'umount {place}/rootfs' ends it"
        else:
            said = f"{stack.reference}: {_fill(stack, root, display)}"
        config = _config(stack, execution, root, notes, read_only=args.read_only)
        with open(os.path.join(making, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file, indent=2)
            file.write("\n")
    said += f"\nstart it with: runc run --bundle {quote(place)} {config['hostname']}"
    display.finish(said, _result(stack, place, mounted=args.mount, notes=notes), notes)


def _config(
    stack: Stack, execution: Execution, root: str, notes: list[str], *, read_only: bool
) -> dict[str, Any]:
    """
    The bundle's config, with users looked up in the bundle's own files.

    @param notes: gets what its user should know.
    """
    uid = os.geteuid()
    rootless = None if uid == 0 else (uid, os.getegid())
    with RootFS(root) as files:
        passwd, group = files.read("/etc/passwd"), files.read("/etc/group")
        volumes = [_volume(files, path) for path in execution.volumes]
    user = find_user(execution.user, passwd, group)
    if rootless is not None and (user.uid, user.gid) != (0, 0):
        notes.append(
            f"it runs as root, who is you outside, not as {user.uid}:{user.gid} as the image wants it: "
            "without root there is one user only"
        )
        user = find_user("0:0", passwd, group)
    return runtime_config(
        execution, user, volumes, hostname=stack.name, read_only=read_only, rootless=rootless
    )


def _volume(files: RootFS, path: str) -> Volume:
    """
    What a volume is in the image.
    """
    found = files.directory(path)
    if found is None:
        return Volume(path)
    return Volume(path, (found.st_uid, found.st_gid), stat.S_IMODE(found.st_mode))


# ------------------------------------------------------------------- the places


def _free(directory: str) -> str:
    """
    Where to make the result.

    @return: the absolute path, without links.
    @raise CannotUnpack: it is not absent, and no empty directory.
    """
    place = os.path.realpath(directory)
    try:
        with os.scandir(place) as found:
            if next(found, None) is not None:
                raise CannotUnpack(
                    f"{directory} is not empty; name a directory that is, or that is not there"
                )
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(place)):
            raise CannotUnpack(f"there is no directory {os.path.dirname(place)} to make it in") from None
    except OSError as e:
        raise CannotUnpack(f"{directory} cannot be used: {e.strerror}") from e
    if os.path.ismount(place):
        raise CannotUnpack(f"{directory} is where something is mounted; name a directory below it")
    return place


@contextmanager
def _whole(place: str, interrupts: Interrupts, *, own: bool = False) -> Iterator[str]:
    """
    A directory that gets its name when the block is done; if it is not, it
    is removed, and so is what is mounted at its C{rootfs}.

    @param place: the name.
    @param own: whether to refuse a place that other users can exchange.
    @return: a path of the directory, which has mode 0700 and is beside
        C{place}.  It leads there whatever others rename.
    @raise CannotUnpack: it cannot be made there, or what happened in the
        block says so.
    @raise CannotUse: others can change the directory that it is to be in.
    @raise Interrupted: the user wants no more.
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
                    # It may be another one by now, with something in it.
                    with suppress(OSError):
                        os.rmdir(hidden, dir_fd=parent)
                    raise
                making = hidden
            yield path_of(descriptor)
            with interrupts.held():
                os.rename(making, name, src_dir_fd=parent, dst_dir_fd=parent)
                making = None
            if not is_at(descriptor, name, parent):
                raise CannotUnpack(f"{place} is something else: another user has exchanged it meanwhile")
        except KeyboardInterrupt as e:
            raise Interrupted(f"interrupted; {place} was not made") from e
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
    Let a directory have nothing of the one that it is in: neither group nor
    access control lists, which all in it would inherit in turn.

    @raise CannotUnpack: it is not the one that was made.
    """
    if os.fstat(descriptor).st_uid != geteuid() or os.listdir(descriptor):
        raise CannotUnpack("another user has exchanged the new directory; name one that only you can change")
    os.fchown(descriptor, -1, os.getegid())
    os.fchmod(descriptor, 0o700)
    for name in os.listxattr(descriptor):
        if name.startswith("system.posix_acl_"):
            os.removexattr(descriptor, name)


def _fill(stack: Stack, root: str, display: CopyDisplay) -> str:
    """
    Copy the layers.

    @return: how much it was, in words.
    """
    with display:
        done = flatten(stack.trees, root, display.show, privileged=is_privileged())
    return f"{done.entries} file{'' if done.entries == 1 else 's'}, {size(done.size)}"


def _mount_at(stack: Stack, place: str, interrupts: Interrupts, *, read_only: bool) -> None:
    """
    Mount the layers at a place, which is made if it is not there.

    @raise CannotUse: others can change the place, or a directory above it.
    """
    check_mountable(stack.trees)
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
                        f"{place} is not empty; name a directory that is, or that is not there"
                    )
            kept = None
            if changes is not None:
                try:
                    kept = path_of(folder(changes, 0o700))
                except FileExistsError as e:
                    raise CannotUnpack(
                        f"{place}.overlay keeps what was changed at an earlier mount; remove it first"
                    ) from e
            mount(stack.trees, path_of(target), kept, stack.chain_id, name=place)
        except BaseException as e:
            for path in made:
                rmtree(path, dir_fd=parent)
            if isinstance(e, OSError):
                raise CannotUnpack(f"cannot make {place}: {e.strerror or e}") from e
            raise


def _mount_in(stack: Stack, place: str, making: str, root: str, *, read_only: bool) -> None:
    """
    Mount the layers inside a bundle, where changes are kept too.
    """
    check_mountable(stack.trees)
    changes = None
    if not read_only:
        changes = os.path.join(making, "overlay")
        os.mkdir(changes, 0o700)
    mount(stack.trees, root, changes, stack.chain_id, name=f"{place}/rootfs")


def _stack(args: Namespace, session: Session) -> Stack:
    """
    The layers of the image that is asked for, unpacked by the rules of this
    day if that can be.
    """
    for warning in session.daemon.renew(args.reference):
        session.warn(clean(warning))
    return Stack.of(session.daemon.image(args.reference, args.platform))


def _layers(stack: Stack) -> str:
    """
    How many layers there are, in words.
    """
    return f"{len(stack.trees)} layer{'' if len(stack.trees) == 1 else 's'}"


def _result(stack: Stack, place: str, *, mounted: bool, notes: list[str] | None = None) -> dict[str, Any]:
    """
    What came of it, for JSON.
    """
    return {
        "reference": stack.reference,
        "digest": stack.digest,
        "path": place,
        "mounted": mounted,
        "notes": notes or [],
    }
