# -*- test-case-name: tests.ctl.commands.test_filters -*-
"""
The filters of lists: C{--state}, C{--kind}, C{--host} and C{--mine}.
"""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentError
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _ActionsContainer
    from collections.abc import Mapping, Sequence, Set

    from xferd.ctl.session import Session

JOB_STATES: Final = ("queued", "running", "done", "failed", "cancelled")
JOB_KINDS: Final = ("pull", "push", "copy", "import", "prefetch", "verify")
TRANSFER_STATES: Final = ("queued", "running", "backing-off", "waiting", "done", "failed", "cancelled")
TRANSFER_KINDS: Final = ("document", "download", "upload", "unpacking", "registration")

_SCHEMES: Final = ("http://", "https://", "unix:")
"""How addresses of daemons begin, and no registry."""


class _Host(Action):
    """
    C{--host}: a registry, or the daemon's address as for all commands.
    """

    def __call__(
        self,
        parser: ArgumentParser,  # noqa: ARG002
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """
        Keep the option's value.
        """
        if values.startswith(_SCHEMES):
            namespace.host = values
        else:
            namespace.registries = [*getattr(namespace, "registries", ()), values]


class _Words(Action):
    """
    Adds each of some words, with commas between them; those in C{values} alone are permitted.
    """

    def __init__(self, *, values: Sequence[str], **more: Any) -> None:
        super().__init__(**more)
        # The parser would compare the whole list with them.
        self.values = values

    def __call__(
        self,
        parser: ArgumentParser,  # noqa: ARG002
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """
        Keep the option's values.

        @raise ArgumentError: one of them is unknown.
        """
        words = values.split(",")
        for word in words:
            if word not in self.values:
                known = ", ".join(map(repr, self.values))
                raise ArgumentError(self, f"invalid choice: {word!r} (choose from {known})")
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), *words])


def add_registries(parser: _ActionsContainer, description: str) -> None:
    """
    Add C{--host HOST}, which may be repeated: a registry, in C{registries}.
    """
    parser.add_argument(
        "--host",
        action=_Host,
        metavar="HOST",
        default=SUPPRESS,
        help=f"{description}; http://HOST:PORT, https://HOST or unix:PATH is the daemon's address",
    )


def add_filters(parser: ArgumentParser, states: Sequence[str], kinds: Sequence[str]) -> None:
    """
    Add the options of a L{Filter}.

    @param states: the states of the items.
    @param kinds: the kinds of the items.
    """
    group = parser.add_argument_group("filters, each of which may be repeated")
    for name, values in (("state", states), ("kind", kinds)):
        group.add_argument(
            f"--{name}",
            action=_Words,
            values=values,
            metavar=f"{name.upper()}[,{name.upper()}]...",
            help=f"only {', '.join(values)}",
        )
    add_registries(group, "only of this registry")
    group.add_argument("--mine", action="store_true", help="only of jobs that you began on this machine")


class Filter(NamedTuple):
    """
    Selects jobs and transfers.  An empty set selects all.

    @ivar states: the states.
    @ivar kinds: the kinds.
    @ivar hosts: the registries.
    @ivar client: the client whose jobs are selected; empty for all.
    """

    states: Set[str] = frozenset()
    kinds: Set[str] = frozenset()
    hosts: Set[str] = frozenset()
    client: str = ""

    @classmethod
    def of(cls, args: Namespace, session: Session) -> Filter:
        """
        The filter of a command's options.
        """
        return cls(
            frozenset(args.state or ()),
            frozenset(args.kind or ()),
            frozenset(getattr(args, "registries", ())),
            session.daemon.client if args.mine else "",
        )

    def selects_job(self, job: Mapping[str, Any]) -> bool:
        """
        Whether a job is selected.
        """
        names = [str(job.get(member) or "") for member in ("reference", "target")]
        return self._selects(job, {name.partition("/")[0] for name in names}) and self.client in (
            "",
            job.get("client"),
        )

    def selects_transfer(self, transfer: Mapping[str, Any], jobs: Set[str] | None = None) -> bool:
        """
        Whether a transfer is selected.

        @param jobs: the IDs of the client's jobs; L{None} if the filter has no client.
        """
        host = str(transfer.get("source")).partition("/")[0]
        return self._selects(transfer, {host}) and (
            jobs is None or not jobs.isdisjoint(transfer.get("jobs") or ())
        )

    def _selects(self, item: Mapping[str, Any], hosts: Set[str]) -> bool:
        return (
            (not self.states or item.get("state") in self.states)
            and (not self.kinds or item.get("kind") in self.kinds)
            and (not self.hosts or not self.hosts.isdisjoint(hosts))
        )
