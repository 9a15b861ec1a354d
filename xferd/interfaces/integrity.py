# -*- test-case-name: tests.test_interfaces -*-
"""
The integrity of the store: content on the disk is compared with what it should be,
and what is damaged is moved out of the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.names import Digest


@frozen
class Damage:
    """
    One damaged thing.

    @ivar path: the file, relative to the data directory; or the entry, relative to its
        tree, with C{.} for the root.
    @ivar problem: what is wrong with it, as it follows the path: C{is missing}.
    """

    path: str
    problem: str


class IPace(Interface):
    """
    How fast content is read.
    """

    rate: float = Attribute("Bytes per second, at most; 0 is no limit.  A change counts at once.")


class IIntegrity(Interface):
    """
    Checks content, and moves what is damaged into C{quarantine/}.
    """

    def pace() -> IPace:
        """
        Make a pace, for any number of checks.
        """

    def check_blob(digest: Digest, size: int | None, pace: IPace) -> Deferred[Damage | None]:
        """
        Read a blob and compare it with its digest, without changing what the kernel
        has in memory.

        @param size: its size in bytes, if it is known.
        @return: fires with the damage, or with L{None} if it is whole.  Cancelling ends
            the check at its next read.
        @raise StoreError: the store is not open.
        """

    def quarantine_blob(digest: Digest) -> Deferred[str | None]:
        """
        Move a blob into C{quarantine/}, durably.  From then on the store does not have
        it.  Readers of the file continue.

        @return: fires with its path there, or with L{None} if there is no such file.
        @raise StoreError: the disk refuses.
        """

    def trees() -> Sequence[Digest]:
        """
        The diff IDs of all trees that layers have.
        """

    def check_tree(diff_id: Digest, pace: IPace) -> Deferred[Sequence[Damage] | None]:
        """
        Compare a tree, and its variants and copies, with its record.

        @return: fires with the damage, or with L{None} if the tree has no record: an older
            version has unpacked it.  Cancelling ends the check at its next read.
        @raise StoreError: the store is not open.
        """

    def adopt_record(staged: str, diff_id: Digest) -> Deferred[None]:
        """
        Give a tree that has no record that of a staged one, which the same blob was
        unpacked to.

        @raise StoreError: the disk refuses.
        """

    def condemn_tree(diff_id: Digest) -> Deferred[None]:
        """
        Record that a tree is damaged, durably: it is outdated from then on.  Mounts that
        use it continue.

        @raise StoreError: the disk refuses.
        """

    def quarantine_tree(diff_id: Digest) -> Deferred[Sequence[str]]:
        """
        Move the damaged trees of a diff ID into C{quarantine/}, durably, after removing
        the layers that have them and those on top.  Mounts that use them continue.

        @return: fires with their paths there.
        @raise StoreError: the disk refuses.
        """
