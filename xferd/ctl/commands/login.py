# -*- test-case-name: tests.ctl.commands.test_login -*-
"""
C{xferctl login} and C{logout}: credentials in the file that docker and podman
use, or in the credential helper that it names.

The daemon tries the credentials before they are stored, since it will use
them: with its own certificates, mirrors and proxies.
"""

from __future__ import annotations

import sys
from getpass import getpass
from typing import TYPE_CHECKING, Final, TextIO

from xferd.ctl.auth_file import AuthFile
from xferd.ctl.commands.arguments import Command
from xferd.ctl.errors import ClientError, UsageError
from xferd.ctl.user_credentials import why_no_secrets
from xferd.docker_config import auth_files, host_of, is_unicode
from xferd.errors import XferdError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session


_MAX_PASSWORD = 8192
"""Characters: cloud registries use tokens of some thousand characters as passwords."""


def _login_arguments(parser: ArgumentParser) -> None:
    _logout_arguments(parser)
    parser.add_argument(
        "-u", "--username", metavar="USER", help="the user name (default: ask on the terminal)"
    )
    parser.add_argument("--password-stdin", action="store_true", help="read the password from stdin")
    parser.add_argument("--no-check", action="store_true", help="store the credentials without trying them")


def _logout_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "registry", metavar="HOST", nargs="?", default="docker.io", help="the registry (default: docker.io)"
    )
    parser.add_argument(
        "--auth-file",
        metavar="PATH",
        help="the credential file (default: $REGISTRY_AUTH_FILE, else $DOCKER_CONFIG/config.json, "
        "else ~/.docker/config.json)",
    )


def login(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl login}.

    @raise ClientError: the registry rejects the credentials, or they cannot
        be stored; no file was changed.
    """
    host = _host(args)
    try:
        # A broken file is reported before the user types a password.
        file = _file(args, session)
        file.read()
        username, password = ask(args.username, args.password_stdin, sys.stdin, host)
        if not args.no_check:
            reason = why_no_secrets(session.daemon.address())
            if reason is not None:
                raise ClientError(f"the password is not sent, as {reason}, or use --no-check")
            session.daemon.try_login(host, {"username": username, "password": password})
        kept = file.store(host, username, password)
    except XferdError as e:
        raise ClientError(str(e)) from e
    print(f"logged in to {host} as {username}; {kept}", file=session.stdout)


def logout(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl logout}.

    @raise ClientError: the file or the helper cannot be changed.
    """
    host = _host(args)
    try:
        file = _file(args, session)
        found = file.erase(host)
    except XferdError as e:
        raise ClientError(str(e)) from e
    words = f"logged out of {host}" if found else f"{file.path} has no credentials for {host}"
    print(words, file=session.stdout)


def ask(username: str | None, piped: bool, stdin: TextIO, host: str) -> tuple[str, str]:
    """
    The user name and the password, asked for on the terminal if missing.

    @param piped: whether stdin is the password, without its final newline.
    @raise UsageError: there is no terminal, or the input is invalid.
    """
    if piped and not username:
        raise UsageError("--password-stdin needs --username")
    if not piped and not stdin.isatty():
        raise UsageError("stdin is not a terminal; pipe the password to --password-stdin")
    if not username:
        print(f"Username for {host}: ", end="", file=sys.stderr, flush=True)
        username = stdin.readline().strip()
    if piped:
        password = stdin.read(_MAX_PASSWORD + 1).removesuffix("\n").removesuffix("\r")
    else:
        password = getpass(f"Password of {username} for {host}: ")
    if not username or not password or len(password) > _MAX_PASSWORD:
        raise UsageError(f"the user name and a password of 1 to {_MAX_PASSWORD} characters are required")
    if ":" in username or not is_unicode(username + password):
        raise UsageError("the user name must not contain a colon, and both must be UTF-8")
    return username, password


def _host(args: Namespace) -> str:
    """
    The registry's host.

    @raise UsageError: it is not one.
    """
    try:
        return host_of(args.registry)
    except XferdError as e:
        raise UsageError(str(e)) from e


def _file(args: Namespace, session: Session) -> AuthFile:
    return AuthFile(args.auth_file or auth_files(session.environ)[0], session.environ)


COMMANDS: Final[Mapping[str, Command]] = {
    "login": Command(
        "[HOST]",
        _login_arguments,
        login,
        "The daemon tries the credentials.  Then they are stored in the file or credential helper that "
        "docker uses.",
        (
            "xferctl login registry.example.com",
            "pass show ghcr | xferctl login ghcr.io -u me --password-stdin",
        ),
    ),
    "logout": Command(
        "[HOST]",
        _logout_arguments,
        logout,
        examples=("xferctl logout registry.example.com",),
    ),
}
