# -*- test-case-name: tests.test_doctor -*-
"""
The examination of a running daemon: files, listeners, certificates and limits,
as they are now.

Modes are changed, certificates expire and disks fill up after a daemon has
started.  Each problem comes with what to change.

The checks block, and are made in a thread.
"""

from __future__ import annotations

import grp
import os
import shutil
import socket
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from attrs import fields, frozen
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from xferd.config import Config
from xferd.descriptors import own_limit
from xferd.docker_config import MAX_CONFIG, parse_docker_config
from xferd.errors import ConfigError, StoreError
from xferd.registry.hosts.certs_d import CertsDirs
from xferd.registry.transport.proxies import Proxy
from xferd.store.disk.file_system import free_bytes, total_bytes
from xferd.store.disk.permissions import check_owner, entries
from xferd.store.disk.reserve import RESERVE
from xferd.store.paths import Paths
from xferd.unix_socket import GROUP

SKEW: Final = 60.0
"""Seconds by which the clock may differ from those of registries."""

SOON: Final = 14 * 24 * 3600.0
"""Seconds before its end from which on a certificate is reported."""

LEAST_FREE: Final = 1024 * 1024 * 1024
"""Bytes of a disk that should be free, or a twentieth of a small disk."""

LEAST_FILES: Final = 4096
"""Files that the daemon should be able to open."""

PATIENCE: Final = 3.0
"""Seconds in which a proxy has to take a connection."""

CERTIFICATES: Final = (".crt", ".cert", ".pem")


@frozen
class Problem:
    """
    Something to change.

    @ivar message: what is wrong, in one sentence.
    @ivar remedy: what to do about it.
    """

    message: str
    remedy: str


@frozen
class Running:
    """
    What is known of the daemon, by itself.

    @ivar config: the settings that it was started with.
    @ivar config_file: the path of the file with them, or the empty string.
    @ivar reread: reads the settings again; L{None} where there is no file.
    @ivar sockets: the paths of its unix sockets.
    @ivar exposed: the endpoint strings that other machines can reach.
    @ivar late: the names of the settings that count only after a restart.
    @ivar sandbox: the measures of the sandbox of layers' processes, each with the
        reason why it is not in force, empty if it is; L{None} until it is known.
    @ivar skews: seconds by which registries' clocks are ahead, by host.
    @ivar now: seconds since the epoch.
    """

    config: Config
    config_file: str
    reread: Callable[[], Config] | None
    sockets: Sequence[str]
    exposed: Sequence[str]
    late: frozenset[str]
    sandbox: Mapping[str, str] | None
    skews: Mapping[str, float]
    now: float


Check = Callable[[Running], Iterator[Problem]]
Checks = list[dict[str, object]]


class Doctor:
    """
    Makes examinations, one at a time: clients that ask meanwhile share it.
    """

    def __init__(self, reactor: IReactorThreads, state: Callable[[], Running]) -> None:
        """
        @param state: reports what is known of the daemon.
        """
        self._reactor = reactor
        self._state = state
        self._is_examining = False
        self._waiting: list[Deferred[Checks]] = []

    def examine(self) -> Deferred[Checks]:
        """
        Make all checks, in a thread.

        @return: as L{examine}.  Cancelling it ends the wait, not the
            examination, which is over within seconds.
        """
        waiting: Deferred[Checks] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        if not self._is_examining:
            self._is_examining = True
            pool = self._reactor.getThreadPool()
            made = deferToThreadPool(self._reactor, pool, examine, self._state())
            _ = made.addBoth(self._examined)
        return waiting

    def _examined(self, result: Checks | Failure) -> None:
        """
        Answer the clients that wait.
        """
        self._is_examining = False
        waiting = self._waiting[:]
        self._waiting.clear()
        for each in waiting:
            each.callback(result)


def examine(running: Running) -> Checks:
    """
    Make all checks.

    @return: for each its name and its problems, in the API's form.
    """
    return [
        {
            "name": name,
            "problems": [{"message": p.message, "remedy": p.remedy} for p in check(running)],
        }
        for name, check in CHECKS.items()
    ]


