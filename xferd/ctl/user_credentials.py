# -*- test-case-name: tests.ctl.test_user_credentials -*-
"""
The credentials of the user who runs C{xferctl}: read from docker's and
podman's files and the helpers that they name, and sent with one request, as
docker's client does.

Only credentials for the registries that the request needs are read.  Mirrors
are part of the daemon's configuration and get the daemon's credentials.  A
file or helper that fails causes a warning and is skipped: most images need no
credentials, and the daemon falls back to its own.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final

from xferd.ctl.auth_file import AuthFile
from xferd.ctl.errors import Refused
from xferd.docker_config import auth_files
from xferd.errors import BadReference, ConfigError
from xferd.names import Reference, Repository, is_loopback

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Mapping, Sequence

    from xferd.credentials import Credentials
    from xferd.ctl.address import Address
    from xferd.ctl.session import Session

HEADER: Final = "X-Registry-Config"

MOST: Final = 12_000
"""The header's greatest length in characters: the daemon reads 16 KiB of headers."""


def credentials_headers(
    args: Namespace, session: Session, references: Sequence[str], *, stored: bool = False
) -> Mapping[str, str]:
    """
    The user's credentials for a command, as headers of its request; none with
    C{--no-credentials}.

    @param references: references in the registries that the command needs; of
        two on one host, the first one counts.
    @param stored: whether the command also needs the registry from which the
        stored image C{args.reference} came.
    """
    if args.no_credentials:
        return {}
    files = _files(session)
    if not files:
        return {}
    entries: dict[str, dict[str, str]] = {}
    for repository in _repositories(session, references, args.reference if stored else None):
        if repository.host not in entries:
            found = _find(session, files, repository)
            if found is not None:
                entries[repository.host] = _entry(found)
    if not entries:
        return {}
    hosts = " and ".join(sorted(entries))
    reason = why_no_secrets(session.daemon.address())
    if reason is not None:
        session.warn(f"your credentials for {hosts} are not sent, as {reason}, or use --no-credentials")
        return {}
    value = urlsafe_b64encode(json.dumps(entries).encode()).decode("ascii")
    if len(value) > MOST:
        session.warn(
            f"your credentials for {hosts} are not sent: {len(value)} characters are more than {MOST}"
        )
        return {}
    return {HEADER: value}


def why_no_secrets(address: Address) -> str | None:
    """
    The reason why secrets must not be sent to a daemon; L{None} if they may.
    They may over TLS and within this machine, where the user named the address
    or the listener's owner was checked.
    """
    if address.scheme in ("unix", "https") or is_loopback(address.name):
        return None
    return f"the connection to {address} is not encrypted: use https"


def _files(session: Session) -> list[AuthFile]:
    """
    The user's files that contain credentials or name helpers.
    """
    found = []
    for path in auth_files(session.environ):
        file = AuthFile(path, session.environ)
        try:
            config = file.read()
        except ConfigError as e:
            session.warn(f"your credentials are not sent: {e}")
            continue
        if config.auths or config.helpers or config.store:
            found.append(file)
    return found


def _repositories(session: Session, references: Sequence[str], stored: str | None) -> Iterable[Repository]:
    for reference in references:
        try:
            yield Reference.parse(reference).repository
        except BadReference:
            # The daemon reports the error.
            return
    if stored is None:
        return
    try:
        source = session.daemon.image(stored).get("source")
        yield Reference.parse(str(source or stored)).repository
    except (BadReference, Refused):
        return


def _find(session: Session, files: Iterable[AuthFile], repository: Repository) -> Credentials | None:
    """
    The credentials for a repository, from the first file that has any.
    """
    for file in files:
        try:
            found = file.find(repository.host, repository.path)
        except ConfigError as e:
            session.warn(f"your credentials for {repository.host} are not sent: {e}")
            continue
        if found is not None:
            return found
    return None


def _entry(credentials: Credentials) -> dict[str, str]:
    """
    Credentials in the form of docker's clients, with their origin.
    """
    entry = {
        "username": credentials.username,
        "password": credentials.password.reveal(),
        "identitytoken": credentials.identity_token.reveal(),
        "origin": credentials.origin,
    }
    return {name: text for name, text in entry.items() if text}
