# -*- test-case-name: tests.engines.test_engines -*-
"""
The container engines that the daemon serves with the trees of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NotRequired, TypedDict

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.credentials import Credentials
from xferd.interfaces.jobs import IJobs
from xferd.interfaces.reactor import IReactor, WallClock
from xferd.interfaces.store import IStore
from xferd.names import Reference, Repository
from xferd.oci import Document

CONTAINERD: Final = "containerd"
"""The kind of an engine that uses the snapshotter."""

CONTAINERS_STORAGE: Final = "containers-storage"
"""The kind of the engines that read the containers-storage view."""

SERVING: Final = "serving"
FAILED: Final = "failed"
STOPPED: Final = "stopped"


class EngineImageJSON(TypedDict):
    """
    An image that an engine uses.

    C{image} is its reference, or the empty string where the engine has not named one;
    C{layers} are those of the store that it uses, and C{containers} what stands on
    them: containers, running or stopped, and images that were built on top.  C{by} is
    the root directory of the engine that uses it, or the empty string.
    """

    image: str
    layers: int
    containers: int
    by: str


class LeftOutJSON(TypedDict):
    """
    An image of the store that engines do not see, and the reason, a sentence.
    """

    image: str
    reason: str


class EngineJSON(TypedDict):
    """
    An engine that the daemon serves.

    C{name} is that of the settings; C{kind} is C{containerd} or C{containers-storage};
    C{state} is C{serving}, C{failed} or C{stopped}; C{problem} is a sentence, or
    L{None}.  C{path} is the unix socket or the directory that the engine is configured
    with.  C{layers} and C{size} are the layers that it uses and the bytes of their
    trees; C{snapshots} are all that it made, layers included.  C{cri} is whether a
    containerd's socket has CRI's C{ImageService}, too.  C{left_out} are the images
    that the view does not show.
    """

    name: str
    kind: str
    state: str
    problem: str | None
    path: str
    snapshots: int
    layers: int
    size: int
    images: Sequence[EngineImageJSON]
    left_out: NotRequired[Sequence[LeftOutJSON]]
    cri: NotRequired[bool]


@frozen
class EngineFigures:
    """
    Counters of an engine, since the start of the process that serves it where they count
    events.

    @ivar snapshots: the snapshots that the engine has; 0 for a view.
    @ivar layers: the layers of the store that it uses.
    @ivar prepares: the layers that the engine asked for, by result: C{stored}, the
        layer was in the store; C{pulled}, it was fetched; C{declined}, the engine fetches
        it itself.
    """

    snapshots: int = 0
    layers: int = 0
    prepares: Mapping[str, int] = field(factory=dict)


@frozen
class EngineContext:
    """
    The parts of the daemon that engines use.

    @ivar jobs: begins pulls.
    @ivar store: has the trees.
    @ivar data_dir: the absolute path of the data directory.
    """

    reactor: IReactor
    wall_clock: WallClock
    jobs: IJobs
    store: IStore
    data_dir: str


class IEngines(Interface):
    """
    All engines that the daemon serves.
    """

    def describe() -> Deferred[list[EngineJSON]]:
        """
        The state of each engine, in the order of the settings.

        @return: fires without an error.  Cancelling it ends the wait.
        """

    def fill(
        name: str,
        reference: str,
        namespace: str | None,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> Deferred[FilledJSON]:
        """
        Write the blobs of an image that a containerd lacks into it, so that it can export
        and push the image.  Blobs that the store lacks are fetched.

        @param name: the engine's.
        @param namespace: the only namespace to look in; all of them by default.
        @param client: the client's name, for fairness.
        @param credentials: the client's own, by registry host.
        @param progress: called with the bytes that the engine has by now of those that
            were missing, and with the bytes of all of these.
        @return: cancelling ends it; a blob that was begun continues the next time.
        @raise BadReference: C{reference} is not a reference.
        @raise NotFound: there is no such engine, or it has no such image.
        @raise EngineFailed: the engine does not answer, or refuses.
        @raise XferdError: a blob cannot be fetched.
        """

    def forget(name: str) -> Deferred[int]:
        """
        Remove the snapshots of a containerd that the settings do not name any more, with the
        files that its containers wrote, so that the layers that they stand on are free.

        @return: fires with their number.
        @raise NotFound: no such engine has snapshots.
        @raise InUse: the settings name it, or its containers run.
        @raise StoreError: the disk refuses.
        """

    def figures() -> Mapping[tuple[str, str], EngineFigures]:
        """
        The counters of each engine that serves, by its kind and its name.
        """


class IEngine(Interface):
    """
    One engine that is served, or one view that several engines read.

    Life cycle: made, without an effect; C{start}ed once the store is open and jobs
    run; C{stop}ped before the jobs are.  It is never started again.
    """

    name: str = Attribute("Its name in the settings, unique among those of its kind.")
    kind: str = Attribute("L{CONTAINERD} or L{CONTAINERS_STORAGE}.")
    path: str = Attribute("The absolute path of its unix socket or of its directory.")
    problem: str | None = Attribute("Why it is not served at present, after its start; a sentence.")

    def start() -> Deferred[None]:
        """
        Begin to serve.

        @return: fires when the engine can connect or read.  Cancelling it ends the
            start; L{stop} is called in any case.
        @raise XferdError: it cannot be served; the message is a sentence for the operator.
        """

    def stop() -> Deferred[None]:
        """
        Stop to serve: refuse new requests, and end those that wait by the engine's own
        way.  Containers continue.  Idempotent, also without C{start}.
        """

    def describe() -> Deferred[EngineJSON]:
        """
        The state of the engine and what it uses.

        @return: fires without an error.  Cancelling it ends the wait.
        """

    def figures() -> EngineFigures:
        """
        The counters, at once.
        """


class ILateAnswers(Interface):
    """
    Has the registry answer some engines of this machine late: with a manifest only once
    its layers can be used without a download.
    """

    def waits(uid: int, agent: str) -> bool:
        """
        Whether the manifests of a client wait.

        @param uid: the user of the client's process on this machine.
        @param agent: the client's C{User-Agent}.
        """

    def ready(repository: Repository, document: Document, client: str) -> Deferred[None]:
        """
        Wait until the layers of an image can be used, and have them pulled if they are
        not here.  An index, or an image that cannot be unpacked, is ready at once.

        @param repository: the repository that has the image.
        @param document: its manifest.
        @param client: the client's name, for the page.
        @return: fires without an error: after any trouble, and after a while at most.
            Cancelling ends the wait; a pull that has begun continues.
        """


class IFillable(Interface):
    """
    An engine with blobs of its own, which can be given those that it lacks.
    """

    def fill(
        reference: Reference,
        namespace: str | None,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> Deferred[FilledJSON]:
        """
        As L{IEngines.fill}.
        """


class FilledJSON(TypedDict):
    """
    What an engine was given of an image.

    C{image} is its full name; C{namespaces} are those of the engine that have it;
    C{blobs} is the number of blobs that it needs in all of these, C{written} the number of
    those that were missing, and C{bytes} the bytes that were sent.
    """

    image: str
    namespaces: list[str]
    blobs: int
    written: int
    bytes: int


class ICredentialsOf(Interface):
    """
    Credentials that the clients of an engine have sent for images.
    """

    def credentials_of(image: str) -> Mapping[str, Credentials]:
        """
        The credentials for an image that is being pulled, by registry host; none if no
        client has sent any.

        @param image: the reference, as in the engine's label C{cri.image-ref}.
        """
