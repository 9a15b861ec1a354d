# -*- test-case-name: tests.test_interfaces -*-
"""
What the transfer engine needs of the transfers that it runs, and reports to its callers.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from zope.interface import Attribute, Interface


class ISource(Interface):
    """
    A place that a transfer can take its bytes from.  Every watcher brings one.
    """

    host: str = Attribute("The registry's host, by which slots and pauses are counted.")
    label: str = Attribute("What to call the source on the page: host/path, never a secret.")
    identity: Hashable = Attribute(
        "Equal for sources that would behave alike: host, repository, credentials."
    )
    account: Hashable = Attribute(
        "Whose credentials are used at the host, by which pauses are counted: equal for equal credentials, "
        "and no secret; None for those that the daemon has for the host, or for anonymous access."
    )


class IProgressSink(Interface):
    """
    Where a watcher's progress goes.  Providers only remember: C{put} neither
    blocks, nor raises, nor calls back.
    """

    def put(key: Hashable, item: Any) -> None:
        """
        Remember C{item} as the newest under C{key}, in place of an older one.
        """
