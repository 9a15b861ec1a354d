# -*- test-case-name: tests.fleet.etcd.test_tags -*-
"""
Tags that a node of the fleet has checked lately.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime

from xferd.expiring import ExpiringDict
from xferd.fleet.etcd.answers import bad_answer
from xferd.fleet.etcd.batches import Batches
from xferd.fleet.etcd.client import EtcdClient
from xferd.fleet.etcd.messages import BadAnswer, get, key_values, number, put
from xferd.fleet.etcd.records import read_tag, tag_key, tag_value
from xferd.names import Digest

SHARED_PART: Final = 0.1
"""The part of its time for which a lease serves further tags, which so are fresh a
little shorter than they might be."""


class Tags:
    """
    The digests of tags.  Each is bound to a lease of the time for which it holds, so that
    etcd has only fresh ones, and no clocks are compared.
    """

    def __init__(self, clock: IReactorTime, client: EtcdClient, batches: Batches) -> None:
        self._clock = clock
        self._client = client
        self._batches = batches
        # By their seconds: when a lease began, and its number.
        self._leases: ExpiringDict[int, tuple[float, int]] = ExpiringDict(clock.seconds, most=10)

    async def fresh(self, key: str) -> Digest | None:
        """
        Look up a tag.

        @raise CoordinationUnavailable: there is no answer.
        """
        where = tag_key(key)
        try:
            found = key_values(await self._batches.add(get(where)), where, 1)
        except BadAnswer as e:
            raise bad_answer(e) from None
        return read_tag(found[0]) if found else None

    async def checked(self, key: str, digest: Digest, ttl: float) -> None:
        """
        Make a tag known.

        @param ttl: seconds for which its digest holds.
        @raise CoordinationUnavailable: there is no answer.
        """
        seconds = int(ttl)
        if seconds < 1:
            return
        lease = await self._lease(seconds)
        # Not in a batch, which would fail as a whole if the lease has ended.
        operation = put(tag_key(key), tag_value(digest), lease)
        try:
            await self._client.call("/v3/kv/txn", {"success": [operation]})
        except Exception:
            self._leases.pop(seconds)
            raise

    async def _lease(self, seconds: int) -> int:
        """
        A lease that began lately, or a new one.
        """
        now = self._clock.seconds()
        known = self._leases.get(seconds)
        if known is not None and now - known[0] <= SHARED_PART * seconds:
            return known[1]
        try:
            lease = number(await self._client.call("/v3/lease/grant", {"TTL": str(seconds)}), "ID")
        except BadAnswer as e:
            raise bad_answer(e) from None
        self._leases[seconds] = (now, lease)
        return lease
