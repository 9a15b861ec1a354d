# -*- test-case-name: tests.jobs.verify -*-
"""
The checks of a store in memory.
"""

from __future__ import annotations

from attrs import define
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.interfaces.integrity import Damage, IIntegrity, IPace
from xferd.names import Digest
from xferd.testing.fake_blobs import FakeBlobs
from xferd.testing.gate import Gate


@implementer(IPace)
@define(eq=False)
class FakePace:
    """
    A pace that nothing keeps.
    """

    rate: float = 0.0


@implementer(IIntegrity)
class FakeIntegrity:
    """
    The checks.  The gate's names are C{integrity.check} and C{integrity.quarantine} (keys:
    the digest).

    @ivar paces: the paces that were made.
    @ivar quarantined: the content of blobs that were moved away.
    """

    def __init__(self, blobs: FakeBlobs, gate: Gate) -> None:
        self.paces: list[FakePace] = []
        self.quarantined: dict[Digest, bytes] = {}
        self._blobs = blobs
        self._gate = gate

    def pace(self) -> FakePace:
        self.paces.append(FakePace())
        return self.paces[-1]

    def check_blob(self, digest: Digest, size: int | None, pace: IPace) -> Deferred[Damage | None]:  # noqa: ARG002
        def check(_: None) -> Damage | None:
            data = self._blobs.contents.get(digest)
            path = f"content/blobs/{digest.algorithm}/{digest.hex}"
            if data is None:
                return Damage(path, "is missing")
            found = Digest.of(data, digest.algorithm)
            return None if found == digest else Damage(path, f"has the digest {found}")

        return self._gate.enter("integrity.check", digest).addCallback(check)

    def quarantine_blob(self, digest: Digest) -> Deferred[str | None]:
        data = self._blobs.contents.pop(digest, None)
        if data is None:
            return succeed(None)
        self.quarantined[digest] = data
        return self._gate.enter("integrity.quarantine", digest).addCallback(
            lambda _: f"quarantine/blob-{digest.algorithm}-{digest.hex}"
        )
