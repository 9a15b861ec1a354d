"""
A model of a disk: what system calls change, and what a power cut may leave of it.

POSIX promises that a file's content is on the disk after C{fsync} of the file, and a
name after C{fsync} of its directory; C{syncfs} does both for all.  Of everything else, a
power cut leaves any part: of two writes the second one, a name without the content of
its file, or a renamed file under both names.  A rename never loses the file: its old
name is gone only if the new one is there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from attrs import define, field, frozen

from tests.store.power_cut.recording import Call

AT_CWD: Final = "AT_FDCWD"


@define(eq=False)
class Node:
    """
    A file or a directory, as the running program sees it.

    @ivar entries: of a directory, its entries; L{None} of a file.
    """

    mode: int
    entries: dict[str, Node] | None = None
    size: int = 0


@frozen(eq=False)
class Effect:
    """
    One change.

    @ivar number: its place among all changes.
    @ivar node: what C{fsync} of makes it durable.
    @ivar name: the entry that it sets; empty if it does not change the directory.
    @ivar child: what the entry is then; L{None} if it is removed.
    @ivar offset: where C{data} is written.
    @ivar data: what is written; L{None} if it changes no content.
    @ivar size: the size that it sets; -1 if it does not.
    @ivar mode: the mode that it sets; -1 if it does not.
    @ivar after: the change without which it cannot be on the disk.
    """

    number: int
    node: Node
    name: str = ""
    child: Node | None = None
    offset: int = 0
    data: bytes | None = None
    size: int = -1
    mode: int = -1
    after: Effect | None = None


@frozen
class Sync:
    """
    C{fsync} of a file or directory, or of all.

    @ivar node: L{None} for all.
    @ivar what: what it was called for, without the names that differ each time.
    @ivar before: the number of changes before it.
    """

    node: Node | None
    what: str
    before: int


@frozen
class Said:
    """
    A step that was reported as done.

    @ivar before: the number of changes before it.
    """

    line: str
    before: int


@define
class _Open:
    node: Node
    path: str
    offset: int = 0
    append: bool = False


class Disk:
    """
    The part of a file system below one directory.

    @ivar effects: all changes, in order.
    @ivar events: what makes changes durable, and what is reported, in order.
    """

    def __init__(self, root: str) -> None:
        """
        @param root: a directory whose present content is on the disk.
        """
        self._path = root
        self.root = _load(root)
        self._first = _load_again(self.root)
        self.effects: list[Effect] = []
        self.events: list[Sync | Said] = []
        self._open: dict[int, _Open] = {}

    def play(self, calls: Iterable[Call]) -> None:
        """
        Do what the program has done.
        """
        for call in calls:
            handler = getattr(self, f"_{call.name}", None)
            if handler is not None:
                handler(call)
            else:
                # What the model does not know must not touch the directory.
                named = [*self._named(call), *call.paths]
                touched = [path for path in named if self._inside(path)]
                assert not touched, call

    # -------------------------------------------------------------- calls

    def _openat(self, call: Call) -> None:
        (path,) = self._named(call)
        self._opened(path, call.words[2], call.words[3] if len(call.words) > 3 else "0", call.result)

    def _opened(self, path: str, flags: str, mode: str, fd: int) -> None:
        self._open.pop(fd, None)
        if not self._inside(path):
            return
        above, name = self._parent(path)
        assert "O_TMPFILE" not in flags, path
        node = self._find(path)
        if node is None:
            assert "O_CREAT" in flags, path
            node = Node(int(mode, 8) & ~0o022)
            self._set(above, name, node)
        elif "O_TRUNC" in flags and node.size:
            node.size = 0
            self._add(Effect(len(self.effects), node, size=0))
        self._open[fd] = _Open(node, path, append="O_APPEND" in flags)

    def _close(self, call: Call) -> None:
        self._open.pop(_fd(call), None)

    def _lseek(self, call: Call) -> None:
        if _fd(call) in self._open:
            self._open[_fd(call)].offset = call.result

    def _write(self, call: Call) -> None:
        fd = _fd(call)
        if fd == 1:
            lines = b"".join(call.texts).decode().splitlines()
            self.events += [Said(line, len(self.effects)) for line in lines]
        elif fd in self._open:
            file = self._open[fd]
            offset = file.node.size if file.append else file.offset
            self._put(file.node, offset, call.texts[0][: call.result])
            file.offset = offset + call.result

    def _pwrite64(self, call: Call) -> None:
        if _fd(call) in self._open:
            self._put(self._open[_fd(call)].node, int(call.words[-1]), call.texts[0][: call.result])

    def _ftruncate(self, call: Call) -> None:
        if _fd(call) in self._open:
            node = self._open[_fd(call)].node
            node.size = int(call.words[1])
            self._add(Effect(len(self.effects), node, size=node.size))

    def _fallocate(self, call: Call) -> None:
        if _fd(call) in self._open:
            node = self._open[_fd(call)].node
            node.size = max(node.size, int(call.words[2]) + int(call.words[3]))
            self._add(Effect(len(self.effects), node, size=node.size))

    def _mkdir(self, call: Call) -> None:
        (path,) = self._named(call)
        if self._inside(path):
            self._set(*self._parent(path), Node(int(call.words[-1], 8) & ~0o022, {}))

    _mkdirat = _mkdir

    def _unlink(self, call: Call) -> None:
        (path,) = self._named(call)
        if self._inside(path):
            self._set(*self._parent(path), None)

    _unlinkat = _rmdir = _unlink

    def _rename(self, call: Call) -> None:
        source, target = self._named(call)
        if self._inside(source) or self._inside(target):
            node = self._find(source)
            assert node is not None, source
            there = self._set(*self._parent(target), node)
            self._set(*self._parent(source), None, after=there)

    _renameat = _renameat2 = _rename

    def _link(self, call: Call) -> None:
        source, target = self._named(call)
        if self._inside(target):
            node = self._find(source)
            assert node is not None, source
            self._set(*self._parent(target), node)

    _linkat = _link

    def _fchmod(self, call: Call) -> None:
        if _fd(call) in self._open:
            self._change_mode(self._open[_fd(call)].node, call)

    def _chmod(self, call: Call) -> None:
        (path,) = self._named(call)
        if self._inside(path):
            node = self._find(path)
            assert node is not None, path
            self._change_mode(node, call)

    _fchmodat = _chmod

    def _fsync(self, call: Call) -> None:
        if _fd(call) in self._open:
            file = self._open[_fd(call)]
            self.events.append(
                Sync(file.node, _general(call.name, self._relative(file.path)), len(self.effects))
            )

    _fdatasync = _fsync

    def _syncfs(self, call: Call) -> None:
        if _fd(call) in self._open:
            path = self._relative(self._open[_fd(call)].path)
            self.events.append(Sync(None, _general(call.name, path), len(self.effects)))

    # ------------------------------------------------------------ changes

    def _put(self, node: Node, offset: int, data: bytes) -> None:
        node.size = max(node.size, offset + len(data))
        self._add(Effect(len(self.effects), node, offset=offset, data=data))

    def _set(self, above: Node, name: str, child: Node | None, after: Effect | None = None) -> Effect:
        assert above.entries is not None
        if child is None:
            above.entries.pop(name, None)
        else:
            above.entries[name] = child
        return self._add(Effect(len(self.effects), above, name, child, after=after))

    def _change_mode(self, node: Node, call: Call) -> None:
        number = next(word for word in call.words[1:] if word.startswith("0"))
        # The node keeps the mode that it was made with: this one may be lost.
        self._add(Effect(len(self.effects), node, mode=int(number, 8)))

    def _add(self, effect: Effect) -> Effect:
        self.effects.append(effect)
        return effect

    # --------------------------------------------------------------- paths

    def _named(self, call: Call) -> list[str]:
        """
        The absolute paths that a call names.
        """
        found: list[str] = []
        descriptors = [word for word in call.words if "<" in word]
        directories = iter(call.paths)
        before = ""
        for word in call.words:
            if word in descriptors:
                before = next(directories)
            elif word == "TEXT" and len(found) < len(call.texts):
                found.append(os.path.normpath(os.path.join(before, call.texts[len(found)].decode("latin-1"))))
        return found

    def _inside(self, path: str) -> bool:
        return path.startswith(self._path + "/")

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._path)

    def _parent(self, path: str) -> tuple[Node, str]:
        above = self._find(os.path.dirname(path))
        assert above is not None, path
        return above, os.path.basename(path)

    def _find(self, path: str) -> Node | None:
        node = self.root
        if path != self._path:
            for name in self._relative(path).split("/"):
                found = None if node.entries is None else node.entries.get(name)
                if found is None:
                    return None
                node = found
        return node

    # -------------------------------------------------------------- states

    def durable(self, at: int, lost: Collection[str] = ()) -> set[int]:
        """
        The numbers of the changes that are on the disk for sure.

        @param at: the index of the event before which the power is cut.
        @param lost: the kinds of syncs that the program is to lack.
        """
        sure: set[int] = set()
        for event in self.events[:at]:
            if isinstance(event, Sync) and event.what not in lost:
                for effect in self.effects[: event.before]:
                    if event.node is None or effect.node is event.node:
                        sure.add(effect.number)
        return sure

    def state(
        self, chosen: Collection[int], zeros: Collection[int] = ()
    ) -> dict[str, tuple[int, bytes | None]]:
        """
        The disk with some changes.

        @param chosen: their numbers.
        @param zeros: the numbers of writes whose size is on the disk without their data.
        @return: mode and content of each path, L{None} for a directory.
        """
        entries = {node: dict(names) for node, names in self._first.entries.items()}
        content = {node: bytearray(data) for node, data in self._first.content.items()}
        modes: dict[Node, int] = dict(self._first.modes)
        for effect in self.effects:
            if effect.number not in chosen and effect.number not in zeros:
                continue
            if effect.after is not None and effect.after.number not in chosen:
                continue
            if effect.name:
                names = entries.setdefault(effect.node, {})
                if effect.child is None:
                    names.pop(effect.name, None)
                else:
                    names[effect.name] = effect.child
            elif effect.mode >= 0:
                modes[effect.node] = effect.mode
            else:
                held = content.setdefault(effect.node, bytearray())
                if effect.data is not None:
                    data = effect.data if effect.number in chosen else bytes(len(effect.data))
                    held.extend(bytes(max(0, effect.offset - len(held))))
                    held[effect.offset : effect.offset + len(data)] = data
                elif effect.size < len(held):
                    del held[effect.size :]
                else:
                    held.extend(bytes(effect.size - len(held)))
        found: dict[str, tuple[int, bytes | None]] = {}
        waiting: list[tuple[str, Node]] = [("", self.root)]
        while waiting:
            path, node = waiting.pop()
            for name, child in entries.get(node, {}).items():
                below = f"{path}/{name}" if path else name
                mode = modes.get(child, child.mode)
                if child.entries is None:
                    found[below] = mode, bytes(content.get(child, b""))
                else:
                    found[below] = mode, None
                    waiting.append((below, child))
        return found


@define
class _First:
    """
    What is on the disk in the beginning.
    """

    entries: dict[Node, dict[str, Node]] = field(factory=dict)
    content: dict[Node, bytes] = field(factory=dict)
    modes: dict[Node, int] = field(factory=dict)


_CONTENT: dict[int, bytes] = {}


def _load(path: str) -> Node:
    """
    Read a directory.
    """
    node = Node(os.stat(path).st_mode & 0o7777, {})
    assert node.entries is not None
    for name in os.listdir(path):
        below = os.path.join(path, name)
        if os.path.isdir(below):
            node.entries[name] = _load(below)
        else:
            with open(below, "rb") as file:
                data = file.read()
            child = node.entries[name] = Node(os.stat(below).st_mode & 0o7777, None, len(data))
            _CONTENT[id(child)] = data
    return node


def _load_again(root: Node) -> _First:
    first = _First()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        first.modes[node] = node.mode
        if node.entries is None:
            first.content[node] = _CONTENT.pop(id(node))
        else:
            first.entries[node] = dict(node.entries)
            waiting += node.entries.values()
    return first


def write(state: dict[str, tuple[int, bytes | None]], path: str) -> None:
    """
    Write a state of the disk into an empty directory.
    """
    for name, (_, data) in sorted(state.items()):
        target = os.path.join(path, name)
        if data is None:
            os.mkdir(target, 0o700)
        else:
            with open(target, "wb") as file:
                file.write(data)
    for name, (mode, _) in sorted(state.items(), reverse=True):
        os.chmod(os.path.join(path, name), mode)


def _fd(call: Call) -> int:
    return int(call.words[0].partition("<")[0])


def _general(name: str, path: str) -> str:
    """
    What a sync is for, without digests and numbers.
    """
    parts: list[str] = []
    for part in path.split("/"):
        if len(part.partition(".")[0]) in (64, 128) and all(c in "0123456789abcdef." for c in part):
            parts.append("HEX" if "." not in part else "HEX.KEY")
        elif part.startswith(("sha256-", "sha512-")):
            parts.append("PARTIAL" + (".spans" if part.endswith(".spans") else ""))
        elif part.startswith(("file-", "tree-", "blob-", "upload-")):
            parts.append(part.partition("-")[0].upper())
        elif part in ("sha256", "sha512"):
            parts.append("ALGORITHM")
        else:
            parts.append(part)
    return f"{name} {'/'.join(parts)}"


def choices(pending: list[Effect]) -> Iterator[tuple[set[int], set[int]]]:
    """
    Which of the changes that are not durable a power cut leaves: none, all, all but one,
    one alone, those up to each one, and all with the sizes of files without their data.

    @return: the numbers of those that are left, and of writes whose data are lost.
    """
    numbers = [effect.number for effect in pending]
    data = {effect.number for effect in pending if effect.data is not None}
    yield set(), set()
    yield set(numbers), set()
    if data:
        yield set(numbers) - data, data
        yield set(numbers) - data, set()
    for number in numbers:
        yield set(numbers) - {number}, set()
        yield {number}, set()
        if number in data:
            yield set(numbers) - {number}, {number}
