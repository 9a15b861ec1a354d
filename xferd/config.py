# -*- test-case-name: tests.test_config -*-
"""
The daemon's settings, with their defaults and checks.

An option of the command line overrides the TOML file, which overrides the
default.  All settings are checked before the daemon starts.
"""

from __future__ import annotations

import hashlib
import os.path
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from attrs import Attribute, evolve, field, fields, frozen, has
from attrs.validators import ge

from xferd.access_tokens import AccessTokens, read_tokens
from xferd.docker_config import auth_files
from xferd.engines.settings import EnginesSettings
from xferd.errors import ConfigError
from xferd.fleet_settings import FleetSettings
from xferd.interfaces.unpack import UnpackLimits
from xferd.jobs.isolation import ISOLATED, SHARED
from xferd.jobs.kept_credentials import memory_directory
from xferd.jobs.limits import Limits
from xferd.jobs.steering_settings import SteeringSettings
from xferd.paths import default_data_dir, default_socket
from xferd.rates import Rate
from xferd.registry.hosts.configured import HostConfig
from xferd.registry.transport.proxies import ProxySettings
from xferd.registry.transport.timeouts import Timeouts
from xferd.tracing.settings import TracesSettings
from xferd.transfer.retry import RetryPolicy
from xferd.v2.settings import RegistrySettings
from xferd.webhooks.settings import WebhookSettings

T = TypeVar("T")

CERTS_DIRS = ("/etc/containerd/certs.d", "/etc/docker/certs.d")
DEFAULT_LISTEN = ("tcp:9337:interface=127.0.0.1",)


MOST: Final = 1e9
"""The largest value of a number that is not whole, such as seconds."""


@frozen
class Collect:
    """
    How long the garbage collector keeps what no image refers to.

    @ivar partials: seconds for which the partial blob of an interrupted download
        is kept.
    """

    partials: float = field(default=7 * 24 * 3600.0, validator=ge(0.0))


@frozen
class StoreLimits:
    """
    The size of the store, and trust in its directory.

    @ivar quota: the most bytes of the store; 0 is no limit.
    @ivar trust_data_dir: whether to use a data directory that other users can
        write to.
    """

    quota: int = field(default=0, validator=ge(0))
    trust_data_dir: bool = False


@frozen
class ScrubSettings:
    """
    The check of all content in the background.

    @ivar rate: bytes per second that it reads; 0 is off.
    """

    rate: int = field(default=0, validator=ge(0))


@frozen
class MetricsSettings:
    """
    Access to the metrics.

    @ivar public: whether clients without a token may read them.
    """

    public: bool = False


AUTO, TEXT, JSON = "auto", "text", "json"


def _check_format(_: object, __: Attribute[str], value: str) -> None:
    if value not in (AUTO, TEXT, JSON):
        raise ValueError(f"'format' must be {AUTO!r}, {TEXT!r} or {JSON!r}, not {value!r}")


@frozen
class LogSettings:
    """
    The form of the log.

    @ivar format: L{JSON}, L{TEXT}, or L{AUTO}: fields for the journal of systemd, where it
        reads the log, otherwise text.
    """

    format: str = field(default=AUTO, validator=_check_format)


