# -*- test-case-name: tests.engines.test_former -*-
"""
Containerds that the settings do not name any more, and whose snapshots are kept.
"""

from __future__ import annotations

import os.path
from collections.abc import Collection, Sequence

from twisted.internet.interfaces import IReactorProcess
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger

from xferd.engines.snapshotter.command import command, settings_of_snapshotter
from xferd.errors import InUse, NotFound, StoreError
from xferd.interfaces.engines import CONTAINERD, STOPPED, EngineJSON
from xferd.interfaces.store import IStore


class FormerEngines:
    """
    The engines that have snapshots, and no settings.
    """

    _log = Logger()

    def __init__(self, store: IStore, named: Collection[str]) -> None:
        """
        @param named: the names in the settings.
        """
        self._store = store
        self._named = frozenset(named)

    def names(self) -> Sequence[str]:
        """
        Their names.
        """
        return [name for name in self._store.snapshots.engines() if name not in self._named]

    def describe(self) -> list[EngineJSON]:
        """
        Their descriptions.
        """
        return [self._describe(name) for name in self.names()]

    def warn(self) -> None:
        """
        Log which engines still keep layers.
        """
        for each in self.describe():
            self._log.warn("containerd {name}: {problem}", name=each["name"], problem=each["problem"])

    async def end_snapshotter(self, reactor: IReactorProcess) -> None:
        """
        End the process that serves containerds if the settings name none any more.
        """
        settings = settings_of_snapshotter(self._store.path)
        if self._named or not os.path.exists(settings):
            return
        program, *argv = command("--stop", self._store.path)
        _, errors, code = await getProcessOutputAndValue(program, argv, {}, "/", reactor)
        if code:
            self._log.error("{why}", why=errors.decode(errors="replace").strip())
        else:
            os.unlink(settings)

    async def forget(self, name: str, mounts: str = "/proc/self/mountinfo") -> int:
        """
        Remove the snapshots and the files of one.

        @param mounts: in the format of proc(5), C{/proc/pid/mountinfo}.
        @return: the number of snapshots.
        @raise NotFound: it has no snapshots.
        @raise InUse: the settings name it, or its containers run.
        @raise StoreError: the disk refuses.
        """
        if name in self._named:
            raise InUse(
                f"the settings name {name}: remove its containers and images with a client of containerd"
            )
        if name not in self.names():
            raise NotFound(f"xferd has no snapshots of a containerd {name}")
        files = os.path.join(self._store.path, "engines", name)
        if _is_mounted(files, mounts):
            raise InUse(f"containers of containerd {name} run; stop them first")
        # First the files: after a crash in between, it can be forgotten again.
        if os.path.lexists(files):
            self._store.discard(files)
        return await self._store.snapshots.forget(name)

    def _describe(self, name: str) -> EngineJSON:
        snapshots = self._store.snapshots.of(name).all()
        layers = {each.chain_id: each for each in snapshots if each.chain_id is not None}
        return {
            "name": name,
            "kind": CONTAINERD,
            "state": STOPPED,
            "problem": f"the settings have no [engines.containerd.{name}]; its containers and their layers "
            f"are kept until 'xferctl engine forget {name}'",
            "path": "",
            "snapshots": len(snapshots),
            "layers": len(layers),
            "size": sum(each.usage.size for each in layers.values() if each.usage is not None),
            "images": [],
        }


def _is_mounted(files: str, mounts: str) -> bool:
    """
    Whether an overlay writes below a directory.

    @raise StoreError: that cannot be found out.
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            # As the kernel writes paths.
            wanted = "upperdir=" + files.replace("\\", "\\134").replace(" ", "\\040") + "/"
            return any(wanted in line for line in file)
    except OSError as e:
        raise StoreError(f"cannot determine what is mounted: {mounts}: {e.strerror}") from e
