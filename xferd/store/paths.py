# -*- test-case-name: tests.store.test_paths -*-
"""
The paths of all files in the data directory.

Pure.  No path contains a colon, because overlayfs separates its lower
directories by colons.
"""

from __future__ import annotations

import re
from functools import cached_property
from os.path import join

from attrs import frozen

from xferd.errors import BadDigest
from xferd.names import Digest

NOTE = ".spans"
"""The suffix of the note of a partial blob."""

FILES = "diff"
"""
The directory of a tree's files, in its own directory: engines that read a
containers-storage expect this name.
"""

OLD_FILES = "fs"
"""Its name in version 1 of the layout."""

INCOMING = "upload-"
"""The prefix of the file of an upload session."""

_TREE = re.compile(r"([a-f0-9]+)(?:\.([a-f0-9]{16}))?")


@frozen
class Paths:
    """
    The paths of one data directory::

        content/            an OCI image layout (OCI image-spec, "Image Layout")
          oci-layout
          index.json        the named images
          blobs/<alg>/<hex>
        ingest/<alg>-<hex>  partial blobs; kept over a restart
        ingest/<alg>-<hex>.spans    the parts of one with gaps, and hashes of its bytes
        ingest/upload-<id>  the bytes of an upload session; kept over a restart
        trees/<alg>/<hex>/  diff/, the unpacked layer, and tree.json, its facts
        trees/<alg>/<hex>.<key>/    a variant: the same tree with other metadata
                            on the directories that its tar only implies; or a
                            copy, for one layer
        layers/<alg>/<hex>  records, by chain ID
        staging/            unfinished and removed files; swept at start
        quarantine/         damaged content that could not be replaced
        engines/<name>/     files of an engine's snapshots, which are its own business
        engines/daemon.sock, engines/snapshotter.*   of the process that serves engines
        snapshots.db        the snapshots of engines
        xferd.db            the journal
        version             the version of this layout
        boot                the boot of the machine in which it was used last
        lock                held by the daemon that uses the directory
        reserve             disk space to release when the disk is full

    @ivar root: the data directory.
    """

    root: str

    @property
    def content(self) -> str:
        """
        The OCI image layout.
        """
        return join(self.root, "content")

    @property
    def index(self) -> str:
        """
        The index, with the names of the images.
        """
        return join(self.content, "index.json")

    @property
    def oci_layout(self) -> str:
        """
        The file that marks C{content} as an image layout.
        """
        return join(self.content, "oci-layout")

    @cached_property
    def blobs(self) -> str:
        """
        The directory of blobs, by algorithm.
        """
        return join(self.content, "blobs")

    @cached_property
    def ingest(self) -> str:
        """
        The directory of partial blobs.
        """
        return join(self.root, "ingest")

    @property
    def trees(self) -> str:
        """
        The directory of trees, by algorithm.
        """
        return join(self.root, "trees")

    @property
    def layers(self) -> str:
        """
        The directory of layer records, by algorithm.
        """
        return join(self.root, "layers")

    @property
    def staging(self) -> str:
        """
        The directory of unfinished and removed files.
        """
        return join(self.root, "staging")

    @property
    def quarantine(self) -> str:
        """
        The directory of damaged content.  It exists once there is some.
        """
        return join(self.root, "quarantine")

    @property
    def database(self) -> str:
        """
        The journal's file.
        """
        return join(self.root, "xferd.db")

    @property
    def engines(self) -> str:
        """
        The directory of the engines' files.
        """
        return join(self.root, "engines")

    @property
    def snapshots(self) -> str:
        """
        The file of the engines' snapshots.
        """
        return join(self.root, "snapshots.db")

    @property
    def version(self) -> str:
        """
        The file with the version of the layout.
        """
        return join(self.root, "version")

    @property
    def boot(self) -> str:
        """
        The file with the ID of the boot in which the directory was used last.
        """
        return join(self.root, "boot")

    @property
    def lock(self) -> str:
        """
        The file that the daemon holds a lock on.
        """
        return join(self.root, "lock")

    @property
    def reserve(self) -> str:
        """
        The file whose space is released when the disk is full.
        """
        return join(self.root, "reserve")

    def blob(self, digest: Digest) -> str:
        """
        The file of a blob.
        """
        # Thousands of times for a copy of small blobs.
        return f"{self.blobs}/{digest.algorithm}/{digest.hex}"

    def partial(self, digest: Digest) -> str:
        """
        The file of a partial blob.
        """
        return f"{self.ingest}/{digest.algorithm}-{digest.hex}"

    def note(self, digest: Digest) -> str:
        """
        The note of the parts in a partial blob's file.
        """
        return self.partial(digest) + NOTE

    def incoming(self, session: str) -> str:
        """
        The file of an upload session.
        """
        return join(self.ingest, INCOMING + session)

    def layer(self, chain_id: Digest) -> str:
        """
        The record of a layer.
        """
        return join(self.layers, chain_id.algorithm, chain_id.hex)

    def tree(self, name: str) -> str:
        """
        The directory of a tree.

        @param name: the result of L{tree_name}.
        """
        return join(self.trees, name)


def tree_name(diff_id: Digest, key: str = "") -> str:
    """
    The name of a tree below C{trees/}.

    @param key: for a variant or a copy, the 16 hexadecimal digits that
        distinguish it from other trees of the diff ID.
    """
    name = f"{diff_id.algorithm}/{diff_id.hex}"
    return f"{name}.{key}" if key else name


def parse_tree_name(name: str) -> tuple[Digest, str] | None:
    """
    The diff ID and the key in a tree's name, or L{None} if C{name} is invalid.
    """
    algorithm, _, rest = name.partition("/")
    match = _TREE.fullmatch(rest)
    if match is None:
        return None
    try:
        return Digest(algorithm, match[1]), match[2] or ""
    except BadDigest:
        return None


def parse_partial_name(name: str) -> Digest | None:
    """
    The digest in a partial blob's file name, or L{None} if C{name} is invalid.
    """
    algorithm, _, encoded = name.partition("-")
    try:
        return Digest(algorithm, encoded)
    except BadDigest:
        return None
