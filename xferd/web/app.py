# -*- test-case-name: tests.web.test_app -*-
"""
The routes of the HTTP API and the status page.

One class has all routes, as Klein wants it, which makes the module long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Set
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from attrs import asdict
from klein import Klein
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from xferd.descriptors import own_limit
from xferd.errors import BadInput, Draining, NotFound
from xferd.interfaces.fleet_status import NO_FLEET
from xferd.interfaces.job_json import NO_REGISTRY, ImageJSON, RegistryJSON, RepositoryJSON
from xferd.interfaces.webhooks import WebhookFigures
from xferd.jobs.events.broker import image_json
from xferd.jobs.images.details import image_details
from xferd.jobs.job import ENDED
from xferd.names import Reference
from xferd.web.archive_request import (
    MAX_PIECE,
    is_piece,
    read_format,
    read_piece,
    read_size,
    upload_stream_of,
)
from xferd.web.archive_response import ArchiveResponse
from xferd.web.client_limits import ClientLimits
from xferd.web.disk_status import disk_status
from xferd.web.event_response import EventResponses, EventTimes, accepts_events, wants_only_jobs, wants_status
from xferd.web.fill_events import FillEvents
from xferd.web.guard import Guard
from xferd.web.idempotency import Idempotency
from xferd.web.job_creation import JobCreation
from xferd.web.job_list import page_of_jobs
from xferd.web.job_request import FILL, FLEET_PREFETCH, read_collection, read_new_name, read_pin
from xferd.web.known_hosts import KnownHosts
from xferd.web.metrics import MEDIA_TYPE, Metrics, scene_of
from xferd.web.page_login import PageLogin
from xferd.web.pagination import IMAGES, REPOSITORIES, TRANSFERS
from xferd.web.registry_auth import read_login, registry_auth
from xferd.web.request import client_name, header, note, read_limit_changes, read_platform
from xferd.web.responses import respond, respond_failure
from xferd.web.runtime import Runtime
from xferd.web.site import MAX_BODY, WebSite, admitted, owner_of
from xferd.web.static_files import StaticFiles
from xferd.web.status_events import StatusEvents
from xferd.web.steering import SteeringRequests

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.http import Request as HTTPRequest
    from twisted.web.server import Request, Site

    from xferd.access_tokens import AccessTokens
    from xferd.interfaces.engines import IEngines
    from xferd.interfaces.fleet_status import IFleet
    from xferd.interfaces.hosts import IHostMemory
    from xferd.interfaces.jobs import IJobs
    from xferd.interfaces.reactor import WallClock
    from xferd.interfaces.registry import IRegistries
    from xferd.interfaces.store import Image, IStore
    from xferd.web.peer_trust import Trust

API: Final = "/api/v1"
_ROUTES: Final = 128
"""The paths whose route is remembered for the audit trail: most requests have the same few."""


class Web:
    """
    The HTTP API and the status page of one daemon.

    Life cycle: made; C{site} gives a factory for each listener; C{start}ed, when
    the store is open; C{stop} ends the open event streams and refuses new ones.

    @ivar runtime: measures for the metrics, once it is started.
    """

    app = Klein()
    # A path is what it is: "a//b" is no other way to write "a/b".
    app.url_map.merge_slashes = False
    _log = Logger()

    def __init__(
        self,
        *,
        jobs: IJobs,
        store: IStore,
        registries: IRegistries,
        memory: IHostMemory,
        engines: IEngines,
        clock: IReactorTime,
        wall_clock: WallClock,
        version: str,
        started: str,
        tokens: AccessTokens,
        hosts: Set[str],
        times: EventTimes | None = None,
        page_port: int = 0,
        public_metrics: bool = False,
        examine: Callable[[], Deferred[list[dict[str, object]]]] = lambda: succeed([]),
        fleet: IFleet | None = None,
        registry: Callable[[], RegistryJSON] = lambda: NO_REGISTRY,
        repositories: Callable[[], list[RepositoryJSON]] = list,
        connections: Callable[[], int] = lambda: own_limit() // 2,
        webhooks: Callable[[], WebhookFigures] = WebhookFigures,
        logins: Callable[[], Mapping[str, int]] = dict,
        authentications: Callable[[], Mapping[tuple[str, str], int]] = dict,
    ) -> None:
        """
        @param memory: what is remembered of hosts.
        @param engines: the container engines that run images from the store.
        @param wall_clock: makes the times that outlive the daemon.
        @param started: when the daemon started, RFC 3339 in UTC.
        @param tokens: the tokens of clients whose connection is not trusted.
        @param hosts: the daemon's own names besides those of loopback, without
            port.
        @param times: the times of event streams.
        @param page_port: the port at which browsers of this machine reach the
            page, or 0.
        @param public_metrics: whether the metrics need no right.
        @param examine: checks the installation.
        @param fleet: the nodes with which this one shares downloads.
        @param registry: describes the registry that the daemon serves.
        @param repositories: lists the repositories of the registry.
        @param connections: how many connections may be open, of all listeners;
            by default half of the process's file descriptors, so that clients
            cannot take those that transfers need.
        @param webhooks: returns the counts of webhooks.
        @param logins: returns those of the registry's logins.
        @param authentications: returns those of authentication at registries.
        """
        self._jobs = jobs
        self._store = store
        self._registries = registries
        self._clock = clock
        self._version = version
        self._started = started
        self._tokens = tokens
        self._page_port = page_port
        self._public_metrics = public_metrics
        self._page_login = PageLogin(clock)
        self._hosts = hosts
        self._events = EventResponses(
            clock,
            EventTimes() if times is None else times,
            StatusEvents(clock, self._status, self._watched),
        )
        self._examine = examine
        self._registry = registry
        self._repositories = repositories
        self._files = StaticFiles()
        self._known_hosts = KnownHosts(memory, wall_clock)
        self._memory = memory
        self._engines = engines
        self._fleet = fleet
        self.runtime = Runtime(clock)
        self._metrics = Metrics(clock, self.runtime, webhooks, logins, authentications)
        self._accesses: Counter[str] = Counter()
        self._replays = Idempotency(jobs, store.journal, clock, wall_clock=wall_clock)
        self._creation = JobCreation(jobs, self._replays, self._events, clock)
        self._connections = ClientLimits(connections)
        self._match = lru_cache(maxsize=_ROUTES)(self.app.url_map.bind("localhost").match)
        self._steering = SteeringRequests(jobs)

    def site(self, trust: Trust) -> Site:
        """
        Make the factory of one listener's connections.

        @param trust: which clients may act because of their connection; others
            need a token.
        """
        guard = Guard(
            self.app.resource(),
            tokens=self._tokens,
            hosts=self._hosts,
            page_login=self._page_login,
            public_metrics=self._public_metrics,
            accesses=self._accesses,
        )

        def largest(request: HTTPRequest) -> int:
            return MAX_PIECE if is_piece(request) and guard.admits(request) else MAX_BODY

        return WebSite(guard, self._clock, largest, places=self._connections, trust=trust, route=self._route)

    def _route(self, request: HTTPRequest) -> tuple[str, Mapping[str, Any]]:
        """
        The name of a request's operation, and the parts of its path.
        """
        path = unquote(request.path.decode("latin-1"), errors="replace")
        try:
            return self._match(path, request.method.decode("latin-1"))
        except HTTPException:
            return "", {}

    def start(self) -> Deferred[None]:
        """
        Read the idempotency keys of earlier daemons.  The store is open.

        @raise StoreError: the journal cannot be read.
        """
        return Deferred.fromCoroutine(self._replays.start())

    def stop(self) -> Deferred[None]:
        """
        End the open event streams and refuse new ones.

        @return: fires when the last one has ended, within L{GRACE} seconds
            and a turn of the reactor.
        """
        return self._events.stop()

    # --------------------------------------------------------------- jobs

    @app.route(f"{API}/jobs", methods=["POST"])
    async def create_job(self, request: Request) -> bytes | None:
        """
        Begin a job, and follow it if the client accepts events.
        """
        return await self._creation.respond(request, f"{API}/jobs")

    @app.route(f"{API}/jobs", methods=["GET"])
    async def list_jobs(self, request: Request) -> bytes:
        """
        List jobs, the newest first.
        """
        return respond(request, await page_of_jobs(request, self._jobs))

    @app.route(f"{API}/jobs/<job_id>", methods=["GET"])
    async def show_job(self, request: Request, job_id: str) -> bytes:
        """
        Show one job with its layers.
        """
        job_id = await self._named(request, job_id)
        self._rejoin(request, job_id)
        return respond(request, await self._jobs.find(job_id))

    async def _named(self, request: Request, prefix: str) -> str:
        """
        The ID of the job that a path names by its first characters.
        """
        job_id = await self._jobs.named(prefix)
        if job_id != prefix:
            note(request, "job", job_id)
        return job_id

    def _rejoin(self, request: Request, job_id: str) -> None:
        """
        Have a job of the request's client continue, if it waits for that.
        """
        credentials = registry_auth(request).named
        self._jobs.rejoin(job_id, client_name(request), owner_of(request), credentials)

    @app.route(f"{API}/jobs/<job_id>/attempts", methods=["GET"])
    async def show_attempts(self, request: Request, job_id: str) -> bytes:
        """
        Show the attempts of a job's transfers.
        """
        job_id = await self._named(request, job_id)
        return respond(request, await self._jobs.attempts(job_id))

    @app.route(f"{API}/jobs/<job_id>", methods=["DELETE"])
    async def cancel_job(self, request: Request, job_id: str) -> bytes:
        """
        Cancel a job.
        """
        job_id = await self._named(request, job_id)
        job = await self._jobs.find(job_id)
        if job["state"] not in ENDED:
            owner = owner_of(request)
            self._jobs.cancel(job_id, " ".join(filter(None, (owner, f"({client_name(request)})"))))
            # A job whose cancellation was confirmed is not begun again.
            await self._jobs.flushed()
            job = await self._jobs.find(job_id)
        return respond(request, job)

    # ----------------------------------------------------------- steering

    @app.route(f"{API}/jobs/<job_id>", methods=["PATCH"])
    async def change_job(self, request: Request, job_id: str) -> bytes:
        """
        Pause or resume a job, or change its priority or its bandwidth limits.
        """
        job_id = await self._named(request, job_id)
        return await self._steering.change_job(request, job_id)

    @app.route(f"{API}/jobs/<job_id>/retry", methods=["POST"])
    async def retry_job(self, request: Request, job_id: str) -> bytes:
        """
        Retry a job that failed or was cancelled.
        """
        job_id = await self._named(request, job_id)
        return await self._steering.retry(request, job_id, f"{API}/jobs")

    @app.route(f"{API}/pauses", methods=["GET"])
    def list_pauses(self, request: Request) -> bytes:
        """
        List the pauses of registries, of directions and of everything.
        """
        return self._steering.pauses(request)

    @app.route(f"{API}/pauses/<name>", methods=["PUT"])
    async def pause(self, request: Request, name: str) -> bytes:
        """
        Pause everything, or a direction.
        """
        return await self._steering.pause(request, name)

    @app.route(f"{API}/pauses/<name>", methods=["DELETE"])
    async def resume(self, request: Request, name: str) -> bytes:
        """
        End a pause of everything, or of a direction.
        """
        return await self._steering.resume(request, name)

    @app.route(f"{API}/pauses/hosts/<host>", methods=["PUT"])
    async def pause_host(self, request: Request, host: str) -> bytes:
        """
        Pause a registry.
        """
        return await self._steering.pause(request, "", host)

    @app.route(f"{API}/pauses/hosts/<host>", methods=["DELETE"])
    async def resume_host(self, request: Request, host: str) -> bytes:
        """
        End the pause of a registry.
        """
        return await self._steering.resume(request, "", host)

    @app.route(f"{API}/drain", methods=["PUT"])
    async def drain(self, request: Request) -> bytes:
        """
        Drain the daemon: start no new work.
        """
        return await self._steering.drain(request)

    @app.route(f"{API}/drain", methods=["DELETE"])
    async def end_drain(self, request: Request) -> bytes:
        """
        End the drain: accept jobs again.
        """
        return await self._steering.end_drain(request)

    # ------------------------------------------------------------- logins

    @app.route(f"{API}/auth", methods=["POST"])
    async def check_login(self, request: Request) -> bytes:
        """
        Check whether a registry accepts the credentials of the request.  Jobs of the same
        user that wait for them continue; otherwise they are dropped.
        """
        host, credentials = read_login(request)
        await self._registries.seen_by({host: credentials}).check(host)
        self._jobs.supply(owner_of(request), {host: credentials})
        return respond(request, {"host": host, "accepted": True})

    # ----------------------------------------------------------- archives

    @app.route(f"{API}/jobs/<job_id>/content", methods=["PATCH"])
    async def take_piece(self, request: Request, job_id: str) -> bytes:
        """
        Receive the next piece of an import's archive; responds when it has been read.
        """
        offset, data = read_piece(request)
        job_id = await self._named(request, job_id)
        self._rejoin(request, job_id)
        upload_stream = await upload_stream_of(self._jobs, job_id)
        offset = await upload_stream.put(offset, data)
        return respond(request, {"offset": offset}, 202)

    @app.route(f"{API}/jobs/<job_id>/content", methods=["PUT"])
    async def end_content(self, request: Request, job_id: str) -> bytes:
        """
        Receive the end of an import's archive.
        """
        size = read_size(request)
        job_id = await self._named(request, job_id)
        self._rejoin(request, job_id)
        upload_stream = await upload_stream_of(self._jobs, job_id)
        await upload_stream.finish(size)
        return respond(request, {"offset": size})

    @app.route(f"{API}/archives/<path:name>", methods=["GET"])
    async def send_archive(self, request: Request, name: str) -> bytes | None:
        """
        Send one image of the store as an archive.

        This is not below C{images/}: a repository may be called C{archive}.
        """
        form = read_format(request)
        credentials = registry_auth(request).towards(name)
        archive = await self._jobs.export(name, form, client_name(request), credentials)
        request.setHeader(b"content-type", b"application/x-tar")
        request.setHeader(b"content-length", b"%d" % archive.size)
        request.setHeader(b"cache-control", b"no-store")
        if request.method == b"HEAD":
            archive.close()
            return b""
        await ArchiveResponse(request, archive, self._clock).run()
        return None

    # ------------------------------------------------------------- events

    @app.route(f"{API}/jobs/<job_id>/events", methods=["GET"])
    async def follow_job(self, request: Request, job_id: str) -> bytes | None:
        """
        Follow one job until it ends.
        """
        client, only_jobs = self._events.admit(request), wants_only_jobs(request)
        job_id = await self._named(request, job_id)
        self._rejoin(request, job_id)
        stream = await self._jobs.follow(job_id, header(request, b"last-event-id"))
        if only_jobs:
            stream.only_jobs()
        return await self._events.send(request, stream, client)

    @app.route(f"{API}/events", methods=["GET"])
    async def follow_all(self, request: Request) -> bytes | None:
        """
        Follow everything.
        """
        client, status = self._events.admit(request), wants_status(request)
        stream = self._jobs.events(None, header(request, b"last-event-id"))
        return await self._events.send(request, stream, client, status=status)

    # --------------------------------------------------- limits and hosts

    @app.route(f"{API}/limits", methods=["GET"])
    def show_limits(self, request: Request) -> bytes:
        """
        Show the limits.
        """
        return respond(request, self._jobs.limits())

    @app.route(f"{API}/limits", methods=["PATCH"])
    async def change_limits(self, request: Request) -> bytes:
        """
        Change some limits.
        """
        changes, keep = read_limit_changes(request)
        limits = self._jobs.change_limits(changes, keep=keep)
        if keep:
            await self._jobs.flushed()
        return respond(request, limits)

    @app.route(f"{API}/hosts", methods=["GET"])
    def list_hosts(self, request: Request) -> bytes:
        """
        List what is remembered of registries.
        """
        return respond(request, self._known_hosts.listed())

    @app.route(f"{API}/hosts/<host>", methods=["DELETE"])
    async def clear_host(self, request: Request, host: str) -> bytes:
        """
        Forget a registry's pauses, quotas, failures and features.
        """
        return respond(request, await self._known_hosts.clear(host))

    # ---------------------------------------------- transfers and the store

    @app.route(f"{API}/transfers", methods=["GET"])
    def list_transfers(self, request: Request) -> bytes:
        """
        List transfers, the oldest first.
        """
        return respond(request, TRANSFERS.page(request, self._jobs.transfers()))

    @app.route(f"{API}/images", methods=["GET"])
    def list_images(self, request: Request) -> bytes:
        """
        List the images of the store, by name.
        """
        page = IMAGES.page(request, self._store.images.all())
        return respond(request, [self._image_json(image) for image in page])

    @app.route(f"{API}/images/<path:name>", methods=["GET"])
    async def show_image(self, request: Request, name: str) -> bytes:
        """
        Show one image of the store, with its config and the paths of its layers.
        """
        platform = read_platform(request)
        reference = Reference.parse(name)
        image = self._store.images.get(reference)
        if image is None:
            raise NotFound(f"the store has no image {reference.familiar()}")
        return respond(request, await image_details(self._store, image, platform))

    @app.route(f"{API}/images/<path:name>/tags", methods=["POST"])
    async def tag_image(self, request: Request, name: str) -> bytes:
        """
        Give an image of the store another name.
        """
        image = await self._jobs.image_admin.tag(name, read_new_name(request))
        return respond(request, self._image_json(image), 201)

    @app.route(f"{API}/images/<path:name>/pin", methods=["POST"])
    async def pin_image(self, request: Request, name: str) -> bytes:
        """
        Pin an image of the store, or unpin it.
        """
        image = await self._jobs.image_admin.pin(name, read_pin(request))
        return respond(request, self._image_json(image))

    def _image_json(self, image: Image) -> ImageJSON:
        return image_json(image, self._store.gc.used_by(image.chain_id))

    @app.route(f"{API}/images/<path:name>/trees", methods=["POST"])
    async def renew_trees(self, request: Request, name: str) -> bytes:
        """
        Unpack again the layers of an image that an older version has unpacked.
        """
        credentials = registry_auth(request).towards(name)
        warnings = await self._jobs.renew(name, client_name(request), credentials)
        return respond(request, {"warnings": list(warnings)})

    @app.route(f"{API}/images/<path:name>", methods=["DELETE"])
    async def remove_image(self, request: Request, name: str) -> bytes:
        """
        Remove an image's name, and free what nothing needs any more.
        """
        reference = Reference.parse(name)
        # Not by get(), which would count as a use and so keep the content.
        chains = [image.chain_id for image in self._store.images.all() if image.reference == reference]
        freed = await self._jobs.image_admin.remove(name)
        used_by = [text for chain in chains for text in self._store.gc.used_by(chain)]
        shown = {"reference": str(reference), "freed": asdict(freed), "used_by": used_by}
        return respond(request, shown)

    @app.route(f"{API}/gc", methods=["POST"])
    async def collect(self, request: Request) -> bytes:
        """
        Free what nothing in the store needs, or report what that would be.
        """
        dry_run, partials, without = read_collection(request)
        freed = await self._jobs.image_admin.collect(dry_run, partials, without)
        kept = [asdict(each) for each in self._store.gc.kept_for()]
        held = {
            "images": len(self._store.images.all()),
            "repositories": len(self._repositories()),
            "jobs": self._jobs.unfinished,
            **await self._store.usage(),
        }
        return respond(request, {"dry_run": dry_run, "freed": asdict(freed), "kept": kept, "held": held})

    # ------------------------------------------------------------- the daemon

    @app.route(f"{API}/doctor", methods=["GET"])
    async def examine(self, request: Request) -> bytes:
        """
        Check the installation.
        """
        return respond(request, {"checks": await self._examine()})

    @app.route(f"{API}/status", methods=["GET"])
    def show_status(self, request: Request) -> bytes:
        """
        Show the state of the daemon.
        """
        return respond(request, self._status())

    def _status(self) -> dict[str, object]:
        own = {"version": self._version, "started": self._started, "images": len(self._store.images.all())}
        return {**own, "disk": disk_status(self._store), **self._jobs.status()}

    def _watched(self) -> object:
        """
        What the page shows besides the status.
        """
        hosts = [(known.host, known.state.availability, known.failures) for known in self._memory.hosts()]
        return self._jobs.limits(), hosts, self._registry()["upstreams"]

    @app.route(f"{API}/history", methods=["GET"])
    def show_history(self, request: Request) -> bytes:
        """
        Show the bytes of the last hour.
        """
        return respond(request, self._jobs.history())

    @app.route(f"{API}/registry", methods=["GET"])
    def show_registry(self, request: Request) -> bytes:
        """
        Show the registry that the daemon serves, and its upstreams.
        """
        return respond(request, self._registry())

    @app.route(f"{API}/registry/repositories", methods=["GET"])
    def list_repositories(self, request: Request) -> bytes:
        """
        List the repositories of the registry, by name.
        """
        return respond(request, REPOSITORIES.page(request, self._repositories()))

    @app.route(f"{API}/engines", methods=["GET"])
    async def list_engines(self, request: Request) -> bytes:
        """
        List the engines that are served, with the images that they use.
        """
        return respond(request, await self._engines.describe())

    @app.route(f"{API}/engines/<name>", methods=["DELETE"])
    async def forget_engine(self, request: Request, name: str) -> bytes:
        """
        Remove the snapshots of an engine that the settings do not name any more.
        """
        return respond(request, {"name": name, "snapshots": await self._engines.forget(name)})

    @app.route(f"{API}/engines/<name>/fill", methods=["POST"])
    async def fill_engine(self, request: Request, name: str) -> bytes | None:
        """
        Give an engine the blobs of an image that it lacks, and report the progress if the
        client accepts events.  The fill ends if the client leaves.
        """
        asked = FILL.read(request)
        reference = asked["reference"]
        credentials = registry_auth(request).towards(reference)
        follows = accepts_events(request)
        client = self._events.admit(request) if follows else admitted(request)
        events = FillEvents(self._clock)
        filling = self._engines.fill(
            name, reference, asked["namespace"], client_name(request), credentials, events.progress
        )
        if filling.called or not follows:
            return respond(request, await filling)
        return await self._events.send(request, events.follow(filling), client)

    @app.route(f"{API}/fleet", methods=["GET"])
    async def show_fleet(self, request: Request) -> bytes:
        """
        Show the nodes that share downloads with this one.
        """
        return respond(request, NO_FLEET if self._fleet is None else await self._fleet.describe())

    @app.route(f"{API}/fleet/prefetch", methods=["POST"])
    async def prefetch_in_fleet(self, request: Request) -> bytes:
        """
        Have other nodes fetch an image for the clients of their registries.
        """
        asked = FLEET_PREFETCH.read(request)
        if self._fleet is None:
            raise BadInput("the settings have no [fleet]")
        begun = await self._fleet.prefetch(asked["reference"], asked["platform"], asked["nodes"])
        return respond(request, {"nodes": begun}, 202)

    @app.route(f"{API}/openapi.json", methods=["GET"])
    def show_openapi(self, request: Request) -> bytes:
        """
        Show the OpenAPI document.
        """
        from xferd.web.openapi import document  # noqa: PLC0415 - large, and for this alone

        return respond(request, document(self._version))

    @app.route("/metrics", methods=["GET"])
    async def show_metrics(self, request: Request) -> bytes:
        """
        Show the metrics.
        """
        counts = len(self._events), dict(self._accesses)
        own = self._version, self._started
        scene = scene_of(self._jobs, self._store, self._memory, self._engines, self._fleet, *own, *counts)
        text = self._metrics.text(await scene)
        request.setHeader(b"content-type", MEDIA_TYPE)
        request.setHeader(b"content-length", b"%d" % len(text))
        request.setHeader(b"cache-control", b"no-store")
        return text

    @app.route("/healthz", methods=["GET"])
    def live(self, request: Request) -> bytes:
        """
        Report that the daemon is alive.
        """
        return respond(request, {"status": "ok"})

    @app.route("/readyz", methods=["GET"])
    def ready(self, request: Request) -> bytes:
        """
        Report whether the daemon accepts jobs.
        """
        if self._events.stopping:
            raise ServiceUnavailable("xferd is stopping")
        if self._jobs.steering.draining:
            raise Draining(self._jobs.steering.draining)
        return respond(request, {"status": "ok"})

    @app.route(f"{API}/page", methods=["POST"])
    def let_in(self, request: Request) -> bytes:
        """
        Make a login code for one browser of a user of this machine.
        """
        return respond(request, self._page_login.offer(request, self._page_port), 201)

    @app.route("/enter", methods=["GET"])
    def enter(self, request: Request) -> bytes:
        """
        Give a browser its cookie, and redirect it to the page.
        """
        self._page_login.admit(request)
        request.setHeader(b"location", b"/")
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setResponseCode(303)
        return b"the page is at /\n"

    @app.route("/", methods=["GET"])
    def page(self, request: Request) -> bytes:
        """
        Serve the status page.
        """
        return self._files.get("index.html").answer(request)

    @app.route("/static/<name>", methods=["GET"])
    def file(self, request: Request, name: str) -> bytes:
        """
        Serve a file of the status page.
        """
        return self._files.get(name).answer(request)

    # ----------------------------------------------------------------- errors

    @app.handle_errors(Exception)  # type: ignore[arg-type]  # Klein's types take self for a Klein
    def fail(self, request: Request, failure: Failure) -> bytes:
        """
        Respond with an error; a bug is logged.
        """
        return respond_failure(request, failure, self._log)
