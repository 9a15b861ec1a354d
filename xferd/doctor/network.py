# -*- test-case-name: tests.doctor.test_doctor -*-
"""
Checks of listeners, certificates, proxies and the clock.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from cryptography.x509 import load_pem_x509_certificates

from xferd.doctor.files import check_access
from xferd.doctor.problem import Problem, Running
from xferd.errors import ConfigError
from xferd.listeners import parse_endpoint
from xferd.realms import PASS
from xferd.registry.hosts.certs_d import CertsDirs
from xferd.registry.transport.proxies import Proxy
from xferd.v2.rights.htpasswd import HtpasswdFile

SKEW: Final = 60.0
"""The largest accepted difference from the clocks of registries, in seconds."""

SOON: Final = 14 * 24 * 3600.0
"""Seconds before its expiry at which a certificate becomes a problem."""

PATIENCE: Final = 3.0
"""The time limit of a connection to a proxy, in seconds."""

_USE_TLS: Final = "listen on ssl:..., or on interface=127.0.0.1 behind a proxy with TLS"

CERTIFICATES: Final = (".crt", ".cert", ".pem")


def check_listeners(running: Running) -> Iterator[Problem]:
    """
    Check the endpoints that other machines can reach: TLS and its certificates.
    """
    for endpoint in running.exposed:
        if _has_no_tls(endpoint):
            yield Problem(f"{endpoint} has no TLS: tokens and images cross the network unencrypted", _USE_TLS)
    for endpoint in (*running.exposed, *running.served):
        files = parse_endpoint(endpoint).certificate
        if files is not None:
            yield from check_access(files.key, 0o077)
            for path in filter(None, (files.certificate, files.chain)):
                yield from check_certificate(path, running.now)


def check_registry(running: Running) -> Iterator[Problem]:
    """
    Check how clients on other machines log in to the registry.
    """
    settings = running.config.registry
    has_logins = bool(settings.htpasswd) or (
        not isinstance(settings.upstreams, str)
        and any(each.policy == PASS for each in settings.upstreams.values())
    )
    for endpoint in running.served:
        if has_logins and _has_no_tls(endpoint) and not settings.external_url.startswith("https:"):
            yield Problem(
                f"the registry at {endpoint} has no TLS: passwords cross the network unencrypted",
                f"{_USE_TLS}, and set external_url",
            )
    if settings.htpasswd:
        yield from check_access(settings.htpasswd, 0o037)
        try:
            HtpasswdFile(settings.htpasswd).load()
        except ConfigError as e:
            yield Problem(str(e), f"correct {settings.htpasswd}: xferd cannot restart with it")


def _has_no_tls(endpoint: str) -> bool:
    return endpoint.partition(":")[0] in ("tcp", "tcp4", "tcp6")


def check_certificates(running: Running) -> Iterator[Problem]:
    """
    Check the certificates for registries.
    """
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not (paths.capath and os.listdir(paths.capath)):
        yield Problem(
            "this machine has no certificate authorities, so no registry's certificate can be verified",
            "install the package ca-certificates",
        )
    if named := os.environ.get("SSL_CERT_FILE"):
        yield from check_certificate(named)
    try:
        CertsDirs(running.config.certs_dirs).check()
    except ConfigError as e:
        yield Problem(str(e), "correct it: xferd cannot restart with it")
    for directory in running.config.certs_dirs:
        for above, _, names in os.walk(directory):
            for path in sorted(os.path.join(above, name) for name in names):
                if path.endswith(CERTIFICATES):
                    yield from check_certificate(path, running.now)
                elif path.endswith(".key"):
                    yield from check_access(path, 0o077)


def check_certificate(path: str, now: float | None = None) -> Iterator[Problem]:
    """
    Check the first certificate of a file.

    @param now: seconds since the epoch; L{None} skips the dates, as some of a
        system's authorities have expired.
    """
    try:
        with open(path, "rb") as file:
            first, mark, _ = file.read().partition(b"-----END CERTIFICATE-----")
        found = load_pem_x509_certificates(first + mark)[0]
    except OSError as e:
        yield Problem(f"cannot read {path}: {e.strerror}", f"give user {os.geteuid()} read access to {path}")
        return
    except ValueError:
        yield Problem(f"{path} has no PEM certificates", f"write the certificate to {path}, or remove it")
        return
    if now is None:
        return
    today = datetime.fromtimestamp(now, UTC)
    end, begin = found.not_valid_after_utc, found.not_valid_before_utc
    if end <= today:
        yield Problem(f"the certificate {path} expired on {end:%Y-%m-%d}", "renew it")
    elif (end - today).total_seconds() < SOON:
        yield Problem(f"the certificate {path} expires on {end:%Y-%m-%d}", "renew it")
    elif begin > today:
        yield Problem(f"the certificate {path} is not valid before {begin:%Y-%m-%d}", "correct the clock")


def check_proxies(running: Running) -> Iterator[Problem]:
    """
    Check that the proxies accept connections.
    """
    settings = running.config.proxy
    for url in sorted({settings.https, settings.http} - {""}):
        # The daemon has parsed it at its start.
        proxy = Proxy.parse(url, "the setting")
        try:
            socket.create_connection((proxy.host, proxy.port), PATIENCE).close()
        except OSError as e:
            yield Problem(
                f"the proxy {proxy.name} refuses connections: {e.strerror or e}",
                "start it, or change [proxy] or HTTPS_PROXY",
            )


def check_clock(running: Running) -> Iterator[Problem]:
    """
    Check the clock against those of registries.
    """
    far = {host: skew for host, skew in running.skews.items() if abs(skew) > SKEW}
    # If most clocks agree with ours, the others are wrong.
    if far and 2 * len(far) >= len(running.skews):
        host, skew = min(far.items(), key=lambda item: abs(item[1]))
        yield Problem(
            f"the clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} that of {host}",
            "synchronise it, for example by chrony or systemd-timesyncd",
        )
