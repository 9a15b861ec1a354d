# -*- test-case-name: tests.unpack.test_sandbox_report -*-
"""
C{python -m xferd.unpack.sandbox_report}: the sandbox of a layer's process as
C{/proc} shows it, beside the worker and this process.

Prints a table of reStructuredText, as in C{docs/security.rst}, or with
C{--json} an object.  The processes are real: a worker, and a layer whose bytes
stop after the first.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from xferd.interfaces.unpack import UnpackLimits
from xferd.unpack import protocol
from xferd.unpack.worker import main as main_of_worker

_CAPABILITIES: Final = {
    0: "CHOWN",
    1: "DAC_OVERRIDE",
    3: "FOWNER",
    4: "FSETID",
    8: "SETPCAP",
    18: "SYS_CHROOT",
    21: "SYS_ADMIN",
    27: "MKNOD",
    31: "SETFCAP",
}

_MANY: Final = 10
"""More capabilities than these are counted, not named."""

_NAMESPACES: Final = ("net", "mnt", "ipc", "pid", "user", "uts")

_LIMITS: Final = {
    "Max address space": "AS",
    "Max file size": "FSIZE",
    "Max core file size": "CORE",
    "Max processes": "NPROC",
}

Facts = Mapping[str, str]


def facts(pid: int) -> dict[str, str]:
    """
    The properties of a process's sandbox, by name, from C{/proc}.
    """
    place = Path(f"/proc/{pid}")
    status = dict(
        line.split(":\t", 1) for line in (place / "status").read_text().splitlines() if ":\t" in line
    )
    own = Path("/proc/self/ns")
    apart = [name for name in _NAMESPACES if os.readlink(place / "ns" / name) != os.readlink(own / name)]
    limits = {}
    for line in (place / "limits").read_text().splitlines():
        for title, short in _LIMITS.items():
            if line.startswith(f"{title}  "):
                limits[short] = line[len(title) :].split()[0]
    return {
        "uid": status["Uid"].split()[0],
        "root directory": _root(place),
        "capabilities": _names(status["CapEff"]),
        "permitted": _names(status["CapPrm"]),
        "bounding set": _names(status["CapBnd"]),
        "no_new_privs": status["NoNewPrivs"],
        "seccomp": {"0": "none", "2": "filter"}.get(status["Seccomp"], status["Seccomp"]),
        "namespaces of its own": " ".join(apart) or "none",
        "rlimits": " ".join(f"{name}={value}" for name, value in limits.items() if value != "unlimited")
        or "none",
        "oom_score_adj": (place / "oom_score_adj").read_text().strip(),
        "descriptors": str(len(os.listdir(place / "fd"))),
    }


def _root(place: Path) -> str:
    mounts = len((place / "mounts").read_text().splitlines())
    if os.path.samefile(place / "root", "/"):
        return "/"
    return "the tree, the only mount" if mounts == 1 else "the tree"


def _names(mask: str) -> str:
    bits = [bit for bit in range(64) if int(mask, 16) >> bit & 1]
    if len(bits) > _MANY:
        return f"{len(bits)} capabilities"
    return " ".join(_CAPABILITIES.get(bit, str(bit)) for bit in bits) or "none"


def observe(folder: str) -> dict[str, Any]:
    """
    Start a worker and a layer, inspect them, and end them.

    @param folder: an empty directory of this user's.
    @return: the facts by process, and in C{missing} the worker's report.
    """
    blob, staged = os.path.join(folder, "blob"), os.path.join(folder, "staged")
    Path(blob).write_bytes(bytes(512))
    os.mkdir(staged)
    limits = {name: getattr(UnpackLimits(), name) for name in ("entries", "size", "header", "depth", "ratio")}
    begin = protocol.encode("begin", staged=staged, compression="tar", algorithm="sha256", limits=limits)
    grown = protocol.encode("grown", path=blob, size=512, sealed=False)
    commands, into = os.pipe()
    reports, out = os.pipe()
    worker = os.fork()
    if worker == 0:
        _work(commands, out)
    os.close(commands)
    os.close(out)
    try:
        with open(reports, "rb") as lines:
            missing = _until(lines, "sandbox")["missing"]
            os.write(into, protocol.address(0, begin) + protocol.address(0, grown))
            _until(lines, "hungry")
            layer = int(Path(f"/proc/{worker}/task/{worker}/children").read_text())
            return {
                "daemon": facts(os.getpid()),
                "worker": facts(worker),
                "layer": facts(layer),
                "missing": missing,
            }
    finally:
        os.close(into)
        os.waitpid(worker, 0)


def _work(commands: int, reports: int) -> NoReturn:
    try:
        os.dup2(commands, 0)
        os.dup2(reports, 1)
        os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
        main_of_worker()
    finally:
        os._exit(0)


def _until(lines: IO[bytes], verb: str) -> dict[str, Any]:
    """
    Read messages until the first of a kind.

    @return: its body.
    """
    for line in lines:
        found, body = protocol.decode(protocol.split(line)[1])
        if found == verb:
            return body
        if found in ("error", "ended"):
            break
    raise SystemExit(f"the unpacking worker ended before it sent {verb!r}")


def table(processes: Mapping[str, Facts]) -> str:
    """
    Format a table of reStructuredText with a column for each process.
    """
    lines = [".. list-table::", "   :header-rows: 1", ""]
    names = list(processes)
    for row in ["", *processes[names[0]]]:
        for at, cell in enumerate([row, *(processes[name][row] if row else name for name in names)]):
            lines.append(f"   {'* -' if at == 0 else '  -'} {cell}".rstrip())
    return "\n".join(lines)


def main() -> None:
    """
    Print the table.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = observe(folder)
    if sys.argv[1:] == ["--json"]:
        print(json.dumps(found))
        return
    missing = found.pop("missing")
    print(table(found))
    if missing:
        print(f"\nNot in force: {missing}")


if __name__ == "__main__":
    main()
