# -*- test-case-name: tests.engines.cri.test_pull_credentials -*-
"""
The credentials of the pulls that run in an engine: in memory, and no longer than the
pulls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from attrs import frozen
from zope.interface import implementer

from xferd.credentials import Credentials, Secret
from xferd.docker_config import host_of, unpack_auth
from xferd.engines.proto.cri_pb2 import AuthConfig
from xferd.errors import BadInput, BadReference
from xferd.interfaces.engines import ICredentialsOf
from xferd.names import Reference

MOST: Final = 256
"""Pulls whose credentials are kept at once; the oldest ones are dropped first."""

MAX_SECRET: Final = 64 * 1024
"""Characters of one pull's credentials."""


def read_auth(auth: AuthConfig, host: str) -> Credentials | None:
    """
    Read the credentials of a pull.  Of several forms the one counts that containerd
    itself uses: name and password, identity token, C{auth}; a registry token, which it
    does not know, comes last.

    @param host: the registry of the image.
    @return: the credentials, or L{None} if there are none for this registry, or they
        are malformed.
    """
    if auth.server_address:
        try:
            if host_of(auth.server_address) != host:
                return None
        except BadInput:
            return None
    if (
        sum(map(len, (auth.username, auth.password, auth.identity_token, auth.auth, auth.registry_token)))
        > MAX_SECRET
    ):
        return None
    username, password, identity, token = auth.username, auth.password, "", ""
    if not username:
        password = ""
        if auth.identity_token:
            identity = auth.identity_token
        elif auth.auth:
            pair = unpack_auth(auth.auth)
            if pair is None:
                return None
            username, password = pair
        elif auth.registry_token.isascii() and auth.registry_token.isprintable():
            token = auth.registry_token
    found = Credentials(
        username,
        Secret(password),
        Secret(identity),
        Secret(token),
        origin="the pull request of a CRI client",
        remedy="correct its pull secret",
    )
    return found if found else None


@frozen(eq=False)
class _Pull:
    """
    One pull that runs.
    """

    reference: Reference
    credentials: Credentials


@implementer(ICredentialsOf)
class PullCredentials:
    """
    The credentials of the pulls that run.  The jobs that begin meanwhile keep theirs to
    their own ends.
    """

    def __init__(self) -> None:
        self._pulls: list[_Pull] = []

    def __len__(self) -> int:
        return len(self._pulls)

    def keep(self, image: str, auth: AuthConfig) -> Callable[[], None]:
        """
        Keep the credentials of a pull that begins.

        @param image: the reference, as the client wrote it.
        @return: to be called when the pull has ended.
        """
        try:
            reference = _reference(image)
        except BadReference:
            return _nothing
        credentials = read_auth(auth, reference.repository.host)
        if credentials is None:
            return _nothing
        pull = _Pull(reference, credentials)
        self._pulls.append(pull)
        del self._pulls[:-MOST]

        def ended() -> None:
            if pull in self._pulls:
                self._pulls.remove(pull)

        return ended

    def credentials_of(self, image: str) -> Mapping[str, Credentials]:
        try:
            reference = _reference(image)
        except BadReference:
            return {}
        # The newest pull of this image, else of this repository.
        for matches in (
            lambda pull: pull.reference == reference,
            lambda pull: pull.reference.repository == reference.repository,
        ):
            for pull in reversed(self._pulls):
                if matches(pull):
                    return {reference.repository.host: pull.credentials}
        return {}


def _reference(image: str) -> Reference:
    """
    A reference as containerd passes it on: of a tag and a digest the digest counts.

    @raise BadReference: it is malformed.
    """
    found = Reference.parse(image)
    return found if found.digest is None else Reference(found.repository, None, found.digest)


def _nothing() -> None:
    return None
