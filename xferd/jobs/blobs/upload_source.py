# -*- test-case-name: tests.jobs.blobs.test_upload_source -*-
"""
The source of one watcher of an upload: the repository to push a blob into, and
the blob's bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeAlias

from zope.interface import implementer

from xferd.interfaces.registry import IRepository
from xferd.interfaces.transfer import ISource
from xferd.jobs.blobs.reader import BlobReader
from xferd.jobs.blobs.relay import RelayedBlob

UploadContent: TypeAlias = "BlobReader | RelayedBlob"
"""A blob's bytes for an upload, which has to close them."""


@implementer(ISource)
class UploadSource:
    """
    A target with content.  To the engine it is one source among others: where
    its content fails, an upload continues with that of another watcher.
    """

    def __init__(
        self, target: IRepository, content: Callable[[], UploadContent], origin: ISource, job: int = 0
    ) -> None:
        """
        @param content: opens the blob's bytes.
        @param origin: the source of the bytes.
        @param job: the number of the job that they arrive for: with it, they pause.
        """
        self.target = target
        self.content = content
        self.host = target.host
        self.account = target.account
        self.label = target.label
        self.identity: Hashable = (target.identity, origin.identity, job)
