# -*- test-case-name: tests.jobs.test_isolation -*-
"""
Who shares with whom.

Shared, who knows a digest shares what is on its way and what is there.
Isolated, nobody gets a byte that the registry of its own would not give to it:
transfers are shared only between those who are the same to one repository, and
what is there already is used only once that repository, asked with the client's
own credentials, has proved to have it (L{xferd.jobs.blobs.possession}).
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
    All those who are the same to one repository of one registry: a part of
    the keys of what only they share.

    @ivar identity: a source's; it may have secrets in it.
    @ivar label: what to call it: the repository.
    """

    identity: Hashable = field(repr=False)
    label: str = field(eq=False)

    @classmethod
    def of(cls, source: ISource) -> SharingScope:
        """
        The realm of those with such a source.
        """
        return cls(source.identity, source.label)

    def __str__(self) -> str:
        # Keys of transfers are shown.
        return self.label
