# -*- test-case-name: tests.registry.auth.test_keychain -*-
"""
Who somebody is at a registry: the daemon's user, by docker's files and the
helpers that they name, or one client, by what it brought along.
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
    Nobody in particular, everywhere.
    """

    identity: Hashable = None
    account: Hashable = None
    where: str = ""

    def lookup(self, host: str, path: str) -> Deferred[Credentials | None]:  # noqa: ARG002
        """
        Give none.
        """
        return succeed(None)

    def forget(self, host: str) -> None:
        """
        There is nothing to forget.
        """


@implementer(IKeychain)
class ClientKeychain:
    """
    One client, at the one registry that it brought credentials for.
    """

    where = ""

    def __init__(self, credentials: Credentials) -> None:
        self.identity: Hashable = credentials
        self.account: Hashable = credentials.fingerprint
        self._credentials = credentials

    def lookup(self, host: str, path: str) -> Deferred[Credentials | None]:  # noqa: ARG002
        """
        Give what was brought.
        """
        return succeed(self._credentials)

    def forget(self, host: str) -> None:
        """
        Keep them: there are no others.
        """


class _File:
    """
    One C{config.json}, which may change or come into being while the daemon
    runs.

    @ivar missing: the helper of all hosts that the file names and that was not
        there when it was needed, or the empty string.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        self.path = path
        self.missing = ""
        self._stamp: tuple[int, ...] | None = None
        self._config = parse_docker_config(_EMPTY_FILE, path)

    def load(self) -> DockerConfig:
        """
        Read the file anew, if it has changed since.  None is as good as an
        empty one.

        @raise ConfigError: it cannot be used; what was read before stays.
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
        Note that the helper of all hosts is not there, which is warned of
        once.
        """
        if self.missing != helper:
            self.missing = helper
            self._log.warn(
                "docker-credential-{helper}, which {path} names, is not in PATH: "
                "registries are asked without credentials",
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
        What the file says; one that has become unreadable is warned of once,
        and its former content used.
        """
        try:
            return self.load()
        except ConfigError as e:
            self._log.warn("credentials stay as they were: {reason}", reason=str(e))
            return self._config


@implementer(IKeychain)
class DockerKeychain:
    """
    The daemon's user, as docker and podman have written it down.

    For each file in turn: the narrowest namespace that podman has an entry
    for, the host's helper, the host's own entry.
    """

    def __init__(self, paths: Sequence[str], helpers: CredentialHelpers) -> None:
        """
        @param paths: the files, the first one to be asked first.
        """
        self.identity: Hashable = None
        self.account: Hashable = None
        self._files = [_File(path) for path in paths]
        self._helpers = helpers

    @property
    def where(self) -> str:
        """
        See L{IKeychain.where}.
        """
        return " or ".join(map(str, self._files))

    def load(self) -> None:
        """
        Read all files.

        @raise ConfigError: one cannot be used.
        """
        for file in self._files:
            file.load()

    def lookup(self, host: str, path: str) -> Deferred[Credentials | None]:
        """
        See L{IKeychain.lookup}.
        """
        return Deferred.fromCoroutine(self._lookup(host.lower(), path))

    def forget(self, host: str) -> None:
        """
        Ask helpers anew next time; files are looked at each time.
        """
        self._helpers.forget(server_of(host.lower()))

    async def _lookup(self, host: str, path: str) -> Credentials | None:
        """
        Ask the files one after the other.
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
        Ask the helper that a file names for a host.

        A C{credsStore} that is not installed, which people copy from other
        machines, stands in the way of no image that needs no credentials; a
        helper that is named for this host does.
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
