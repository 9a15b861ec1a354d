# -*- test-case-name: tests.ctl.commands.test_hosts -*-
"""
C{xferctl hosts}: what the daemon remembers of registries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.commands.arguments import Command, UsageError, add_json
from xferd.ctl.display.job_view import count
from xferd.ctl.text import clean, size, time_of_day

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", metavar="clear", nargs="?", help="forget these registries")
    parser.add_argument(
        "hosts", metavar="HOST", nargs="*", help="a registry or a mirror, for example docker.io"
    )
    add_json(parser)


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
        rows += [_row(host, account) for account in accounts or [{}]]
    heads = ("HOST", "ACCOUNT", "STATE", "UNTIL", "QUOTA", "FAILURES", "RATE", "WHY")
    session.printer.rows(found, heads, rows, ("QUOTA", "FAILURES", "RATE"))


def _row(host: dict[str, Any], account: dict[str, Any]) -> tuple[str, ...]:
    """
    The row of one account, or of a host without any.  The state of the host
    counts where the account's is C{ok}.
    """
    state = account if account.get("state", "ok") != "ok" else host
    rate = host.get("rate")
    return (
        clean(host.get("host")),
        clean(account.get("account")),
        clean(state.get("state")),
        time_of_day(state["until"]) if state.get("until") else "",
        _quota(account.get("quota")),
        str(count(host, "failures")),
        f"{size(rate)}/s" if isinstance(rate, int | float) and rate > 0 else "",
        clean(state.get("why")),
    )


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
        "Show or clear what is known of registries: pauses, quotas and failures",
        "[clear HOST...]",
        _arguments,
        hosts,
        "QUOTA is the number of requests that the registry still permits the account, and of how many.  "
        "After 'clear', transfers that wait for the registry continue at once.",
        ("xferctl hosts", "xferctl hosts clear docker.io"),
    )
}
