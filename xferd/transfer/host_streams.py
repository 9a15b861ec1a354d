# -*- test-case-name: tests.transfer.test_host_streams -*-
"""
The streams of hosts on a thin line: fewer where they starve one another, and more where
that pays.

A registry, or a time limit, closes streams that are too slow.  Where several share a
thin line, all of them are, and each attempt fails like the one before.  As TCP's congestion
control does with segments, the streams of that host are halved, and one more is tried from
time to time: additive increase, multiplicative decrease (RFC 5681).

Pure: it is passed the time and the bytes.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field, frozen

LONGEST: Final = 3600.0
"""The most seconds until a further stream is tried once more."""

FORGOTTEN: Final = 600.0
"""Seconds after which a host that was not used has no limit any more: its line may be
another one (RFC 5681, section 4.1, "Restarting Idle Connections")."""


@frozen
class StreamPolicy:
    """
    When a host gets fewer streams, and when one more.

    @ivar thin: bytes per second; a stream that was faster did not starve.
    @ivar least: seconds that a stream must have lasted; another one failed for
        another reason.
    @ivar cut: the part of the streams that remains.
    @ivar wait: seconds until one more stream is tried, doubled with each that gained nothing.
    @ivar window: seconds for which it is tried.
    @ivar gain: the part of its fair share by which it must raise the rate of all.
    """

    thin: float = 128 * 1024.0
    least: float = 3.0
    cut: float = 0.5
    wait: float = 30.0
    window: float = 30.0
    gain: float = 0.5


@define
class _Host:
    """
    A host whose streams are limited.

    @ivar most: how many it may have.
    @ivar since: when that changed, or when it had fewer last.
    @ivar cut: when they were cut last.
    @ivar wait: seconds until one more is tried.
    @ivar seen: when a request last waited for the host, or a stream failed.
    @ivar before: the rate before the one that is tried, if any.
    """

    most: int
    since: float
    cut: float
    wait: float
    seen: float
    before: float | None = field(default=None)


class HostStreams:
    """
    The hosts whose streams are limited, and to how many.

    The states of a host::

        free --failed--> cut --failed--> cut
        cut --look, after a wait--> trying --look, it pays--> cut, with one more
                                    trying --look--> cut, as before, with a longer wait
        cut --look, all slots may be used--> free
        cut, trying --look, after a long time without streams--> free
    """

    def __init__(self, policy: StreamPolicy | None = None) -> None:
        self._policy = policy or StreamPolicy()
        self._hosts: dict[str, _Host] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    def __contains__(self, host: str) -> bool:
        return host in self._hosts

    def most(self, host: str) -> int:
        """
        How many streams a host may have; 0 for any number.
        """
        found = self._hosts.get(host)
        return 0 if found is None else found.most

    def failed(self, host: str, streams: int, began: float, now: float, moved: int) -> bool:
        """
        A stream was closed early, or exceeded a time limit.

        @param streams: how many the host had, with this one.
        @param began: when the stream began.
        @param moved: the bytes that it moved.
        @return: whether the host may have fewer now.
        """
        policy, found = self._policy, self._hosts.get(host)
        lasted = now - began
        if streams < 2 or lasted < policy.least or moved / lasted >= policy.thin:
            return False
        if found is not None and began <= found.cut:
            # It began among more streams than there may be now.
            return False
        wait = policy.wait if found is None else min(2 * found.wait, LONGEST)
        self._hosts = {name: each for name, each in self._hosts.items() if now - each.seen < FORGOTTEN}
        self._hosts[host] = _Host(max(1, int(streams * policy.cut)), now, now, wait, now)
        return True

    def look(self, host: str, now: float, streams: int, rate: float, limit: int) -> bool:
        """
        Decide whether a host may have one more stream, or one less.  To be called about once
        a second while requests wait for the host.

        @param streams: how many it has.
        @param rate: their bytes per second, all together.
        @param limit: how many it could have otherwise; it is limited no more then.
        @return: whether it may have one more now.
        """
        found = self._hosts.get(host)
        if found is None:
            return False
        if not streams and now - found.seen >= FORGOTTEN:
            del self._hosts[host]
            return True
        found.seen = now
        if streams < found.most:
            found.since = now
            return False
        if found.before is None:
            if now - found.since < found.wait:
                return False
            found.before = rate
            found.most += 1
        elif now - found.since < self._policy.window:
            return False
        elif rate >= found.before * (1 + self._policy.gain / (found.most - 1)):
            found.before, found.wait = None, self._policy.wait
            if found.most >= limit:
                del self._hosts[host]
            found.since = now
            return found.most >= limit
        else:
            found.most -= 1
            found.before, found.wait = None, min(2 * found.wait, LONGEST)
        found.since = now
        return found.before is not None
