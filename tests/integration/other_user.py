"""
A user whom the machine does not know, with further users, in mount namespaces alone.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Final
from unittest import SkipTest

from tests.integration.peers import require

JOE: Final = 12345
"""The number of the user."""

_ENTER: Final = """
cd "$(dirname "$0")"
mount --bind passwd /etc/passwd
mount --bind group /etc/group
mount --bind ids /etc/subuid
mount --bind ids /etc/subgid
# The interpreter may be in a directory of root's.
mount --bind {prefix} python
mount -t tmpfs -o mode=755 tmpfs /root
mkdir -p {prefix}
mount --bind python {prefix}
cd /
exec setpriv --reuid={user} --regid={user} --clear-groups --bounding-set=-sys_resource "$@"
"""
"""Runs a program as that user, in a mount namespace that has been made."""


def make_user(directory: Path) -> list[str]:
    """
    Make the user.

    @param directory: an empty one.
    @return: a program that runs the rest of its command line as the user.
    @raise SkipTest: that is not possible here.
    """
    if os.geteuid() != 0:
        raise SkipTest("only root can make a user")
    require("newuidmap")
    if any(not path.stat().st_mode & stat.S_IXOTH for path in Path(sys.prefix).parents):
        raise SkipTest(f"no other user can use {sys.prefix}")
    for name, line in (("passwd", f"joe:x:{JOE}:{JOE}::/:/bin/sh\n"), ("group", f"joe:x:{JOE}:\n")):
        (directory / name).write_text(Path("/etc", name).read_text() + line)
    (directory / "ids").write_text("joe:200000:65536\n")
    (directory / "enter").write_text(_ENTER.format(prefix=sys.base_prefix, user=JOE))
    (directory / "python").mkdir()
    return ["unshare", "--mount", "sh", "-e", str(directory / "enter")]
