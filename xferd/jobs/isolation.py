# -*- test-case-name: tests.jobs.isolation -*-
"""
Which clients share blobs and transfers.

In shared mode, a client that knows a digest shares the transfer of the blob and
the blob itself.  In isolated mode, a client gets no byte that its own registry
would refuse: transfers are shared only between clients with the same credentials
for one repository, and a blob in the store is used only after that repository has
proved to have it (L{xferd.jobs.blobs.possession}).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from attrs import field, frozen

from xferd.interfaces.transfer import ISource

SHARED: Final = "shared"
ISOLATED: Final = "isolated"


@frozen
class SharingScope:
    """
    The clients with the same credentials for one repository: a part of the keys
    of the transfers that only they share.

    @ivar identity: a source's identity, which may contain secrets.
    @ivar label: the repository's name.
    """

    identity: Hashable = field(repr=False)
    label: str = field(eq=False)

    @classmethod
    def of(cls, source: ISource) -> SharingScope:
        """
        The scope of the clients with such a source.
        """
        return cls(source.identity, source.label)

    def __str__(self) -> str:
        # Keys of transfers are shown.
        return self.label
