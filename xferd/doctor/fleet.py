# -*- test-case-name: tests.doctor.test_fleet -*-
"""
Checks of the fleet: its files, etcd, and the way from a peer to this node.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final

from xferd.doctor.files import check_access
from xferd.doctor.network import check_certificate
from xferd.doctor.problem import Problem, Running
from xferd.errors import ConfigError
from xferd.fleet_settings import FleetSettings
from xferd.http_urls import split_url
from xferd.names import Digest
from xferd.secret_files import OPEN, read_secrets

PATIENCE: Final = 3.0
"""The time limit of the request to this node, in seconds."""

_BLOB: Final = f"/v2/_xferd/blobs/{Digest.of(b'')}"


def check_fleet(running: Running) -> Iterator[Problem]:
    """
    Check that the secret and the certificates can be used, that etcd answers, and that this node answers at
    its own URL.  The clocks of nodes may differ.
    """
    settings = running.config.fleet
    if not settings.is_configured:
        return
    secret_problem = False
    try:
        if settings.secret_file:
            read_secrets(settings.secret_file, "the fleet")
    except ConfigError as e:
        secret_problem = True
        yield Problem(str(e), "correct this and restart xferd; until then it works without a fleet")
    for path in filter(None, (settings.etcd_key, settings.etcd_password_file, settings.peer_key)):
        yield from check_access(path, OPEN)
    for path in filter(None, (settings.etcd_certificate, settings.peer_certificate)):
        yield from check_certificate(path, running.now)
    if running.fleet and not secret_problem:
        yield Problem(
            f"this node works without its fleet: {running.fleet}",
            "check etcd and the table [fleet]; pulls continue meanwhile",
        )
    if not running.fleet and running.config.sharing == "shared":
        yield from _check_url(settings)


def _check_url(settings: FleetSettings) -> Iterator[Problem]:
    """
    Make a request as a peer does, without a proof: this node demands one.
    """
    parts = split_url(settings.url)
    host = parts.hostname or ""
    connection: HTTPConnection
    context = None
    if parts.scheme == "https":
        # Whether peers trust the certificate is for them to decide.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = HTTPSConnection(host, parts.port, timeout=PATIENCE, context=context)
    else:
        connection = HTTPConnection(host, parts.port, timeout=PATIENCE)
    remedy = "set url in [fleet] to the URL by which peers reach the registry"
    try:
        if context is not None and settings.peer_listen:
            context.load_cert_chain(settings.peer_certificate, settings.peer_key)
        connection.request("GET", _BLOB)
        response = connection.getresponse()
        demanded = response.getheader("WWW-Authenticate", "")
    except (OSError, HTTPException) as e:
        yield Problem(f"this node does not answer at {settings.url}: {e}", remedy)
    else:
        if response.status != 401 or not demanded.startswith("Xferd-Peer "):
            yield Problem(f"what answers at {settings.url} is not a node of a fleet", remedy)
    finally:
        connection.close()
