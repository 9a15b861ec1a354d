"""
Tests for L{xferd.testing.registry}.
"""

from __future__ import annotations

import json
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.testing.client import Client, Reply
from xferd.media_types import OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT
from xferd.testing.images import AMD64, encode, index_of, sample_image
from xferd.testing.registry import Registry
from xferd.testing.storage import Storage

DATA = b"some bytes of a blob"
DIGEST = Digest.of(DATA)


class RegistryTestCase(SynchronousTestCase):
    """
    The common part of the tests of the registry.
    """

    def setUp(self) -> None:
        """
        Make a registry with one image.
        """
        self.clock = Clock()
        self.registry = Registry(self.clock, chunk_min_length=5)
        self.client = Client(self.registry, self.clock)
        self.image = sample_image(2)
        self.registry.add(self.image, "library/sample", "1.0")
        self.blob = self.image.layers[0].blob
        self.blob_path = f"/v2/library/sample/blobs/{self.blob.digest}"

    def assertProblem(self, reply: Reply, status: int, code: str) -> None:
        """
        A reply is an error in the specification's form.
        """
        self.assertEqual((status, code), (reply.status, reply.json()["errors"][0]["code"]))


class PullTests(RegistryTestCase):
    """
    Pulling (OCI distribution-spec, "Pull").
    """

    def test_version(self) -> None:
        """
        The version check works with and without a slash.
        """
        for path in ("/v2/", "/v2"):
            self.assertEqual((200, {}), ((reply := self.client.ask("GET", path)).status, reply.json()))

    def test_manifest(self) -> None:
        """
        A manifest is returned by tag and by digest, byte for byte.
        """
        for wanted in ("1.0", str(self.image.digest)):
            reply = self.client.ask("GET", f"/v2/library/sample/manifests/{wanted}")
            self.assertEqual((200, self.image.manifest.data), (reply.status, reply.body))
            self.assertEqual(OCI_MANIFEST, reply.headers["content-type"])
            self.assertEqual(str(self.image.digest), reply.headers["docker-content-digest"])

    def test_head(self) -> None:
        """
        HEAD has the headers of GET, without the body.
        """
        for path, size in (
            ("/v2/library/sample/manifests/1.0", len(self.image.manifest.data)),
            (self.blob_path, self.blob.descriptor.size),
        ):
            head = self.client.ask("HEAD", path)
            self.assertEqual((200, b"", str(size)), (head.status, head.body, head.headers["content-length"]))
            self.assertIn("docker-content-digest", head.headers)
        self.assertEqual(0, self.registry.bytes_sent)

    def test_unknown(self) -> None:
        """
        Unknown tags, digests and repositories are reported as such.
        """
        nothing = Digest.of(b"?")
        for path, code in (
            ("/v2/other/manifests/1.0", "NAME_UNKNOWN"),
            ("/v2/library/sample/manifests/2.0", "MANIFEST_UNKNOWN"),
            (f"/v2/library/sample/manifests/{nothing}", "MANIFEST_UNKNOWN"),
            (f"/v2/library/sample/blobs/{nothing}", "BLOB_UNKNOWN"),
        ):
            self.assertProblem(self.client.ask("GET", path), 404, code)

    def test_no_digest(self) -> None:
        """
        An invalid digest is refused.
        """
        for path in ("blobs/sha256:x", "manifests/sha256:x", "referrers/x"):
            reply = self.client.ask("GET", f"/v2/library/sample/{path}")
            self.assertProblem(reply, 400, "DIGEST_INVALID")

    def test_other_repository(self) -> None:
        """
        A blob belongs to its repository.
        """
        self.registry.add(sample_image(1, seed=9), "other")
        self.assertProblem(self.client.ask("GET", f"/v2/other/blobs/{self.blob.digest}"), 404, "BLOB_UNKNOWN")

    def test_blob(self) -> None:
        """
        A blob is returned whole, and logged with its bytes.
        """
        reply = self.client.ask("GET", self.blob_path)
        self.assertEqual((200, self.blob.content), (reply.status, reply.body))
        self.assertEqual(1, self.registry.count("GET", self.blob.digest))
        (exchange,) = self.registry.exchanges("GET", self.blob.digest)
        self.assertEqual(
            (self.blob_path, None, 200, self.blob.descriptor.size, "done"),
            (exchange.path, exchange.range, exchange.status, exchange.bytes_sent, exchange.state),
        )
        self.assertEqual(self.blob.descriptor.size, self.registry.bytes_sent)

    def test_range(self) -> None:
        """
        A range of a blob is returned.
        """
        size, data = self.blob.descriptor.size, self.blob.read()
        for header, start, stop in (
            ("bytes=10-19", 10, 20),
            ("bytes=10-", 10, size),
            ("bytes=-7", size - 7, size),
            (f"bytes=0-{size * 2}", 0, size),
        ):
            reply = self.client.ask("GET", self.blob_path, {"Range": header})
            self.assertEqual((206, data[start:stop]), (reply.status, reply.body))
            self.assertEqual(f"bytes {start}-{stop - 1}/{size}", reply.headers["content-range"])
        self.assertEqual("bytes=10-19", self.registry.log[0].range)

    def test_range_behind_end(self) -> None:
        """
        A range outside of the blob is refused.
        """
        size = self.blob.descriptor.size
        reply = self.client.ask("GET", self.blob_path, {"Range": f"bytes={size}-"})
        self.assertEqual((416, f"bytes */{size}"), (reply.status, reply.headers["content-range"]))

    def test_index(self) -> None:
        """
        An index is served with all its parts.
        """
        index = index_of({AMD64: self.image})
        self.registry.add(index, "multi", None)
        self.assertEqual(200, self.client.ask("GET", f"/v2/multi/manifests/{index.digest}").status)
        self.assertEqual(200, self.client.ask("GET", f"/v2/multi/manifests/{self.image.digest}").status)
        self.assertProblem(self.client.ask("GET", "/v2/multi/manifests/latest"), 404, "MANIFEST_UNKNOWN")

    def test_tags(self) -> None:
        """
        Tags are listed in order, and in pages.
        """
        for tag in ("b", "a", "c"):
            self.registry.add(self.image, "tagged", tag)
        self.assertEqual(
            {"name": "tagged", "tags": ["a", "b", "c"]}, self.client.ask("GET", "/v2/tagged/tags/list").json()
        )
        page = self.client.ask("GET", "/v2/tagged/tags/list?n=2")
        self.assertEqual(["a", "b"], page.json()["tags"])
        target = page.headers["link"].removeprefix("<").partition(">")[0]
        last = self.client.ask("GET", target)
        self.assertEqual(["c"], last.json()["tags"])
        self.assertNotIn("link", last.headers)

    def test_no_route(self) -> None:
        """
        Other requests have errors in the registry's form, and are logged.
        """
        self.assertProblem(self.client.ask("GET", "/v3/"), 404, "UNSUPPORTED")
        self.assertProblem(self.client.ask("DELETE", "/v2/"), 405, "UNSUPPORTED")
        self.assertEqual([404, 405], [e.status for e in self.registry.log])

    def test_shared_storage(self) -> None:
        """
        Two registries may serve the same content.
        """
        other = Registry(self.clock, storage=self.registry.storage)
        self.assertEqual(200, Client(other, self.clock).ask("GET", self.blob_path).status)
        self.assertEqual([], self.registry.log)


