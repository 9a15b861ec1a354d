# -*- test-case-name: tests.jobs.verify -*-
"""
The checks of a store in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.interfaces.integrity import Damage, IIntegrity, IPace
from xferd.names import Digest
from xferd.testing.fake_blobs import FakeBlobs
from xferd.testing.fake_trees import FakeLayers, FakeTrees
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
    @ivar damage: the damage of trees, until they are condemned; L{None} for one without a
        record.
    """

    def __init__(self, blobs: FakeBlobs, trees: FakeTrees, layers: FakeLayers, gate: Gate) -> None:
        self.paces: list[FakePace] = []
        self.quarantined: dict[Digest, bytes] = {}
        self.damage: dict[Digest, list[Damage] | None] = {}
        self._blobs = blobs
        self._trees = trees
        self._layers = layers
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

    def trees(self) -> Sequence[Digest]:
        return list(dict.fromkeys(layer.diff_id for layer in self._layers.registered.values()))

    def check_tree(self, diff_id: Digest, pace: IPace) -> Deferred[Sequence[Damage] | None]:  # noqa: ARG002
        def check(_: None) -> Sequence[Damage] | None:
            return self.damage.get(diff_id, [])

        return self._gate.enter("integrity.check", diff_id).addCallback(check)

    def adopt_record(self, staged: str, diff_id: Digest) -> Deferred[None]:  # noqa: ARG002
        del self.damage[diff_id]
        return succeed(None)

    def condemn_tree(self, diff_id: Digest) -> Deferred[None]:
        self.damage.pop(diff_id, None)
        self._trees.damaged.add(diff_id)
        return self._gate.enter("integrity.condemn", diff_id)

    def quarantine_tree(self, diff_id: Digest) -> Deferred[Sequence[str]]:
        self._layers.lose(diff_id)
        self._trees.unpacked.pop(diff_id, None)
        self._trees.damaged.discard(diff_id)
        return self._gate.enter("integrity.quarantine", diff_id).addCallback(
            lambda _: [f"quarantine/tree-{diff_id.algorithm}-{diff_id.hex}"]
        )
