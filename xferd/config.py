# -*- test-case-name: tests.test_config -*-
"""
The daemon's settings: where they come from, what they may be.

A setting is a default, else what the TOML file says, else what the command
line says.  Everything is checked here, before anything starts.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from attrs import Attribute, evolve, field, fields, frozen, has
from attrs.validators import ge

from xferd.access_tokens import AccessTokens, read_tokens
from xferd.docker_config import auth_files
from xferd.errors import ConfigError
from xferd.interfaces.unpack import UnpackLimits
from xferd.jobs.isolation import ISOLATED, SHARED
from xferd.jobs.limits import Limits
from xferd.paths import default_data_dir, default_socket
from xferd.registry.hosts.configured import HostConfig
from xferd.registry.transport.proxies import ProxySettings
from xferd.registry.transport.timeouts import Timeouts
from xferd.transfer.retry import RetryPolicy

T = TypeVar("T")

CERTS_DIRS = ("/etc/containerd/certs.d", "/etc/docker/certs.d")
DEFAULT_LISTEN = ("tcp:9337:interface=127.0.0.1",)


MOST: Final = 1e9
"""The largest number of seconds, or whatever else is no whole number."""


@frozen
class Collect:
    """
    What is kept although nothing names it.

    @ivar partials: seconds for which a partial blob is kept that nobody goes
        on with.
    """

    partials: float = field(default=7 * 24 * 3600.0, validator=ge(0.0))


@frozen
class StoreLimits:
    """
    How much the store may hold, and where.

    @ivar quota: bytes that it may take; 0 for any number.
    @ivar trust_data_dir: whether the data directory is used whoever can write
        to it.
    """

    quota: int = field(default=0, validator=ge(0))
    trust_data_dir: bool = False


@frozen
class MetricsSettings:
    """
    Who may see the metrics.

    @ivar public: whether everybody may who can connect.
    """

    public: bool = False


@frozen
class Config:
    """
    All settings of one daemon.

    @ivar data_dir: the data directory.
    @ivar listen: endpoint strings (L{twisted.internet.endpoints.serverFromString})
        to serve the API and the page on.
    @ivar socket: the path of the unix socket, or the empty string for none.
    @ivar token_file: a file with the tokens that clients show who may not act
        because of their connection, or the empty string: then the daemon makes
        one for clients on this machine.
    @ivar hosts_allowed: names besides the loopback ones that a browser may
        call this daemon by.
    @ivar auth_file: docker's C{config.json} with the credentials of
        registries; the empty string is where docker and podman have theirs.
    @ivar certs_dirs: directories like containerd's and docker's C{certs.d},
        with mirrors and certificates of registries.
    @ivar sharing: C{shared}: who knows a digest shares what is on its way or
        there already; C{isolated}: a client's own registry has to let it.
    @ivar grace: seconds that a shutdown may take.
    @ivar limits: how much happens at once.
    @ivar retry: when and how often a failed transfer is tried again.
    @ivar timeouts: how long a registry is waited for.
    @ivar unpack: what one layer may ask for.
    @ivar proxy: the proxies through which registries are reached.
    @ivar collect: what is kept although nothing names it.
    @ivar store: how much the store may hold.
    @ivar metrics: who may see the metrics.
    @ivar hosts: what is special about single registries, by host.
    @ivar usual_auth_files: where docker and podman have theirs; no setting.
    """

    data_dir: str
    listen: tuple[str, ...] = DEFAULT_LISTEN
    socket: str = ""
    token_file: str = ""
    hosts_allowed: tuple[str, ...] = ()
    auth_file: str = ""
    certs_dirs: tuple[str, ...] = CERTS_DIRS
    sharing: str = field(default=SHARED)
    grace: float = field(default=10.0, validator=ge(0.0))
    limits: Limits = field(factory=Limits)
    retry: RetryPolicy = field(factory=RetryPolicy)
    timeouts: Timeouts = field(factory=Timeouts)
    unpack: UnpackLimits = field(factory=UnpackLimits)
    proxy: ProxySettings = field(factory=ProxySettings)
    collect: Collect = field(factory=Collect)
    store: StoreLimits = field(factory=StoreLimits)
    metrics: MetricsSettings = field(factory=MetricsSettings)
    hosts: dict[str, HostConfig] = field(factory=dict)
    usual_auth_files: tuple[str, ...] = field(default=(), metadata={"setting": False})

    @sharing.validator
    def _check_sharing(self, _: Attribute[str], value: str) -> None:
        if value not in (SHARED, ISOLATED):
            raise ValueError(f"sharing must be {SHARED!r} or {ISOLATED!r}, not {value!r}")

    @classmethod
    def default(cls, environ: dict[str, str], uid: int) -> Config:
        """
        The settings of a daemon that nobody configured.
        """
        return cls(
            data_dir=default_data_dir(environ, uid),
            socket=default_socket(environ, uid),
            usual_auth_files=auth_files(environ),
            proxy=ProxySettings.from_environ(environ),
        )

    def with_file(self, path: str) -> Config:
        """
        These settings, overlaid with those of a TOML file.

        @raise ConfigError: the file cannot be read, or says something that
            xferd does not know or cannot do; the message names file and key.
        """
        try:
            table = tomllib.loads(Path(path).read_text())
        except OSError as e:
            raise ConfigError(f"cannot read the configuration file {path}: {e.strerror}") from e
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as e:
            raise ConfigError(f"{path} is not TOML: {e}") from e
        except ValueError as e:
            # A number of more than 4300 digits.
            raise ConfigError(f"{path} cannot be read: {e}") from e
        return _overlay(self, table, path, "")

    def read_tokens(self) -> AccessTokens:
        """
        The tokens in the file that is named for them; none if there is no
        such file.

        @raise ConfigError: the file cannot be read, or is no file of tokens.
        """
        return read_tokens(self.token_file) if self.token_file else AccessTokens()

    @property
    def own_token_file(self) -> str:
        """
        Where the daemon keeps the token that it makes where none is named:
        beside its socket.
        """
        if self.socket:
            return f"{self.socket.removesuffix('.sock')}.token"
        return str(Path(self.data_dir, "xferd.token"))

    @property
    def auth_files(self) -> tuple[str, ...]:
        """
        The files with the credentials of registries, the first to be asked
        first.  None of them needs to exist.
        """
        return (self.auth_file,) if self.auth_file else self.usual_auth_files


def _overlay(settings: T, table: dict[str, Any], path: str, prefix: str) -> T:
    """
    Change a frozen value by a TOML table, key by key, checking each.
    """
    cls = type(settings)
    hints = get_type_hints(cls)
    all_: tuple[Attribute[Any], ...] = fields(cls)  # type: ignore[arg-type]
    known = {a.name: a for a in all_ if a.init and a.metadata.get("setting", True)}
    changes: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{path}: {prefix}{key}"
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are: {', '.join(known)}"
            raise ConfigError(f"{where} is no setting{hint}")
        changes[key] = _value(hints[key], value, getattr(settings, key), path, f"{prefix}{key}")
    try:
        return evolve(settings, **changes)  # type: ignore[misc]
    except ValueError as e:
        raise ConfigError(f"{path}: {prefix.rstrip('.') or 'settings'}: {e.args[0]}") from e


def _value(kind: Any, value: Any, present: Any, path: str, key: str) -> Any:
    """
    Check and convert one TOML value for a setting of type C{kind}.
    """

    def wrong(expected: str) -> ConfigError:
        return ConfigError(f"{path}: {key} must be {expected}, not {value!r}")

    if isinstance(kind, UnionType):
        kind = next(k for k in get_args(kind) if k is not type(None))
    if has(kind):
        if not isinstance(value, dict):
            raise wrong("a table")
        return _overlay(present, value, path, f"{key}.")
    if get_origin(kind) is dict:
        item = get_args(kind)[1]
        if not isinstance(value, dict):
            raise wrong("a table of tables")
        return {k: _value(item, v, item(), path, f'{key}."{k}"') for k, v in value.items()}
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise wrong("a list of strings")
        return tuple(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        # Infinity is no time that a timer can have.
        if abs(value) <= MOST:
            return float(value)
        raise wrong(f"a number of at most {MOST:.0f}")
    raise wrong({bool: "true or false", str: "a string", int: "a whole number", float: "a number"}[kind])
