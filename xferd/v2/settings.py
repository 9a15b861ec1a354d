# -*- test-case-name: tests.test_config,tests.v2.test_names -*-
"""
The settings of the registry.
"""

from __future__ import annotations

import re
from math import inf
from typing import Final

from attrs import Attribute, field, frozen
from attrs.validators import ge

from xferd.errors import BadReference
from xferd.interfaces.mirror import TagPolicy
from xferd.jobs.mirror.keep_rules import KeepRule
from xferd.names import DOCKER_HUB, Reference
from xferd.patterns import is_pattern
from xferd.realms import POLICIES, PUBLIC
from xferd.v2.rights.rules import RightsRule

ANY_PUBLIC: Final = "any-public"
FOREVER: Final = "forever"
KEEP: Final = "keep"
DROP: Final = "drop"

_PREFIX: Final = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*/"
)
_URL: Final = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?")
_ALIAS: Final = re.compile(r"[a-z0-9]+(?:(?:_|__|-+)[a-z0-9]+)*")


@frozen
class AccountRule:
    """
    A row of C{accounts}: which of the daemon's credentials some repositories need.

    @ivar repositories: patterns of paths: C{team/*}.
    @ivar entry: the key of an entry in docker's C{config.json}: C{ghcr.io},
        C{ghcr.io/team}.
    """

    repositories: tuple[str, ...] = ()
    entry: str = ""


@frozen
class UpstreamSettings:
    """
    An upstream registry.

    @ivar alias: a path component that stands for the upstream's host, or the
        empty string.
    @ivar tag_ttl: seconds for which a tag is used without a check.
    @ivar tags: the same by pattern, or C{forever}.
    @ivar stale_max: seconds for which a tag is served without its upstream.
    @ivar on_upstream_gone: C{keep} or C{drop} a tag that the upstream no longer has.
    @ivar on_ratelimit: C{404} or C{429}: the status for a client where the rate
        limit of the upstream is reached.
    @ivar policy: whose credentials the upstream is requested with: see
        L{xferd.realms}.
    @ivar root_may: whether root and the daemon's user may pull by their connection,
        if the policy is C{account}.
    @ivar accounts: entries of the daemon's credentials for some repositories.
    """

    alias: str = field(default="")
    tag_ttl: float = field(default=60.0, validator=ge(0.0))
    tags: dict[str, float | str] = field(factory=dict)
    stale_max: float = field(default=30 * 86400.0, validator=ge(0.0))
    on_upstream_gone: str = field(default=KEEP)
    on_ratelimit: str = field(default="404")
    policy: str = field(default=PUBLIC)
    root_may: bool = False
    accounts: tuple[AccountRule, ...] = field(default=())

    @policy.validator
    def _check_policy(self, _: Attribute[str], value: str) -> None:
        if value not in POLICIES:
            raise ValueError(f"'policy' must be of {', '.join(map(repr, POLICIES))}, not {value!r}")

    @accounts.validator
    def _check_accounts(self, _: Attribute[tuple[AccountRule, ...]], value: tuple[AccountRule, ...]) -> None:
        for number, rule in enumerate(value, 1):
            if not rule.repositories or not rule.entry:
                raise ValueError(
                    f"'accounts' must have 'repositories' and 'entry' in each row: row {number} lacks one"
                )
            for pattern in rule.repositories:
                if not is_pattern(pattern):
                    raise ValueError(f"'accounts' must have patterns such as 'team/*', not {pattern!r}")

    @alias.validator
    def _check_alias(self, _: Attribute[str], value: str) -> None:
        if value and (_ALIAS.fullmatch(value) is None or value in ("v2", "localhost")):
            raise ValueError(f"'alias' must be lower-case letters, digits, '-' and '_', not {value!r}")

    @tags.validator
    def _check_tags(self, _: Attribute[dict[str, float | str]], value: dict[str, float | str]) -> None:
        for pattern, seconds in value.items():
            if seconds != FOREVER and (isinstance(seconds, str) or seconds < 0):
                raise ValueError(
                    f"'tags' must be seconds or {FOREVER!r} by pattern, not {pattern!r}: {seconds!r}"
                )

    @on_upstream_gone.validator
    def _check_gone(self, _: Attribute[str], value: str) -> None:
        if value not in (KEEP, DROP):
            raise ValueError(f"'on_upstream_gone' must be {KEEP!r} or {DROP!r}, not {value!r}")

    @on_ratelimit.validator
    def _check_ratelimit(self, _: Attribute[str], value: str) -> None:
        if value not in ("404", "429"):
            raise ValueError(f"'on_ratelimit' must be '404' or '429', not {value!r}")

    @property
    def tag_policy(self) -> TagPolicy:
        """
        How long tags are used.
        """
        patterns = ((p, inf if isinstance(s, str) else s) for p, s in self.tags.items())
        return TagPolicy(self.tag_ttl, tuple(patterns), self.stale_max, self.on_upstream_gone == KEEP)


