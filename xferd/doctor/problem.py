# -*- test-case-name: tests.doctor.test_doctor -*-
"""
What a check is given, and what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import frozen

from xferd.config import Config


@frozen
class Problem:
    """
    Something to change.

    @ivar message: what is wrong, in one sentence.
    @ivar remedy: what to do about it.
    """

    message: str
    remedy: str


@frozen
class Running:
    """
    What is known of the daemon, by itself.

    @ivar config: the settings that it was started with.
    @ivar config_file: the path of the file with them, or the empty string.
    @ivar reread: reads the settings again; L{None} where there is no file.
    @ivar sockets: the paths of its unix sockets.
    @ivar exposed: the endpoint strings that other machines can reach.
    @ivar late: the names of the settings that count only after a restart.
    @ivar sandbox: the measures of the sandbox of layers' processes, each with the
        reason why it is not in force, empty if it is; L{None} until it is known.
    @ivar skews: seconds by which registries' clocks are ahead, by host.
    @ivar now: seconds since the epoch.
    """

    config: Config
    config_file: str
    reread: Callable[[], Config] | None
    sockets: Sequence[str]
    exposed: Sequence[str]
    late: frozenset[str]
    sandbox: Mapping[str, str] | None
    skews: Mapping[str, float]
    now: float


Check = Callable[[Running], Iterator[Problem]]
