"""
Tests for L{xferd.tap} and the plugin.
"""

from __future__ import annotations

import os
import sys
import time
from io import StringIO
from pathlib import Path
from subprocess import run

from twisted.application.service import Application, IService, IServiceCollection, IServiceMaker
from twisted.internet import reactor
from twisted.logger import FileLogObserver, ILogObserver
from twisted.plugin import IPlugin, getPlugins
from twisted.python.usage import UsageError
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd import __version__
from xferd.errors import ConfigError
from xferd.logs.journald import Journald
from xferd.logs.json_lines import JsonLines
from xferd.service import Daemon
from xferd.tap import LoggedDaemon, Options, log_observer, makeService


class OptionsTests(SynchronousTestCase):
    """
    The command line.
    """

    def parse(self, *arguments: str) -> Options:
        """
        Parse a command line.
        """
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def refused(self, *arguments: str) -> str:
        """
        The message for a command line that is refused.
        """
        return str(self.assertRaises(UsageError, self.parse, *arguments))

    def test_options(self) -> None:
        """
        The command line overrides the file, which overrides the defaults.
        """
        path = self.mktemp()
        Path(path).write_text("data_dir = '/from/file'\nsocket = '/from/file.sock'\ngrace = 1.5")
        config = self.parse("-c", path, "-d", "/from/line", "-l", "unix:/a", "-l", "unix:/b").config
        self.assertEqual((config.data_dir, config.socket), ("/from/line", "/from/file.sock"))
        self.assertEqual((config.listen, config.grace), (("unix:/a", "unix:/b"), 1.5))
        self.assertEqual(self.parse("--socket", "").config.socket, "")
        self.assertEqual(self.parse("--auth-file", "a.json").config.auth_files, (os.path.abspath("a.json"),))

    def test_read_again(self) -> None:
        """
        The settings can be read again from the changed file; the command line still
        overrides it.
        """
        path = self.mktemp()
        Path(path).write_text("grace = 1.5\n[limits]\ndownloads = 2")
        options = self.parse("-c", path, "-d", "/from/line")
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir("/")
        Path(here, path).write_text("data_dir = '/from/file'\n[limits]\ndownloads = 9")
        config = options.read()
        self.assertEqual((config.limits.downloads, config.data_dir), (9, "/from/line"))
        self.assertEqual(config.grace, Options().config.grace)
        self.assertEqual(options.config.limits.downloads, 2)
        Path(here, path).write_text("[limits]\ndownload = 9")
        self.assertIn("did you mean 'downloads'", str(self.assertRaises(ConfigError, options.read)))

    def test_refused(self) -> None:
        """
        Invalid options and settings are refused before the daemon starts, in one
        sentence.
        """
        self.assertIn("unexpected argument 'pull'", self.refused("pull"))
        self.assertIn("cannot read the configuration file", self.refused("-c", "/nowhere.toml"))
        self.assertIn("'9337' is not an endpoint", self.refused("-l", "9337"))
        self.assertIn("'systemd:index=0' is not an endpoint", self.refused("-l", "systemd:index=0"))
        path = self.mktemp()
        Path(path).write_text("token_file = '/nowhere'")
        self.assertIn("cannot read the token file /nowhere", self.refused("-c", path))

    def exit(self, *arguments: str) -> tuple[str, object]:
        """
        Run C{twistd} with a command line that ends it at once.

        @return: its output, and its exit status or its message.
        """
        printed = StringIO()
        self.patch(sys, "stdout", printed)
        self.patch(sys, "stderr", printed)
        error = self.assertRaises(SystemExit, ServerOptions().parseOptions, ["-n", "xferd", *arguments])
        return printed.getvalue(), error.code

    def test_version(self) -> None:
        """
        C{--version} prints the version and ends.
        """
        self.assertEqual(self.exit("--version"), (f"xferd {__version__}\n", 0))

    def test_help(self) -> None:
        """
        C{--help} begins with one line of usage and names each option.
        """
        printed, status = self.exit("--help")
        first, _, rest = printed.partition("\n")
        self.assertRegex(first, r"^Usage: \S+ \[options\] xferd \[options\]$")
        self.assertEqual(status, 0)
        for option in Options().longOpt:
            self.assertIn(f" --{option}", rest)

    def test_refused_in_one_line(self) -> None:
        """
        A refused command line ends C{twistd} with one line and without its usage.
        """
        path = self.mktemp()
        Path(path).write_text("grace = -1")
        for arguments, message in (
            (("--colour",), "option --colour not recognized"),
            (("pull",), "unexpected argument 'pull'"),
        ):
            self.assertEqual(self.exit(*arguments), (f"xferd: {message}; see twistd xferd --help\n", 2))
        message = f"xferd: {os.path.abspath(path)}: grace must be at least 0.0, not -1.0"
        self.assertEqual(self.exit("--config", path), ("", message))