class PushTests(RegistryTestCase):
    """
    Pushing (OCI distribution-spec, "Push").
    """

    def begin(self) -> str:
        """
        Begin an upload, and return its location.
        """
        reply = self.client.ask("POST", "/v2/new/blobs/uploads/", body=b"")
        self.assertEqual((202, "0-0"), (reply.status, reply.headers["range"]))
        self.assertEqual("5", reply.headers["oci-chunk-min-length"])
        return reply.headers["location"]

    def assertHere(self, data: bytes = DATA) -> None:
        """
        The registry has the blob.
        """
        reply = self.client.ask("GET", f"/v2/new/blobs/{Digest.of(data)}")
        self.assertEqual((200, data), (reply.status, reply.body))

    def push_blob(self, data: bytes) -> Digest:
        """
        Push a blob in one request.
        """
        digest = Digest.of(data)
        reply = self.client.ask("POST", f"/v2/new/blobs/uploads/?digest={digest}", body=data)
        self.assertEqual(201, reply.status)
        return digest

    def test_post_then_put(self) -> None:
        """
        A blob can be sent with the request that ends the session, which is then deleted.
        """
        location = self.begin()
        reply = self.client.ask("PUT", f"{location}?digest={DIGEST}", body=DATA)
        self.assertEqual((201, f"/v2/new/blobs/{DIGEST}"), (reply.status, reply.headers["location"]))
        self.assertEqual(str(DIGEST), reply.headers["docker-content-digest"])
        self.assertHere()
        self.assertProblem(self.client.ask("GET", location), 404, "BLOB_UPLOAD_UNKNOWN")

    def test_single_post(self) -> None:
        """
        A blob can be sent with the first request.
        """
        self.push_blob(DATA)
        self.assertHere()

    def test_chunks(self) -> None:
        """
        A blob can be sent in chunks, and the session reports its offset.
        """
        location = self.begin()
        for start, stop in ((0, 5), (5, 12)):
            headers = {"Content-Range": f"{start}-{stop - 1}", "Content-Type": "application/octet-stream"}
            reply = self.client.ask("PATCH", location, headers, DATA[start:stop])
            self.assertEqual((202, f"0-{stop - 1}"), (reply.status, reply.headers["range"]))
            state = self.client.ask("GET", location)
            self.assertEqual((204, f"0-{stop - 1}"), (state.status, state.headers["range"]))
        reply = self.client.ask("PUT", f"{location}?digest={DIGEST}", body=DATA[12:])
        self.assertEqual(201, reply.status)
        self.assertHere()

    def test_chunk_out_of_order(self) -> None:
        """
        A chunk at another offset is refused, with the session's offset.
        """
        location = self.begin()
        self.client.ask("PATCH", location, {"Content-Range": "0-4"}, DATA[:5])
        reply = self.client.ask("PATCH", location, {"Content-Range": "7-8"}, DATA[7:9])
        self.assertEqual((416, "0-4"), (reply.status, reply.headers["range"]))

    def test_wrong_digest(self) -> None:
        """
        Bytes with another digest are refused.
        """
        for digest in (Digest.of(b"other"), "nonsense"):
            location = self.begin()
            reply = self.client.ask("PUT", f"{location}?digest={digest}", body=DATA)
            self.assertProblem(reply, 400, "DIGEST_INVALID")
        location = self.begin()
        self.assertProblem(self.client.ask("PUT", location, body=DATA), 400, "DIGEST_INVALID")

    def test_sha512(self) -> None:
        """
        Digests may have another algorithm.
        """
        digest = Digest.of(DATA, "sha512")
        self.assertEqual(201, self.client.ask("PUT", f"{self.begin()}?digest={digest}", body=DATA).status)
        self.assertEqual(DATA, self.client.ask("GET", f"/v2/new/blobs/{digest}").body)

    def test_cancelled_upload(self) -> None:
        """
        A client may cancel a session.
        """
        location = self.begin()
        self.assertEqual(204, self.client.ask("DELETE", location).status)
        self.assertProblem(self.client.ask("PATCH", location, body=b"x"), 404, "BLOB_UPLOAD_UNKNOWN")

    def test_session_of_other_repository(self) -> None:
        """
        A session belongs to its repository.
        """
        location = self.begin().replace("/new/", "/other/")
        self.assertProblem(self.client.ask("GET", location), 404, "BLOB_UPLOAD_UNKNOWN")

    def test_mount(self) -> None:
        """
        A blob of another repository is mounted, with or without C{from}.
        """
        for number, source in enumerate(("&from=library/sample", "")):
            path = f"/v2/new{number}/blobs/uploads/?mount={self.blob.digest}{source}"
            self.assertEqual(201, self.client.ask("POST", path, body=b"").status)
            self.assertEqual(200, self.client.ask("HEAD", f"/v2/new{number}/blobs/{self.blob.digest}").status)

    def test_mount_of_nothing(self) -> None:
        """
        A mount that fails begins a session instead.
        """
        for source in ("other", "library/sample"):
            reply = self.client.ask("POST", f"/v2/new/blobs/uploads/?mount={DIGEST}&from={source}", body=b"")
            self.assertEqual(202, reply.status)

    def test_bad_name(self) -> None:
        """
        The name of a repository must match the grammar.
        """
        for path in ("/v2/UPPER/blobs/uploads/", "/v2/a/../b/blobs/uploads/"):
            self.assertProblem(self.client.ask("POST", path, body=b""), 400, "NAME_INVALID")

    def push_manifest(
        self, value: object, wanted: str = "latest", media_type: str = OCI_MANIFEST
    ) -> tuple[Reply, bytes]:
        """
        Push a manifest.
        """
        data = value if isinstance(value, bytes) else encode(value)
        return self.client.ask("PUT", f"/v2/new/manifests/{wanted}", {"Content-Type": media_type}, data), data

    def manifest(self, **more: object) -> dict[str, object]:
        """
        A manifest whose config is stored.
        """
        digest = self.push_blob(b"{}")
        config = {"mediaType": OCI_CONFIG, "digest": str(digest), "size": 2}
        return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], **more}

    def test_manifest(self) -> None:
        """
        A manifest is stored byte for byte, by tag or by digest.
        """
        reply, data = self.push_manifest(self.manifest())
        digest = Digest.of(data)
        self.assertEqual((201, str(digest)), (reply.status, reply.headers["docker-content-digest"]))
        self.assertEqual(data, self.client.ask("GET", "/v2/new/manifests/latest").body)
        reply, _ = self.push_manifest(data, str(digest))
        self.assertEqual(201, reply.status)

    def test_manifest_before_blobs(self) -> None:
        """
        A manifest needs its blobs, and an index its manifests.
        """
        for value, media_type in (
            (self.image.manifest.data, OCI_MANIFEST),
            (index_of({AMD64: self.image}).document.data, index_of({}).document.media_type),
        ):
            reply, _ = self.push_manifest(value, media_type=media_type)
            self.assertProblem(reply, 400, "MANIFEST_BLOB_UNKNOWN")

    def test_bad_manifests(self) -> None:
        """
        An invalid manifest, one with another digest or one that is too large is refused.
        """
        wrong = self.manifest()
        for value, wanted, media_type, status, code in (
            (b"no json", "latest", OCI_MANIFEST, 400, "MANIFEST_INVALID"),
            (wrong, "latest", index_of({}).document.media_type, 400, "MANIFEST_INVALID"),
            (wrong, str(DIGEST), OCI_MANIFEST, 400, "DIGEST_INVALID"),
            (wrong, "-tag", OCI_MANIFEST, 400, "NAME_INVALID"),
            (bytes(MAX_DOCUMENT + 1), "latest", OCI_MANIFEST, 413, "SIZE_INVALID"),
        ):
            self.assertProblem(self.push_manifest(value, wanted, media_type)[0], status, code)

    def test_referrers(self) -> None:
        """
        A manifest with a subject is listed as its referrer.
        """
        subject = {"mediaType": OCI_MANIFEST, "digest": str(DIGEST), "size": 1}
        reply, data = self.push_manifest(
            self.manifest(subject=subject, artifactType="a/b", annotations={"k": "v"})
        )
        self.assertEqual(str(DIGEST), reply.headers["oci-subject"])
        self.push_manifest(self.manifest(subject=subject), "plain")
        found = self.client.ask("GET", f"/v2/new/referrers/{DIGEST}").json()["manifests"]
        self.assertEqual({"a/b", OCI_CONFIG}, {entry["artifactType"] for entry in found})
        filtered = self.client.ask("GET", f"/v2/new/referrers/{DIGEST}?artifactType=a/b")
        self.assertEqual("artifactType", filtered.headers["oci-filters-applied"])
        (entry,) = filtered.json()["manifests"]
        self.assertEqual((str(Digest.of(data)), {"k": "v"}), (entry["digest"], entry["annotations"]))
        none = self.client.ask("GET", f"/v2/nothing/referrers/{DIGEST}")
        self.assertEqual((200, []), (none.status, none.json()["manifests"]))

    def test_delete(self) -> None:
        """
        Tags, manifests and blobs can be removed.
        """
        for path in (
            "/v2/library/sample/manifests/1.0",
            f"/v2/library/sample/manifests/{self.image.digest}",
            self.blob_path,
        ):
            self.assertEqual(202, self.client.ask("DELETE", path).status)
            self.assertEqual(404, self.client.ask("GET", path).status)
            self.assertEqual(404, self.client.ask("DELETE", path).status)

    def test_delete_manifest_with_tags(self) -> None:
        """
        A deleted manifest loses its tags.
        """
        self.client.ask("DELETE", f"/v2/library/sample/manifests/{self.image.digest}")
        self.assertEqual([], self.client.ask("GET", "/v2/library/sample/tags/list").json()["tags"])


