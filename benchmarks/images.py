# -*- test-case-name: tests.test_benchmarks -*-
"""
The images that are pulled: of the shape of well-known ones, out of the files of
the Debian packages that are on this machine; or any other from a registry.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tarfile import REGTYPE
from tempfile import TemporaryDirectory

from attrs import frozen

from benchmarks.processes import Failed, find, output
from benchmarks.registry import TAG, Registry
from xferd.names import Digest
from xferd.testing.images import image_of
from xferd.testing.layers import LayerBuilder, SampleLayer
from xferd.testing.storage import Storage

MB = 1_000_000

KINDS: Mapping[str, Sequence[float]] = {
    "golang-like": (628, 430, 300, 190, 92, 0.01),
    "wordpress-like": (410, 310, 180, 70, 0.5),
    "small": (30, 20, 10),
}
"""The MB that the layers of each kind unpack to, the bottom one first."""

_PACKAGES = Path("/var/lib/dpkg/info")

_LARGEST_SHARE = 0.25
"""How much of a layer one package may fill, so that no layer is one huge file."""


@frozen
class Package:
    """
    An installed package.

    @ivar name: its name.
    @ivar paths: its files below C{/usr}, sorted.
    @ivar size: the bytes of its files.
    """

    name: str
    paths: tuple[str, ...]
    size: int


@frozen
class Image:
    """
    An image in our registry.

    @ivar name: its kind, or the reference that it was copied from.
    @ivar repository: where it is.
    @ivar blobs: config and layers with their sizes in bytes, each once.
    @ivar layers: how many layers it has.
    """

    name: str
    repository: str
    blobs: Mapping[Digest, int]
    layers: int

    @property
    def size(self) -> int:
        """
        The bytes of all blobs.
        """
        return sum(self.blobs.values())

    def at(self, registry: Registry) -> str:
        """
        Its reference in a registry.
        """
        return f"{registry.host}/{self.repository}:{TAG}"

    def __str__(self) -> str:
        return f"{self.name}, {self.layers} layers, {self.size / MB:.0f} MB packed"


def put(name: str, registry: Registry, cache: Path) -> Image:
    """
    Put an image into the registry.

    @param name: a kind, or the reference of an image in another registry.
    @param cache: where the made images are kept; is made.
    @raise Failed: that is not possible.
    """
    if name not in KINDS:
        find("skopeo")
        repository = f"copied/{sha256(name.encode()).hexdigest()[:12]}"
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
        output(
            [
                *copy,
                "--dest-tls-verify=false",
                f"docker://{name}",
                f"docker://{registry.host}/{repository}:{TAG}",
            ]
        )
    else:
        # Another recipe makes another image.
        repository = f"benchmark/{name}-{sum(KINDS[name]):.0f}"
        storage = Storage(cache)
        if storage.stock(repository).find(TAG) is None:
            make(name, repository, storage)
        registry.push(repository, storage)
    manifest = registry.describe(repository)
    blobs = {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
    return Image(name, repository, blobs, len(manifest.layers))


def make(kind: str, repository: str, storage: Storage) -> None:
    """
    Make an image, as docker would pack it: gzip at level 6.

    @raise Failed: this machine has too few packages.
    """
    chosen = choose(installed(), [int(size * MB) for size in KINDS[kind]], kind)
    with TemporaryDirectory(prefix="xferd-benchmark-") as place, ProcessPoolExecutor() as pool:
        targets = [Path(place) / f"layer-{n}" for n in range(len(chosen))]
        image = image_of(pool.map(_pack, chosen, targets), docker=True)
        for blob in image.blobs:
            storage.put_blob(repository, blob)
    storage.put_document(repository, image.manifest, TAG)


def installed() -> list[Package]:
    """
    The packages that dpkg knows.

    @raise Failed: there is no dpkg.
    """
    lists = sorted(_PACKAGES.glob("*.list"))
    if not lists:
        raise Failed(f"{_PACKAGES} lists no packages to make an image of")
    return [_package(path) for path in lists]


def choose(packages: Iterable[Package], sizes: Sequence[int], seed: str) -> list[list[Package]]:
    """
    Distribute packages over layers: in an order that the seed decides, each to
    the first layer that is not full.

    @param sizes: the bytes for each layer.
    @return: the packages of each layer.
    @raise Failed: the packages do not suffice to fill nine tenths of a layer of
        a MB or more.
    """
    layers: list[list[Package]] = [[] for _ in sizes]
    left = list(sizes)
    for package in sorted(packages, key=lambda p: sha256(f"{seed} {p.name}".encode()).digest()):
        for n, whole in enumerate(sizes):
            if package.size <= min(left[n], max(whole * _LARGEST_SHARE, MB)):
                layers[n].append(package)
                left[n] -= package.size
                break
    for n, whole in enumerate(sizes):
        if whole >= MB and left[n] > whole / 10:
            raise Failed(
                f"the packages of this machine do not suffice: layer {n} lacks {left[n] / MB:.0f} MB"
            )
    return layers


def _package(path: Path) -> Package:
    """
    A package's list of files, and those that exist.
    """
    paths, size = [], 0
    for line in path.read_text(errors="surrogateescape").splitlines():
        # What lies elsewhere may be this machine's own: keys, settings.
        if line.startswith("/usr/"):
            try:
                status = os.lstat(line)
            except OSError:
                continue
            paths.append(line)
            if stat.S_ISREG(status.st_mode):
                size += status.st_size
    return Package(path.stem, tuple(sorted(paths)), size)


def _pack(packages: Sequence[Package], target: Path) -> SampleLayer:
    """
    Make a layer of packages.  Unreadable entries are left out, and so are
    entries that are neither a file, a directory nor a symbolic link.
    """
    builder = LayerBuilder(docker=True, into=target)
    linked: dict[tuple[int, int], str] = {}
    for path in _with_parents(path for package in packages for path in package.paths):
        status = os.lstat(path)
        name = path.lstrip("/")
        mode, mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
        if stat.S_ISDIR(status.st_mode):
            builder.directory(name, mode=mode, uid=status.st_uid, gid=status.st_gid, mtime=mtime)
        elif stat.S_ISLNK(status.st_mode):
            builder.symlink(name, os.readlink(path))
        elif stat.S_ISREG(status.st_mode):
            first = linked.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                builder.hardlink(name, first)
                continue
            try:
                data = Path(path).read_bytes()
            except OSError:
                del linked[status.st_dev, status.st_ino]
                continue
            builder.entry(name, REGTYPE, data, mode=mode, uid=status.st_uid, gid=status.st_gid, mtime=mtime)
    return builder.finish()


def _with_parents(paths: Iterable[str]) -> Iterator[str]:
    """
    Paths, each once, after the directories that they are in.
    """
    wanted = set(paths)
    wanted.update(str(parent) for path in list(wanted) for parent in PurePosixPath(path).parents)
    return iter(sorted(wanted - {"/"}))
