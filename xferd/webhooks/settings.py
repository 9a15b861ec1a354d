# -*- test-case-name: tests.webhooks.test_settings -*-
"""
The settings of webhooks.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from attrs import Attribute, field, frozen

from xferd.registry.transport.urls import Origin
from xferd.secret_files import read_secrets

STATES: Final = ("done", "failed", "cancelled")
"""The states in which a job ends."""

KINDS: Final = ("pull", "push", "copy", "import", "prefetch", "verify")
"""The kinds of jobs."""


@frozen
class WebhookSettings:
    """
    One receiver of messages.

    @ivar url: where they are sent; may have a secret in its path or query.
    @ivar secret_file: a file with the secrets that sign them, one a line.
    @ivar states: only jobs that end in one of these.
    @ivar kinds: only jobs of these kinds.
    @ivar ca_file: PEM certificates that are trusted in addition to the system's, or the
        empty string.
    """

    url: str = field(default="", repr=False)
    secret_file: str = ""
    states: tuple[str, ...] = field(default=STATES)
    kinds: tuple[str, ...] = field(default=KINDS)
    ca_file: str = ""

    @url.validator
    def _check_url(self, _: Attribute[str], value: str) -> None:
        # The default is checked, too, and is replaced by the file.
        if value:
            try:
                Origin.of(value)
            except ValueError as e:
                raise ValueError(f"'url' is refused: {e}") from None

    @states.validator
    def _check_states(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        _check_all("states", value, STATES)

    @kinds.validator
    def _check_kinds(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        _check_all("kinds", value, KINDS)

    @property
    def host(self) -> str:
        """
        The receiver, for the log and metrics: host and port.
        """
        return urlsplit(self.url).netloc

    @property
    def key(self) -> str:
        """
        Its name in the journal: the same for the same URL, without a secret.
        """
        return sha256(self.url.encode()).hexdigest()[:16]

    def read_secrets(self) -> list[bytes]:
        """
        The secrets that sign.

        @raise ConfigError: the file cannot be used.
        """
        return read_secrets(self.secret_file, f"the webhook of {self.host}")


def _check_all(name: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = next((value for value in values if value not in known), None)
    if unknown is not None or not values:
        raise ValueError(f"{name!r} must have some of {', '.join(known)}, not {unknown or 'nothing'!r}")
