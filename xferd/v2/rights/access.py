# -*- test-case-name: tests.v2.rights.test_access -*-
"""
The rights of a request: may its client do something with a repository, and with
which credentials is the upstream requested?

Root and the daemon's user have all rights on xferd's own repositories, by their
connection.  All other clients have the rights of the rules.  What an upstream gives
to anybody, every client may pull.

A password is checked only if a right depends on it.  Therefore a client that sends
the credentials of another registry, as docker does at a mirror, can pull what is
public.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from attrs import frozen
from werkzeug.exceptions import Forbidden

from xferd.errors import NotFound
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.names import Repository
from xferd.v2.names import Target
from xferd.v2.rights.connection import is_trusted
from xferd.v2.rights.logins import Logins
from xferd.v2.rights.rules import Action, Rules
from xferd.v2.settings import RegistrySettings

if TYPE_CHECKING:
    from twisted.web.http import Request as HTTPRequest

    from xferd.interfaces.registry import IRegistries, IRepository


@frozen
class Grant:
    """
    The permission of one request.

    @ivar repository: the repository, as the catalog names it.
    @ivar source: the upstream's repository with the credentials to use; L{None} for
        one of xferd's own.
    """

    repository: Repository
    source: IRepository | None = None


class Access:
    """
    Decides on requests.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        registries: IRegistries,
        logins: Logins,
        *,
        hosts: Set[str] = frozenset(),
    ) -> None:
        """
        @param registries: the upstreams.
        @param logins: the users.
        @param hosts: the daemon's own names besides those of loopback: see
            L{is_trusted}.
        """
        self._rules = Rules(settings.rights)
        self._logins = logins
        self._anonymous = registries.anonymous()
        self._unlisted = self._anonymous.public_only()
        self._hosts = frozenset(host.lower() for host in hosts)

    async def of(self, request: HTTPRequest, target: Target, action: Action) -> Grant:
        """
        Check that the client of a request may do something.

        @raise Unauthorized: it may after a login; the challenge is in the response's
            headers.
        @raise Forbidden: its user has no such right.
        @raise NotFound: it has no such right, and no login can help.
        """
        if not self._allows(request, "", target.repository, action):
            await self._login(request, target, action)
        if target.upstream is None:
            return Grant(target.repository)
        registries = self._anonymous if target.listed else self._unlisted
        return Grant(target.repository, registries.repository(target.repository))

    async def readable(self, request: HTTPRequest, repositories: Sequence[Repository]) -> list[Repository]:
        """
        Those of some repositories of the catalog that the client of a request may
        pull without any request to an upstream.  A blob may be mounted from these.
        """
        login = self._logins.shown(request)
        user = await self._logins.user(request, login) if login is not None else ""
        return [each for each in repositories if self._allows(request, user, each, Action.PULL)]

    async def check_login(self, request: HTTPRequest) -> None:
        """
        Check the login of a request for the root of the registry, which names no
        repository.  Clients look for the challenge here.

        @raise Unauthorized: there is no login, or it is wrong.
        """
        if not self._logins.has_users:
            return
        login = self._logins.shown(request)
        if login is None:
            raise self._logins.challenge(request, error="invalid_token")
        anonymous = request.getHeader(b"authorization") is None
        if anonymous or (login.credentials is not None and not await self._logins.user(request, login)):
            raise self._logins.challenge(request)

    async def _login(self, request: HTTPRequest, target: Target, action: Action) -> None:
        """
        Check that the user of a request may do something which not everybody may.

        @raise Exception: see L{of}.
        """
        own = target.upstream is None
        if not self._logins.has_users:
            if action is Action.PULL:
                raise NotFound(f"{target.repository.path} is not known to this registry")
            raise Forbidden(f"{action.value} of {target.repository.path} is not permitted")
        login = self._logins.shown(request)
        user = await self._logins.user(request, login) if login is not None else ""
        if not user:
            name = target.repository.path if own else str(target.repository)
            actions = "pull" if action is Action.PULL else f"pull,{action.value}"
            error = "insufficient_scope" if login is not None and login.is_token else ""
            raise self._logins.challenge(request, f"repository:{name}:{actions}", error)
        if self._allows(request, user, target.repository, action):
            return
        if own or action is not Action.PULL:
            raise Forbidden(f"user {user} has no right to {action.value} {target.repository.path}")
        raise NotFound(f"{target.repository} is not known to this registry")

    def _allows(self, request: HTTPRequest, user: str, repository: Repository, action: Action) -> bool:
        own = repository.host == LOCAL_HOST
        if (own or action is Action.DELETE) and is_trusted(request, self._hosts):
            return True
        if not own and action is Action.PULL:
            return True
        return self._rules.allow(user, repository.path if own else str(repository), action)