@frozen
class Config:
    """
    All settings of one daemon.

    @ivar data_dir: the data directory.
    @ivar listen: endpoint strings (L{twisted.internet.endpoints.serverFromString})
        to serve the API and the page on.
    @ivar socket: the path of the unix socket, or the empty string for none.
    @ivar token_file: a file with the tokens of clients that have no rights by
        their connection, or the empty string: the daemon then makes a token for
        clients on this machine.
    @ivar hosts_allowed: host names, besides the loopback ones, that a browser's
        requests may have.
    @ivar auth_file: docker's C{config.json} with the credentials of
        registries; the empty string selects docker's and podman's files.
    @ivar certs_dirs: directories like containerd's and docker's C{certs.d},
        with mirrors and certificates of registries.
    @ivar sharing: C{shared}: clients that know a digest share its transfer and
        its blob; C{isolated}: only with access at the client's own registry.
    @ivar grace: seconds that running jobs have to end at shutdown.
    @ivar limits: concurrency and bandwidth.
    @ivar steering: pauses, and whether the daemon is drained.
    @ivar retry: retries of failed transfers.
    @ivar timeouts: time limits of requests to registries.
    @ivar unpack: limits of one layer.
    @ivar proxy: the proxies for registries.
    @ivar collect: how long unused data is kept.
    @ivar store: the size of the store.
    @ivar scrub: the check of all content in the background.
    @ivar metrics: access to the metrics.
    @ivar log: the form of the log.
    @ivar traces: where traces go.
    @ivar registry: the registry at C{/v2/}.
    @ivar engines: the engines that run images from the store.
    @ivar fleet: the other nodes with which this one shares downloads.
    @ivar webhooks: receivers of messages about jobs that have ended.
    @ivar hosts: settings of single registries, by host.
    @ivar usual_auth_files: docker's and podman's credential files; not a setting.
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
    steering: SteeringSettings = field(factory=SteeringSettings)
    retry: RetryPolicy = field(factory=RetryPolicy)
    timeouts: Timeouts = field(factory=Timeouts)
    unpack: UnpackLimits = field(factory=UnpackLimits)
    proxy: ProxySettings = field(factory=ProxySettings)
    collect: Collect = field(factory=Collect)
    store: StoreLimits = field(factory=StoreLimits)
    scrub: ScrubSettings = field(factory=ScrubSettings)
    metrics: MetricsSettings = field(factory=MetricsSettings)
    log: LogSettings = field(factory=LogSettings)
    traces: TracesSettings = field(factory=TracesSettings)
    registry: RegistrySettings = field(factory=RegistrySettings)
    engines: EnginesSettings = field(factory=EnginesSettings)
    fleet: FleetSettings = field(factory=FleetSettings)
    webhooks: tuple[WebhookSettings, ...] = field(default=())
    hosts: dict[str, HostConfig] = field(factory=dict)
    usual_auth_files: tuple[str, ...] = field(default=(), metadata={"setting": False})

    @sharing.validator
    def _check_sharing(self, _: Attribute[str], value: str) -> None:
        if value not in (SHARED, ISOLATED):
            raise ValueError(f"'sharing' must be {SHARED!r} or {ISOLATED!r}, not {value!r}")

    @webhooks.validator
    def _check_webhooks(self, _: Attribute[Any], value: tuple[WebhookSettings, ...]) -> None:
        for number, each in enumerate(value, 1):
            missing = next((name for name in ("url", "secret_file") if not getattr(each, name)), "")
            if missing:
                raise ValueError(f"'webhooks' must have {missing!r} in each table: table {number} has none")

    @classmethod
    def default(cls, environ: dict[str, str], uid: int) -> Config:
        """
        The settings without a configuration file.
        """
        return cls(
            data_dir=default_data_dir(environ, uid),
            socket=default_socket(environ, uid),
            usual_auth_files=auth_files(environ),
            proxy=ProxySettings.from_environ(environ),
        )

    def with_file(self, path: str) -> Config:
        """
        These settings, overridden by those of a TOML file.

        @raise ConfigError: the file cannot be read, or has an unknown key or an
            invalid value; the message names file and key.
        """
        try:
            table = tomllib.loads(Path(path).read_text())
        except OSError as e:
            raise ConfigError(f"cannot read the configuration file {path}: {e.strerror}") from e
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as e:
            raise ConfigError(f"{path} is not TOML: {e}") from e
        except ValueError as e:
            # An integer of more than 4,300 digits.
            raise ConfigError(f"{path} cannot be read: {e}") from e
        return _overlay(self, table, path, "")

    def read_tokens(self) -> AccessTokens:
        """
        The tokens of L{token_file}; none without that setting.

        @raise ConfigError: the file cannot be read, or is not a file of tokens.
        """
        return read_tokens(self.token_file) if self.token_file else AccessTokens()

    def reloaded(self, changed: Config) -> Config:
        """
        The settings of a running daemon after C{SIGHUP}: the present ones, with what it can
        change.
        """
        return evolve(
            self,
            limits=changed.limits,
            steering=changed.steering,
            hosts=changed.hosts,
            registry=evolve(changed.registry, listen=self.registry.listen),
            store=evolve(self.store, quota=changed.store.quota),
        )

    def needing_restart(self, changed: Config) -> list[str]:
        """
        The names of the settings that differ and that a running daemon cannot change.
        """
        possible = self.reloaded(changed)
        parts = {"registry": "registry.listen", "store": "store.trust_data_dir"}
        return [
            parts.get(a.name, a.name)
            for a in fields(Config)
            if getattr(possible, a.name) != getattr(changed, a.name)
        ]

    @property
    def runtime_dir(self) -> str:
        """
        The directory of the socket, or the data directory without one.
        """
        return os.path.dirname(os.path.abspath(self.socket)) if self.socket else self.data_dir

    @property
    def secrets_dir(self) -> str | None:
        """
        The directory in memory for credentials that outlive the daemon, beside its socket
        or in C{/dev/shm}; L{None} where neither is in memory.
        """
        place = hashlib.sha256(os.fsencode(os.path.abspath(self.data_dir))).hexdigest()[:12]
        return memory_directory((self.runtime_dir, "/dev/shm"), f"xferd-{os.geteuid()}-{place}")  # noqa: S108

    @property
    def own_token_file(self) -> str:
        """
        The path of the token that the daemon makes without L{token_file}: beside
        its socket, else in the data directory.
        """
        if self.socket:
            return f"{self.socket.removesuffix('.sock')}.token"
        return str(Path(self.data_dir, "xferd.token"))

    @property
    def auth_files(self) -> tuple[str, ...]:
        """
        The files with the credentials of registries, in the order of their
        lookup.  They may be missing.
        """
        return (self.auth_file,) if self.auth_file else self.usual_auth_files


def key_of(attribute: Attribute[Any]) -> str:
    """
    The key of a setting in the file.
    """
    return str(attribute.metadata.get("key", attribute.name))


def _overlay(settings: T, table: dict[str, Any], path: str, prefix: str) -> T:
    """
    Override settings by a TOML table, and check each key.
    """
    cls = type(settings)
    hints = get_type_hints(cls)
    all_: tuple[Attribute[Any], ...] = fields(cls)  # type: ignore[arg-type]
    known = {key_of(a): a for a in all_ if a.init and a.metadata.get("setting", True)}
    changes: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{path}: {prefix}{key}"
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; the settings are: {', '.join(known)}"
            raise ConfigError(f"{where} is not a setting{hint}")
        name = known[key].name
        changes[name] = _value(hints[name], value, getattr(settings, name), path, f"{prefix}{key}")
    try:
        return evolve(settings, **changes)  # type: ignore[misc]
    except ValueError as e:
        raise ConfigError(f"{path}: {_reason(str(e.args[0]), prefix)}") from e


def _reason(message: str, prefix: str) -> str:
    """
    The message of a validator, C{'name' must be ...}, with the setting's full
    name; those of attrs have the value behind a colon.
    """
    message = re.sub(r"must be (>=|<=) (\S+): (.*)", _in_words, message)
    return re.sub(r"^'(\w+)'", rf"{prefix}\1", message)


def _in_words(match: re.Match[str]) -> str:
    return f"must be at {'least' if match[1] == '>=' else 'most'} {match[2]}, not {match[3]}"


def _value(kind: Any, value: Any, present: Any, path: str, key: str) -> Any:
    """
    Check and convert the TOML value of a setting of type C{kind}.
    """

    def wrong(expected: str) -> ConfigError:
        return ConfigError(f"{path}: {key} must be {expected}, not {value!r}")

    if isinstance(kind, UnionType):
        if isinstance(value, str) and str in get_args(kind):
            return value
        kind = next(k for k in get_args(kind) if k is not type(None))
    if kind is Rate:
        # Its field checks it.
        return value
    if has(kind):
        if not isinstance(value, dict):
            raise wrong("a table")
        return _overlay(present, value, path, f"{key}.")
    if get_origin(kind) is dict:
        item = get_args(kind)[1]
        if not isinstance(value, dict):
            raise wrong("a table of tables" if has(item) else "a table")
        start = item() if has(item) else None
        return {k: _value(item, v, start, path, f'{key}."{k}"') for k, v in value.items()}
    if get_origin(kind) is tuple and has(row := get_args(kind)[0]):
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise wrong("a list of tables")
        return tuple(_overlay(row(), v, path, f"{key}[{number}].") for number, v in enumerate(value, 1))
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
        # A timer cannot be set to infinity.
        if abs(value) <= MOST:
            return float(value)
        raise wrong(f"a number of at most {MOST:.0f}")
    raise wrong({bool: "true or false", str: "a string", int: "a whole number", float: "a number"}[kind])
