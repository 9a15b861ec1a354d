# -*- test-case-name: tests.registry.hosts.test_configured -*-
"""
What is to be known of a registry's host before the first request: its
address, and whom to trust there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from attrs import frozen
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    trustRootFromCertificates,
)
from twisted.web.client import BrowserLikePolicyForHTTPS, HostnameCachingHTTPSPolicy

from xferd.errors import ConfigError
from xferd.expiring import ExpiringDict
from xferd.names import DOCKER_HUB, HUB_NAMES, is_loopback
from xferd.registry.transport.tls import UnverifiedTLS

_DOCKER_HUB_API = "registry-1.docker.io"


@frozen
class HostConfig:
    """
    What the operator says about one registry.

    @ivar plain_http: speak HTTP without TLS.
    @ivar ca_file: a file of PEM certificates; the host's certificate must be
        signed by one of these.  Empty: by one that the system trusts.
    @ivar skip_verify: speak TLS with whoever answers.
    @ivar private_redirects: whether the registry may lead to addresses of
        private networks although it has a public one itself.
    """

    plain_http: bool = False
    ca_file: str = ""
    skip_verify: bool = False
    private_redirects: bool = False


class Hosts:
    """
    The hosts of registries, as they are configured and as they turned out.

    A loopback host of which nobody said anything may speak plain HTTP, or TLS
    with any certificate; whoever asks first finds out, and it is remembered.
    """

    def __init__(
        self, configured: Mapping[str, HostConfig], clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        """
        @param configured: by host as people write it, C{docker.io},
            C{registry.example:5000}.
        @param clock: gives seconds that never go back, by which what was found
            out expires.
        @raise ConfigError: a CA file cannot be used.
        """
        usual = {_usual(host): config for host, config in configured.items()}
        self._private = frozenset(host for host, config in usual.items() if config.private_redirects)
        # What says nothing else does not decide how a host is spoken to.
        only = HostConfig(private_redirects=True)
        self._configured = {host: config for host, config in usual.items() if config != only}
        self._clock = clock
        self._learned: ExpiringDict[str, bool] = ExpiringDict(clock)
        self._default = HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS(), 50)
        self._policies = {
            _netloc(host): BrowserLikePolicyForHTTPS(_trust_root(host, config.ca_file))
            for host, config in self._configured.items()
            if config.ca_file and not config.skip_verify
        }
        self._by_netloc = {_netloc(host): config for host, config in self._configured.items()}
        self._options: ExpiringDict[tuple[str, int], IOpenSSLClientConnectionCreator] = ExpiringDict(clock)

    def configures(self, host: str) -> bool:
        """
        Whether the operator says anything about how to speak with a host.
        """
        return host in self._configured

    def allows_private(self, host: str) -> bool:
        """
        Whether a registry may lead to private networks, wherever it is.
        """
        return _usual(host) in self._private

    def reload(self, configured: Mapping[str, HostConfig]) -> None:
        """
        Let another configuration count from now on.  What was found out about
        hosts stays known, and a connection that is open stays as it is.

        @raise ConfigError: a CA file cannot be used; then nothing changes.
        """
        fresh = Hosts(configured, self._clock)
        fresh._learned = self._learned
        vars(self).update(vars(fresh))

    def url(self, host: str) -> str | None:
        """
        Where a host's API begins, C{https://registry-1.docker.io}, or L{None}
        if that is yet to be found out.
        """
        config = self._configured.get(host)
        if config is not None:
            return _url(host, config.plain_http)
        if is_loopback(host):
            plain = self._learned.get(host)
            return None if plain is None else _url(host, plain)
        return _url(host, False)

    def learn(self, host: str, plain: bool) -> str:
        """
        Remember how a loopback host speaks.

        @return: where its API begins.
        """
        self._learned[host] = plain
        return _url(host, plain)

    def forget(self, host: str) -> None:
        """
        A host does not answer as it did before: find out anew next time.
        """
        self._learned.pop(host)

    def tls_options(self, name: str, port: int) -> IOpenSSLClientConnectionCreator:
        """
        How to speak TLS with a server, be it a registry or not.

        @param name: its host name or address, without brackets.
        """
        netloc = _join(name, port)
        config = self._by_netloc.get(netloc)
        if config is None and is_loopback(bracketed(name)):
            config = HostConfig(skip_verify=True)
        if config is None or not (config.skip_verify or config.ca_file):
            return self._default.creatorForNetloc(name.encode("ascii"), port)
        options = self._options.get((name, port))
        if options is None:
            policy = self._policies.get(netloc)
            options = (
                policy.creatorForNetloc(name.encode("ascii"), port)
                if policy is not None
                else UnverifiedTLS(name, CertificateOptions().getContext())
            )
            self._options[(name, port)] = options
        return options


def bracketed(name: str) -> str:
    """
    A host name or an address as an URL has it, an IPv6 address in brackets.
    """
    return f"[{name}]" if ":" in name else name


def _url(host: str, plain: bool) -> str:
    """
    Where the API of a host begins.
    """
    return f"{'http' if plain else 'https'}://{api_host(host)}"


def _usual(host: str) -> str:
    """
    The usual one of a host's names.
    """
    return DOCKER_HUB if host in HUB_NAMES else host


def api_host(host: str) -> str:
    """
    The host, with its port, that speaks for a registry: Docker Hub's API has
    a name of its own.
    """
    return _DOCKER_HUB_API if host in HUB_NAMES else host


def _netloc(host: str) -> str:
    """
    The server behind a configured host, with its port.
    """
    split = urlsplit(f"//{api_host(host)}")
    try:
        port = split.port
    except ValueError as e:
        raise ConfigError(f"{host!r} is not a registry's host: {e}") from e
    return _join(split.hostname or "", port or 443)


def _join(name: str, port: int) -> str:
    """
    One spelling for a server's name and port.
    """
    return f"{name.lower()}:{port}"


def _trust_root(host: str, ca_file: str) -> object:
    """
    The certificates to trust for a host.
    """
    try:
        with open(ca_file, "rb") as file:
            found = load_pem_x509_certificates(file.read())
    except OSError as e:
        raise ConfigError(f"the CA file {ca_file} of {host} cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise ConfigError(f"the CA file {ca_file} of {host} holds no PEM certificates") from e
    return trustRootFromCertificates([Certificate(X509.from_cryptography(c)) for c in found])
