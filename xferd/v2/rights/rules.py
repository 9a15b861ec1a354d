# -*- test-case-name: tests.v2.rights.test_rules -*-
"""
Rights by user and by pattern of repositories.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from attrs import Attribute, field, frozen

from xferd.patterns import is_pattern, matches_any

ANONYMOUS: Final = "anonymous"
"""In a rule: every client."""

ANY_USER: Final = "*"
"""In a rule: every user who has logged in."""


class Action(Enum):
    """
    What a client does with a repository.
    """

    PULL = "pull"
    """Read manifests, blobs, tags and referrers."""
    PUSH = "push"
    """Add manifests, tags and blobs."""
    DELETE = "delete"
    """Remove them."""


_ACTIONS: Final = tuple(action.value for action in Action)


@frozen
class RightsRule:
    """
    A row of C{[[registry.rights]]}.

    @ivar users: names of users; L{ANY_USER} and L{ANONYMOUS} stand for several.
    @ivar repositories: patterns of names: C{local/team/*}, C{ghcr.io/org/**}.
    @ivar may: the actions: C{pull}, C{push}, C{delete}.
    """

    users: tuple[str, ...] = field(default=())
    repositories: tuple[str, ...] = field(default=())
    may: tuple[str, ...] = field(default=())

    @users.validator
    def _check_users(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        for user in value:
            if not user or ":" in user or not user.isprintable():
                raise ValueError(f"'users' must be names of users, not {user!r}")

    @repositories.validator
    def _check_repositories(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        for pattern in value:
            if not is_pattern(pattern):
                raise ValueError(f"'repositories' must be patterns such as 'local/team/*', not {pattern!r}")

    @may.validator
    def _check_may(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        for action in value:
            if action not in _ACTIONS:
                raise ValueError(f"'may' must be of {', '.join(map(repr, _ACTIONS))}, not {action!r}")

    @property
    def missing(self) -> str:
        """
        The name of an empty field, without which the rule has no effect; or the
        empty string.
        """
        return next((name for name in ("users", "repositories", "may") if not getattr(self, name)), "")


class Rules:
    """
    The rules of the settings.  A right exists if one rule gives it.
    """

    def __init__(self, rules: Iterable[RightsRule]) -> None:
        self._rules = tuple(rules)

    def allow(self, user: str, name: str, action: Action) -> bool:
        """
        Whether a user may do something with a repository.

        @param user: the user, or the empty string for a client that has not
            logged in.
        @param name: the repository: C{local/team/app}, C{ghcr.io/org/app}.
        """
        return any(
            action.value in rule.may and _names(rule, user) and matches_any(rule.repositories, name)
            for rule in self._rules
        )


def _names(rule: RightsRule, user: str) -> bool:
    """
    Whether a rule is for a user.
    """
    return ANONYMOUS in rule.users or (bool(user) and (ANY_USER in rule.users or user in rule.users))
