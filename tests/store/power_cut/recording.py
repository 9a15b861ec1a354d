"""
Records the system calls of a program with strace, and reads the recording.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from unittest import SkipTest

from attrs import frozen

from tests.integration.programs import environment

CHANGES: Final = (
    "open,openat,creat,close,lseek,write,pwrite64,writev,pwritev,pwritev2,truncate,ftruncate,fallocate,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,mknod,mknodat,"
    "chmod,fchmod,fchmodat,fsync,fdatasync,syncfs,sync,sync_file_range,copy_file_range,sendfile,dup,dup2,dup3"
)
"""The system calls that change files, or how others do."""

_LINE: Final = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<[^>]*>)?(?: .*)?$")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD: Final = re.compile(r"(AT_FDCWD|\d+)<([^>]*)>")


@frozen
class Call:
    """
    One successful system call.

    @ivar name: its name.
    @ivar texts: its strings.
    @ivar paths: the paths of its descriptors, in order.
    @ivar words: all its arguments, as strace prints them.
    @ivar result: what it returned.
    """

    name: str
    texts: list[bytes]
    paths: list[str]
    words: list[str]
    result: int


def record(life: str, path: str, place: Path) -> list[Call]:
    """
    Record one of the lives.

    @param path: its data directory.
    @param place: a directory for the recording.
    @raise SkipTest: there is no strace.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise SkipTest("strace is not installed")
    out = place / "calls"
    options = ["-f", "-y", "-xx", "-s", "16777216", "-e", f"trace={CHANGES}", "-o", str(out)]
    program = [sys.executable, "-m", "tests.store.power_cut.life", life, path]
    done = subprocess.run([strace, *options, *program], env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return list(read(out.read_text("ascii")))


def read(text: str) -> Iterator[Call]:
    """
    The calls of a recording that succeeded.
    """
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            assert "+++" in line or "---" in line or "= ?" in line or "resumed" not in line, line
            continue
        name, arguments, result = match[2], match[3], int(match[4])
        if result < 0:
            continue
        texts = [_bytes(found) for found in _TEXT.findall(arguments)]
        paths = [_bytes(found).decode() for _, found in _FD.findall(arguments)]
        words = _TEXT.sub("TEXT", arguments).split(", ")
        yield Call(name, texts, paths, words, result)


def _bytes(text: str) -> bytes:
    """
    A string of strace's, which may be in hexadecimal.
    """
    if text.startswith("\\x"):
        return bytes.fromhex(text.replace("\\x", ""))
    return text.encode()
