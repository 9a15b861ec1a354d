# -*- test-case-name: tests.jobs.test_manager,tests.jobs.test_restarts -*-
"""
The work of jobs: one method for each kind, which needs only the job itself.
So a job that an earlier daemon left unfinished begins again as a new one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IReactorTime

from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IRegistries, IRepository
from xferd.interfaces.store import Image, IStore
from xferd.jobs.archives.importing import Import
from xferd.jobs.copy import Copy
from xferd.jobs.images.document_memory import DocumentMemory
from xferd.jobs.images.documents import DocumentFetcher
from xferd.jobs.images.naming import Naming
from xferd.jobs.images.publish import Publisher
from xferd.jobs.images.stored import stored_image
from xferd.jobs.images.whole_images import WholeImages
from xferd.jobs.job import Job
from xferd.jobs.local.repository import LocalRepository
from xferd.jobs.prefetch import Prefetch
from xferd.jobs.pull import Pull
from xferd.jobs.push import Push
from xferd.jobs.runner import Runner
from xferd.jobs.transfers import Transfers
from xferd.jobs.verify.verify import Verify
from xferd.names import Reference, parse_tag, parse_target
from xferd.transfer.eventual import Eventual


class Work:
    """
    The work of all jobs of one daemon.

    @ivar memory: the memory for documents that all jobs share.
    @ivar checked: the numbers of what verifications have checked, damaged and healed.
    """

    def __init__(
        self,
        store: IStore,
        registries: IRegistries,
        transfers: Transfers,
        runner: Runner,
        naming: Naming,
        *,
        sharing: str,
        clock: IReactorTime,
        wall_clock: WallClock,
        eventual: Eventual,
    ) -> None:
        """
        @param sharing: C{shared} or C{isolated}.
        """
        self._store = store
        self._registries = registries
        self._transfers = transfers
        self._runner = runner
        self._naming = naming
        self._sharing = sharing
        self._clock = clock
        self._wall_clock = wall_clock
        self._eventual = eventual
        self._layers = transfers.layers
        self.checked: Counter[str] = Counter()
        self.memory = DocumentMemory()
        self._whole = WholeImages(store, transfers.layers, clock)
        self._kinds: dict[str, Callable[[Job], Awaitable[dict[str, str]]]] = {
            "pull": self._pull,
            "push": self._push,
            "copy": self._copy,
            "prefetch": self._prefetch,
            "import": self._import,
            "verify": self._verify,
        }

    def do(self, job: Job) -> Awaitable[dict[str, str]]:
        """
        Do the work of a job.

        @return: the job's result.
        """
        return self._kinds[job.kind](job)

    async def _pull(self, job: Job) -> dict[str, str]:
        wanted, named = Reference.parse(job.reference), job.request.named
        repository = self._seen_by(job).repository(wanted.repository)
        pull = Pull(
            job,
            wanted,
            store=self._store,
            source=repository,
            # An engine that names a digest has the manifest already: registries count requests.
            documents=self._documents(repository, stored=not named),
            layers=self._layers,
            naming=self._naming,
            reporter=self._runner.reporter(job),
            whole=self._whole,
        )
        image = await (pull.run(self._wall_clock) if named else pull.run_unnamed(self._wall_clock))
        for blob in {layer.digest for layer in image.layers}:
            self._runner.record_holder(wanted.repository, blob)
        return {"digest": str(image.manifest.digest), "image_id": str(image.config.digest)}

    async def _push(self, job: Job) -> dict[str, str]:
        registries, goal = self._seen_by(job), _target(job)
        push = Push(
            job,
            Reference.parse(job.reference),
            goal,
            tags=[parse_tag(tag) for tag in job.request.tags],
            store=self._store,
            registries=registries,
            documents=self._documents,
            layers=self._layers,
            publisher=self._publisher(job, registries.repository(goal.repository)),
        )
        return await push.run()

    async def _copy(self, job: Job) -> dict[str, str]:
        registries = self._seen_by(job)
        wanted, goal = Reference.parse(job.reference), _target(job)
        repository = registries.repository(wanted.repository)
        copy = Copy(
            job,
            wanted,
            goal,
            referrers=job.request.referrers,
            repository=repository,
            documents=self._documents(repository, keep=False),
            layers=self._layers,
            publisher=self._publisher(job, registries.repository(goal.repository)),
            memory=self.memory,
        )
        return await copy.run()

    async def _prefetch(self, job: Job) -> dict[str, str]:
        wanted = Reference.parse(job.reference)
        # As for the clients of the registry: what is cached is not more than they may read.
        repository = self._registries.anonymous().repository(wanted.repository)
        prefetch = Prefetch(
            job,
            wanted,
            store=self._store,
            repository=repository,
            documents=self._documents(repository),
            layers=self._layers,
            reporter=self._runner.reporter(job),
            memory=self.memory,
        )
        return await prefetch.run(self._wall_clock)

    async def _import(self, job: Job) -> dict[str, str]:
        wanted = job.request.wanted
        importing = Import(
            job,
            None if wanted is None else parse_target(wanted),
            store=self._store,
            layers=self._layers,
            clock=self._clock,
            wall_clock=self._wall_clock,
            reporter=self._runner.reporter(job),
            naming=self._naming,
            publish=self._publish,
        )
        return await importing.run()

    async def _publish(self, image: Image) -> None:
        repository = self._registries.repository(image.reference.repository)
        if isinstance(repository, LocalRepository):
            await repository.add_image(image)

    async def _verify(self, job: Job) -> dict[str, str]:
        image = stored_image(self._store, Reference.parse(job.reference)) if job.reference else None
        verify = Verify(
            job,
            image,
            store=self._store,
            registries=self._seen_by(job),
            documents=self._documents,
            layers=self._layers,
            reporter=self._runner.reporter(job),
            clock=self._clock,
            busy=self._transfers.moving,
            checked=self.checked,
        )
        return await verify.run()

    def _seen_by(self, job: Job) -> IRegistries:
        return self._registries.seen_by(job.credentials) if job.credentials else self._registries

    def _documents(
        self, repository: IRepository, *, keep: bool = True, stored: bool = False
    ) -> DocumentFetcher:
        documents = self._transfers.documents
        return DocumentFetcher(self._store, repository, documents, self._sharing, keep=keep, stored=stored)

    def _publisher(self, job: Job, target: IRepository) -> Publisher:
        return Publisher(
            job,
            target,
            uploads=self._transfers.uploads,
            manifests=self._transfers.documents,
            reporter=self._runner.reporter(job),
            eventual=self._eventual,
        )


def _target(job: Job) -> Reference:
    assert job.target is not None
    return Reference.parse(job.target)
