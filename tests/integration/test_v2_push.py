"""
Pushes to the daemon's own repositories: by Debian's tools, over a restart, and of more
bytes than the daemon may keep in memory.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar, cast
from unittest import SkipTest

from attrs import frozen
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.integration.containerds import NEWEST
from tests.integration.other_engines import DockerContainerd, found
from tests.integration.peers import push, require, run
from tests.integration.places import free_port
from tests.integration.programs import Dockerd, Xferd
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import sample_image, write_layout

reactor = cast(IReactor, installed)

T = TypeVar("T")

MIB = 1024 * 1024
UPLOADS = "/v2/local/app/blobs/uploads/"


@frozen
class Response:
    """
    A response of the registry.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class PushCase(TestCase):
    """
    A daemon with a registry.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start it.
        """
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        await self.start()

    async def start(self) -> None:
        """
        Start a daemon on the same data.
        """
        options = ("--registry", f"tcp:{self.port}:interface=127.0.0.1")
        self.daemon = daemon = Xferd(reactor, str(self.place / "x"), *options)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))

    async def aside(self, work: Callable[[], T]) -> T:
        """
        Do something that blocks in a thread.
        """
        return await deferToThread(work)

    async def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Response:
        """
        Make a request.
        """

        def ask() -> Response:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            found = Response(response.status, dict(response.headers), response.read())
            connection.close()
            return found

        return await self.aside(ask)


class ClientTests(PushCase):
    """
    Debian's clients.
    """

    async def test_skopeo(self) -> None:
        """
        An image that skopeo pushes comes back byte for byte, also after a
        collection, and xferctl unpacks it without network.
        """
        image = sample_image(3, 300_000)
        reference = f"{self.host}/local/team/app:1"
        await push(reactor, image, reference, str(self.place / "layout"))
        await self.daemon.ctl("gc")
        raw = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
        self.assertEqual((await run(reactor, raw)).encode(), image.manifest.data)
        copy = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}"]
        await run(reactor, [*copy, f"oci:{self.place}/back:1"])
        for layer in image.layers:
            path = self.place / "back" / "blobs" / "sha256" / layer.blob.digest.hex
            self.assertEqual(path.read_bytes(), layer.blob.read())
        await self.daemon.ctl("pull", "localhost/local/team/app:1")
        (listed,) = await self.daemon.show("images")
        self.assertEqual(listed["reference"], "localhost/local/team/app:1")
        await run(reactor, ["skopeo", "delete", "--tls-verify=false", f"docker://{reference}"])
        response = await self.request("GET", "/v2/local/team/app/manifests/1")
        self.assertEqual(response.status, 404)

    async def test_imported(self) -> None:
        """
        An archive that is imported under an own name comes back by skopeo byte for byte, also
        without the name in the store, after a collection and a restart.
        """
        image = sample_image(2, 300_000)
        layout = str(self.place / "layout")
        write_layout(layout, {"other": image})
        await self.daemon.ctl("import", layout, "localhost/local/team/app:1")
        await self.daemon.ctl("rm", "localhost/local/team/app:1")
        await self.daemon.ctl("gc")
        await self.daemon.stop()
        await self.start()
        copy = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{self.host}/local/team/app:1"]
        await run(reactor, [*copy, f"dir:{self.place}/back"])
        back = self.place / "back"
        self.assertEqual((back / "manifest.json").read_bytes(), image.manifest.data)
        for blob in image.blobs:
            self.assertEqual((back / blob.digest.hex).read_bytes(), blob.read())

    async def test_docker(self) -> None:
        """
        An image that docker pushes can be pulled by docker again.
        """
        dockerd = Dockerd(reactor, str(self.place / "d"))
        reference = await self.push_by_docker(dockerd)
        await dockerd.run("tag", reference, f"{self.host}/library/app:1")
        refused = await self.refused(dockerd, f"{self.host}/library/app:1")
        self.assertIn("local/", refused)

    async def test_docker_containerd(self) -> None:
        """
        So can one of docker with the containerd image store.
        """
        if not found(DockerContainerd):
            raise SkipTest("XFERD_ENGINES names no directory with dockerd")
        apart = ["unshare", "--mount", "env", f"PATH={NEWEST}:{os.environ['PATH']}"]
        program, driver = DockerContainerd.program, DockerContainerd.driver
        place = str(self.place / "d")
        await self.push_by_docker(Dockerd(reactor, place, program=program, driver=driver, before=apart))

    async def push_by_docker(self, dockerd: Dockerd) -> str:
        """
        Build an image, push it, and pull it.

        @return: its name.
        """
        if os.geteuid() != 0:
            raise SkipTest("dockerd needs root")
        await dockerd.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(dockerd.stop()))
        context = self.place / "context"
        context.mkdir()
        (context / "Dockerfile").write_text("FROM scratch\nCOPY data /data\n")
        (context / "data").write_bytes(os.urandom(3 * MIB))
        reference = f"{self.host}/local/docker/app:1"
        await dockerd.build(str(context), reference)
        pushed = await dockerd.run("push", reference)
        digest = re.search(r"digest: (sha256:[0-9a-f]{64})", pushed)
        assert digest is not None, pushed
        await dockerd.run("rmi", reference)
        self.assertIn(digest[1], await dockerd.run("pull", reference))
        return reference

    async def refused(self, dockerd: Dockerd, reference: str) -> str:
        """
        The error of a push that fails.
        """
        try:
            await dockerd.run("push", reference)
        except AssertionError as e:
            return str(e)
        raise AssertionError(f"docker has pushed {reference}")

    async def test_podman(self) -> None:
        """
        podman pushes what it has pulled.
        """
        require("podman")
        image = sample_image(2, 100_000)
        await push(reactor, image, f"{self.host}/local/app:1", str(self.place / "layout"))
        podman = ["podman", "--root", f"{self.place}/p", "--runroot", f"{self.place}/r"]
        podman += ["--storage-driver", "vfs", "--events-backend", "file"]
        await run(reactor, [*podman, "pull", "--tls-verify=false", f"{self.host}/local/app:1"])
        target = f"{self.host}/local/podman:2"
        await run(reactor, [*podman, "push", "--tls-verify=false", f"{self.host}/local/app:1", target])
        response = await self.request("GET", "/v2/local/podman/tags/list")
        self.assertIn(b'"2"', response.body)


