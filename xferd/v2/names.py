# -*- test-case-name: tests.v2.test_names -*-
"""
The repository that a request names.

Clients build the path in four ways, with C{docker.io/library/alpine} as the
example:

  1. C{/v2/library/alpine/...?ns=docker.io} (containerd);
  2. C{/v2/docker.io/library/alpine/...}, or with an alias in place of the host
     (crane, podman, BuildKit);
  3. C{/ALIAS/v2/library/alpine/...} (docker's C{registry-mirrors} with a path);
  4. C{/v2/library/alpine/...}: a repository of xferd's own, else one of the default
     upstream (docker).

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen

from xferd.errors import BadReference, NotFound
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.names import HUB_NAMES, Reference, Repository
from xferd.realms import unlisted
from xferd.v2.settings import RegistrySettings, UpstreamSettings


@frozen
class Target:
    """
    The repository that a request names.

    @ivar upstream: the settings of its upstream; L{None} if it is xferd's own.
    @ivar listed: whether the operator named its upstream; the others are reached
        only at public addresses.
    @ivar images: whether the client may have the images of this name that jobs
        pulled: set after the check of its rights.
    @ivar namespaced: whether the request named an upstream by C{ns} (OCI distribution-spec,
        "Registry Proxying").
    """

    repository: Repository
    upstream: UpstreamSettings | None = None
    namespaced: bool = False
    images: bool = False
    listed: bool = True


class Names:
    """
    Finds the repositories of requests.

    @ivar hint: which names can be pushed to, for an error message.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        self._local = settings.local
        self.hint = (
            f"push to a name that begins with {settings.local[0]}"
            if settings.local
            else "registry.local lists no names for pushes"
        )
        self._default = settings.default
        listed = settings.upstreams
        self._upstreams: Mapping[str, UpstreamSettings] = {} if isinstance(listed, str) else listed
        self._any = isinstance(listed, str)
        self._aliases = {each.alias: host for host, each in self._upstreams.items() if each.alias}

    def find(self, name: str, alias: str = "", namespace: str = "") -> Target:
        """
        Find the repository of a request.

        @param name: the name in the path, between C{/v2/} and the kind of resource.
        @param alias: the part of the path before C{/v2/}, or the empty string.
        @param namespace: the query's C{ns}, or the empty string.
        @raise NotFound: it is no repository of xferd's, and of no upstream that is
            listed.
        @raise BadReference: it is no name of a repository.
        """
        first, _, rest = name.partition("/")
        if alias:
            return self._upstream(self._host_of(alias), name)
        if rest and first in self._aliases:
            return self._upstream(self._aliases[first], rest)
        if namespace:
            # Clients with C{override_path} name the registry in the path as well.
            named = rest and _host(first) in {_host(namespace), *self._upstreams}
            target = self._upstream(_host(first), rest) if named else self._upstream(_host(namespace), name)
            return evolve(target, namespaced=True)
        if rest and _is_host(first):
            if first == LOCAL_HOST:
                return self._own(rest)
            return self._upstream(_host(first), rest)
        if name.startswith(self._local):
            return self._own(name)
        if not self._default:
            raise NotFound(f"{name} names no registry, and there is no default upstream")
        return self._upstream(self._default, name)

    def of_listed(self, name: Repository) -> Target | None:
        """
        Find the repository of an upstream.

        @param name: its name in the catalog.
        @return: L{None} if the settings do not name the upstream, or not with this policy.
        """
        repository, policy = unlisted(name)
        try:
            target = self._upstream(repository.host, repository.path)
        except (NotFound, BadReference):
            return None
        return target if target.upstream is not None and target.upstream.policy == policy else None

    def _own(self, path: str) -> Target:
        _check_plain(path)
        if not path.startswith(self._local):
            raise NotFound(f"{path} is no repository of this registry: its own begin with {self._local[0]}")
        return Target(Reference.parse(f"{LOCAL_HOST}/{path}").repository)

    def _upstream(self, host: str, path: str) -> Target:
        settings = self._upstreams.get(host)
        if settings is None:
            if not self._any:
                raise NotFound(f"{host} is not one of the upstreams of this registry")
            settings = UpstreamSettings()
        _check_plain(path)
        repository = Reference.parse(f"{host}/{path}").repository
        if repository.host != host:
            raise BadReference(f"{host}/{path}", "its registry is not the host of the upstream")
        return Target(repository, settings, listed=not self._any)

    def _host_of(self, alias: str) -> str:
        """
        The upstream of a part of the path before C{/v2/}.
        """
        host = self._aliases.get(alias, _host(alias) if _is_host(alias) else None)
        if host is None:
            raise NotFound(f"{alias} is not the alias of an upstream")
        return host


def _is_host(component: str) -> bool:
    """
    Whether the first component of a name is the host of a registry.
    """
    return "." in component or ":" in component or component == LOCAL_HOST


def _host(text: str) -> str:
    """
    The usual name of a registry's host.
    """
    host = text.lower()
    return "docker.io" if host in HUB_NAMES else host


def _check_plain(path: str) -> None:
    """
    @raise BadReference: the path of a repository has a tag or a digest.
    """
    if ":" in path or "@" in path:
        raise BadReference(path, "the name of a repository has neither a tag nor a digest")