class PluginTests(SynchronousTestCase):
    """
    The plugin of C{twistd}.
    """

    def setUp(self) -> None:
        """
        Restore the reactor's time after the test.
        """
        self.patch(reactor, "seconds", reactor.seconds)

    def test_plugin(self) -> None:
        """
        The plugin has its name and its options.
        """
        (maker,) = [p for p in getPlugins(IServiceMaker) if getattr(p, "tapname", None) == "xferd"]
        verifyObject(IServiceMaker, maker)
        verifyObject(IPlugin, maker)
        self.assertIs(maker.options, Options)

    def test_make_service(self) -> None:
        """
        Making the service opens and starts nothing; the reactor's timers then use
        monotonic time.
        """
        data = self.mktemp()
        options = Options()
        options.parseOptions(["-d", data, "-s", "", "-l", "tcp:0:interface=127.0.0.1"])
        service = makeService(options)
        self.assertIs(reactor.seconds, time.monotonic)
        verifyObject(IService, service)
        self.assertIsInstance(service, Daemon)
        self.assertFalse(Path(data).exists())

    def test_small(self) -> None:
        """
        A started daemon has neither the OpenAPI document in memory, which few clients request,
        nor the source of generated methods.
        """
        program = (
            "import linecache, os, sys\n"
            "from xferd.tap import Options, makeService\n"
            "options = Options()\n"
            "options.parseOptions(['-d', sys.argv[1], '-s', '', '-l', 'tcp:0:interface=127.0.0.1'])\n"
            "daemon = makeService(options)\n"
            "daemon.privilegedStartService()\n"
            "daemon.startService()\n"
            "generated = any(name.startswith('<attrs') for name in linecache.cache)\n"
            "print('xferd.web.openapi' in sys.modules, generated, flush=True)\n"
            "os._exit(0)\n"
        )
        done = run(
            [sys.executable, "-c", program, self.mktemp()], capture_output=True, text=True, check=False
        )
        self.assertEqual((done.stdout, done.stderr), ("False False\n", ""))

    def test_log(self) -> None:
        """
        By default the log is text on stdout, or what twistd writes to a file; the settings can
        ask for JSON, in the file that twistd was given, and the journal gets fields where it
        reads stdout.
        """
        status = os.fstat(1)
        journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        console, path = {"nodaemon": 1}, os.path.abspath(self.mktemp())
        for form, twistd, environ, kind in (
            ("auto", console, {}, FileLogObserver),
            ("auto", console, journal, Journald),
            ("auto", {"nodaemon": 1, "logfile": path}, journal, type(None)),
            ("auto", {"nodaemon": 1, "syslog": 1}, journal, type(None)),
            ("text", console, journal, FileLogObserver),
            ("json", console, journal, JsonLines),
            ("json", {"nodaemon": 0, "logfile": path}, {}, JsonLines),
            ("json", {"nodaemon": 1, "syslog": 1}, {}, type(None)),
        ):
            self.assertIs(type(log_observer(form, twistd, environ, StringIO())), kind, (form, twistd))
        self.assertTrue(os.path.exists(path))

    def test_log_of_twistd(self) -> None:
        """
        The observer becomes that of twistd's application.
        """
        options = Options()
        options.parseOptions(["-d", self.mktemp(), "-s", "", "-l", "tcp:0:interface=127.0.0.1"])
        daemon = makeService(options)
        assert isinstance(daemon, LoggedDaemon)
        daemon.observer = JsonLines(StringIO())
        application = Application("xferd")
        daemon.setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), daemon.observer)
        self.assertIs(daemon.parent, IServiceCollection(application))

    def test_cannot_be_made(self) -> None:
        """
        An endpoint that cannot be served ends twistd with one line.
        """
        for endpoint, why in (
            ("tcp:80", "set token_file"),
            ("nothing:1:interface=localhost", "is not an endpoint"),
            ("systemd:UNIX:name=xferd.socket", "systemd has passed no socket"),
            ("systemd:domain=UNIX:index=0", "is the socket unit active?"),
            ("systemd:UNIX", "is not an endpoint: Specify exactly one"),
            ("systemd:INET:index=0", "set token_file"),
            ("systemd:domain=INET6:index=0", "set token_file"),
        ):
            options = Options()
            options.parseOptions(["-d", self.mktemp(), "-s", "", "-l", endpoint])
            error = self.assertRaises(SystemExit, makeService, options)
            self.assertIn(why, str(error))
