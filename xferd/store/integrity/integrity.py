# -*- test-case-name: tests.store.integrity.test_integrity -*-
"""
Checks the content of the store, and moves what is damaged into C{quarantine/}.

What is there is never removed: an operator may need it.
"""

from __future__ import annotations

import os
from threading import Event

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.interfaces.integrity import Damage, IIntegrity, IPace
from xferd.names import Digest
from xferd.store.disk.file_system import make_directory, move, trying_to
from xferd.store.integrity.blob_check import check_blob
from xferd.store.integrity.pace import Pace
from xferd.store.leases import Leases
from xferd.store.paths import Paths
from xferd.store.threads import Threads


@implementer(IIntegrity)
class Integrity:
    """
    The integrity of a data directory.
    """

    def __init__(self, paths: Paths, threads: Threads, reading: Threads, leases: Leases) -> None:
        """
        @param reading: threads for the checks, which may take hours.
        """
        self._paths = paths
        self._threads = threads
        self._reading = reading
        self._leases = leases

    def pace(self) -> Pace:
        return Pace()

    def check_blob(self, digest: Digest, size: int | None, pace: IPace) -> Deferred[Damage | None]:
        assert isinstance(pace, Pace)
        self._leases.touch(digest)
        path, stop = self._paths.blob(digest), Event()

        def check() -> Damage | None:
            problem = check_blob(path, digest, size, pace, stop)
            return Damage(os.path.relpath(path, self._paths.root), problem) if problem else None

        return self._reading.run(check, stop=stop)

    def quarantine_blob(self, digest: Digest) -> Deferred[str | None]:
        name = f"blob-{digest.algorithm}-{digest.hex}"
        return self._threads.run(quarantine, self._paths, self._paths.blob(digest), name)


def quarantine(paths: Paths, path: str, name: str) -> str | None:
    """
    Move a file or a directory into C{quarantine/}.  Blocking, for a thread.

    @param name: its name there; a number follows if the name is taken.
    @return: its path there, or L{None} if it does not exist.
    """
    with trying_to(f"move {path} into {paths.quarantine}"):
        make_directory(paths.quarantine, 0o700)
        target, number = os.path.join(paths.quarantine, name), 1
        while os.path.lexists(target):
            number += 1
            target = os.path.join(paths.quarantine, f"{name}-{number}")
        try:
            move(path, target)
        except FileNotFoundError:
            return None
    return target
