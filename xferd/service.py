# -*- test-case-name: tests.test_tap -*-
"""
The daemon: assembles all packages, and starts and stops them in order.

The module is long because it knows every package.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from linecache import clearcache
from secrets import token_hex
from threading import Thread
from typing import TYPE_CHECKING, cast

from attrs import evolve
from twisted.application.service import MultiService, Service
from twisted.application.strports import service as listening_service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory, IReactorFDSet, IReactorThreads
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.threadpool import ThreadPool

from xferd import __version__
from xferd.access_tokens import own_token
from xferd.config import Config
from xferd.descriptors import own_limit, raise_limit
from xferd.doctor.doctor import Doctor
from xferd.doctor.network import check_registry
from xferd.doctor.problem import Running
from xferd.engines.engines import Engines, make_engines
from xferd.engines.former import FormerEngines
from xferd.errors import ConfigError, XferdError
from xferd.hosts.memory import HostMemory
from xferd.inherited_sockets import InheritedListener, inherited_socket
from xferd.interfaces.engines import EngineContext
from xferd.interfaces.reactor import IReactor, WallClock
from xferd.interfaces.registry import IKeychain
from xferd.jobs.isolation import ISOLATED
from xferd.jobs.kept_credentials import KeptCredentials
from xferd.jobs.local.manifests import LocalManifests
from xferd.jobs.local.registries import LocalRegistries
from xferd.jobs.manager import Jobs
from xferd.jobs.mirror.repositories import list_repositories
from xferd.json_encoding import rfc3339
from xferd.listeners import Listener, own_hosts, parse_endpoint
from xferd.mutual_certificate import MutualCertificate
from xferd.names import Repository
from xferd.registry.auth.credential_helpers import CredentialHelpers, IHelperReactor
from xferd.registry.auth.keychain import DockerKeychain
from xferd.registry.client import Registries
from xferd.registry.hosts.certs_d import CertsDirs
from xferd.registry.transport.proxies import Proxies
from xferd.sd_notify import ServiceManager
from xferd.server_certificate import ServerCertificate
from xferd.sighup import SignalHandler
from xferd.store.store import Store
from xferd.store.threads import Threads
from xferd.transfer.eventual import Background
from xferd.unix_socket import SocketInUse, UnixSocket, make_directory, open_to_group
from xferd.unpack.unpacker import IUnpackReactor, Unpacker
from xferd.v2.app import Registry
from xferd.v2.description import describe
from xferd.v2.rights.passwords import AT_ONCE
from xferd.v2.rights.rights import Rights
from xferd.web.app import Web
from xferd.web.audit import audit_reload
from xferd.web.peer_trust import Trust
from xferd.webhooks.webhooks import Webhooks

if TYPE_CHECKING:
    from xferd.fleet.fleet import Fleet
    from xferd.tracing.spans import Spans

STEP_LIMIT = 5.0
"""The time limit of one step of the shutdown, in seconds, besides the jobs' grace."""


class StartFailed(SystemExit, Exception):
    """
    The daemon cannot start; the argument is the reason, for the operator.

    As it is an Exception, twistd cleans up and reports to the process that waits
    for the daemon to detach; as it is a SystemExit, twistd ends with one line and
    status 1 instead of a traceback.
    """


