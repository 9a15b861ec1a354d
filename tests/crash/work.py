"""
The kinds of work during which daemons are killed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import quote

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.web.client import ResponseFailed

from tests.crash.site import Site, Wrong
from tests.integration.peers import DockerRegistry
from tests.integration.test_job_restarts import fill
from xferd.testing.images import SampleImage, image_of, sample_layer, write_layout
from xferd.testing.layers import LayerBuilder, SampleLayer
from xferd.testing.registry import Registry

MIB: Final = 1024 * 1024


@define
class Work:
    """
    What one round has begun.

    @ivar name: its kind.
    @ivar source: the registry to pull from.
    @ivar target: the registry to push to.
    @ivar jobs: the IDs of its jobs.
    @ivar images: the references that have to be there in the end.
    @ivar pushed: the images that the target has to have in the end, by repository.
    @ivar clients: xferctl commands: their output, errors and exit status.
    @ivar others: docker-registries, to be stopped in the end.
    @ivar links: files that have to have these digests in the end.
    @ivar removed: references that are removed, by requests that end with the daemon.
    @ivar documents: the digests of the configs of the source's images.
    """

    name: str
    rng: Random
    source: Registry
    target: Registry
    jobs: list[str] = field(factory=list)
    images: set[str] = field(factory=set)
    pushed: dict[str, SampleImage] = field(factory=dict)
    clients: list[Deferred[tuple[str, str, int]]] = field(factory=list)
    others: list[DockerRegistry] = field(factory=list)
    links: dict[Path, str] = field(factory=dict)
    removed: set[str] = field(factory=set)
    documents: set[str] = field(factory=set)

    @property
    def seed(self) -> str:
        """
        A seed for a layer that is nowhere yet.
        """
        return str(self.rng.getrandbits(32))

    def add(self, name: str, image: SampleImage) -> str:
        """
        Add an image to the source.

        @return: its reference.
        """
        self.source.add(image, name, "1")
        self.documents.add(str(image.config.digest))
        reference = f"{self.source.host}/{name}:1"
        self.images.add(reference)
        return reference


async def pulls(site: Site, work: Work) -> None:
    """
    Two images of three layers, one of which both have.
    """
    work.source.rate = work.rng.choice((0.7 * MIB, 1.2 * MIB, 2.5 * MIB))
    common = sample_layer(MIB, work.seed)
    for n in range(2):
        own = [sample_layer(size * MIB, work.seed) for size in (1, 3)]
        work.jobs.append(await site.begin("pull", work.add(f"app{n}", image_of([common, *own]))))


async def large_pull(site: Site, work: Work) -> None:
    """
    An image whose only layer arrives in parts.
    """
    work.source.rate = work.rng.choice((4.0 * MIB, 6.0 * MIB))
    layer = sample_layer(48 * MIB, work.seed, compression="tar")
    work.jobs.append(await site.begin("pull", work.add("large", image_of([layer]))))


async def pushes(site: Site, work: Work) -> None:
    """
    Two images to a registry that keeps what it has of a broken upload.
    """
    for n in range(2):
        image = image_of([sample_layer(size * MIB, work.seed) for size in (1, 4)])
        await site.daemon.ctl("pull", reference := work.add(f"app{n}", image))
        work.pushed[f"pushed{n}"] = image
        target = f"{work.target.host}/pushed{n}:1"
        work.jobs.append(await site.begin("push", reference, target=target))


async def imports(site: Site, work: Work) -> None:
    """
    A layout that xferctl imports.
    """
    name = f"localhost/imported-{work.seed}:1"
    layout = site.place / "layout" / work.seed
    write_layout(str(layout), {name: image_of([small_files(work, 1000), sample_layer(8 * MIB, work.seed)])})
    work.images.add(name)
    before = set(await site.jobs())
    work.clients.append(Deferred.fromCoroutine(site.daemon.try_ctl("import", str(layout))))
    # Without a daemon at its beginning, xferctl ends at once.
    while not set(await site.jobs()) - before:
        await site.sleep(0.02)


async def unpackings(site: Site, work: Work) -> None:
    """
    An image of many files, which arrives at once.
    """
    image = image_of([small_files(work, 3000) for _ in range(3)])
    work.jobs.append(await site.begin("pull", work.add("files", image)))


async def collections(site: Site, work: Work) -> None:
    """
    All images are removed, one after the other, while another is pulled.
    """
    work.source.rate = 2.0 * MIB
    work.removed = {each["reference"] for each in await site.api("GET", "images")}
    image = image_of([sample_layer(2 * MIB, work.seed)])
    work.jobs.append(await site.begin("pull", work.add("kept", image)))
    removing = Deferred.fromCoroutine(remove(site, work.removed))
    # It ends with the daemon, and is begun again in the end.
    _ = removing.addErrback(lambda reason: reason.trap(Wrong, ResponseFailed, ConnectError))


async def remove(site: Site, references: Iterable[str]) -> None:
    """
    Remove images, and what only they needed.
    """
    there = {each["reference"] for each in await site.api("GET", "images")}
    for reference in sorted(there.intersection(references)):
        await site.api("DELETE", f"images/{quote(reference)}")
        await site.api("POST", "gc", {})


async def docker_registry(site: Site, work: Work) -> None:
    """
    A pull from Debian's docker-registry, and a push to it.
    """
    images = [image_of([sample_layer(size * MIB, work.seed) for size in (1, 3)]) for _ in range(2)]
    directory = site.place / f"docker{work.seed}"
    registry = DockerRegistry(site.reactor, str(directory))
    await registry.start()
    work.others.append(registry)
    for n, image in enumerate(images):
        fill(directory, f"app{n}", image)
    repository = directory / "storage/docker/registry/v2/repositories/pushed"
    work.links[repository / "_manifests/tags/1/current/link"] = str(images[0].digest)
    pushed, pulled = (f"{registry.host}/app{n}:1" for n in range(2))
    await site.daemon.ctl("pull", pushed)
    work.images.update((pushed, pulled))
    work.jobs.append(await site.begin("push", pushed, target=f"{registry.host}/pushed:1"))
    work.jobs.append(await site.begin("pull", pulled))


async def verifications(site: Site, work: Work) -> None:
    """
    All content is verified while an image is pulled.
    """
    work.source.rate = 2.0 * MIB
    image = image_of([sample_layer(4 * MIB, work.seed)])
    work.jobs.append(await site.begin("pull", work.add("more", image)))
    work.jobs.append(await site.begin("verify", None))


def small_files(work: Work, count: int) -> SampleLayer:
    """
    A layer of files of 100 bytes.
    """
    builder = LayerBuilder()
    seed = work.seed
    for n in range(count):
        builder.file(f"{seed}/{n % 50}/{n}", work.rng.randbytes(100))
    return builder.finish()


@frozen
class Kind:
    """
    One kind of work.

    @ivar begin: begins it.
    @ivar span: seconds from its beginning, or from a restart, within which a process is killed.
    @ivar limits: those of the daemon that differ from L{LIMITS <tests.crash.site.LIMITS>}.
    """

    begin: Callable[[Site, Work], Awaitable[None]]
    span: float
    limits: Mapping[str, int] = field(factory=dict)


KINDS: Final = {
    "pull": Kind(pulls, 2.0),
    "streams": Kind(large_pull, 4.0, {"downloads": 4, "ranges": 4}),
    "push": Kind(pushes, 1.5, {"upload_rate": 4 * MIB}),
    "docker": Kind(docker_registry, 1.5, {"download_rate": 3 * MIB, "upload_rate": 3 * MIB}),
    "import": Kind(imports, 1.5),
    "unpack": Kind(unpackings, 1.0),
    "verify": Kind(verifications, 1.0),
    "gc": Kind(collections, 0.5),
}
