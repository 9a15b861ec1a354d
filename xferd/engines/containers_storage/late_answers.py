# -*- test-case-name: tests.engines.containers_storage.test_late_answers -*-
"""
Unchanged engines pull from the registry, and find every layer in the view: the manifest
is sent only once the layers are there.
"""

from __future__ import annotations

import pwd
from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.errors import ConfigError, StoreError, TimedOut, XferdError
from xferd.image_config import parse_config
from xferd.interfaces.job_json import JobJSON
from xferd.interfaces.jobs import IJobs
from xferd.interfaces.store import IStore
from xferd.jobs.mirror.limited import limited
from xferd.names import Digest, Repository, chain_id
from xferd.oci import Document, Manifest, parse_document

AGENTS: Final = ("libpod/", "buildah/", "cri-o/", "containers/")
"""
The beginnings of the C{User-Agent} of podman, Buildah, CRI-O and other programs with the
same library, in lower case.  skopeo is not among them: it copies to anywhere, and mostly
needs the blobs.
"""


class View(Protocol):
    """
    The part of L{xferd.engines.containers_storage.view.StorageView} that this uses.
    """

    def hold(self, chain_id: Digest, reason: str) -> None:
        """
        Keep a layer that an engine is about to use.
        """

    def shows(self, chain_id: Digest) -> bool:
        """
        Whether a layer is in the view.
        """

    def refresh(self) -> Deferred[None]:
        """
        Update the view.
        """


class LateAnswers:
    """
    The manifests that wait for the view.

    @ivar answers: counts layers: C{stored} were in the store, C{pulled} were fetched,
        C{declined} the engine fetches itself.
    """

    _log = Logger()

    def __init__(
        self,
        view: View,
        users: Sequence[str],
        patience: float,
        *,
        store: IStore,
        jobs: IJobs,
        clock: IReactorTime,
    ) -> None:
        """
        @param users: the names or numbers of the users whose engines wait.
        @param patience: seconds for which a manifest waits.
        @raise ConfigError: this machine has no such user.
        """
        self._view = view
        self._users = frozenset(_number(user) for user in users)
        self._patience = patience
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._pulls: dict[tuple[Repository, Digest], list[Deferred[None]]] = {}
        self.answers: Counter[str] = Counter()

    def waits(self, uid: int, agent: str) -> bool:
        """
        See L{ILateAnswers.waits<xferd.interfaces.engines.ILateAnswers.waits>}.
        """
        return uid in self._users and agent.lower().startswith(AGENTS)

    async def ready(self, repository: Repository, document: Document, client: str) -> None:
        """
        See L{ILateAnswers.ready<xferd.interfaces.engines.ILateAnswers.ready>}.
        """
        name = f"{repository}@{document.digest}"

        def late() -> TimedOut:
            return TimedOut(f"its layers were not here within {self._patience:g} s", phase="layers", host="")

        result, layers = "declined", 0
        try:
            manifest = parse_document(document)
            if not isinstance(manifest, Manifest) or not manifest.layers:
                return
            layers = len(manifest.layers)
            manifest.check_runnable()
            work = Deferred.fromCoroutine(self._prepare(repository, document.digest, manifest, client))
            result = await limited(work, self._patience, late, self._clock)
        except CancelledError:
            raise
        except XferdError as e:
            self._log.info("{name} is sent before its layers are in the view: {why}", name=name, why=str(e))
        except Exception:
            self._log.failure("while {client} waits for the layers of {name}", client=client, name=name)
        self.answers[result] += layers

    async def _prepare(self, repository: Repository, digest: Digest, manifest: Manifest, client: str) -> str:
        """
        Have the layers of an image in the view.

        @return: C{stored} or C{pulled}.
        @raise XferdError: they cannot be had.
        """
        result, release = "stored", self._store.gc.lease()
        try:
            top = await self._chain(manifest)
            if top is None:
                result = "pulled"
                await self._pull(repository, digest, client)
                top = await self._chain(manifest)
            if top is None:
                raise StoreError("its layers cannot be in the view")
            self._view.hold(top, f"{client}, which pulls {repository}@{digest}")
            if not self._view.shows(top):
                await self._view.refresh()
        finally:
            release()
        return result

    async def _chain(self, manifest: Manifest) -> Digest | None:
        """
        The top layer of an image, or None unless all its layers are in the store, and
        unpacked by the present rules.
        """
        if not self._store.blobs.has(manifest.config.digest):
            return None
        data = await self._store.blobs.read(manifest.config.digest)
        top = chain_id(parse_config(data, manifest).diff_ids)
        stack = () if top is None else self._store.layers.stack(top)
        usable = all(layer.diff_id.algorithm == "sha256" and not layer.outdated for layer in stack)
        return top if stack and usable else None

    async def _pull(self, repository: Repository, digest: Digest, client: str) -> None:
        """
        Pull the layers of an image.  Engines that want the same share the job.

        @raise XferdError: the job cannot begin, or fails.
        """
        key = repository, digest
        if key not in self._pulls:
            self._jobs.pull_layers(f"{repository}@{digest}", client, lambda job: self._ended(key, job))
            self._pulls[key] = []
        waiter: Deferred[None] = Deferred(self._pulls[key].remove)
        self._pulls[key].append(waiter)
        await waiter

    def _ended(self, key: tuple[Repository, Digest], job: JobJSON) -> None:
        error = job["error"]
        for waiter in self._pulls.pop(key, []):
            if error is None:
                waiter.callback(None)
            else:
                waiter.errback(StoreError(error["message"]))


def _number(user: str) -> int:
    """
    @raise ConfigError: this machine has no such user.
    """
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as e:
        raise ConfigError(
            f"'wait_for' in [engines.containers-storage] names {user!r}, and this machine has no such user"
        ) from e
