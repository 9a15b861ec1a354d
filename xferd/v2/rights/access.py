# -*- test-case-name: tests.v2.rights.test_access -*-
"""
The rights of a request: may its client do something with a repository, and with
which credentials is the upstream requested?

Root and the daemon's user have all rights on xferd's own repositories, by their
connection.  All other clients have the rights of the rules.  What an upstream gives
to any client, every client may pull; what it gives to the daemon's account, clients with
a rule; what it gives to a client's own credentials, that client.

A password is checked only if a right depends on it.  Therefore a client that sends
the credentials of another registry, as docker does at a mirror, can pull what is
public.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence, Set
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from attrs import frozen
from werkzeug.exceptions import Forbidden

from xferd.errors import Denied, NotFound, SourceError
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.names import Repository
from xferd.realms import ACCOUNT, PASS, PUBLIC, unlisted
from xferd.v2.names import Target
from xferd.v2.rights.connection import is_trusted
from xferd.v2.rights.logins import Logins, peer_of
from xferd.v2.rights.rules import Action, Rules
from xferd.v2.settings import RegistrySettings, UpstreamSettings

if TYPE_CHECKING:
    from twisted.web.http import Request as HTTPRequest

    from xferd.credentials import Credentials
    from xferd.interfaces.registry import IRepository
    from xferd.names import Digest
    from xferd.v2.rights.guesses import Guesses
    from xferd.v2.rights.proofs import Proofs
    from xferd.v2.rights.sources import Sources
    from xferd.v2.rights.tokens import Login

T = TypeVar("T")


@frozen
class Grant:
    """
    The permission of one request.

    @ivar repository: the repository, as the catalog names it: see
        L{listed<xferd.realms.listed>}.
    @ivar source: the upstream's repository with the credentials to use, and with
        the name in the catalog; L{None} for one of xferd's own.
    @ivar manifest: the tag or digest to read.  Where clients may see different content
        under one tag, this is the digest for this client.
    @ivar images: whether the client may have the images of the upstream's name that
        jobs pulled with the credentials of the daemon or of other clients: by its
        connection, or because a rule makes the name public.
    """

    repository: Repository
    source: IRepository | None = None
    manifest: str = ""
    images: bool = False


class Access:
    """
    Decides on requests.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        logins: Logins,
        sources: Sources,
        proofs: Proofs,
        guesses: Guesses,
        *,
        hosts: Set[str] = frozenset(),
    ) -> None:
        """
        @param guesses: counts the credentials that upstreams refuse.
        @param hosts: the daemon's own names besides those of loopback: see
            L{is_trusted}.
        """
        listed = settings.upstreams
        self._upstreams = {} if isinstance(listed, str) else listed
        self._rules = Rules(settings.rights)
        self._logins = logins
        self._sources = sources
        self._proofs = proofs
        self._guesses = guesses
        self._hosts = frozenset(host.lower() for host in hosts)

    @property
    def passing(self) -> Sequence[str]:
        """
        The hosts of the upstreams that check their clients' own credentials.
        """
        return [host for host, each in self._upstreams.items() if each.policy == PASS]

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
        Check that the client of a request may do something.

        @param manifest: the tag or digest of a manifest to pull.
        @param blob: the digest of a blob to pull.
        @raise Unauthorized: it may after a login; the challenge is in the response's
            headers.
        @raise Forbidden: its user has no such right.
        @raise NotFound: it has no such right, and no login can help.
        @raise SourceError: the upstream has to confirm the right, and does not.
        """
        upstream, repository = target.upstream, target.repository
        if upstream is not None and upstream.policy == PASS and action is Action.PULL:
            return await self._passed(request, target, manifest, blob)
        if not self._allows(request, "", repository, upstream, action):
            await self._login(request, target, action)
        if upstream is None:
            return Grant(repository, None, manifest)
        source = await self._sources.find(target, None)
        images = action is Action.PULL and self.has_images(request, repository)
        return Grant(source.name, source, manifest, images)

    async def readable(self, request: HTTPRequest, repositories: Sequence[Repository]) -> list[Repository]:
        """
        Those of some repositories of the catalog that the client of a request may
        pull without any request to an upstream.  A blob may be mounted from these.
        """
        login = self._logins.shown(request)
        user = await self._logins.user(request, login) if login is not None else ""
        return [each for each in repositories if self._reads(request, user, each)]

    def has_images(self, request: HTTPRequest, repository: Repository) -> bool:
        """
        Whether the client of a request that may pull from an upstream's repository may
        have the images of this name that jobs pulled: see L{Grant}.
        """
        public = self._rules.allow("", str(repository), Action.PULL)
        return public or is_trusted(request, self._hosts)

    async def check_login(self, request: HTTPRequest) -> None:
        """
        Check the login of a request for the root of the registry, which names no
        repository.  Clients look for the challenge here.

        @raise Unauthorized: there is no login, or it is wrong.
        """
        if not (self._logins.has_users or self.passing):
            return
        login = self._logins.shown(request)
        if login is None:
            raise self._logins.challenge(request, error="invalid_token")
        if request.getHeader(b"authorization") is None:
            raise self._logins.challenge(request)
        if login.credentials is None or login.is_token or await self._logins.user(request, login):
            return
        if not await self.is_accepted(request, login):
            raise self._logins.challenge(request)

    async def is_accepted(self, request: HTTPRequest, login: Login) -> bool:
        """
        Whether an upstream that checks its clients' own credentials accepts those of a
        login.
        """
        credentials = self._logins.foreign(login)
        if credentials is None:
            return False
        for host in self.passing:
            try:
                await self._counted(
                    request, host, credentials, partial(self._sources.check, host, credentials)
                )
            except SourceError:
                continue
            return True
        return False

    async def _passed(
        self,
        request: HTTPRequest,
        target: Target,
        manifest: str,
        blob: Digest | None,
    ) -> Grant:
        """
        Have an upstream confirm that it gives something to a client's own credentials.
        """
        credentials = self._logins.foreign(self._logins.shown(request))
        source = await self._sources.find(target, credentials)
        client = "" if credentials is None else credentials.fingerprint

        if not (manifest or blob or self._proofs.has_any(source, client)):
            if credentials is None:
                raise self._challenge(request, target, Action.PULL)
            raise NotFound(f"{target.repository} is not known to this registry")

        async def prove() -> str:
            if manifest:
                return str(await self._proofs.manifest(source, client, manifest))
            if blob is not None:
                await self._proofs.blob(source, client, blob)
            return ""

        if credentials is None:
            try:
                return Grant(source.name, source, await prove())
            except Denied:
                raise self._challenge(request, target, Action.PULL) from None
        return Grant(source.name, source, await self._counted(request, source.host, credentials, prove))

    async def _counted(
        self, request: HTTPRequest, host: str, credentials: Credentials, prove: Callable[[], Awaitable[T]]
    ) -> T:
        """
        Have an upstream check credentials, and count those that it refuses.

        @raise TooManyRequests: it has refused too many.
        """
        # Wrong credentials of one user do not lock out another one at the same address.
        key = f"{peer_of(request)} {host} {credentials.username}"
        self._guesses.check(key)
        try:
            return await prove()
        except Denied:
            self._guesses.count(key)
            raise

    async def _login(self, request: HTTPRequest, target: Target, action: Action) -> None:
        """
        Check that the user of a request may do something that is not permitted to all.

        @raise Exception: see L{of}.
        """
        if not self._logins.has_users:
            if action is Action.PULL:
                raise NotFound(f"{target.repository.path} is not known to this registry")
            raise Forbidden(f"{action.value} of {target.repository.path} is not permitted")
        login = self._logins.shown(request)
        user = await self._logins.user(request, login) if login is not None else ""
        if not user:
            raise self._challenge(request, target, action)
        if self._allows(request, user, target.repository, target.upstream, action):
            return
        if target.upstream is None or action is not Action.PULL:
            raise Forbidden(f"user {user} has no right to {action.value} {target.repository.path}")
        raise NotFound(f"{target.repository} is not known to this registry")

    def _challenge(self, request: HTTPRequest, target: Target, action: Action) -> Exception:
        """
        The error for a client that has to log in for an action.
        """
        name = target.repository.path if target.upstream is None else str(target.repository)
        actions = "pull" if action is Action.PULL else f"pull,{action.value}"
        login = self._logins.shown(request)
        error = "insufficient_scope" if login is not None and login.is_token else ""
        return self._logins.challenge(request, f"repository:{name}:{actions}", error)

    def _reads(self, request: HTTPRequest, user: str, listed: Repository) -> bool:
        """
        Whether a client may pull what the catalog lists under a name, by the settings
        as they are now.
        """
        repository, policy = unlisted(listed)
        if repository.host == LOCAL_HOST:
            return self._allows(request, user, repository, None, Action.PULL)
        upstream = self._upstreams.get(repository.host, UpstreamSettings())
        if policy == PASS or policy != upstream.policy:
            return False
        return self._allows(request, user, repository, upstream, Action.PULL)

    def _allows(
        self,
        request: HTTPRequest,
        user: str,
        repository: Repository,
        upstream: UpstreamSettings | None,
        action: Action,
    ) -> bool:
        """
        Whether a client has a right by its connection, by a rule, or as every client.
        """
        if upstream is not None and action is Action.PUSH:
            return False
        if upstream is not None and action is Action.PULL and upstream.policy == PUBLIC:
            return True
        name = repository.path if upstream is None else str(repository)
        if self._rules.allow(user, name, action):
            return True
        by_connection = (
            upstream is None or action is Action.DELETE or (upstream.policy == ACCOUNT and upstream.root_may)
        )
        return by_connection and is_trusted(request, self._hosts)
