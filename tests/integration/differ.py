"""
Compares the trees that xferd and umoci make of random tars with unusual
headers.

Run by hand, as root::

    python -m tests.integration.differ [COUNT [SEED]]

It prints each layer stack whose trees differ, and counts the others by the
program that refused them and by its reason. A difference becomes a case of
C{test_unpack_peers}.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from random import Random
from typing import TypeVar

from tests.integration.umoci import shape, umoci_unpack
from tests.unpack.stack import root_file_system
from tests.unpack.tars import END, header, padded, pax, resum
from xferd.errors import XferdError

T = TypeVar("T")

NAMES = (
    *(b"a", b"b", b"d", b"d/e", b"d/e/f", b"a/x", b"l", b"l/x", b"l/.wh.x", b"h"),
    *(b"a/", b"d/e/.", b"./d/./e", b"/d/x", b"d//x", b"../b", b"d/../b", b"d/e/../../../a", b"d/..", b"."),
    *(b".wh.a", b".wh.d", b"d/.wh.e", b"d/e/.wh.f", b"d/e/.wh..wh..opq", b"d/.wh..wh..opq", b"n/o/.wh.p"),
    *(b"a/.wh.x", b".wh.l", b"d/.wh.e/", b".wh..wh..opq", b"caf\xe9", b"b/.wh..wh..opq", b".wh.b"),
)
MAGICS = (
    *(b"ustar\x0000",) * 6,
    *(b"ustar  \0",) * 4,
    b"",
    b"ustar\0",
    b"ustar 00",
    b"ustar\0  ",
    b"USTAR\x0000",
)
PREFIXES = (
    *(b"",) * 8,
    *(b"d", b"d/e", b"p/q", b"8", b"00000000001\0", b"00000000001\x0000000000002\0", b"1234567012345"),
    *(
        b"d".ljust(131, b"\0") + b"00000000001 00000000002 " + bytes(8) + b"tar\0",
        b"\x80" + bytes(11),
        b"\xc3\xa9",
    ),
    *(
        b"q" * 131 + b"00000000001 00000000002 " + bytes(8) + b"tar\0",
        b"q" * 155,
        b"12345678901234567890123/x",
    ),
)
KINDS = (*(b"0",) * 6, *(b"5",) * 4, b"1", b"1", b"2", b"2", b"\0", b"\0", b"6", b"3", b"7", b"S", b"x")
TARGETS = (b"a", b"d/e", b"/a", b"../a", b"d/e/f", b"d/../a", b"a/", b"b", b"./b")
RECORDS = {
    b"path": (*NAMES, b""),
    b"linkpath": TARGETS,
    b"uid": (b"5", b""),
    b"gid": (b"6", b"0"),
    b"mtime": (b"7.5", b"-1.5", b"8"),
    b"size": (b"3", b"0"),
    # Go drops xattrs without a value, and does not read libarchive's records; GNU tar and bsdtar do both.
    b"SCHILY.xattr.user.a": (b"v", b"\0"),
    b"RHT.security.selinux": (b"x\0",),
    b"comment": (b"c",),
    b"GNU.sparse.name": (b"a", b"s"),
    b"GNU.sparse.map": (b"", b"0,3", b"5,3"),
    b"GNU.sparse.numblocks": (b"1", b"0"),
    b"GNU.sparse.size": (b"9", b"3"),
    b"GNU.sparse.realsize": (b"9",),
    b"GNU.sparse.major": (b"0", b"1"),
    b"GNU.sparse.minor": (b"0", b"1", b"7"),
}


def entry(chance: Random, *, links: bool) -> bytes:
    """
    One entry, with the headers that may precede it.

    @param links: whether it may be a symbolic link.
    """
    name, kind, magic, prefix = (chance.choice(c) for c in (NAMES, KINDS, MAGICS, PREFIXES))
    data = b"xyz" if kind in (b"0", b"\0", b"7", b"S") and chance.random() < 0.8 else b""
    parts = b""
    for flag, texts in ((b"L", NAMES), (b"K", TARGETS)):
        if chance.random() < 0.08:
            text = chance.choice(texts) + b"\0"
            parts += header(b"././@LongLink", flag, len(text), magic=b"ustar  \0") + padded(text)
    if kind == b"x" or chance.random() < 0.3:
        plain = [key for key in RECORDS if not key.startswith(b"GNU.")]
        keys = chance.sample(list(RECORDS) if chance.random() < 0.3 else plain, chance.randint(1, 4))
        records = pax({key: chance.choice(RECORDS[key]) for key in keys})
        parts = records + parts if chance.random() < 0.5 else parts + records
    kind = b"0" if kind == b"x" or (kind == b"2" and not links) else kind
    if chance.random() < 0.05:
        parts = pax({b"uid": b"9", b"SCHILY.xattr.user.g": b"g", b"comment": b"x"}, b"g") + parts
    block = header(
        name,
        kind,
        len(data),
        mode=chance.choice((0o644, 0o755, 0o1777)),
        uid=chance.choice((0, 3)),
        mtime=chance.choice((0, 1, 1_600_000_000)),
        link=chance.choice(TARGETS) if kind in b"12" else b"",
        device=(1, 3) if kind == b"3" else (0, 0),
        magic=magic,
        prefix=prefix,
    )
    if kind == b"S":
        sparse = bytearray(block)
        sparse[386:410] = b"%011o\0%011o\0" % (chance.choice((0, 2)), len(data))
        sparse[482:495] = b"\0%011o\0" % 9
        block = resum(bytes(sparse))
    return parts + block + padded(data)


def layer(chance: Random, *, links: bool) -> bytes:
    """
    The tar of one layer.

    @param links: whether it may have symbolic links.
    """
    whole = b"".join(entry(chance, links=links) for _ in range(chance.randint(1, 6)))
    return whole + chance.choice((END, END, b"", bytes(512)))


def lower() -> bytes:
    """
    A layer with entries that the next one removes or replaces.

    It has no links: umoci follows those of lower layers, other programs do not.
    Its directories have the mode of implied ones, because in umoci the order of
    the entries decides whether a directory that a layer implies and removes
    keeps its attributes.
    """
    folders = b"".join(header(n, b"5", mode=0o755) for n in (b"d", b"d/e"))
    files = b"".join(header(n, b"0", 1) + padded(b"o") for n in (b"a", b"d/x", b"d/e/f", b"d/e/g"))
    return folders + files + END


def differences(place: str, tars: list[bytes]) -> tuple[str, list[str]]:
    """
    Unpack some layers with both programs.

    @return: the program that refused them, and its reason, or C{same} or
        C{other}; and the differences.
    """
    theirs, said = umoci_unpack(os.path.join(place, "theirs"), tars)
    why = ""
    try:
        os.makedirs(os.path.join(place, "ours"))
        ours: str | None = root_file_system(os.path.join(place, "ours"), tars)
    except XferdError as e:
        ours, why = None, re.sub(r"'[^']*'|\d+", "*", str(e))
    if ours is None or theirs is None:
        reason = (
            re.sub("^.*unpack entry: [^:]*: |^.*\u2a2f ", "", said.strip().splitlines()[-1]) if said else ""
        )
        return {
            (True, True): "both refuse",
            (True, False): f"only we refuse: {why}",
            (False, True): f"only umoci refuses: {re.sub(r'/[^ :]*', '*', reason)[-100:]}",
        }[ours is None, theirs is None], []
    mine, other = shape(ours), shape(theirs)
    lines = [
        f"  {path!r}: ours {mine.get(path)}\n    theirs {other.get(path)}"
        for path in sorted(mine.keys() | other.keys())
        if mine.get(path) != other.get(path)
    ]
    return "other" if lines else "same", lines


def main(count: int, seed: int) -> int:
    """
    Try random layers.

    @return: how many stacks differ.
    """
    outcomes: Counter[str] = Counter()
    for number in range(seed, seed + count):
        chance = Random(number)
        tars = [lower(), layer(chance, links=True)]
        if chance.random() < 0.3:
            tars.insert(1, layer(chance, links=False))
        place = tempfile.mkdtemp(prefix="xferd-differ-")
        try:
            outcome, lines = differences(place, tars)
        finally:
            shutil.rmtree(place)
        outcomes[outcome] += 1
        if lines:
            print(f"seed {number} differs:", *lines, sep="\n")
    for outcome, times in outcomes.most_common():
        print(f"{times:6} {outcome}")
    return outcomes["other"]


if __name__ == "__main__":
    arguments = [int(a) for a in sys.argv[1:]]
    sys.exit(bool(main(*(arguments + [1000, 0][len(arguments) :]))))
