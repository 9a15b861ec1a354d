# -*- test-case-name: tests.jobs.blobs.test_upload_source -*-
"""
What one watcher of an upload brings: a repository to put a blob into, and a
place to take its bytes from.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from zope.interface import implementer

from xferd.interfaces.registry import IRepository
from xferd.interfaces.transfer import ISource
from xferd.jobs.blobs.reader import BlobReader


@implementer(ISource)
class UploadSource:
    """
    A target with a content.  To the engine it is one source among others:
    where its content fails, an upload goes on with that of another watcher.
    """

    def __init__(self, target: IRepository, content: Callable[[], BlobReader], origin: ISource) -> None:
        """
        @param content: opens the bytes.
        @param origin: where they come from.
        """
        self.target = target
        self.content = content
        self.host = target.host
        self.account = target.account
        self.label = target.label
        self.identity: Hashable = (target.identity, origin.identity)
