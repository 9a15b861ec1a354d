"""
What has to hold in a simulation of the daemon: after each step, and in the end.

The module is long because all checks share what they saw after the last step.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from tests.simulation.client import READER, Reading, Request
from tests.simulation.daemon import PIECE, SMALL, Daemon, images
from tests.simulation.paused import PausedTransfers
from tests.simulation.registry_client import PEER, Pushing
from tests.simulation.schedules import TARGET, Schedule
from xferd.interfaces.store import Image
from xferd.jobs.blobs.possession import PART, PARTS
from xferd.jobs.restarts import MOST_CRASHES
from xferd.names import Digest, Reference
from xferd.transfer.slots import Slots
from xferd.transfer.transfer import Transfer

OVERTAKEN: Final = 3
"""How often the requests of another client may be granted, at one host, before that of a
client that waits all the time."""

PROOF: Final = PARTS * PART
"""Bytes of a blob that prove that a registry has it: see L{xferd.jobs.blobs.possession}."""

Place = tuple[str, str, int]
"""The client, the host and the priority of requests for slots."""


class Invariants:
    """
    Checks of one simulation.

    @ivar removed: the images that were removed, or may have been.
    @ivar filled: whether the disk was full, or the quota was reached.
    @ivar broken: whether the disk refused calls.
    @ivar workers_lost: whether unpacking processes were killed.
    @ivar damaged: whether trees were damaged.  Those that cannot be replaced are removed with their
        layers, which leaves names.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        readings: Sequence[Reading],
        pushings: Sequence[Pushing],
        schedule: Schedule,
    ) -> None:
        self._requests = requests
        self._pushings = pushings
        self._readings = readings
        self._schedule = schedule
        self.removed: set[str] = set()
        self.filled = False
        self.broken = False
        self.workers_lost = False
        self.damaged = False
        self._prefetched: set[Request] = set()
        self._spoiled = False

    def begin(self, daemon: Daemon) -> None:
        """
        Check another daemon from now on.
        """
        self._daemon = daemon
        self._most: dict[Slots, int] = {}
        self._paused = PausedTransfers()
        self._held: dict[Transfer, object] = {}
        self._waiting: set[Place] = set()
        self._queued: dict[tuple[str, str], set[int]] = {}
        self._rounds: dict[tuple[str, str], tuple[float, int]] = {}
        self._overtaken: Counter[tuple[Place, str]] = Counter()
        self._known: set[Digest] = set()
        self._present: set[Digest] = set()
        self._unpacked: set[Digest] = set()
        self._running: set[object] = set()
        self._gets: Counter[Digest] = Counter()

    def limits_changed(self) -> None:
        """
        The order of those that wait may change.
        """
        self._overtaken.clear()
        self._waiting.clear()

    def check(self) -> list[str]:
        """
        Check what has to hold at any time.

        @return: what is wrong.
        """
        return [
            *self._check_slots(),
            *self._paused.check(self._daemon),
            *self._check_watchers(),
            *self._check_gets(),
            *self._check_clients(),
            *self._check_readings(),
            *self._check_pushings(),
            *self._check_visible(),
            *self._check_fairness(),
        ]

    def check_end(self) -> list[str]:
        """
        Check what has to hold when all jobs have ended.
        """
        daemon = self._daemon
        wrong = [f"{request} does not end" for request in self._requests if not request.over]
        wrong += [f"{reading} waits" for reading in self._readings if not reading.over]
        wrong += [f"{pushing} waits" for pushing in self._pushings if not pushing.over]
        wrong += [f"{digest} is being fetched in the end" for digest in daemon.filling]
        wrong += [f"a fill is recorded in the end: {fill}" for fill in daemon.store.journal.recorded_fills]
        for kind, slots in daemon.jobs.status()["slots"].items():
            if slots["in_use"] or slots["queued"]:
                wrong.append(f"slots for {kind} in the end: {slots}")
        wrong += [f"a {t.kind} is left, {t.state}" for t in daemon.jobs._transfers]
        if daemon.jobs.unfinished:
            wrong.append(f"{daemon.jobs.unfinished} jobs are left")
        if daemon.store.blobs.opened:
            wrong.append(f"{len(daemon.store.blobs.opened)} partial files are open in the end")
        if daemon.store.trees.staged:
            wrong.append(f"{len(daemon.store.trees.staged)} staged trees are left")
        for registry in daemon.hosts:
            if registry.open_bodies() or registry.uploads.running():
                wrong.append(f"connections to {registry.host} are left")
        if daemon.store.gc._leases.open:
            wrong.append(f"{len(daemon.store.gc._leases.open)} leases are left")
        if daemon.jobs._layers.reservations.total:
            wrong.append(f"{daemon.jobs._layers.reservations.total} bytes are reserved in the end")
        for name, bandwidth in daemon.jobs._transfers.limits._bandwidths.items():
            if bandwidth.waiting:
                wrong.append(f"{bandwidth.waiting} transfers wait for the {name} in the end")
        if daemon.jobs._layers._relay._fetches:
            wrong.append("relayed blobs are left")
        if daemon.jobs._naming._open:
            wrong.append("resolutions of names are left")
        if daemon.jobs._broker._used or daemon.jobs._broker._of_one:
            wrong.append("the broker keeps jobs")
        if daemon.kept_files():
            wrong.append(f"credentials are left: {daemon.kept_files()}")
        if any(unpacking.state != "ended" for unpacking in daemon.unpacker.unpackings):
            wrong.append("an unpacking is left")
        return wrong

    def check_stopped(self) -> list[str]:
        """
        Check what has to hold when the daemon has stopped.
        """
        calls = self._daemon.clock.getDelayedCalls()
        leases = self._daemon.store.gc._leases.open
        return [
            *(f"a stopped daemon leaves {call}" for call in calls),
            *(["a stopped daemon leaves a lease"] if leases else []),
        ]

    # --------------------------------------------------------------- slots

    def _all_slots(self) -> Iterator[tuple[str, Slots]]:
        transfers = self._daemon.jobs._transfers
        yield from transfers._slots.items()
        for manager in transfers._managers:
            if manager.slots not in transfers._slots.values():
                yield manager._context.kind, manager.slots

    def _check_slots(self) -> Iterator[str]:
        """
        Each slot in use is one transfer's or one relayed blob's, and no free slot is waited for.
        """
        relayed = len(self._daemon.jobs._layers._relay._fetches)
        held: Counter[object] = Counter()
        for transfer in self._daemon.jobs._transfers:
            request = transfer._request
            if request is not None and request.held:
                held[request._issuer] += 1
        for kind, slots in self._all_slots():
            known = held[slots] + len(slots._spares) + len(slots._anonymous)
            # The request of a relayed blob has a slot, or waits for it.
            more = relayed if kind == "small_download" else 0
            if not known <= slots.in_use <= known + more:
                yield f"{slots.in_use} slots for {kind} are in use, and {known} are held"
            if slots.hosts.held.total() != slots.in_use:
                yield f"{slots.in_use} slots for {kind} are in use, by host {dict(slots.hosts.held)}"
            lent = slots._lent.holder is not None
            most = max(slots.limit, self._most.get(slots, 0)) + lent
            if slots.in_use > most:
                yield f"{slots.in_use} slots for {kind} are in use, of {slots.limit}"
            self._most[slots] = max(slots.limit, slots.in_use)
            if slots.tokens > 0 and slots._queue.first(slots.hosts.rank) is not None:
                yield f"a slot for {kind} is free, and a request waits"

    def _check_watchers(self) -> Iterator[str]:
        """
        Each transfer is watched for a job that has not ended.  Registrations and uploads
        watch others in the turn of the job that began them, which may have ended before
        others.  Clients of the registry read in turns of their own.
        """
        numbers = self._daemon.jobs._runner._by_number
        transfers = [transfer for transfer in self._daemon.jobs._transfers if not transfer.over]
        reading = any(not each.over for each in self._readings)
        pulling = any(not each.over for each in self._pushings)
        uploads = {transfer.digest for transfer in transfers if transfer.kind == "upload"}
        filling = self._daemon.filling
        for transfer in transfers:
            if transfer.kind == "download" and (transfer.digest in uploads or transfer.digest in filling):
                continue
            if not transfer._watchers:
                yield f"a {transfer.kind} has no watcher, {transfer.state}"
            elif not any(
                watcher.turn.job in numbers
                or (reading and watcher.turn.client.startswith(READER))
                or (pulling and watcher.turn.client == PEER.host)
                for watcher in transfer._watchers
            ):
                yield f"a {transfer.kind} is watched for jobs that have ended alone, {transfer.state}"

    # ---------------------------------------------------------------- wire

    def _check_gets(self) -> Iterator[str]:
        """
        Each blob is requested once for each try, and no byte is moved twice.
        """
        settings = self._schedule.settings
        if settings.sharing == "isolated":
            # Each client's registry has to prove the client's access.
            return
        daemon, gets = self._daemon, Counter[Digest]()
        bodies: Counter[Digest] = Counter()
        proofs: Counter[Digest] = Counter(daemon.mirrored)
        moved: Counter[Digest] = Counter()
        size: dict[Digest, int] = {}
        for registry in daemon.hosts:
            for request in registry.requests:
                if request.kind == "blob":
                    gets[Digest.parse(request.wanted)] += 1
            for body in registry.bodies:
                bodies[body.digest] += not body.ended
                # A proof that broke off is made again, from its beginning.
                proofs[body.digest] += body.size <= PROOF and body.ended and body.sent < body.size
                moved[body.digest] += body.sent
                size[body.digest] = body.total or 0
        for registry in daemon.bases:
            sent: Counter[tuple[str, Digest]] = Counter()
            for upload in registry.uploads.attempts:
                if upload.digest in daemon.spoiled:
                    continue
                sent[upload.session.location, upload.digest] += upload.sent
            for (session, digest), number in sent.items():
                if number > _size(digest):
                    yield f"{number} bytes of {digest} were pushed to {session}, of {_size(digest)}"
        for digest, number in bodies.items():
            if number > settings.streams + daemon.mirrored[digest]:
                yield f"{number} requests for {digest} run at once"
            twice = (settings.streams - 1) * (gets[digest] - 1) * PIECE
            # Each part between gaps is proved.
            twice += proofs[digest] * settings.streams * PROOF
            if size[digest] < SMALL:
                twice += size[digest] * self._relays(digest)
            if moved[digest] > size[digest] + twice and not daemon.loses and digest not in daemon.spoiled:
                yield f"{moved[digest]} bytes of {digest} were fetched, of {size[digest]}"
        for digest in gets:
            # A download that runs when the blob is pushed may begin one more stream.
            excused = daemon.loses or digest in daemon.mirrored or digest in self._running
            here = digest in self._present or (digest in self._unpacked and not self._blob_users(digest))
            if gets[digest] > self._gets[digest] and here and not excused:
                yield f"{digest} was requested, and is in the store"
        self._gets = gets
        self._unpacked = {
            d for d, diff in daemon.store.trees.blobs.items() if diff in daemon.store.trees.unpacked
        }
        self._present = set(daemon.store.blobs.contents)
        self._running = {
            transfer.digest
            for transfer in daemon.jobs._transfers
            if transfer.kind == "download" and transfer.state == "running"
        }

    def _relays(self, digest: Digest) -> int:
        """
        How often a small blob may be fetched again: it passes through the memory of a copy,
        and is not kept.
        """
        kinds = self._kinds(digest)
        copies = kinds.count("copy")
        return copies if len(kinds) > copies or self._daemon.mirrored[digest] else max(0, copies - 1)

    def _blob_users(self, digest: Digest) -> bool:
        """
        Whether a job may need a blob whose tree is here: only a pull does not.
        """
        return any(kind != "pull" for kind in self._kinds(digest))

    def _kinds(self, digest: Digest) -> list[str]:
        """
        The kinds of the requests for images with a blob.
        """
        moved = self._schedule.has("move_tag")
        names = {n for n, image in images().items() if moved or digest in {b.digest for b in image.blobs}}
        return [request.kind for request in self._requests if request.image in names]

    # ------------------------------------------------------------- clients

    def _check_clients(self) -> Iterator[str]:
        """
        Each client is told the end of its job once, and that is right.
        """
        self._spoiled |= bool(self._daemon.spoiled)
        for request in self._requests:
            if len(request.told) > 1:
                yield f"{request} was told {request.told}"
            if request.lost:
                yield f"{request} was answered, and the next daemon does not know the job"
            if not request.told:
                continue
            state = request.told[0]
            if 0 < request.cancelled_by < request.told_by and state != "cancelled":
                yield f"{request} was cancelled, and continued by the next daemon: {state}"
            if request.job and self._daemon.jobs._runner.get(request.job) is not None:
                yield f"{request} is {state}, and runs again"
            if state == "cancelled" and not request.cancelled:
                yield f"{request} is cancelled, and its client has not cancelled it"
            if state == "failed" and not self._may_fail(request):
                yield f"{request} has failed: {request.error}: {request.message}"
            if state == "done" and request.kind in ("pull", "import") and self._is_missing(request.image):
                yield f"{request} is done, and the image is not there"
            if state == "done" and request.kind == "prefetch":
                yield from self._check_prefetched(request)
            if state == "done" and request.kind in ("push", "copy") and not self._is_at_target(request):
                yield f"{request} is done, and the image is not at {request.target}"

    def _check_prefetched(self, request: Request) -> Iterator[str]:
        """
        A prefetch has brought all blobs, when its client is told.
        """
        daemon = self._daemon
        if request in self._prefetched or daemon.loses or self._schedule.has("move_tag"):
            return
        self._prefetched.add(request)
        image = images()[request.image]
        if request.told_by == daemon.number:
            missing = [b.digest for b in image.blobs if b.digest not in daemon.store.blobs.contents]
            if missing:
                yield f"{request} is done, and {missing[0]} is not in the store"

    def _check_readings(self) -> Iterator[str]:
        """
        Who reads gets nothing wrong.
        """
        yield from (wrong for reading in self._readings if (wrong := reading.wrong()))

    def _check_pushings(self) -> Iterator[str]:
        """
        What the daemon's own registry has named is whole, and what it has accepted is there.
        """
        catalog, contents = self._daemon.store.catalog, self._daemon.store.blobs.contents
        for pushing in self._pushings:
            if pushing.problem:
                yield pushing.problem
            tag = catalog.tag(pushing.repository, "1")
            if pushing.pushed and tag is None:
                yield f"{pushing} is done, and the registry has no such tag"
            for manifest in catalog.manifests(pushing.repository):
                names = (manifest.descriptor, *manifest.blobs)
                missing = [blob.digest for blob in names if blob.digest not in contents]
                if missing:
                    yield f"{pushing.repository} names {missing[0]}, which is not in the store"

    def _may_fail(self, request: Request) -> bool:
        match request.error:
            case "INTERRUPTED":
                number = self._daemon.number
                waits = not request.always or (request.kind == "import" and not request.whole)
                return number > MOST_CRASHES or request.kind == "fill" or (number > 1 and waits)
            case "NOT_FOUND":
                return request.kind == "push"
            case "STORE_DAMAGED":
                # The reasons why a tree could not be replaced are those of the disk and the registries.
                return request.kind == "verify" and self.damaged
            case "DIGEST_MISMATCH":
                return self._spoiled
            case "DISK_FULL":
                return self.filled
            case "STORE_FAILED":
                # A damaged layer below is removed if its unpacking fails, too.
                return self.broken or (self.damaged and self.workers_lost)
            case "WORKER_LOST":
                return self.workers_lost
            case "CONNECTION_FAILED" | "REGISTRY_UNAVAILABLE" | "TOOMANYREQUESTS" | "TIMED_OUT":
                return self._schedule.settings.attempts < 20
        return False

    def _is_missing(self, name: str) -> bool:
        return name not in self.removed and self._image(name) is None

    def _image(self, name: str) -> Image | None:
        return self._daemon.store.images._named.get(Reference.parse(name))

    def _is_at_target(self, request: Request) -> bool:
        registry = self._daemon.registries.registry(TARGET)
        path = Reference.parse(request.target).repository.path
        return registry.document_of(path, "latest") is not None

    # ------------------------------------------------------------- content

    def _check_visible(self) -> Iterator[str]:
        """
        All that has a name is whole.
        """
        store = self._daemon.store
        for digest, data in store.blobs.contents.items():
            if digest not in self._known:
                self._known.add(digest)
                if Digest.of(data, digest.algorithm) != digest:
                    yield f"wrong bytes are visible as {digest}"
        for image in store.images._named.values():
            missing = [
                d for d in (image.manifest.digest, image.config.digest) if d not in store.blobs.contents
            ]
            chain = image.chain_id
            while chain is not None and not missing:
                layer = store.layers.registered.get(chain)
                if layer is None or layer.diff_id not in store.trees.unpacked:
                    missing.append(chain)
                    break
                chain = layer.parent
            if missing and not self.damaged:
                yield f"{image.reference} is visible without {missing[0]}"
        target = self._daemon.registries.registry(TARGET)
        for (path, wanted), document in target._documents.items():
            pushed = next(i for i in images().values() if i.digest == document.digest)
            for blob in pushed.blobs:
                if not target.has_blob(path, blob.digest):
                    yield f"{path}:{wanted} is visible at {TARGET} without {blob.digest}"

    # ------------------------------------------------------------ fairness

    def _check_fairness(self) -> Iterator[str]:
        """
        While a client waits, no other gets many slots for the same host.
        """
        granted: list[tuple[str, set[str], int]] = []
        waiting: set[Place] = set()
        held: dict[Transfer, object] = {}
        queued: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        rounds: dict[tuple[str, str], tuple[float, int]] = {}
        for transfer in self._daemon.jobs._transfers:
            request = transfer._request
            if request is None or transfer.kind not in ("download", "upload") or transfer.small:
                continue
            host = f"{transfer.kind} {request.host}"
            if request.held:
                held[transfer] = request.number
                if self._held.get(transfer) != request.number:
                    clients = {turn.client for turn in request.turns}
                    granted.append((host, clients, max(turn.priority for turn in request.turns)))
                continue
            for turn in request.turns:
                queued[turn.client, transfer.kind].add(request.number)
                if request.waiting:
                    rotation = transfer._slots._queue._queue._clients
                    rounds[turn.client, transfer.kind] = rotation[turn.client].round
            if request.waiting and not self._is_shut(transfer):
                waiting |= {(turn.client, host, turn.priority) for turn in request.turns}
        self._held = held
        for place in self._waiting & waiting:
            client, host, priority = place
            key = client, host.partition(" ")[0]
            if self._queued.get(key, set()) - queued[key] or self._rounds.get(key) != rounds.get(key):
                # It had a turn, there or at another host, perhaps for a transfer that was
                # not yet there at the last check; or it wants less.
                self._forget(place)
                continue
            others = [clients for h, clients, most in granted if h == host and most <= priority]
            for other in set().union(*others):
                self._overtaken[place, other] += sum(other in clients for clients in others)
                most = OVERTAKEN * self._daemon.jobs._transfers.limits._weights.get(other, 1)
                if self._overtaken[place, other] > most:
                    yield f"{client} waits for a slot for a {host}, and {other} got {most + 1}"
        for place in self._waiting - waiting:
            self._forget(place)
        self._waiting, self._queued, self._rounds = waiting, queued, rounds

    def _forget(self, place: Place) -> None:
        for key in [key for key in self._overtaken if key[0] == place]:
            del self._overtaken[key]

    def _is_shut(self, transfer: Transfer) -> bool:
        request = transfer._request
        return request is None or bool(transfer._slots.hosts.closed(request.host, request.account))


_sizes: defaultdict[Digest, int] = defaultdict(int)


def _size(digest: Digest) -> int:
    """
    The size of a blob.
    """
    if not _sizes:
        for image in images().values():
            _sizes.update({blob.digest: blob.descriptor.size for blob in image.blobs})
    return _sizes[digest]
