# -*- test-case-name: tests.test_tap -*-
"""
The options of C{twistd xferd}, and its service.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TextIO

from attrs import evolve
from twisted.application.service import IService
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile
from twisted.python.usage import Options as BaseOptions
from twisted.python.usage import UsageError

from xferd import __version__
from xferd.config import AUTO, JSON, Config
from xferd.errors import ConfigError, XferdError
from xferd.listeners import parse_endpoint
from xferd.log_escapes import escape_event
from xferd.logs.journald import Journald, is_stdout
from xferd.logs.json_lines import JsonLines
from xferd.logs.text_lines import text_lines
from xferd.monotonic import use_monotonic_time
from xferd.paths import user_of_paths
from xferd.sd_notify import ServiceManager
from xferd.service import Daemon


class Options(BaseOptions):
    """
    The options of C{twistd xferd}.

    @ivar config: the settings, after the options are parsed.
    """

    longdesc = (
        "Pull, push and copy container images for many clients at once, moving every byte once.  "
        "Options override the configuration file.  SIGHUP reads its limits, pauses, quota, hosts and "
        "registry again, and the certificates of listeners and of the fleet, with its secrets."
    )

    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "The TOML file with the settings; without it, all have their defaults."],
        ["data-dir", "d", None, "The data directory; /var/lib/xferd for root."],
        ["auth-file", "a", None, "The credentials of registries, in the format of docker's config.json."],
        [
            "socket",
            "s",
            None,
            "The unix socket to listen on; '' for none; /run/xferd/xferd.sock for root.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["registry"] = []
        self._default = self.config = Config.default(dict(os.environ), user_of_paths(os.geteuid()))

    def opt_listen(self, endpoint: str) -> None:
        """
        An endpoint to serve the API and the page on, by default
        tcp:9337:interface=127.0.0.1; repeat for more than one.
        """
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_registry(self, endpoint: str) -> None:
        """
        An endpoint to serve the registry at /v2/ on, for example
        tcp:5000:interface=127.0.0.1; repeat for more than one.
        """
        self["registry"].append(endpoint)

    opt_r = opt_registry

    def opt_version(self) -> None:
        """
        Print the version of xferd and exit.
        """
        print(f"xferd {__version__}")
        raise SystemExit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the options.

        @raise SystemExit: an option is invalid, under C{twistd}, which would print
            its whole usage before the reason of a L{UsageError}.
        @raise UsageError: an option is invalid, elsewhere.
        """
        try:
            super().parseOptions(options)
        except UsageError as e:
            if self.parent is None:
                raise
            if isinstance(e.__cause__, ConfigError):
                raise SystemExit(f"xferd: {e}") from e
            print(f"xferd: {e}; see twistd xferd --help", file=sys.stderr)
            raise SystemExit(2) from e

    def parseArgs(self, *rest: str) -> None:
        """
        Refuse arguments.
        """
        if rest:
            raise UsageError(f"unexpected argument {rest[0]!r}")

    def postOptions(self) -> None:
        """
        Read and check the settings.

        @raise UsageError: one of them is invalid.
        """
        try:
            if self["config"] is not None:
                # A daemon has another working directory when it reads the file again.
                self["config"] = os.path.abspath(self["config"])
            if self["auth-file"] is not None:
                self["auth-file"] = os.path.abspath(self["auth-file"])
            self.config = self.read()
        except ConfigError as e:
            raise UsageError(str(e)) from e

    def read(self) -> Config:
        """
        Read the settings of the file, as it is now, and of the command line.

        @raise ConfigError: one of them is invalid.
        """
        config = self._default
        if self["config"] is not None:
            config = config.with_file(self["config"])
        changes: dict[str, object] = {}
        if self["data-dir"] is not None:
            changes["data_dir"] = self["data-dir"]
        if self["auth-file"] is not None:
            changes["auth_file"] = self["auth-file"]
        if self["socket"] is not None:
            changes["socket"] = self["socket"]
        if self["listen"]:
            changes["listen"] = tuple(self["listen"])
        if self["registry"]:
            changes["registry"] = evolve(config.registry, listen=tuple(self["registry"]))
        config = evolve(config, **changes)  # type: ignore[arg-type]
        for endpoint in config.listen:
            parse_endpoint(endpoint)
        for endpoint in config.registry.listen:
            parse_endpoint(endpoint, "--registry")
        config.read_tokens()
        return config


class LoggedDaemon(Daemon):
    """
    A daemon with an observer of its own for the log of C{twistd}.

    @ivar observer: writes the log; L{None} leaves that to C{twistd}.
    """

    observer: ILogObserver | None = None

    def setServiceParent(self, parent: Any) -> None:
        """
        Have C{twistd} use the observer: it looks for one in its application, which is the
        parent of the service.
        """
        if self.observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.observer)
        super().setServiceParent(parent)


def log_observer(
    form: str, twistd: Mapping[str, Any], environ: Mapping[str, str], stdout: TextIO
) -> ILogObserver | None:
    """
    Make what writes the log.

    @param form: L{AUTO}, L{TEXT} or L{JSON}.
    @param twistd: the options of C{twistd}: C{logfile}, C{nodaemon} and C{syslog}.
    @return: L{None} for syslog, and for text in a file, which C{twistd} writes by itself and
        rotates with C{SIGUSR1}.
    """
    if twistd.get("syslog"):
        return None
    file = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    if form == AUTO and file == "-" and is_stdout(environ):
        return Journald()
    if form == JSON:
        return JsonLines(stdout if file == "-" else LogFile.fromFullPath(file))
    return text_lines(stdout) if file == "-" else None


def makeService(options: Options) -> IService:
    """
    Make the daemon, without starting it.
    """
    # twistd has installed the reactor of its options by now.
    from twisted.internet import reactor  # noqa: PLC0415

    use_monotonic_time(reactor)  # type: ignore[arg-type]
    if options.parent is not None:
        # twistd adds the observers that write the log later.
        globalLogPublisher.addObserver(escape_event)
    try:
        daemon = LoggedDaemon(
            options.config,
            reactor,  # type: ignore[arg-type]
            options.read,
            ServiceManager(os.environ),
            wall_clock=time.time,
            config_file=options["config"] or "",
        )
    except XferdError as e:
        raise SystemExit(f"xferd: {e}") from e
    if options.parent is not None:
        daemon.observer = log_observer(options.config.log.format, options.parent, os.environ, sys.stdout)
    return daemon
