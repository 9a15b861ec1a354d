# -*- test-case-name: tests.ctl.commands.test_hosts -*-
"""
C{xferctl hosts}: what the daemon remembers of registries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xferd.ctl.columns import Column
from xferd.ctl.commands.arguments import Command, add_printing
from xferd.ctl.display.job_view import count
from xferd.ctl.display.lists import rate, speed
from xferd.ctl.errors import UsageError
from xferd.ctl.text import clean, cut_front, time_of_day

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session


class _Row(NamedTuple):
    """
    One account of a host, or a host without any.

    @ivar host: the host, as the API has it.
    @ivar account: the account, as the API has it; empty for none.
    """

    host: dict[str, Any]
    account: dict[str, Any]

    @property
    def state(self) -> dict[str, Any]:
        """
        The state that counts: the host's where the account's is C{ok}.
        """
        return self.account if self.account.get("state", "ok") != "ok" else self.host


_COLUMNS: Final[tuple[Column[_Row], ...]] = (
    Column("HOST", lambda row: clean(row.host.get("host")), crop=cut_front),
    Column("ACCOUNT", lambda row: clean(row.account.get("account"))),
    Column("STATE", lambda row: clean(row.state.get("state"))),
    Column("UNTIL", lambda row: time_of_day(row.state["until"]) if row.state.get("until") else ""),
    Column("QUOTA", lambda row: _quota(row.account.get("quota")), right=True),
    Column("FAILURES", lambda row: str(count(row.host, "failures")), right=True, spare=True),
    Column("RATE", lambda row: speed(rate(row.host)), right=True),
    Column("WHY", lambda row: clean(row.state.get("why")), reason=True),
)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", metavar="clear", nargs="?", help="forget these registries")
    parser.add_argument(
        "hosts", metavar="HOST", nargs="*", help="a registry or a mirror, for example docker.io"
    )
    add_printing(parser, table=True)


def hosts(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl hosts}.
    """
    if args.action is None:
        _show(session)
        return
    if args.action != "clear" or not args.hosts:
        raise UsageError(
            "use 'xferctl hosts' to list registries, and 'xferctl hosts clear HOST' to forget one"
        )
    for host in args.hosts:
        answer = session.daemon.clear_host(host)
        session.printer.facts(answer, [("cleared", clean(answer.get("host")))])


def _show(session: Session) -> None:
    found = session.daemon.hosts()
    rows = []
    for host in found:
        accounts = [each for each in host.get("accounts") or [] if isinstance(each, dict)]
        # A mirror that has never responded has no account.
        rows += [_Row(host, account) for account in accounts or [{}]]
    session.printer.rows(found, _COLUMNS, rows)


def _quota(quota: object) -> str:
    """
    C{76/100}, or C{76} if the limit is not known; empty without a quota.
    """
    if not isinstance(quota, dict):
        return ""
    left, limit = count(quota, "remaining"), quota.get("limit")
    return f"{left}/{limit}" if isinstance(limit, int) else str(left)


COMMANDS: Final[Mapping[str, Command]] = {
    "hosts": Command(
        "[clear HOST...]",
        _arguments,
        hosts,
        "QUOTA is the number of requests that the registry still permits the account, and of how many.  "
        "After 'clear', transfers that wait for the registry continue at once.",
        ("xferctl hosts", "xferctl hosts -o yaml", "xferctl hosts clear docker.io"),
    )
}
