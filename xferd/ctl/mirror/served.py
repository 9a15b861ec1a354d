# -*- test-case-name: tests.ctl.mirror.test_served -*-
"""
The registry that a daemon serves, as its clients reach it.

The daemon's answer ends up in configuration files of other programs, so that every
part of it is checked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xferd.ctl.errors import ClientError, NotXferd, UsageError
from xferd.errors import BadReference
from xferd.http_urls import split_url
from xferd.names import DOCKER_HUB, Reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ALIAS: Final = re.compile(r"[a-z0-9]+(?:(?:_|__|-+)[a-z0-9]+)*|")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]")


class Upstream(NamedTuple):
    """
    A registry that the daemon mirrors.

    @ivar alias: a path component that stands for the host, or the empty string.
    """

    host: str
    alias: str = ""

    @property
    def component(self) -> str | None:
        """
        The path component by which a name can begin to reach this upstream, or
        L{None}: a host with a port is none, as a name has no colon there.
        """
        return self.alias or (None if ":" in self.host or "." not in self.host else self.host)


class Served(NamedTuple):
    """
    The registry of one daemon.

    @ivar scheme: C{http} or C{https}.
    @ivar authority: its host and port, C{127.0.0.1:5000}.
    @ivar default: the upstream of names without a registry, or the empty string.
    @ivar upstreams: the upstreams to configure clients for.
    @ivar authorities: the file with the certificates of the authorities that sign
        for it, or the empty string.
    """

    scheme: str
    authority: str
    default: str
    upstreams: tuple[Upstream, ...]
    authorities: str = ""

    @property
    def url(self) -> str:
        """
        Its URL, without a slash at its end.
        """
        return f"{self.scheme}://{self.authority}"

    @property
    def is_plain(self) -> bool:
        """
        Whether it has no TLS.
        """
        return self.scheme == "http"

    @property
    def serves_classic_docker(self) -> bool:
        """
        Whether a name without a registry is one of Docker Hub's, as docker's classic
        image store needs it.
        """
        return self.default == DOCKER_HUB

    @property
    def hub(self) -> Upstream | None:
        """
        Docker Hub, if it is one of the upstreams.
        """
        return next((each for each in self.upstreams if each.host == DOCKER_HUB), None)


def read_served(
    found: Mapping[str, Any],
    *,
    url: str | None = None,
    upstreams: Sequence[str] = (),
    authorities: str | None = None,
) -> Served:
    """
    Read the daemon's description of its registry.

    @param found: the answer to C{GET /api/v1/registry}.
    @param url: the URL that the user named.
    @param upstreams: the hosts of the upstreams that the user named; by default
        all that the daemon lists, or Docker Hub where it mirrors any registry.
    @param authorities: a file with certificates.
    @raise ClientError: the daemon serves no registry, or its URL is not known, or
        it does not mirror one of the upstreams.
    @raise NotXferd: the description is malformed.
    """
    if not _strings(found, "listen"):
        raise ClientError(
            "the daemon serves no registry; start it with "
            "'xferd run --registry tcp:5000:interface=127.0.0.1', "
            "or set registry.listen in its configuration file"
        )
    if url is None:
        url = next(iter(_strings(found, "urls")), None)
        if url is None:
            where = " and ".join(_strings(found, "listen"))
            raise ClientError(
                f"the daemon cannot know at which address {where!r} listens: "
                "name it with --url http://HOST:PORT"
            )
    scheme, authority = _parse_url(url)
    default = found.get("default")
    if default and not _is_registry(default):
        raise _malformed()
    chosen = _chosen(found, upstreams)
    return Served(scheme, authority, default or "", chosen, authorities or "")


def _chosen(found: Mapping[str, Any], wanted: Sequence[str]) -> tuple[Upstream, ...]:
    """
    The upstreams to configure clients for.
    """
    items = found.get("upstreams")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _malformed()
    listed: dict[str, Upstream] = {}
    for item in items:
        host, alias = item.get("host"), item.get("alias")
        if not _is_registry(host) or not isinstance(alias, str) or _ALIAS.fullmatch(alias) is None:
            raise _malformed()
        listed[host] = Upstream(host, alias)
    if not wanted:
        if found.get("any_public") is True:
            return (Upstream(DOCKER_HUB),)
        if not listed:
            raise ClientError("the daemon's registry has no upstream; list them in [registry.upstreams]")
        return tuple(listed.values())
    chosen = []
    for name in wanted:
        host = _host_of(name)
        if host not in listed and found.get("any_public") is not True:
            raise ClientError(
                f"{host} is not one of the daemon's upstreams; "
                f'add the table [registry.upstreams."{host}"] to its configuration file'
            )
        chosen.append(listed.get(host, Upstream(host)))
    return tuple(chosen)


def _host_of(name: str) -> str:
    """
    The host of a registry that the user named.

    @raise UsageError: it is malformed.
    """
    try:
        # A host without a dot, such as "myregistry", would be the path of an image.
        host = Reference.parse(f"{name}/x").repository.host
    except BadReference as e:
        raise UsageError(f"{name!r} is not the host of a registry: {e}") from e
    if "/" in name or (host == DOCKER_HUB and "." not in name):
        raise UsageError(f"{name!r} is not the host of a registry, for example ghcr.io or registry.lan:5000")
    return host


def _is_registry(host: object) -> bool:
    try:
        return isinstance(host, str) and Reference.parse(f"{host}/x").repository.host == host
    except BadReference:
        return False


def _parse_url(url: str) -> tuple[str, str]:
    """
    The scheme and the authority of a registry's URL.

    @raise UsageError: it is not C{http://HOST[:PORT]} or C{https://HOST[:PORT]}.
    """
    try:
        parts = split_url(url)
        host = parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc
        bare = f"{parts.scheme}://{parts.netloc}" == url.removesuffix("/")
        if bare and parts.scheme in ("http", "https") and _HOST.fullmatch(host):
            return parts.scheme, parts.netloc
    except ValueError:
        # A port that is not a number, or unbalanced brackets.
        pass
    raise UsageError(f"{url!r} is not the URL of a registry; use http://HOST:PORT or https://HOST")


def _strings(found: Mapping[str, Any], name: str) -> list[str]:
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _malformed()
    return value


def _malformed() -> NotXferd:
    return NotXferd("the daemon's description of its registry is not one of xferd's")
