# -*- test-case-name: tests.ctl.commands.test_login -*-
"""
C{xferctl login} and C{logout}: credentials in the file that docker and podman
use, or in the credential helper that it names.

The daemon tries new credentials before they are kept, since it is the daemon
that will use them: by its certificates, mirrors and proxies.
"""

from __future__ import annotations

import sys
from getpass import getpass
from typing import TYPE_CHECKING, TextIO

from xferd.ctl.auth_file import AuthFile
from xferd.ctl.errors import ClientError
from xferd.ctl.user_credentials import why_no_secrets
from xferd.docker_config import auth_files, host_of, is_unicode
from xferd.errors import XferdError

if TYPE_CHECKING:
    from argparse import Namespace

    from xferd.ctl.session import Session


def login(args: Namespace, session: Session) -> None:
    """
    Ask for user and password, have them tried, and keep them.

    @raise ClientError: the registry does not accept them, or they cannot be
        kept; nothing was changed.
    """
    try:
        host = host_of(args.registry)
        # Before anybody types a password in vain.
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
    Forget the credentials for a registry.

    @raise ClientError: the file or the helper does not let us.
    """
    try:
        host = host_of(args.registry)
        file = _file(args, session)
        found = file.erase(host)
    except XferdError as e:
        raise ClientError(str(e)) from e
    words = f"logged out of {host}" if found else f"not logged in to {host}, by {file.path}"
    print(words, file=session.stdout)


def ask(username: str | None, piped: bool, stdin: TextIO, host: str) -> tuple[str, str]:
    """
    Get user and password, from the terminal where they are not given.

    @param piped: whether all of stdin is the password, but for the end of its
        line.
    @raise ClientError: there is nobody to ask, or they are none.
    """
    if piped and not username:
        raise ClientError("--password-stdin needs --username")
    if not piped and not stdin.isatty():
        raise ClientError("there is no terminal to ask for the password on; pipe it to --password-stdin")
    if not username:
        print(f"Username for {host}: ", end="", file=sys.stderr, flush=True)
        username = stdin.readline().strip()
    if piped:
        password = stdin.read(_MAX_PASSWORD + 1).removesuffix("\n").removesuffix("\r")
    else:
        password = getpass(f"Password of {username} for {host}: ")
    if not username or not password or len(password) > _MAX_PASSWORD:
        raise ClientError(f"a user and a password of 1 to {_MAX_PASSWORD} characters are needed")
    if ":" in username or not is_unicode(username + password):
        raise ClientError("a user's name has no colon, and both are UTF-8")
    return username, password


_MAX_PASSWORD = 8192
"""Characters: cloud registries take tokens of some thousand for passwords."""


def _file(args: Namespace, session: Session) -> AuthFile:
    """
    The file to read and write.
    """
    return AuthFile(args.auth_file or auth_files(session.environ)[0], session.environ)