# ----------------------------------------------------------------------- files


def _data_directory(running: Running) -> Iterator[Problem]:
    """
    Owner and modes of the data directory.
    """
    path = running.config.data_dir
    if not running.config.store.trust_data_dir:
        try:
            check_owner(path)
        except StoreError as e:
            message, _, remedy = str(e).rpartition(": ")
            yield Problem(message, remedy)
        except OSError as e:
            yield Problem(f"the data directory {path} cannot be looked at: {e.strerror}", f"restore {path}")
            return
    for each in entries(Paths(path)):
        yield from _owned(each, 0o077, missing=False)


def _sockets(running: Running) -> Iterator[Problem]:
    """
    Who can connect to the unix sockets, and who can replace them.
    """
    for path in running.sockets:
        directory = os.path.dirname(path) or "."
        yield from _owned(directory, 0o022)
        try:
            found = os.lstat(path)
        except OSError as e:
            yield Problem(f"the socket {path} cannot be reached: {e.strerror}", "restart xferd")
            continue
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISSOCK(found.st_mode):
            yield Problem(f"{path} is no socket", "remove it, and restart xferd")
        elif found.st_uid not in (0, os.geteuid()):
            yield Problem(f"the socket {path} belongs to user {found.st_uid}", "restart xferd")
        elif mode & stat.S_IWOTH:
            yield Problem(
                f"every user can connect to {path} and act, as its mode is {mode:o}", f"chmod o= {path}"
            )
        elif mode & stat.S_IWGRP and found.st_gid not in (0, _group()):
            yield Problem(
                f"the group {found.st_gid} can connect to {path} and act, as its mode is {mode:o}",
                f"chmod g= {path}, or chgrp {GROUP} {path}",
            )


def _group() -> int:
    """
    The group whose members may use the socket; -1 if there is none.
    """
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return -1


def _settings(running: Running) -> Iterator[Problem]:
    """
    The configuration file: who can change it, and whether it can be read.
    """
    if not running.config_file or running.reread is None:
        return
    secret = any("@" in url for url in (running.config.proxy.https, running.config.proxy.http))
    yield from _owned(running.config_file, 0o077 if secret else 0o022)
    try:
        config = running.reread()
    except ConfigError as e:
        yield Problem(str(e), "correct it: xferd would not start again")
        return
    late = [
        f.name
        for f in fields(Config)
        if f.name in running.late and getattr(config, f.name) != getattr(running.config, f.name)
    ]
    if late:
        yield Problem(
            f"{running.config_file} has changed since xferd started: {', '.join(late)}", "restart xferd"
        )


def _credentials(running: Running) -> Iterator[Problem]:
    """
    The files with the credentials of registries.
    """
    for path in running.config.auth_files:
        yield from _owned(path, 0o077, missing=path == running.config.auth_file)
        try:
            with open(path, "rb") as file:
                config = parse_docker_config(file.read(MAX_CONFIG + 1), path)
        except FileNotFoundError:
            continue
        except OSError as e:
            yield Problem(f"{path} cannot be read: {e.strerror}", f"let user {os.geteuid()} read {path}")
            continue
        except ConfigError as e:
            yield Problem(str(e), f"correct {path}, or remove it and log in again")
            continue
        for host, why in config.broken.items():
            yield Problem(why, f"xferctl login {host.partition('/')[0]}")
        for name in sorted({config.store, *config.helpers.values()} - {""}):
            if shutil.which(f"docker-credential-{name}") is None:
                yield Problem(
                    f"{path} names the helper docker-credential-{name}, which is not in PATH",
                    f"install docker-credential-{name}, or take it out of {path}",
                )


def _tokens(running: Running) -> Iterator[Problem]:
    """
    The file with the tokens of the API.
    """
    path = running.config.token_file or running.config.own_token_file
    yield from _owned(path, 0o077)
    if running.config.token_file:
        try:
            running.config.read_tokens()
        except ConfigError as e:
            yield Problem(str(e), f"write a token into {path}: xferd would not start again")


