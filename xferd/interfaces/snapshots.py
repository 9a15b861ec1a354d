# -*- test-case-name: tests.test_interfaces -*-
"""
The snapshots that container engines make on the layers of the store, and what an
engine can do with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.names import Digest


class Kind(Enum):
    """
    The kinds of snapshots, by their numbers in C{containerd.services.snapshots.v1}.
    """

    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3


@frozen
class Usage:
    """
    The space that a snapshot takes, without its parents.

    @ivar size: bytes.
    @ivar inodes: files and directories.
    """

    size: int = 0
    inodes: int = 0


@frozen
class Snapshot:
    """
    A snapshot of an engine.

    @ivar number: its number, unique for the engine, by which its files are named.
    @ivar key: its name, which the engine has chosen: any text.
    @ivar parent: the key of the committed snapshot below, or the empty string.
    @ivar created: nanoseconds since the epoch.
    @ivar updated: the same, of the last change.
    @ivar chain_id: the layer of the store that it is; L{None} for one with files of
        its own.
    @ivar usage: what a committed one takes, once that is known.
    """

    number: int
    key: str
    kind: Kind
    parent: str
    created: int
    updated: int
    labels: Mapping[str, str] = field(factory=dict, hash=False)
    chain_id: Digest | None = None
    usage: Usage | None = None


@frozen
class Mount:
    """
    A mount for the engine to make, as mount(8) takes it.
    """

    type: str
    source: str
    options: tuple[str, ...]
    target: str = ""


class ISnapshotTable(Interface):
    """
    The snapshots of one engine.

    They are in memory: changes are visible at once, durable when their Deferred
    fires, and undone if it fails.  Cancelling waits for the disk.
    """

    name: str = Attribute("The engine as messages name it: C{containerd main}.")

    def get(key: str) -> Snapshot | None:
        """
        The snapshot of this name, or L{None}.
        """

    def all() -> Sequence[Snapshot]:
        """
        All snapshots, the oldest first.
        """

    def has_children(key: str) -> bool:
        """
        Whether a snapshot is the parent of another one.
        """

    def chain(key: str) -> Sequence[Snapshot]:
        """
        A snapshot and all below it, the top first; none for the empty string.
        """

    def number() -> int:
        """
        A number for a new snapshot, which no present or removed one has had since
        the start.
        """

    def put(snapshot: Snapshot, promise: int | None = None) -> Deferred[None]:
        """
        Add a snapshot, or replace the one with its number.

        @param promise: the number of the promise that its layer stays until then:
            L{ISnapshotTables.promise}.
        @raise StoreError: the disk refuses, or a collection has begun since the promise.
        """

    def remove(snapshot: Snapshot) -> Deferred[None]:
        """
        Remove a snapshot.

        @raise StoreError: the disk refuses.
        """


class ISnapshotTables(Interface):
    """
    The snapshots of all engines.  The garbage collector keeps the layers that they
    need, also for engines that are not served at present.
    """

    def of(engine: str) -> ISnapshotTable:
        """
        The snapshots of an engine.
        """

    def reload(engine: str | None = None) -> Deferred[None]:
        """
        Read what another process has changed.

        @param engine: the only one whose snapshots are read.
        @raise StoreError: the disk refuses.
        """

    def promise(engine: str, chain_id: Digest) -> int:
        """
        Promise a layer, on which the caller holds a lease, for a snapshot that the
        snapshotter records: it stays, also if the lease ends, until that is recorded or
        can no longer be.

        @return: the number of the promise, for L{ISnapshotTable.put}.
        """

    def engines() -> Sequence[str]:
        """
        The names of the engines that have snapshots.
        """

    def forget(engine: str) -> Deferred[int]:
        """
        Remove all snapshots of an engine.  Cancelling waits for the disk.

        @return: fires with their number.
        @raise StoreError: the disk refuses; then all stay.
        """


class ISnapshotter(Interface):
    """
    The calls of C{containerd.services.snapshots.v1}.

    Errors are L{SnapshotError<xferd.engines.snapshotter.errors.SnapshotError>}, with
    the code of gRPC, and L{XferdError<xferd.errors.XferdError>} where the daemon or its
    disk fails.  Cancelling ends what can end: a wait for a layer.  All else is done.
    """

    name: str = Attribute("The engine's name in the settings.")

    def prepare(key: str, parent: str, labels: Mapping[str, str]) -> Deferred[Sequence[Mount]]:
        """
        Make an active snapshot.  With the labels of an image, obtain the layer instead.

        @raise SnapshotExists: the key is in use, or the layer is there now as a committed
            snapshot.
        @raise SnapshotUnknown: there is no such parent.
        @raise BadCall: the parent is not committed, or a label is invalid.
        """

    def view(key: str, parent: str, labels: Mapping[str, str]) -> Deferred[Sequence[Mount]]:
        """
        Make a snapshot that is read only.

        @raise SnapshotError: as for L{prepare}.
        """

    def mounts(key: str) -> Deferred[Sequence[Mount]]:
        """
        The mounts of an active snapshot or a view: the same at any time.

        @raise SnapshotUnknown: there is no such snapshot.
        @raise NotPossible: it is committed.
        """

    def commit(name: str, key: str, labels: Mapping[str, str], parent: str) -> Deferred[None]:
        """
        Make an active snapshot a committed one, under another name.

        @param parent: the parent of one that was prepared without, or the empty string.
        @raise SnapshotExists: the name is in use.
        @raise SnapshotUnknown: there is no such snapshot, or no such parent.
        @raise NotPossible: the snapshot is not active, or its parent not committed.
        @raise BadCall: it has another parent, or a label is invalid.
        """

    def remove(key: str) -> Deferred[None]:
        """
        Remove a snapshot and its own files; a layer of the store stays there.

        @raise SnapshotUnknown: there is no such snapshot.
        @raise NotPossible: it is the parent of another one.
        """

    def stat(key: str) -> Deferred[Snapshot]:
        """
        A snapshot.

        @raise SnapshotUnknown: there is none of this name.
        """

    def update(key: str, labels: Mapping[str, str], paths: Sequence[str]) -> Deferred[Snapshot]:
        """
        Set labels.

        @param paths: what to set: C{labels} or C{labels.KEY}; nothing for all labels.
        @raise SnapshotUnknown: there is no such snapshot.
        @raise BadCall: another path is given, or a label is invalid.
        """

    def all(filters: Sequence[str]) -> Deferred[Sequence[Snapshot]]:
        """
        The snapshots that this engine made.

        @param filters: of containerd's grammar: those that match any are returned; all
            that a filter of an unknown form may match.
        """

    def usage(key: str) -> Deferred[Usage]:
        """
        The space that a snapshot takes, without its parents.

        @raise SnapshotUnknown: there is no such snapshot.
        """

    def cleanup() -> Deferred[None]:
        """
        Remove the files of removed snapshots.
        """