class StorageTests(PushTests):
    """
    A registry in a directory.
    """

    def setUp(self) -> None:
        """
        Make a registry that keeps everything in a directory.
        """
        super().setUp()
        self.directory = Path(self.mktemp())
        self.registry = Registry(self.clock, directory=self.directory, chunk_min_length=5)
        self.client = Client(self.registry, self.clock)
        self.registry.add(self.image, "library/sample", "1.0")

    def test_goes_on(self) -> None:
        """
        The next registry on the directory has the content, without blobs lost meanwhile.
        """
        reply, data = self.push_manifest(self.manifest())
        self.assertEqual(201, reply.status)
        self.push_blob(DATA)
        lost = self.push_blob(b"lost")
        (self.directory / "blobs" / f"sha256-{lost.hex}").unlink()
        stored = Storage(self.directory)
        found = stored.repositories["new"].find("latest")
        assert found is not None
        self.assertEqual(data, found.data)
        self.assertEqual(DATA, stored.blobs[DIGEST].read())
        self.assertEqual(self.blob.read(), stored.blobs[self.blob.digest].read())
        self.assertNotIn(lost, stored.blobs)

    def test_nothing_left(self) -> None:
        """
        A session that ends leaves no file.
        """
        self.push_blob(DATA)
        self.test_wrong_digest()
        self.client.ask("DELETE", self.begin())
        left = [path for path in (self.directory / "uploads").iterdir() if path.stat().st_size]
        self.assertEqual([], left)

    def test_written_down(self) -> None:
        """
        Repositories with slashes have one file each.
        """
        value = json.loads((self.directory / "repositories" / "library%sample.json").read_text())
        self.assertEqual("library/sample", value["repository"])