def _owned(path: str, forbidden: int, *, missing: bool = True) -> Iterator[Problem]:
    """
    Look at owner and mode of something.

    @param forbidden: the bits that its mode must not have.
    @param missing: whether it is a problem that it is not there.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if missing:
            yield Problem(f"{path} is gone", "restart xferd, which makes what is its own")
        return
    except OSError as e:
        yield Problem(f"{path} cannot be looked at: {e.strerror}", f"let user {os.geteuid()} reach {path}")
        return
    if found.st_uid not in (0, os.geteuid()):
        yield Problem(
            f"{path} belongs to user {found.st_uid}, who can change it", f"chown {os.geteuid()} {path}"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & forbidden and not (forbidden == 0o022 and mode & stat.S_ISVTX):
        verb = "read" if forbidden & 0o044 else "change"
        letters = "" if forbidden & 0o044 else "-w"
        change = f"go{letters or '='}"
        yield Problem(f"others can {verb} {path}, as its mode is {mode:o}", f"chmod {change} {path}")


# --------------------------------------------------------------------- network


def _listeners(running: Running) -> Iterator[Problem]:
    """
    What is spoken where other machines can connect.
    """
    for endpoint in running.exposed:
        kind = endpoint.partition(":")[0]
        if kind == "ssl":
            for argument in endpoint.split(":")[1:]:
                name, _, path = argument.partition("=")
                if name in ("certKey", "extraCertChain"):
                    yield from _certificate(path, running.now)
                elif name == "privateKey":
                    yield from _owned(path, 0o077)
        elif kind in ("tcp", "tcp4", "tcp6"):
            yield Problem(
                f"tokens and images go over the network in the clear: {endpoint} is without TLS",
                "listen on ssl:..., or on interface=127.0.0.1 behind a proxy that speaks TLS",
            )


def _certificates(running: Running) -> Iterator[Problem]:
    """
    The certificates for registries.
    """
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not (paths.capath and os.listdir(paths.capath)):
        yield Problem(
            "this machine knows no certificate authorities, so no registry can prove who it is",
            "install the package ca-certificates",
        )
    if named := os.environ.get("SSL_CERT_FILE"):
        yield from _certificate(named)
    try:
        CertsDirs(running.config.certs_dirs).check()
    except ConfigError as e:
        yield Problem(str(e), "correct it: xferd would not start again")
    for directory in running.config.certs_dirs:
        for above, _, names in os.walk(directory):
            for path in sorted(os.path.join(above, name) for name in names):
                if path.endswith(CERTIFICATES):
                    yield from _certificate(path, running.now)
                elif path.endswith(".key"):
                    yield from _owned(path, 0o077)


def _certificate(path: str, now: float | None = None) -> Iterator[Problem]:
    """
    Look at a file's first certificate.

    @param now: seconds since the epoch; without them its dates do not count,
        as among all authorities are some that have expired.
    """
    try:
        with open(path, "rb") as file:
            first, mark, _ = file.read().partition(b"-----END CERTIFICATE-----")
        found = load_pem_x509_certificates(first + mark)[0]
    except OSError as e:
        yield Problem(f"{path} cannot be read: {e.strerror}", f"let user {os.geteuid()} read {path}")
        return
    except ValueError:
        yield Problem(f"{path} holds no PEM certificates", f"put the certificate into {path}, or remove it")
        return
    if now is None:
        return
    today = datetime.fromtimestamp(now, UTC)
    end, begin = found.not_valid_after_utc, found.not_valid_before_utc
    if end <= today:
        yield Problem(f"the certificate {path} has expired on {end:%Y-%m-%d}", "renew it")
    elif (end - today).total_seconds() < SOON:
        yield Problem(f"the certificate {path} expires on {end:%Y-%m-%d}", "renew it")
    elif begin > today:
        yield Problem(f"the certificate {path} is not valid before {begin:%Y-%m-%d}", "set the clock right")


def _proxies(running: Running) -> Iterator[Problem]:
    """
    Whether the proxies take connections.
    """
    settings = running.config.proxy
    for url in sorted({settings.https, settings.http} - {""}):
        # The daemon has read it at its start, so that it is one.
        proxy = Proxy.parse(url, "the setting")
        try:
            socket.create_connection((proxy.host, proxy.port), PATIENCE).close()
        except OSError as e:
            yield Problem(
                f"the proxy {proxy.name} takes no connection: {e.strerror or e}",
                "start it, or change [proxy] or HTTPS_PROXY",
            )


def _clock(running: Running) -> Iterator[Problem]:
    """
    Whether the clock is that of the registries.
    """
    far = {host: skew for host, skew in running.skews.items() if abs(skew) > SKEW}
    # Where most of them agree with us, the others are wrong.
    if far and 2 * len(far) >= len(running.skews):
        host, skew = min(far.items(), key=lambda item: abs(item[1]))
        yield Problem(
            f"the clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} that of {host}",
            "synchronise it, for example with chrony or systemd-timesyncd",
        )


# --------------------------------------------------------------------- machine


def _disk(running: Running) -> Iterator[Problem]:
    """
    Room on the disk of the store, and its reserve.
    """
    path = running.config.data_dir
    try:
        free, total = free_bytes(path), total_bytes(path)
        found = os.statvfs(path)
    except OSError as e:
        yield Problem(
            f"the disk of {path} cannot be looked at: {e.strerror}", f"mount it, and restore {path}"
        )
        return
    if found.f_flag & os.ST_RDONLY:
        yield Problem(f"the disk of {path} is mounted read-only", "mount it with rw")
    if free < min(LEAST_FREE, total // 20):
        yield Problem(
            f"the disk of {path} has {free // 1024**2} MiB left",
            "xferctl rm what is not needed, xferctl gc, or set quota in [store]",
        )
    if found.f_files and found.f_favail < found.f_files // 50:
        yield Problem(f"the disk of {path} has {found.f_favail} inodes left", "xferctl rm what is not needed")
    try:
        reserve = os.stat(Paths(path).reserve).st_blocks * 512
    except OSError:
        reserve = 0
    if reserve < min(RESERVE, total // 30):
        yield Problem(
            f"the reserve of the store has {reserve // 1024} KiB: on a full disk nothing could be removed",
            "make room on the disk; xferd fills it up by itself",
        )
    if running.config.store.quota > total:
        yield Problem(
            f"the quota is {running.config.store.quota} bytes, and the disk has {total}",
            "lower quota in [store], or set it to 0",
        )


def _limits(running: Running) -> Iterator[Problem]:
    """
    What the system lets the daemon have.
    """
    files = own_limit()
    if 0 <= files < LEAST_FILES:
        yield Problem(
            f"the daemon may open {files} files, which are few for many clients",
            "set LimitNOFILE=1024:65536 in its unit, or ulimit -Hn 65536",
        )
    cores = len(os.sched_getaffinity(0))
    workers = running.config.limits.resolved().workers
    if workers > 4 * cores:
        yield Problem(f"{workers} layers unpack at once on {cores} cores", "lower workers in [limits]")


def _sandbox(running: Running) -> Iterator[Problem]:
    """
    What the sandbox of layers' processes lacks.
    """
    for measure, why in (running.sandbox or {}).items():
        if why:
            yield Problem(
                f"layers are unpacked without {measure}: {why}",
                "allow it in the unit or container of xferd; see 'The sandbox' in the documentation",
            )


CHECKS: Final[Mapping[str, Check]] = {
    "data directory": _data_directory,
    "sockets": _sockets,
    "settings": _settings,
    "credentials": _credentials,
    "tokens": _tokens,
    "listeners": _listeners,
    "certificates": _certificates,
    "proxies": _proxies,
    "clock": _clock,
    "disk": _disk,
    "limits": _limits,
    "sandbox": _sandbox,
}
"""All checks, by name."""