@frozen
class RegistrySettings:
    """
    The registry at C{/v2/}.

    @ivar listen: endpoint strings to serve it on; none by default.
    @ivar local: the prefixes of names that can be pushed to.
    @ivar default: the upstream of names without a registry; the empty string for
        none.
    @ivar upstreams: the upstreams by host, or C{any-public} for any registry with
        a public address.
    @ivar rights: the rights of users, besides the defaults.
    @ivar htpasswd: a file with the users and their passwords, or the empty string.
    @ivar external_url: the URL by which clients reach the registry, if a proxy is in
        front of it; the empty string otherwise.
    @ivar keep: how long mirrored content is kept.
    """

    listen: tuple[str, ...] = ()
    local: tuple[str, ...] = field(default=("local/",))
    default: str = DOCKER_HUB
    upstreams: dict[str, UpstreamSettings] | str = field(factory=lambda: {DOCKER_HUB: UpstreamSettings()})
    rights: tuple[RightsRule, ...] = field(default=())
    htpasswd: str = ""
    external_url: str = field(default="")
    keep: tuple[KeepRule, ...] = field(default=())

    @local.validator
    def _check_local(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        for prefix in value:
            if _PREFIX.fullmatch(prefix) is None:
                raise ValueError(f"'local' must be prefixes of names such as 'local/', not {prefix!r}")

    @upstreams.validator
    def _check_upstreams(
        self,
        _: Attribute[dict[str, UpstreamSettings] | str],
        value: dict[str, UpstreamSettings] | str,
    ) -> None:
        if isinstance(value, str):
            if value != ANY_PUBLIC:
                raise ValueError(f"'upstreams' must be tables or {ANY_PUBLIC!r}, not {value!r}")
            return
        for host in value:
            try:
                same = Reference.parse(f"{host}/x").repository.host == host
            except BadReference:
                same = False
            if not same:
                raise ValueError(f"'upstreams' must be by the host of a registry, not {host!r}")

    @rights.validator
    def _check_rights(self, _: Attribute[tuple[RightsRule, ...]], value: tuple[RightsRule, ...]) -> None:
        for number, rule in enumerate(value, 1):
            if rule.missing:
                raise ValueError(f"'rights' must have {rule.missing!r} in each row: row {number} has none")

    @external_url.validator
    def _check_external_url(self, _: Attribute[str], value: str) -> None:
        if value and _URL.fullmatch(value) is None:
            raise ValueError(
                f"'external_url' must be a URL such as 'https://registry.lan', without a path, not {value!r}"
            )

    @keep.validator
    def _check_keep(self, _: Attribute[tuple[KeepRule, ...]], value: tuple[KeepRule, ...]) -> None:
        for number, rule in enumerate(value, 1):
            if not rule.repositories:
                raise ValueError(f"'keep' must have 'repositories' in each row: row {number} has none")
