"""
Shared by the tests of the processes that unpack layers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from attrs import asdict, evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.forks import mapped
from tests.unpack.tars import (
    END,
    LIMITS,
    file,
    folder,
    gzipped,
)
from xferd.unpack import protocol, sandbox

SIZE = 1 << 20
TAR = folder(b"d/", mtime=5) + file(b"d/f", b"hello") + file(b"e/g", b"world!") + END


class LayerCase(SynchronousTestCase):
    """
    A scratch directory with a blob and a staging directory.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="xferd-layer-"))
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o755)
        # Processes are forked from this one, which has mapped more than a worker.
        self.patch(sandbox, "MEMORY", sandbox.MEMORY + mapped())
        self.staged = os.path.join(self.folder, "staged")
        os.mkdir(self.staged)
        self.blob = os.path.join(self.folder, "blob")
        self.write(gzipped(TAR))

    def write(self, data: bytes) -> None:
        """
        Write the blob.
        """
        with open(self.blob, "wb") as f:
            f.write(data)

    def grown(self, size: int, sealed: bool, path: str | None = None) -> bytes:
        """
        A line as a layer's process gets it.
        """
        return protocol.encode("grown", path=path or self.blob, size=size, sealed=sealed)

    def sealed(self) -> bytes:
        """
        All of the blob.
        """
        return self.grown(os.path.getsize(self.blob), True)

    def task(self, **changes: Any) -> dict[str, Any]:
        """
        The body of C{begin}.
        """
        limits = asdict(evolve(LIMITS, **changes))
        return {"staged": self.staged, "compression": "gzip", "algorithm": "sha256", "limits": limits}
