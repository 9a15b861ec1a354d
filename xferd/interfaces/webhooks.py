# -*- test-case-name: tests.webhooks.test_sender -*-
"""
Messages for other programs about jobs that have ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

DELIVERED, FAILED, DROPPED = "delivered", "failed", "dropped"
RESULTS: Final = (DELIVERED, FAILED, DROPPED)
"""The results of an attempt to deliver a message: it was accepted, is repeated later, or was dropped."""


@frozen
class Delivery:
    """
    A message that waits until it is accepted.

    @ivar id: its ID, the same whenever it is sent.
    @ivar hook: the receiver, by a key that has no secret.
    @ivar created: when the job ended, in seconds since the epoch.
    @ivar attempts: how often it was sent without success.
    @ivar due: when it may be sent next, in seconds since the epoch.
    @ivar body: the message, JSON; empty where it is not needed.
    """

    id: str
    hook: str
    created: float
    attempts: int = 0
    due: float = 0.0
    body: str = field(default="", repr=False)


@frozen
class WebhookFigures:
    """
    Counts for metrics.

    @ivar attempts: since the start, by the receiver's host and one of L{RESULTS}.
    @ivar waiting: the messages that wait, by the receiver's host.
    """

    attempts: Mapping[tuple[str, str], int] = field(factory=dict)
    waiting: Mapping[str, int] = field(factory=dict)
