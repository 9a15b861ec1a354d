# -*- test-case-name: tests.v2.rights.test_access -*-
"""
The rights of a request: may its client do something with a repository, and with
which credentials is the upstream requested?

Root and the daemon's user have all rights on xferd's own repositories, by their
connection.  All other clients have the rights of the rules.  What an upstream gives
to anybody, every client may pull.
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
from xferd.v2.rights.rules import Action, Rules
from xferd.v2.settings import RegistrySettings

if TYPE_CHECKING:
    from twisted.web.http import Request as HTTPRequest
    from twisted.web.server import Request

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
        self, settings: RegistrySettings, registries: IRegistries, *, hosts: Set[str] = frozenset()
    ) -> None:
        """
        @param registries: the upstreams.
        @param hosts: the daemon's own names besides those of loopback: see
            L{is_trusted}.
        """
        self._rules = Rules(settings.rights)
        self._anonymous = registries.anonymous()
        self._hosts = frozenset(host.lower() for host in hosts)

    async def of(self, request: Request, target: Target, action: Action) -> Grant:
        """
        Check that the client of a request may do something.

        @raise Unauthorized: it may after a login; the challenge is in the response's
            headers.
        @raise Forbidden: its user has no such right.
        @raise NotFound: it has no such right, and no login can help.
        """
        if not self._allows(request, target.repository, action):
            raise self._refusal(target, action)
        if target.upstream is None:
            return Grant(target.repository)
        return Grant(target.repository, self._anonymous.repository(target.repository))

    async def readable(self, request: Request, repositories: Sequence[Repository]) -> list[Repository]:
        """
        Those of some repositories of the catalog that the client of a request may
        pull without any request to an upstream.  A blob may be mounted from these.
        """
        return [each for each in repositories if self._allows(request, each, Action.PULL)]

    def _allows(self, request: HTTPRequest, repository: Repository, action: Action) -> bool:
        own = repository.host == LOCAL_HOST
        if (own or action is Action.DELETE) and is_trusted(request, self._hosts):
            return True
        if not own and action is Action.PULL:
            return True
        return self._rules.allow("", repository.path if own else str(repository), action)

    def _refusal(self, target: Target, action: Action) -> Exception:
        """
        The error for a client without a right.

        Where nobody can log in, a repository that a client may not read does not
        exist for it.
        """
        if action is Action.PULL:
            return NotFound(f"{target.repository.path} is not known to this registry")
        return Forbidden(f"{action.value} of {target.repository.path} is not permitted")
