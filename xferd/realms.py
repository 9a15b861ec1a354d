# -*- test-case-name: tests.test_realms -*-
"""
Under which names the catalog lists content of upstreams.

What an upstream gives to any client, what it gives to the daemon's account, and what it
gives to clients with credentials of their own are listed apart, because the rights for
them differ.  Therefore no manifest or blob of one kind is served to a client of
another kind, also after a change of the settings.

Pure.
"""

from __future__ import annotations

from typing import Final

from xferd.names import Repository

PUBLIC: Final = "public"
"""The upstream is requested without credentials."""

ACCOUNT: Final = "account"
"""The upstream is requested with the credentials of the daemon's user."""

PASS: Final = "pass"  # noqa: S105
"""The upstream is requested with the client's own credentials."""

POLICIES: Final = (PUBLIC, ACCOUNT, PASS)

CREDENTIALS: Final = "credentials"
"""The origin of what a job fetched with credentials."""


def listed(repository: Repository, policy: str) -> Repository:
    """
    The name in the catalog of an upstream's repository.  No host of a registry has
    an C{@}.
    """
    return repository if policy == PUBLIC else Repository(f"{policy}@{repository.host}", repository.path)


def unlisted(repository: Repository) -> tuple[Repository, str]:
    """
    The upstream's repository, and the policy, of a name in the catalog.
    """
    policy, mark, host = repository.host.partition("@")
    return (Repository(host, repository.path), policy) if mark else (repository, PUBLIC)


def origin(repository: Repository, *, anonymous: bool) -> str:
    """
    The origin of bytes that a registry sends: L{PUBLIC} for a client without
    credentials, else the name of the repository with the mark L{CREDENTIALS}.
    """
    return PUBLIC if anonymous else str(listed(repository, CREDENTIALS))


def host_of(origin: str) -> str:
    """
    The host of an origin; the empty string if it does not name one.
    """
    return origin.partition("/")[0].partition("@")[2]
