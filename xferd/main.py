# -*- test-case-name: tests.test_main -*-
"""
The command C{xferd}: C{xferd run} is C{twistd xferd} in the foreground, and C{xferd check}
reads a configuration file as the daemon would.

Exit status: 0, success; 1, the settings are wrong, or the daemon ended with an error;
2, wrong use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final

from attrs import evolve
from twisted.python.usage import UsageError

from xferd._version import __version__
from xferd.errors import ConfigError
from xferd.tap import Options, makeService

HELP: Final = """\
usage: xferd run [OPTION]...
       xferd check FILE

The daemon that pulls, pushes and copies container images.

commands:
  run      run the daemon in the foreground, and log to stdout
  check    check a configuration file, without starting the daemon

options:
  --version   show the version and exit
  -h, --help  show this help and exit; 'xferd run --help' lists the options of run

examples:
  xferd run
  xferd run --config /etc/xferd.toml
  xferd run --registry tcp:5000:interface=127.0.0.1
  xferd check /etc/xferd.toml
"""


class _RunOptions(Options):
    """
    The options of C{xferd run}.
    """

    synopsis = "usage: xferd run [OPTION]..."


def console() -> int:
    """
    The command.

    @return: the exit status.
    """
    return main(sys.argv[1:])


def main(arguments: Sequence[str], serve: Callable[[Sequence[str]], None] | None = None) -> int:
    """
    Run it.

    @param serve: runs the daemon with options that were checked; by default, C{twistd} does.
    @return: the exit status.
    """
    command, *rest = arguments or [""]
    if command in ("-h", "--help"):
        print(HELP, end="")
    elif command == "--version":
        print(f"xferd {__version__}")
    elif command == "run":
        return _run(rest, _serve if serve is None else serve)
    elif command == "check":
        return _check(rest)
    else:
        wrong = f"there is no command {command!r}" if command else "a command is required"
        return _fail(f"{wrong}: run or check (see 'xferd --help')", 2)
    return 0


def _fail(message: str, status: int) -> int:
    print(f"xferd: {message}", file=sys.stderr)
    return status


def _run(arguments: Sequence[str], serve: Callable[[Sequence[str]], None]) -> int:
    try:
        _RunOptions().parseOptions(list(arguments))
    except UsageError as e:
        if isinstance(e.__cause__, ConfigError):
            return _fail(str(e), 1)
        return _fail(f"{e} (see 'xferd run --help')", 2)
    serve(arguments)
    return 0


def _serve(arguments: Sequence[str]) -> None:
    """
    Run C{twistd} in the foreground, without a file for its process ID, which could keep a
    daemon that was killed from starting again.
    """
    # This installs the reactor.
    from twisted.scripts.twistd import run  # noqa: PLC0415

    sys.argv[1:] = ["--nodaemon", "--pidfile=", "xferd", *arguments]
    run()


def _check(arguments: Sequence[str]) -> int:
    """
    Read a configuration file, and what it names, as the daemon would at its start.
    """
    if arguments in (["-h"], ["--help"]):
        print(HELP, end="")
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        return _fail("check takes one configuration file (see 'xferd --help')", 2)
    options = Options()
    try:
        options.parseOptions(["--config", arguments[0]])
        config = options.config
        # systemd passes its sockets to the daemon alone.
        own = tuple(each for each in config.listen if not each.startswith("systemd:"))
        registry = tuple(each for each in config.registry.listen if not each.startswith("systemd:"))
        options.config = evolve(config, listen=own, registry=evolve(config.registry, listen=registry))
        makeService(options)
    except UsageError as e:
        return _fail(str(e), 1)
    except SystemExit as e:
        print(e.code, file=sys.stderr)
        return 1
    print(f"{arguments[0]}: the settings are valid")
    return 0
