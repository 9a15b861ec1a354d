"""
An image made by docker, pulled from Debian's registry by the daemon, compared
with the trees of docker and umoci.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from tempfile import mkdtemp
from typing import cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.integration.peers import DockerRegistry, require, run
from tests.integration.programs import Dockerd, Xferd
from tests.integration.trees import differences, listing
from xferd.interfaces.reactor import IReactor
from xferd.names import Digest
from xferd.testing.layers import LayerBuilder

reactor = cast(IReactor, installed)

DOCKERFILE = r"""
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install /bin; chmod 4755 /bin/su; ln -s ../bin /bin/self"]
RUN mkdir -p /data/deep/er /gone/a /opaque/old && echo one > /data/file && ln /data/file /data/link \
    && mkfifo -m 640 /data/fifo && mknod /data/null c 1 3 && mknod /data/loop b 7 9 \
    && echo a > /gone/a/b && echo b > /opaque/old/c && echo c > /opaque/d && chown 12:3456 /data/deep \
    && dd if=/dev/zero of=/data/sparse bs=1 count=1 seek=9999999 && mkdir -m 1777 /tmp
ADD odd.tar /odd
RUN rm -rf /gone /data/file && rm -rf /opaque && mkdir /opaque && echo new > /opaque/new \
    && touch -d '2001-02-03 04:05:06' /data/deep/er && chmod 2750 /data/deep && rm -rf /tmp && ln -s data /tmp
