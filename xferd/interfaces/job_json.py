# -*- test-case-name: tests.web.test_openapi -*-
"""
The JSON objects of the API, as C{GET /api/v1/openapi.json} describes them:
sizes in bytes, times in RFC 3339, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict


class ErrorJSON(TypedDict):
    """
    Why a job failed: a stable code, and one sentence.
    """

    code: str
    message: str


class ArchiveJSON(TypedDict):
    """
    How much of an import's archive has been received, and its size where that
    was announced.
    """

    received: int
    size: int | None


class FindingJSON(TypedDict):
    """
    Damage that a verification found: of a C{blob} with the path of its file in the data
    directory, or of a C{tree} with the path in it.

    C{state} is C{damaged} while it is being replaced, then C{healed}, or
    C{quarantined}, with its path in the data directory as C{kept}, or C{missing}; for
    the last two C{why} says why it could not be replaced.
    """

    kind: str
    digest: str
    path: str
    problem: str
    state: str
    needed_by: list[str]
    kept: str | None
    why: str


class BoundJSON(TypedDict):
    """
    What bounded a job: what took most of its time.

    C{by} is a value of L{Cause<xferd.jobs.timing.Cause>}, C{whom} the host, or empty;
    C{phase} the phase in which that took longest, C{seconds} the time that it took, and
    C{share} that part of the whole; C{text} has all of it in a sentence.
    """

    by: str
    whom: str
    phase: str
    seconds: float
    share: float
    text: str


class TimingJSON(TypedDict):
    """
    Where the time of a job went that has ended: its duration in C{seconds}, those of its
    C{phases}, of which they are the sum, and the bytes that moved while it watched their
    transfers.

    C{bytes_saved} are those that did not have to move; C{rate} is the bytes per second
    while some moved.  C{bound} is L{None} for a job of less than a second.
    """

    seconds: float
    phases: dict[str, float]
    bytes_received: int
    bytes_sent: int
    bytes_saved: int
    rate: float
    bound: BoundJSON | None


class JobJSON(TypedDict):
    """
    A job, without its layers.  C{why} is the reason why it waits as a whole, and
    C{until} the time at which it then ends.  C{timing} is L{None} until it has ended.
    C{retry_of} is the ID of the job of which it is a retry.  C{download_rate} and C{upload_rate}
    are its bandwidth limits that hold now; 0 means no limit.
    """

    id: str
    kind: str
    state: str
    reference: str
    target: str | None
    platform: str | None
    client: str
    created: str
    started: str | None
    finished: str | None
    bytes_done: int
    bytes_total: int
    layers_done: int
    layers_total: int
    archive: ArchiveJSON | None
    error: ErrorJSON | None
    result: dict[str, str] | None
    warnings: list[str]
    findings: list[FindingJSON]
    restart: str | None
    priority: int
    paused: bool
    retry_of: str | None
    download_rate: int
    upload_rate: int
    why: str
    reason: ReasonJSON | None
    until: str | None
    timing: TimingJSON | None


REASONS: Final[Mapping[str, str]] = {
    "queue": "a slot, in a queue",
    "host-limit": "a slot: the host has as many as it may have",
    "thin-line": "a slot: more streams are too slow at the host",
    "paused": "the person who paused it, its host, its direction or everything",
    "pause": "the end of a pause that the host asked for",
    "interval": "the next request that the host's quota permits",
    "back-off": "the next attempt, after one that failed",
    "silence": "bytes, or the answer, of the host; without a host, of the unpacker",
    "token": "a token for the host",
    "helper": "a credential helper",
    "confirmation": "the host's confirmation that it has the blob",
    "mount": "the host, which mounts the blob from another repository",
    "download": "the download of the same blob",
    "unpacking": "the unpacking of the layer",
    "worker": "a free unpacking worker",
    "parent": "the registration of the layer below",
    "turn": "the blobs before it",
    "disk": "free space on the disk",
    "writing": "the disk, which writes what has come",
    "file-descriptors": "file descriptors",
    "predecessor": "the end of cancelled work of the same key",
    "cancellation": "the end of its own cancelled work",
    "work": "something else, in words alone",
    "client": "the client of a job: more of its archive, or its return after a restart of the daemon",
    "memory": "memory for manifests, which other copies use",
    "credentials": "credentials of the client, after a restart of the daemon",
    "restart": "the next start of the daemon",
    "lent": "nothing: it moves in a further slot",
    "slow": "nothing: it moves, and slowly",
    "discarded": "nothing: it moves again, as the bytes that were here were discarded",
    "bandwidth": "nothing: it moves as fast as a limit permits",
}
"""The values of C{what} in a reason, and what each of them waits for."""


class ReasonJSON(TypedDict):
    """
    The reason for C{why} as data: what is waited for (see L{REASONS}), the host, program or
    person that has to act, or an empty string, when the wait began, when it ends, where known, and
    the place in the queue, counted from 1, in a queue.
    """

    what: str
    whom: str
    since: str | None
    until: str | None
    place: int | None


class LayerJSON(TypedDict):
    """
    A layer of an image that is pulled, or a blob that is pushed.
    """

    job: str
    index: int
    digest: str
    diff_id: str | None
    size: int
    state: str
    bytes_done: int
    unpacked: int
    transfer: str | None
    why: str
    reason: ReasonJSON | None


class JobDetailsJSON(JobJSON):
    """
    A job with its layers, the bottom one first, and the ids of the transfers
    that it waited for over the network.
    """

    layers: list[LayerJSON]
    transfers: list[str]


class TransferJSON(TypedDict):
    """
    A transfer: a download, an upload, an unpacking, a registration or a
    document.  C{streams} is the number of requests by which a download comes,
    0 where none is running.
    """

    id: str
    key: str
    kind: str
    digest: str
    state: str
    watchers: int
    bytes_done: int
    bytes_total: int | None
    rate: float
    attempt: int
    streams: int
    source: str
    why: str
    reason: ReasonJSON | None
    until: str | None
    created: str
    jobs: list[str]


class AttemptJSON(TypedDict):
    """
    One attempt of a transfer; C{code} and C{error} are L{None} where it
    succeeded.  C{bytes_done} are there at its end; C{bytes_moved} are those that it has
    moved itself, L{None} in records of older versions.
    """

    transfer: str
    kind: str
    digest: str
    source: str
    attempt: int
    started: str
    finished: str
    bytes_done: int
    bytes_moved: int | None
    code: str | None
    error: str | None


class BlobJSON(TypedDict):
    """
    A layer of an image in the store.
    """

    digest: str
    size: int
    media_type: str


class ImageJSON(TypedDict):
    """
    An image in the store.  C{created} is when the name was set, C{pulled} when the image was pulled
    last, L{None} for an import or if that is not known.
    """

    reference: str
    digest: str
    image_id: str
    resolved: str
    source: str
    size: int
    created: str
    pulled: str | None
    pinned: bool
    used_by: list[str]
    layers: list[BlobJSON]


class SlotsJSON(TypedDict):
    """
    The slots of one kind.
    """

    limit: int
    in_use: int
    queued: int


class HostJSON(TypedDict):
    """
    The bytes that came from a registry and went to it.
    """

    bytes: int
    sent: int


class SandboxJSON(TypedDict):
    """
    The measures that confine the processes of layers: those in force, and why
    each of the others is not.
    """

    in_force: Sequence[str]
    missing: dict[str, str]


class PauseJSON(TypedDict):
    """
    A pause of a host, of a direction or of everything: C{what} is C{all}, C{downloads},
    C{uploads} or C{host}, C{host} the paused host or empty, C{by} the person who paused it, and
    C{keep} whether the pause persists over a restart of the daemon.
    """

    what: str
    host: str
    by: str
    since: str
    keep: bool


class DrainJSON(TypedDict):
    """
    Whether the daemon is drained: it starts no new work.  C{keep} is whether that persists over
    a restart of the daemon.  C{jobs} is the number of jobs that
    have not ended, C{paused} the number of paused jobs among them.
    """

    draining: bool
    by: str
    since: str | None
    keep: bool
    jobs: int
    paused: int


class HostLimitsJSON(TypedDict):
    """
    The limits on one registry: blobs at the same time, and bytes a second at the present time;
    0 is no limit of its own.  Rates that depend on the time of day are also in C{timetables}.
    """

    downloads: int
    uploads: int
    download_rate: int
    upload_rate: int
    timetables: dict[str, dict[str, int]]


class ClientLimitsJSON(TypedDict):
    """
    The weight of one client, and the limits on its jobs, as for hosts.
    """

    weight: int
    download_rate: int
    upload_rate: int
    timetables: dict[str, dict[str, int]]


class LimitsJSON(TypedDict):
    """
    The limits.  C{kept} has the changes that persist over a restart, as they were
    requested; C{binding} names the limits that delay transfers at present, by direction.
    """

    downloads: int
    downloads_per_host: int
    ranges: int
    uploads: int
    workers: int
    download_rate: int
    upload_rate: int
    timetables: dict[str, dict[str, int]]
    hosts: dict[str, HostLimitsJSON]
    clients: dict[str, ClientLimitsJSON]
    kept: dict[str, Any]
    binding: dict[str, list[str]]


class JobsStatusJSON(TypedDict):
    """
    The part of C{GET /api/v1/status} that the jobs know.
    """

    jobs: dict[str, int]
    slots: dict[str, SlotsJSON]
    hosts: dict[str, HostJSON]
    sandbox: SandboxJSON | None
    pauses: Sequence[PauseJSON]
    drain: DrainJSON
    binding: dict[str, list[str]]
    quota: int
    bytes_fetched: int
    bytes_sent: int
    bytes_delivered: int


class HistoryJSON(TypedDict):
    """
    The bytes of the last hour, in intervals of C{interval} seconds, the newest one last, which
    ended at C{until}.  Bytes that several jobs share are saved for each job but the first; bytes that
    the store had are counted as saved when the job, or the response of the daemon's registry, ends.
    C{clients} has the bytes of the last minute; bytes for several clients count for each of them.
    """

    interval: float
    until: str
    received: Sequence[int]
    sent: Sequence[int]
    saved: Sequence[int]
    clients: dict[str, int]


class UpstreamJSON(TypedDict):
    """
    A registry that xferd mirrors.  The alias is a path component that stands for
    its host, or empty.  The counters are those since the start of the daemon: hits,
    misses and stale answers, and bytes of blobs that clients got, that the registry
    sent for them, and that it did not have to send.
    """

    host: str
    alias: str
    hits: int
    misses: int
    stale: int
    sent: int
    fetched: int
    saved: int


class RegistryJSON(TypedDict):
    """
    The registry at C{/v2/}: its endpoint strings, the URLs at which clients reach
    it, the best one first, and the names that it serves.
    """

    listen: list[str]
    urls: list[str]
    default: str
    any_public: bool
    upstreams: list[UpstreamJSON]
    local: list[str]


class RepositoryJSON(TypedDict):
    """
    A repository of the registry: its name in the registry, by which policy of its
    upstream its content came (empty for one of xferd's own), the number of its tags
    and manifests, its bytes, when it was last used, and how long its content is
    kept, each reason once.
    """

    name: str
    own: bool
    policy: str
    tags: int
    manifests: int
    size: int
    used: str | None
    kept: list[str]


NO_REGISTRY: Final[RegistryJSON] = {
    "listen": [],
    "urls": [],
    "default": "",
    "any_public": False,
    "upstreams": [],
    "local": [],
}
"""The registry of a daemon that serves none."""
