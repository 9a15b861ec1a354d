# -*- test-case-name: tests.jobs.test_drain -*-
"""
The pauses and the drain that the configuration has.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen

from xferd.docker_config import host_of
from xferd.errors import BadInput
from xferd.transfer.steering import DIRECTIONS, EVERYTHING, host_pause


def _names(value: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_name, value)))


def _name(text: str) -> str:
    if text in (EVERYTHING, *DIRECTIONS):
        return text
    host = text.removeprefix(host_pause(""))
    try:
        if host != text:
            return host_pause(host_of(host))
    except BadInput as e:
        raise ValueError(f"'pause' must name registries: {e}") from e
    raise ValueError(f"'pause' must have 'all', 'downloads', 'uploads' or 'hosts/HOST', not {text[:80]!r}")


@frozen
class SteeringSettings:
    """
    Pauses, and whether the daemon is drained, until a person changes that.

    @ivar pause: the names of pauses: C{all}, C{downloads}, C{uploads}, C{hosts/HOST}.
    @ivar drain: whether no new work starts.
    @raise ValueError: no pause has this name.
    """

    pause: tuple[str, ...] = field(default=(), converter=_names)
    drain: bool = False