COPY busybox /data/deep/er/implied/only/busybox
RUN rm /bin/self && mkdir /bin/self && echo x > /bin/self/x && chown -h 7:8 /tmp
CMD ["/bin/sh"]
"""


def odd_tar() -> bytes:
    """
    Names and attributes that docker's C{COPY} does not preserve.
    """
    builder = LayerBuilder("tar")
    builder.directory("names")
    builder.file(b"names/latin1-\xe9\xff", b"not UTF-8")
    builder.file("names/" + "long" * 40, b"long name")
    builder.directory("names/" + "d" * 120).directory("names/" + "d" * 120 + "/" + "e" * 120)
    builder.file("names/" + "d" * 120 + "/" + "e" * 120 + "/f", b"long path")
    builder.symlink("names/far", "../" * 60 + "etc/" + "x" * 100)
    builder.hardlink("names/hard", "names/" + "long" * 40)
    builder.file("names/white space\tand\nnewline", b"")
    builder.file("old", b"from before 1970 it is not", mtime=1)
    builder.file(
        "capable",
        b"#!",
        mode=0o755,
        # CAP_NET_BIND_SERVICE, permitted and effective: struct vfs_cap_data of the kernel.
        xattrs={"security.capability": struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)},
    )
    return builder.finish().blob.read()


class DockerImageTests(TestCase):
    """
    An image of seven layers with every change that a Dockerfile can make to a
    file.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Have docker build the image and push it, and start the daemon.
        """
        if os.geteuid() != 0:
            raise SkipTest("dockerd needs root")
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.registry = DockerRegistry(reactor, str(self.place / "registry"))
        await self.registry.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.registry.stop()))
        self.docker = Dockerd(reactor, str(self.place / "docker"))
        await self.docker.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.docker.stop()))
        context = self.place / "context"
        context.mkdir()
        shutil.copy(require("busybox"), context / "busybox")
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "odd.tar").write_bytes(odd_tar())
        self.reference = f"{self.registry.host}/made/by-docker:1"
        await self.docker.build(str(context), self.reference)
        await self.docker.run("push", "--quiet", self.reference)
        self.daemon = Xferd(reactor, str(self.place / "xferd"))
        await self.daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.daemon.stop()))

    async def layers(self) -> list[tuple[str, str]]:
        """
        The diff ID and the tree of each layer in the store, bottom first.
        """
        (image,) = await self.daemon.show("images")
        config = Digest.parse(image["image_id"])
        path = Path(self.daemon.data, "content", "blobs", config.algorithm, config.hex)
        diff_ids = [Digest.parse(d) for d in json.loads(path.read_bytes())["rootfs"]["diff_ids"]]
        return [(str(d), f"{self.daemon.data}/trees/{d.algorithm}/{d.hex}/diff") for d in diff_ids]

    async def test_pull(self) -> None:
        """
        It is pulled and listed, and skopeo reads it in the store; each tree
        equals that of docker, and the stack of them that of umoci.
        """
        await self.daemon.ctl("pull", self.reference)
        (image,) = await self.daemon.show("images")
        self.assertEqual(image["reference"], self.reference)
        inspected = json.loads(await self.docker.run("image", "inspect", self.reference))[0]
        self.assertEqual(image["image_id"], inspected["Id"])
        layers = await self.layers()
        self.assertEqual([diff_id for diff_id, _ in layers], inspected["RootFS"]["Layers"])
        self.assertGreaterEqual(len(layers), 5)

        content = f"{self.daemon.data}/content"
        seen = json.loads(await run(reactor, ["skopeo", "inspect", f"oci:{content}:{self.reference}"]))
        self.assertEqual(seen["Layers"], [layer["digest"] for layer in image["layers"]])

        await self.docker.run("image", "rm", "--force", self.reference)
        await self.docker.run("pull", "--quiet", self.reference)
        for (diff_id, ours), theirs in zip(layers, await self.docker.layers(self.reference), strict=True):
            self.assertEqual(differences(listing(ours), listing(theirs)), [], diff_id)

        copy = self.place / "copy"
        await run(reactor, ["skopeo", "copy", "--quiet", f"oci:{content}:{self.reference}", f"oci:{copy}:x"])
        bundle, mount = self.place / "bundle", self.place / "mount"
        await run(reactor, ["umoci", "unpack", "--image", f"{copy}:x", str(bundle)])
        mount.mkdir()
        # In a directory with a short name: the kernel limits the options to a page.
        lower = ":".join(os.path.relpath(tree, self.daemon.data) for _, tree in reversed(layers))
        options = ["-t", "overlay", "overlay", "-o", f"ro,lowerdir={lower}", str(mount)]
        await run(reactor, ["mount", *options], directory=self.daemon.data)
        try:
            stacked = listing(str(mount), links=False)
        finally:
            await run(reactor, ["umount", str(mount)])
        self.assertEqual(differences(stacked, listing(str(bundle / "rootfs"), links=False)), [])

        flat = str(self.place / "flat")
        said = await self.daemon.ctl("unpack", self.reference, flat)
        self.assertEqual(said.splitlines()[-1], flat)
        self.assertEqual(differences(listing(flat), listing(str(bundle / "rootfs"))), [])
        await self.daemon.ctl("unpack", "--mount", self.reference, f"{flat}.mounted")
        try:
            self.assertEqual(differences(listing(f"{flat}.mounted", links=False), stacked), [])
        finally:
            await run(reactor, ["umount", f"{flat}.mounted"])

    async def test_run(self) -> None:
        """
        runc starts a bundle of it, copied or mounted, which prints the expected
        text.
        """
        await self.daemon.ctl("pull", self.reference)
        runc = ["runc", "--root", str(self.place / "runc"), "run", "--bundle"]
        command = ["--", "/bin/sh", "-c", "echo $((6*7)) $(cat /opaque/new); echo x > /data/here"]
        for options in ([], ["--mount"]):
            name = f"run{len(options)}"
            bundle = self.place / name
            await self.daemon.ctl("bundle", *options, self.reference, str(bundle), *command)
            try:
                self.assertEqual(await run(reactor, [*runc, str(bundle), name]), "42 new\n")
                self.assertEqual((bundle / "rootfs/data/here").read_text(), "x\n")
            finally:
                if options:
                    await run(reactor, ["umount", str(bundle / "rootfs")])
        for _, tree in await self.layers():
            self.assertFalse(Path(tree, "data/here").exists(), tree)

    async def test_fifty_clients(self) -> None:
        """
        Fifty clients pull it at once: the registry sends each blob once.
        """
        await gatherResults(
            [Deferred.fromCoroutine(self.daemon.ctl("pull", "--quiet", self.reference)) for _ in range(50)],
            consumeErrors=True,
        )
        (image,) = await self.daemon.show("images")
        for layer in image["layers"]:
            self.assertEqual(self.registry.count("GET", layer["digest"]), 1)
        self.assertEqual(self.registry.count("GET", image["image_id"]), 1)
        jobs = await self.daemon.show("jobs", "--all")
        self.assertEqual([job["state"] for job in jobs], ["done"] * 50)
