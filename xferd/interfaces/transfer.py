# -*- test-case-name: tests.test_interfaces -*-
"""
What the transfer engine needs of its callers: sources of bytes, and sinks of
progress.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from zope.interface import Attribute, Interface


class HostAccount(NamedTuple):
    """
    One account at one host.  A registry's rate limit belongs to it.

    @ivar host: the registry's host.
    @ivar account: the account there, as in
        L{ISource}.
    """

    host: str
    account: Hashable = None


class ISource(Interface):
    """
    A place that a transfer can take its bytes from.  Each watcher adds one.
    """

    host: str = Attribute("The registry's host, by which slots and pauses are counted; empty for none.")
    label: str = Attribute("The name of the source on the page: host/path, never a secret.")
    identity: Hashable = Attribute("Equal for sources that behave alike: host, repository, credentials.")
    account: Hashable = Attribute(
        "The account at the host, by which pauses are counted: equal for equal credentials, and no secret; "
        "None for the daemon's own credentials for the host, or for anonymous access."
    )


class IProgressSink(Interface):
    """
    Receives the progress of a transfer for one watcher.  Providers only
    remember it: C{put} neither blocks, nor raises, nor calls back.
    """

    def put(key: Hashable, item: Any) -> None:
        """
        Remember C{item} as the newest under C{key}, in place of an older one.
        """
