"""
Processes whose mounts the garbage collector reads: a directory in the form of proc(5).
"""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase


class ProcessesCase(SynchronousTestCase):
    """
    Processes in one mount namespace.
    """

    def setUp(self) -> None:
        """
        Have one process without mounts.
        """
        super().setUp()
        self.processes = self.mktemp()
        self.process("self")

    def process(self, name: str, *mounts: str, namespace: str | None = None, root: str = "/") -> None:
        """
        Have a process with these mounts.

        @param namespace: the process whose namespace it shares.
        @param root: what the mounts show of their file systems.
        """
        place = os.path.join(self.processes, name)
        os.makedirs(os.path.join(place, "ns"))
        if namespace is None:
            with open(os.path.join(place, "ns", "mnt"), "wb"):
                pass
        else:
            os.link(os.path.join(self.processes, namespace, "ns", "mnt"), os.path.join(place, "ns", "mnt"))
        with open(os.path.join(place, "mountinfo"), "w") as file:
            file.writelines(f"36 35 0:33 {root} /mnt rw shared:1 - {mount}\n" for mount in mounts)
