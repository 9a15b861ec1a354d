# -*- test-case-name: tests.v2.rights.test_logins -*-
"""
The rights of all clients: the parts of this package put together, and their life cycle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from functools import partial
from typing import TYPE_CHECKING

from xferd.realms import PASS
from xferd.v2.rights.access import Access, Grant
from xferd.v2.rights.guesses import Guesses
from xferd.v2.rights.htpasswd import HtpasswdFile
from xferd.v2.rights.logins import Logins
from xferd.v2.rights.passwords import GUESS_INTERVAL, GUESSES, Passwords
from xferd.v2.rights.proofs import Proofs
from xferd.v2.rights.sources import Sources
from xferd.v2.rights.token_server import respond_token
from xferd.v2.rights.tokens import Tokens

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.http import Request as HTTPRequest
    from twisted.web.server import Request

    from xferd.interfaces.catalog import ICatalog
    from xferd.interfaces.reactor import WallClock
    from xferd.interfaces.registry import IKeychain, IRegistries, IRepository
    from xferd.names import Digest, Repository
    from xferd.store.threads import Threads
    from xferd.v2.names import Target
    from xferd.v2.rights.rules import Action
    from xferd.v2.settings import RegistrySettings


class Rights:
    """
    The rights of the clients of one registry.

    Life cycle: made, C{start}ed, C{stop}ped.  The settings may change at any time.

    @ivar logins: the requests whose passwords or tokens were C{accepted} or C{refused}.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        registries: IRegistries,
        keychain: IKeychain,
        catalog: ICatalog,
        *,
        threads: Threads,
        clock: IReactorTime,
        wall_clock: WallClock,
        hosts: Set[str] = frozenset(),
    ) -> None:
        """
        @param registries: the upstreams, with the credentials of the daemon's user.
        @param keychain: these credentials.
        @param catalog: the manifests of repositories.
        @param threads: check passwords.
        @param hosts: the daemon's own names besides those of loopback, without port.
        @raise ConfigError: the file of passwords cannot be used.
        """
        self._sources = Sources(registries, keychain, clock.seconds)
        self._proofs = Proofs(catalog, clock.seconds)
        self._guesses = Guesses(clock.seconds, GUESSES, GUESS_INTERVAL)
        self._threads = threads
        self._wall_clock = wall_clock
        self._hosts = hosts
        self._passwords = Passwords(HtpasswdFile(""), threads, clock)
        self._tokens = Tokens(clock)
        self.logins: Counter[str] = Counter()
        self.reload(settings)

    def start(self) -> None:
        """
        Begin to check passwords.
        """
        self._threads.start()

    async def stop(self) -> None:
        """
        Wait for the checks that run.
        """
        await self._threads.stop()

    def reload(self, settings: RegistrySettings) -> None:
        """
        Replace the settings, for all requests from now on.

        @raise ConfigError: the file of passwords cannot be used; then all stays as it
            is.
        """
        file = self._passwords.file
        if settings.htpasswd != file.path:
            file = HtpasswdFile(settings.htpasswd)
        file.load()
        self._passwords.file = file
        self._logins = Logins(self._passwords, self._tokens, settings.external_url, self.logins)
        self._access = Access(
            settings, self._logins, self._sources, self._proofs, self._guesses, hosts=self._hosts
        )

    async def of(
        self,
        request: HTTPRequest,
        target: Target,
        action: Action,
        *,
        manifest: str = "",
        blob: Digest | None = None,
    ) -> Grant:
        """
        See L{Access.of}.
        """
        return await self._access.of(request, target, action, manifest=manifest, blob=blob)

    async def upstream(self, target: Target) -> IRepository | None:
        """
        The repository of an upstream, for work that the daemon continues.

        @return: L{None} if each client needs credentials of its own.
        @raise CredentialsUnavailable: a helper of the daemon's user fails.
        """
        if target.upstream is None or target.upstream.policy == PASS:
            return None
        return await self._sources.find(target, None)

    async def readable(self, request: HTTPRequest, repositories: Sequence[Repository]) -> list[Repository]:
        """
        See L{Access.readable}.
        """
        return await self._access.readable(request, repositories)

    def has_images(self, request: HTTPRequest, repository: Repository) -> bool:
        """
        See L{Access.has_images}.
        """
        return self._access.has_images(request, repository)

    async def check_login(self, request: HTTPRequest) -> None:
        """
        See L{Access.check_login}.
        """
        await self._access.check_login(request)

    async def respond_token(self, request: Request) -> bytes:
        """
        Respond with a token.

        @raise Unauthorized: the password is wrong.
        """
        is_accepted = partial(self._access.is_accepted, request) if self._access.passing else None
        return await respond_token(request, self._logins, self._wall_clock, is_accepted)