class Daemon(Service):
    """
    The service that C{twistd xferd} runs.

    States: built; started (it listens and queues jobs while the store opens);
    stopping; stopped.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: IReactor,
        reread: Callable[[], Config] | None = None,
        manager: ServiceManager | None = None,
        *,
        wall_clock: WallClock,
        config_file: str = "",
    ) -> None:
        """
        @param reread: reads the settings again on C{SIGHUP}, or raises
            L{ConfigError}; without it the settings stay.
        @param manager: notified when the daemon is ready and when it stops.
        @param wall_clock: for timestamps; durations are measured with the reactor's
            time.
        @param config_file: the path of the configuration file, or the empty
            string.
        """
        self._config = config
        self._config_file = config_file
        self._wall_clock = wall_clock
        self._reread = reread
        self._sighup = SignalHandler(reactor, self.reload)
        self._reactor = reactor
        self._manager = ServiceManager({}) if manager is None else manager
        self._tokens = config.read_tokens()
        listeners = [parse_endpoint(d) for d in config.listen]
        inherited = inherited_socket(config.socket)
        self._creates_socket = bool(config.socket) and inherited is None
        if inherited is not None:
            listeners.append(parse_endpoint(f"systemd:UNIX:index={inherited}"))
        elif config.socket:
            path = quoteStringArgument(config.socket)
            listeners.append(parse_endpoint(f"unix:address={path}:mode=600"))
        served = [parse_endpoint(description, "--registry") for description in config.registry.listen]
        self._exposed = _reachable(listeners)
        self._served = _reachable(served)
        self._registry_ports = {each.number for each in served} - {each.number for each in listeners}
        self._certificates: list[ServerCertificate] = []
        self._sockets = [UnixSocket(listener.socket) for listener in listeners if listener.socket]
        for listener in listeners:
            if listener.trust is Trust.NONE and not self._tokens:
                raise ConfigError(
                    f"{listener.description} is reachable from other machines: set token_file, "
                    "or listen on interface=127.0.0.1"
                )
        self.store = Store(
            config.data_dir,
            reactor,
            wall_clock=wall_clock,
            partial_age=config.collect.partials,
            trusted=config.store.trust_data_dir,
            unpack_limits=config.unpack,
        )
        self.webhooks = Webhooks(
            config.webhooks,
            self.store.journal,
            clock=reactor,
            wall_clock=wall_clock,
            proxies=Proxies(config.proxy),
        )
        self._traces: Spans | None = None
        self.hosts = HostMemory(reactor, wall_clock=wall_clock, journal=self.store.journal)
        # Programs that the daemon runs have the limit that it was started with.
        descriptors = own_limit()
        self.unpacker = Unpacker(
            cast("IUnpackReactor", reactor),
            workers=config.limits.resolved().workers,
            limits=config.unpack,
            descriptors=descriptors,
        )
        helpers = CredentialHelpers(
            cast("IHelperReactor", reactor), limit=config.timeouts.helper, descriptors=descriptors
        )
        keychain = DockerKeychain(config.auth_files, helpers)
        keychain.load()
        self._own_hosts = partial(own_hosts, served)
        self._certs_dirs = CertsDirs(
            config.certs_dirs, reactor.seconds, own=self._own_hosts(config.registry.external_url)
        )
        self._certs_dirs.check()
        via = token_hex(16)
        self.registries = Registries(
            reactor,
            wall_clock=wall_clock,
            hosts=config.hosts,
            certs_dirs=self._certs_dirs,
            proxies=Proxies(config.proxy),
            keychain=keychain,
            timeouts=config.timeouts,
            on_warning=self._warned,
            mirrors=config.sharing != ISOLATED,
            memory=self.hosts,
            salt=lambda: self.store.journal.salt,
            via=via,
        )
        self.fleet = self._make_fleet(keychain)
        manifests = LocalManifests(self.store, wall_clock)
        registries = LocalRegistries(
            self.registries, self.store, manifests, lambda: self._config.registry.local, reactor
        )
        self.jobs = Jobs(
            self.store,
            registries,
            self.unpacker,
            clock=reactor,
            wall_clock=wall_clock,
            limits=config.limits,
            steering=config.steering,
            retry=config.retry,
            sharing=config.sharing,
            quota=config.store.quota,
            scrub=config.scrub.rate,
            keep=config.registry.keep,
            hosts=self.hosts,
            fleet=None if self.fleet is None else self.fleet.downloads,
            tags=None if self.fleet is None else self.fleet.tags,
            kept=KeptCredentials(config.secrets_dir),
        )
        context = EngineContext(reactor, wall_clock, self.jobs, self.store, config.data_dir)
        self.engines = Engines(
            make_engines(config.engines, context, config.runtime_dir),
            FormerEngines(self.store, config.engines.containerd),
            reactor,
        )
        urls = [each.url for each in served if each.url]
        self.web = Web(
            jobs=self.jobs,
            store=self.store,
            registries=self.registries,
            memory=self.hosts,
            engines=self.engines,
            clock=reactor,
            wall_clock=wall_clock,
            version=__version__,
            started=rfc3339(wall_clock()),
            tokens=self._tokens,
            hosts=frozenset(config.hosts_allowed),
            page_port=next((listener.port for listener in listeners if listener.port), 0),
            public_metrics=config.metrics.public,
            fleet=self.fleet,
            registry=lambda: describe(self._config.registry, urls, self.jobs.mirror.figures()),
            repositories=lambda: list_repositories(
                self.store.catalog, self.jobs.keeper.kept(), self.jobs.keeper.rules, self.jobs.quota
            ),
            webhooks=lambda: self.webhooks.figures,
            logins=lambda: self.rights.logins,
            authentications=lambda: self.registries.authentications,
            examine=Doctor(cast("IReactorThreads", reactor), self._running_state).examine,
        )
        self.rights = Rights(
            config.registry,
            self.registries,
            keychain,
            self.store.catalog,
            threads=Threads(reactor, ThreadPool(0, AT_ONCE, "passwords"), "xferd is stopping"),
            clock=reactor,
            wall_clock=wall_clock,
            hosts=frozenset(config.hosts_allowed),
        )
        self.registry = Registry(
            store=self.store,
            mirror=self.jobs.mirror,
            rights=self.rights,
            registries=registries,
            manifests=manifests,
            settings=config.registry,
            clock=reactor,
            via=via,
            late_answers=self.engines.late_answers,
            peers=None if self.fleet is None else self.fleet.connect(self.jobs, self.jobs.held),
            check_open=self.jobs.steering.check_open,
        )
        self.listening = MultiService()
        self._background = Background()
        sites = [(listener, self.web.site(listener.trust)) for listener in listeners]
        sites += [(listener, self.registry.site(listener.trust)) for listener in served]
        if config.fleet.peer_listen and self.fleet is not None and not self.fleet.problem:
            sites.append((self._peer_listener(), self.registry.site(Trust.NONE)))
        for listener, site in sites:
            factory: IProtocolFactory = site
            if listener.certificate is not None:
                certificate = (
                    MutualCertificate(listener.certificate, config.fleet.peer_ca, reactor.seconds)
                    if listener.for_peers
                    else ServerCertificate(listener.certificate)
                )
                self._certificates.append(certificate)
                tls = TLSMemoryBIOFactory(certificate, False, factory)
                if listener not in listeners:
                    # FileSender sends records of its own after those of the transport.
                    tls.protocol = TLSMemoryBIOProtocol
                factory = tls
            try:
                if listener.description.startswith("systemd:"):
                    endpoint = serverFromString(reactor, listener.description)
                    child: Service = InheritedListener(
                        cast("AdoptedStreamServerEndpoint", endpoint), factory, cast("IReactorFDSet", reactor)
                    )
                else:
                    child = listening_service(
                        listener.plain or listener.description, factory, reactor=reactor
                    )
            except LookupError as e:
                if not listener.description.startswith("systemd:"):
                    raise ConfigError(f"{listener.description!r} is not an endpoint: {e}") from e
                raise ConfigError(
                    f"systemd has passed no socket for {listener.description!r}; is the socket unit active?"
                ) from e
            except ValueError as e:
                raise ConfigError(f"{listener.description!r} is not an endpoint: {e}") from e
            child.setServiceParent(self.listening)

    def _peer_listener(self) -> Listener:
        """
        The listener for the nodes of the fleet, which have certificates.
        """
        fleet = self._config.fleet
        key, own = map(quoteStringArgument, (fleet.peer_key, fleet.peer_certificate))
        listener = parse_endpoint(f"{fleet.peer_listen}:privateKey={key}:certKey={own}", "fleet.peer_listen")
        return evolve(listener, trust=Trust.NONE, for_peers=True)

    def _make_fleet(self, keychain: IKeychain) -> Fleet | None:
        """
        Make the fleet of the settings, and import its code only then.

        @raise ConfigError: peers cannot reach this node.
        """
        config = self._config
        if not config.fleet.is_configured:
            return None
        if not config.registry.listen:
            raise ConfigError(
                "[fleet] needs the registry, by which peers reach this node: set listen in [registry]"
            )
        from xferd.fleet.fleet import Fleet, FleetContext  # noqa: PLC0415

        isolated = config.sharing == ISOLATED
        context = FleetContext(self._reactor, self._wall_clock, __version__, keychain, self.hosts, isolated)
        return Fleet(config.fleet, context)

    def privilegedStartService(self) -> None:
        """
        Open the data directory, and listen.

        @raise StartFailed: one of them fails.
        """
        raise_limit()
        try:
            self.store.open()
            if self._creates_socket:
                make_directory(self._config.socket)
            for each in self._sockets:
                self._claim(each)
            self._make_token()
            self.listening.privilegedStartService()
            if self._creates_socket:
                open_to_group(self._config.socket)
        except XferdError as e:
            raise StartFailed(f"xferd: {e}") from e
        except CannotListenError as e:
            why = getattr(e.socketError, "strerror", e.socketError)
            if isinstance(e.port, bytes):
                raise self._cannot_listen(os.fsdecode(e.port), str(why)) from e
            option = "--registry" if e.port in self._registry_ports else "--listen"
            if self._config.fleet.peer_listen.split(":")[1:2] == [str(e.port)]:
                option = "fleet.peer_listen"
            raise self._cannot_listen(f"{e.interface or '*'}:{e.port}", str(why), option) from e
        except OSError as e:
            raise self._cannot_listen(self._config.socket, str(e.strerror)) from e

    def _make_token(self) -> None:
        """
        Make a token for other users of this machine, unless the settings have
        tokens.

        @raise StartFailed: it cannot be written.
        """
        if self._tokens:
            return
        path = self._config.own_token_file
        try:
            self._tokens.add(own_token(path))
        except OSError as e:
            raise StartFailed(f"xferd: cannot write the token to {path}: {e.strerror}") from e

    def _claim(self, path: UnixSocket) -> None:
        """
        Claim the path of a unix socket.

        @raise StartFailed: it is in use.
        """
        try:
            path.claim()
        except SocketInUse as e:
            raise self._cannot_listen(path.path, str(e)) from e
        except OSError as e:
            raise self._cannot_listen(path.path, str(e.strerror)) from e

    def _cannot_listen(self, where: str, why: str, option: str = "--listen") -> StartFailed:
        if where == self._config.socket:
            option = "--socket"
        return StartFailed(f"xferd: cannot listen on {where}: {why}; {option} selects another address")

    def startService(self) -> None:
        """
        Start the daemon.

        @raise StartFailed: as for L{privilegedStartService}.
        """
        if self.running:
            return
        super().startService()
        # Collections then skip the modules, during which the reactor does nothing else.  No
        # client's objects exist yet: frozen ones in cycles would never be freed.
        # attrs keeps the source of each method that it generated: a megabyte, for tracebacks.
        clearcache()
        gc.collect()
        gc.freeze()
        # Requests make thousands of objects, few of them in cycles.
        gc.set_threshold(5_000, 5, 10)
        self._sighup.startService()
        self._start_traces()
        for problem in check_registry(self._running_state()):
            self._log.warn("{problem}: {remedy}", problem=problem.message, remedy=problem.remedy)
        self.listening.startService()
        self.unpacker.start()
        self._starting = Deferred.fromCoroutine(self._start())

    def _start_traces(self) -> None:
        """
        Export traces if the settings or the environment want that, and import the code only
        then.  The daemon has detached: the exporter has a thread.

        @raise StartFailed: the settings want that, and packages are missing.
        """
        settings = self._config.traces
        if not settings.is_wanted(os.environ):
            return
        try:
            from xferd.tracing.spans import SDKLog, Spans  # noqa: PLC0415
        except ImportError as e:
            why = f"traces need the Python package {e.name}: install xferd with the extra 'traces'"
            if settings.endpoint:
                raise StartFailed(f"xferd: {why} (pip install 'xferd[traces]')") from e
            self._log.warn("the environment names a collector, but {why}", why=why)
            return
        threads = cast("IReactorThreads", self._reactor)
        self._traces = Spans(settings, os.environ, wall_clock=self._wall_clock)
        self._sdk_log = SDKLog(threads.callFromThread, self._reactor.seconds)
        self._sdk_log.install()
        self.jobs.trace(self._traces)

    async def _stop_traces(self) -> None:
        """
        Export the last spans.
        """
        traces = self._traces
        if traces is None:
            return
        self.jobs.trace(None)
        # The thread fires it.
        ended: Deferred[None] = Deferred()

        def stop() -> None:
            traces.stop()
            cast("IReactorThreads", self._reactor).callFromThread(ended.callback, None)

        # A thread of the pool would delay the end of the process, however long it takes.
        Thread(target=stop, name="traces", daemon=True).start()
        await ended
        self._sdk_log.remove()

    def _warned(self, repository: Repository, text: str) -> None:
        self.jobs.warned(repository, text)

    async def _start(self) -> None:
        """
        Open the store, then start the jobs and the web.
        """
        try:
            await self.store.start()
            self.rights.start()
            await self.hosts.start()
            await self.webhooks.start()
            await self.jobs.start()
            if self.fleet is not None:
                self.fleet.start(self.store)
            await self.jobs.mirror.resume(self.registry.upstream)
            await self.engines.start()
            if self.engines.engines:
                self.jobs.image_uses.start()
            await self.web.start()
            self.web.runtime.start()
            self.jobs.lately.start()
        except CancelledError:
            return
        except XferdError as e:
            self._log.error("xferd cannot start: {why}", why=str(e))
        except Exception:
            self._log.failure("while starting")
        else:
            self._log.info(
                "xferd {version} is ready; its data is in {path}", version=__version__, path=self.store.path
            )
            self._manager.ready(f"xferd {__version__} is ready")
            return
        self._reactor.stop()

    def reload(self) -> None:
        """
        Read the settings again, and apply the limits, the pauses, the quota, the hosts
        and those of the registry.  Running jobs continue.  If a file is invalid, no setting
        changes, and the log has the reason.
        """
        if self._reread is None:
            return
        try:
            config = self._reread()
            self.registry.reload(config.registry)
            self.registries.reload(config.hosts)
        except XferdError as e:
            self._log.error("the settings are unchanged: {why}", why=str(e))
            audit_reload(self._config_file, str(e))
            return
        late = self._config.needing_restart(config)
        self._config = self._config.reloaded(config)
        self._certs_dirs.reload(self._own_hosts(config.registry.external_url))
        for certificate in self._certificates:
            try:
                certificate.reload()
            except ConfigError as e:
                self._log.error("the previous certificate remains in use: {why}", why=str(e))
        if self.fleet is not None:
            try:
                self.fleet.reload()
            except ConfigError as e:
                self._log.error(
                    "the previous secrets and certificates of the fleet remain in use: {why}", why=str(e)
                )
        self.jobs.configure_limits(config.limits)
        self.jobs.steering.configure(config.steering)
        # The quota spares what the rules keep.
        self.jobs.keeper.reload(config.registry.keep)
        self.jobs.quota = config.store.quota
        self._log.info("reloaded the settings: limits, pauses, quota, hosts and registry")
        audit_reload(self._config_file)
        if late:
            self._log.warn("restart xferd to apply {names}", names=", ".join(late))

    def _running_state(self) -> Running:
        return Running(
            config=self._config,
            config_file=self._config_file,
            reread=self._reread,
            sockets=tuple(each.path for each in self._sockets),
            exposed=self._exposed,
            served=self._served,
            sandbox=self.unpacker.sandbox,
            is_root=os.geteuid() == 0,
            skews=self.registries.clock_skews,
            now=self._wall_clock(),
            engines=self.engines.problems,
            fleet="" if self.fleet is None else self.fleet.trouble,
        )

    def stopService(self) -> Deferred[None]:
        """
        Stop: refuse new jobs, end those that run, and keep downloaded bytes.

        @return: fires within the grace time and L{STEP_LIMIT} for each step.
        """
        super().stopService()
        self._sighup.stopService()
        self._manager.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # In order: each step needs those behind it.
        self._starting.cancel()
        self.web.runtime.stop()
        self.jobs.lately.stop()
        grace = self._config.grace
        steps: list[tuple[str, float, Callable[[], Awaitable[object]]]] = [
            ("listening", STEP_LIMIT, lambda: cast("Awaitable[object]", self.listening.stopService())),
            ("engines", STEP_LIMIT, self.engines.stop),
            ("jobs", grace + STEP_LIMIT, lambda: self.jobs.stop(grace)),
            *([] if self.fleet is None else [("fleet", STEP_LIMIT, self.fleet.stop)]),
            ("web", STEP_LIMIT, self.web.stop),
            ("traces", STEP_LIMIT, self._stop_traces),
            ("passwords", STEP_LIMIT, self.rights.stop),
            ("unpacker", STEP_LIMIT, self.unpacker.stop),
            ("registries", STEP_LIMIT, self.registries.close),
            ("webhooks", STEP_LIMIT, self.webhooks.stop),
            ("hosts", STEP_LIMIT, self.hosts.stop),
            ("store", STEP_LIMIT, self.store.stop),
        ]
        for name, limit, stop in steps:
            if not await self._bounded(stop(), limit, name):
                self._log.warn("{step} did not stop within {limit} s", step=name, limit=limit)
        for each in self._sockets:
            each.release()

    async def _bounded(self, stopping: Awaitable[object], limit: float, name: str) -> bool:
        """
        Wait for a step of the shutdown, for at most C{limit} seconds.

        @return: whether it ended in time.  A late step continues by itself.
        """
        # It needs no canceller: the timer fires it.
        ended: Deferred[bool] = Deferred()

        async def step() -> None:
            try:
                await stopping
            finally:
                if timer.active():
                    timer.cancel()
                    ended.callback(True)

        timer = self._reactor.callLater(limit, ended.callback, False)
        self._background.spawn(Deferred.fromCoroutine(step()), f"while stopping {name}")
        return await ended


def _reachable(listeners: Sequence[Listener]) -> tuple[str, ...]:
    """
    The endpoint strings that other machines can reach, or that have certificates.
    """
    return tuple(
        each.description for each in listeners if each.trust is Trust.NONE or each.certificate is not None
    )
