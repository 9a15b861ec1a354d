# -*- test-case-name: tests.registry.auth.test_keychain -*-
"""
Sources of credentials: docker's configuration files with their helpers, for the
daemon's user, and a client's request.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.docker_config import MAX_CONFIG, DockerConfig, parse_docker_config, server_of
from xferd.errors import ConfigError, CredentialsUnavailable
from xferd.interfaces.registry import IKeychain
from xferd.registry.auth.credential_helpers import CredentialHelpers, HelperMissing

_EMPTY_FILE: Final = b"{}"


@implementer(IKeychain)
@frozen
class Anonymous:
    """
    No credentials for any registry.

    @ivar identity: distinguishes it from the keychain of the daemon's user, where there
        are both.
    """

    identity: Hashable = None
    account: Hashable = None
    where: str = ""

    def lookup(self, host: str, path: str) -> Deferred[Credentials | None]:  # noqa: ARG002
        return succeed(None)

    def forget(self, host: str) -> None:
        """
        Nothing is remembered.
        """


@implementer(IKeychain)
class ClientKeychain:
    """
    The credentials that a client sent for one registry.
    """

    where = ""

    def __init__(self, credentials: Credentials, account: str) -> None:
        """
        @param account: the name of the account, which is no secret.
        """
        self.identity: Hashable = credentials
        self.account: Hashable = account
        self._credentials = credentials

    def lookup(self, host: str, path: str) -> Deferred[Credentials | None]:  # noqa: ARG002
        return succeed(self._credentials)

    def forget(self, host: str) -> None:
        """
        Nothing else is available.
        """


class _File:
    """
    One C{config.json}, which may change or be created while the daemon runs.

    @ivar missing: the C{credsStore} of the file, if it was needed and is not
        installed, or the empty string.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        self.path = path
        self.missing = ""
        self._stamp: tuple[int, ...] | None = None
        self._config = parse_docker_config(_EMPTY_FILE, path)

    def load(self) -> DockerConfig:
        """
        Read the file again if it has changed.  A missing file counts as empty.

        @raise ConfigError: it cannot be used; the previous contents remain.
        """
        try:
            status = os.stat(self.path)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return self._config
            self._stamp = stamp
            with open(self.path, "rb") as file:
                data = file.read(MAX_CONFIG + 1)
        except (FileNotFoundError, NotADirectoryError):
            self._stamp, data = None, _EMPTY_FILE
        except OSError as e:
            raise ConfigError(f"{self.path} cannot be read: {e.strerror}") from e
        self._config = parse_docker_config(data, self.path)
        for problem in self._config.broken.values():
            self._log.warn("an entry of credentials is not used: {reason}", reason=problem)
        return self._config

    def lacks(self, helper: str) -> None:
        """
        Note that the C{credsStore} is not installed, and log it once.
        """
        if self.missing != helper:
            self.missing = helper
            self._log.warn(
                "docker-credential-{helper}, which {path} names, is not in PATH: "
                "requests to registries have no credentials",
                helper=helper,
                path=self.path,
            )

    def __str__(self) -> str:
        if self.missing:
            return (
                f"{self.path}, whose helper docker-credential-{self.missing} is not in PATH "
                "(install it, or remove its name there),"
            )
        return self.path

    def current(self) -> DockerConfig:
        """
        The contents of the file.  If it has become unreadable, that is logged
        once and its previous contents are used.
        """
        try:
            return self.load()
        except ConfigError as e:
            self._log.warn("the previous credentials remain in use: {reason}", reason=str(e))
            return self._config


@implementer(IKeychain)
class DockerKeychain:
    """
    The credentials in the files of docker and podman.

    In each file, in this order: the narrowest namespace with an entry (podman),
    the host's helper, the host's own entry.
    """

    def __init__(self, paths: Sequence[str], helpers: CredentialHelpers) -> None:
        """
        @param paths: the files, in the order in which they are searched.
        """
        self.identity: Hashable = None
        self.account: Hashable = None
        self._files = [_File(path) for path in paths]
        self._helpers = helpers

    @property
    def where(self) -> str:
        return " or ".join(map(str, self._files))

    def load(self) -> None:
        """
        Read all files.

        @raise ConfigError: one cannot be used.
        """
        for file in self._files:
            file.load()

    def lookup(self, host: str, path: str) -> Deferred[Credentials | None]:
        return Deferred.fromCoroutine(self._lookup(host.lower(), path))

    def forget(self, host: str) -> None:
        """
        Run helpers again next time; files are checked each time.
        """
        self._helpers.forget(server_of(host.lower()))

    async def _lookup(self, host: str, path: str) -> Credentials | None:
        """
        Search the files in order.
        """
        for file in self._files:
            config = file.current()
            found = config.below(host, path)
            if found is not None:
                return found
            found = await self._ask_helper(file, config, host)
            if found is None:
                found = config.auths.get(host)
            if found is not None:
                return found
            problem = config.problem(host, path)
            if problem:
                raise CredentialsUnavailable(f"no credentials for {host}: {problem}", host=host)
        return None

    async def _ask_helper(self, file: _File, config: DockerConfig, host: str) -> Credentials | None:
        """
        Run the helper that a file names for a host.

        A C{credsStore} that is not installed counts as empty: people copy files
        from other machines, and many images need no credentials.  A missing
        helper of this host is an error.
        """
        helper = config.helper(host)
        if not helper:
            return None
        try:
            found = await self._helpers.get(helper, host, config.path)
        except HelperMissing:
            if host in config.helpers:
                raise
            file.lacks(helper)
            return None
        if helper == config.store:
            file.missing = ""
        return found
