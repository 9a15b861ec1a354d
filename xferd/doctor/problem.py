# -*- test-case-name: tests.doctor.test_doctor -*-
"""
The input and the result of a check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import field, frozen

from xferd.config import Config


@frozen
class Problem:
    """
    A problem of the installation.

    @ivar message: the problem, in one sentence.
    @ivar remedy: the action that solves it.
    """

    message: str
    remedy: str


@frozen
class Running:
    """
    The state of the running daemon.

    @ivar config: the settings at its start.
    @ivar config_file: the path of the configuration file, or the empty string.
    @ivar reread: reads the settings again; L{None} without a file.
    @ivar sockets: the paths of its unix sockets.
    @ivar exposed: the endpoint strings of the API that other machines can reach, or
        that have certificates.
    @ivar served: the same for the registry.
    @ivar sandbox: for each measure of the unpacking processes' sandbox the reason
        why it is not in force, empty if it is; L{None} until that is known.
    @ivar is_root: whether root runs the daemon.
    @ivar skews: seconds by which the clocks of registries are ahead, by host.
    @ivar now: seconds since the epoch.
    @ivar engines: the reasons why container engines are not served, by their names.
    @ivar fleet: the reason why this node works without its fleet; empty if it does not.
    """

    config: Config
    config_file: str
    reread: Callable[[], Config] | None
    sockets: Sequence[str]
    exposed: Sequence[str]
    sandbox: Mapping[str, str] | None
    is_root: bool
    skews: Mapping[str, float]
    now: float
    served: Sequence[str] = ()
    engines: Mapping[str, str] = field(factory=dict)
    fleet: str = ""


Check = Callable[[Running], Iterator[Problem]]
