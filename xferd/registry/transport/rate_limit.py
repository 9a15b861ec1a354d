# -*- test-case-name: tests.registry.transport.test_rate_limit -*-
"""
The quota that a response names, in the forms that registries send::

    ratelimit-limit: 100;w=21600                            Docker Hub
    ratelimit-remaining: 76;w=21600

    RateLimit-Limit: 100                                    drafts -00 to -06 of
    RateLimit-Remaining: 50                                 draft-ietf-httpapi-ratelimit-headers
    RateLimit-Reset: 30

    RateLimit: limit=100, remaining=50, reset=30            draft -07

    RateLimit-Policy: "hour";q=100;w=3600                   drafts -08 and later
    RateLimit: "hour";r=50;t=30

    X-RateLimit-Limit: 60                                   GitHub and others
    X-RateLimit-Remaining: 56
    X-RateLimit-Reset: 1372700873

A reset is a number of seconds, or seconds since the epoch (GitHub, GitLab).
Values that cannot be read are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from twisted.web.http_headers import Headers

from xferd.interfaces.hosts import Quota
from xferd.registry.transport.errors import date_sent, header_values

MAX_LENGTH: Final = 1000
"""Characters of a header that are read."""

_REMAINING: Final = frozenset(
    (b"Ratelimit", b"Ratelimit-Remaining", b"X-Ratelimit-Remaining", b"X-Rate-Limit-Remaining")
)
"""The headers one of which a response with a quota has, as L{Headers} spells them."""

_EPOCH: Final = 1_000_000_000
"""Seconds: what is more is a time since the epoch."""

_MONTH: Final = 31 * 86400.0
"""Seconds of the longest window."""

_ITEM: Final = re.compile(r"[^,;=]+(?:=[^,;]*)?(?:;[^,;=]+=[^,;]*)*")
_NUMBER: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")

Parameters = dict[str, float]


def parse_quota(headers: Headers, now: float) -> Quota | None:
    """
    The quota of a response, or L{None} if it names none.  Of several, it is the
    one with the least share left.

    @param now: seconds since the epoch; the response's own C{Date} is preferred,
        as a reset is by the same clock.
    """
    if _REMAINING.isdisjoint(dict(headers.getAllRawHeaders())):
        return None
    sent = date_sent(headers)
    now = now if sent is None else sent
    for read in (_combined, _separate):
        found = [quota for quota in read(headers, now) if quota is not None]
        if found:
            return min(found, key=_share)
    return None


def _share(quota: Quota) -> tuple[float, int]:
    """
    The share of the limit that is left, and the number.
    """
    return quota.remaining / quota.limit if quota.limit else 1.0, quota.remaining


def _combined(headers: Headers, now: float) -> Iterator[Quota | None]:
    """
    C{RateLimit}, in the forms of draft -07 and of later ones.
    """
    items = _items(headers, "RateLimit")
    if any("remaining" in parameters for _, parameters in items):
        all_of_them = {name: value for _, parameters in items for name, value in parameters.items()}
        window = next((p["w"] for _, p in _items(headers, "RateLimit-Policy") if "w" in p), None)
        yield _quota(
            all_of_them.get("remaining"), all_of_them.get("limit"), window, all_of_them.get("reset"), now
        )
        return
    policies = dict(_items(headers, "RateLimit-Policy"))
    for name, parameters in items:
        policy = policies.get(name, {})
        yield _quota(parameters.get("r"), policy.get("q"), policy.get("w"), parameters.get("t"), now)


def _separate(headers: Headers, now: float) -> Iterator[Quota | None]:
    """
    A header for each number.
    """
    for prefix in ("RateLimit", "X-RateLimit", "X-Rate-Limit"):
        remaining = _items(headers, f"{prefix}-Remaining")
        limits = _items(headers, f"{prefix}-Limit")
        windows = [*limits, *remaining, *_items(headers, "RateLimit-Policy")]
        yield _quota(
            _first(remaining),
            _first(limits),
            next((parameters["w"] for _, parameters in windows if "w" in parameters), None),
            _first(_items(headers, f"{prefix}-Reset")),
            now,
        )


def _quota(
    remaining: float | None, limit: float | None, window: float | None, reset: float | None, now: float
) -> Quota | None:
    """
    A quota, of numbers that may be missing.
    """
    if remaining is None:
        return None
    if reset is not None and reset > _EPOCH:
        reset = max(reset - now, 0.0)
    return Quota(
        int(remaining),
        int(limit) if limit and limit >= 1 else None,
        window if window and window <= _MONTH else None,
        reset if reset is None or reset <= _MONTH else None,
    )


def _first(items: list[tuple[str, Parameters]]) -> float | None:
    """
    The first number of a list.
    """
    return next((float(name) for name, _ in items if _NUMBER.fullmatch(name)), None)


def _items(headers: Headers, name: str) -> list[tuple[str, Parameters]]:
    """
    The items of a header that is a list, each with the numbers among its
    parameters.  An item C{limit=100} is its own parameter.
    """
    text = ",".join(header_values(headers, name))[:MAX_LENGTH]
    found = []
    for item in _ITEM.findall(text):
        words = [word.strip() for word in item.split(";")]
        pairs = [word.partition("=") for word in words]
        parameters = {
            key.strip().lower(): float(value.strip())
            for key, equals, value in pairs
            if equals and _NUMBER.fullmatch(value.strip())
        }
        found.append((words[0].strip('"'), parameters))
    return found
