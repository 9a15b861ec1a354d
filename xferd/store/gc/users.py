# -*- test-case-name: tests.store.gc.test_users -*-
"""
The users of layers outside of the store, such as container engines, for which
the garbage collector keeps layers.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence, Set
from typing import Final

from twisted.internet.defer import CancelledError

from xferd.errors import StoreError
from xferd.interfaces.collection import ILayerUser
from xferd.names import Digest

_MOST: Final = 10
"""Texts that say what needs one layer, at most."""


class LayerUsers:
    """
    The users of layers.
    """

    def __init__(self) -> None:
        self._users: list[ILayerUser] = []

    def __iter__(self) -> Iterator[ILayerUser]:
        return iter(self._users)

    def add(self, user: ILayerUser) -> None:
        """
        Add a user.  Idempotent.
        """
        if user not in self._users:
            self._users.append(user)

    async def refresh(self) -> None:
        """
        Let all users read what they need by now.

        @raise StoreError: one of them cannot find out.
        """
        for user in self._users:
            try:
                await user.refresh()
            except CancelledError:
                raise
            except Exception as e:
                raise StoreError(
                    f"no content is freed, since it is unknown which layers {user.name} needs: {e}"
                ) from e

    def need(self, digest: Digest) -> bool:
        """
        Whether a user needs a layer or a blob.
        """
        return any(digest in user.used() for user in self._users)

    def needed(self) -> Set[Digest]:
        """
        The chain IDs of layers, and the digests of blobs, that users need.
        """
        return {digest for user in self._users for digest in user.used()}

    def texts(self, digest: Digest | None) -> Sequence[str]:
        """
        What needs a layer or a blob.
        """
        found = []
        for user in self._users:
            texts = None if digest is None else user.used().get(digest)
            if texts is not None:
                found += [f"{user.name}: {text}" for text in texts] or [user.name]
        return shorten(found)


def reasons(user: ILayerUser, layers: Container[Digest]) -> Sequence[str]:
    """
    What of a user needs some of these layers, each once.
    """
    texts = (texts for digest, texts in user.used().items() if digest in layers)
    return list(dict.fromkeys(text for each in texts for text in each))


def shorten(texts: Sequence[str]) -> Sequence[str]:
    """
    The first ones, and how many others there are.
    """
    return texts if len(texts) <= _MOST else [*texts[:_MOST], f"and {len(texts) - _MOST} more"]