class UploadTests(PushCase):
    """
    Single uploads.
    """

    async def test_killed(self) -> None:
        """
        An upload in whose middle the daemon is killed goes on at the byte that its
        status names.
        """
        data = os.urandom(4 * MIB)
        location = (await self.request("POST", UPLOADS)).headers["Location"]
        await self.aside(lambda: self.send_half(location, data))
        await self.daemon.stop("KILL")
        await self.start()
        status = await self.request("GET", location)
        self.assertEqual(status.status, 204)
        here = int(status.headers["Range"].removeprefix("0-")) + 1
        self.assertGreater(here, MIB)
        digest = f"sha256:{sha256(data).hexdigest()}"
        rest = {"Content_Range": f"{here}-{len(data) - 1}"}
        done = await self.request("PUT", f"{location}?digest={digest}", data[here:], **rest)
        self.assertEqual(done.status, 201, done.body)
        await self.daemon.stop("KILL")
        await self.start()
        self.assertEqual((await self.request("GET", f"/v2/local/app/blobs/{digest}")).body, data)
        self.assertEqual((await self.request("GET", location)).status, 404)
        self.assertEqual(list((Path(self.daemon.data) / "ingest").iterdir()), [])

    def send_half(self, location: str, data: bytes) -> None:
        """
        Send half of a chunk, and wait until the daemon has it.
        """
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            head = f"PATCH {location} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data[: len(data) // 2])
            path = Path(self.daemon.data) / "ingest" / f"upload-{location.rpartition('/')[2]}"
            while path.stat().st_size < len(data) // 2:
                pass

    async def test_memory(self) -> None:
        """
        A blob of 256 MiB, with and without a length, passes through a memory of a
        few megabytes.
        """
        before = self.peak()
        piece = os.urandom(MIB)
        hasher = sha256()
        for _ in range(256):
            hasher.update(piece)
        digest = f"sha256:{hasher.hexdigest()}"
        for length in ({"Content-Length": str(256 * MIB)}, {}):
            location = (await self.request("POST", UPLOADS)).headers["Location"]
            status = await self.aside(partial(self.stream, location, piece, length))
            self.assertEqual(status, 202)
            done = await self.request("PUT", f"{location}?digest={digest}")
            self.assertEqual(done.status, 201, done.body)
        self.assertLess(self.peak() - before, 24 * MIB)

    def stream(self, location: str, piece: bytes, headers: Mapping[str, str]) -> int:
        """
        Send 256 pieces.
        """
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        chunked = not headers
        connection.request("PATCH", location, iter([piece] * 256), dict(headers), encode_chunked=chunked)
        status = connection.getresponse().status
        connection.close()
        return status

    def peak(self) -> int:
        """
        The most memory that the daemon has had, in bytes.
        """
        status = Path(f"/proc/{self.daemon.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+([0-9]+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    async def test_refused_early(self) -> None:
        """
        A body of a terabyte is refused before it is sent.
        """

        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
                head = f"PUT {UPLOADS}0?digest=sha256:{64 * '0'} HTTP/1.1\r\nHost: {self.host}\r\n"
                connection.sendall(f"{head}Content-Length: {1 << 40}\r\n\r\n".encode())
                return connection.recv(65536)

        answer = await self.aside(ask)
        self.assertRegex(answer, rb"^HTTP/1.1 (404|507) ")
