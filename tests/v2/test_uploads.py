"""
Tests for L{xferd.v2.uploads} and its routes: pushing blobs.
"""

from __future__ import annotations

from twisted.logger import capturedLogs

from tests.jobs.case import HOST
from tests.v2.case import RegistryCase
from tests.web.connection import Answer
from xferd.errors import DiskFull, StoreError
from xferd.interfaces.catalog import CatalogManifest
from xferd.media_types import OCI_MANIFEST, OCTET_STREAM
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.testing.images import sample_image
from xferd.web.peer_trust import Trust

DATA = b"some bytes of a blob"
DIGEST = Digest.of(DATA)
UPLOADS = "/v2/local/app/blobs/uploads/"


class UploadCase(RegistryCase):
    """
    A registry that is pushed to.
    """

    def begin(self, query: str = "") -> str:
        """
        Begin an upload; returns its URL.
        """
        answer = self.request(UPLOADS + query, "POST")
        self.assertEqual((answer.status, answer.headers["range"]), (202, "0-0"))
        return str(answer.headers["location"])

    def send_chunk(self, url: str, data: bytes, **headers: str) -> Answer:
        """
        Send a chunk.
        """
        return self.request(url, "PATCH", {k.replace("_", "-"): v for k, v in headers.items()}, data)

    def send_end(self, url: str, data: bytes = b"", digest: object = DIGEST, **headers: str) -> Answer:
        """
        Send the end.
        """
        fields = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.request(f"{url}?digest={digest}", "PUT", fields, data)

    def push_blob(self, data: bytes = DATA, name: str = "local/app") -> Digest:
        """
        Push a blob whole.
        """
        digest = Digest.of(data)
        answer = self.request(f"/v2/{name}/blobs/uploads/?digest={digest}", "POST", {}, data)
        self.assertEqual(answer.status, 201, answer.body)
        return digest

    def assert_error(self, answer: Answer, status: int, code: str) -> str:
        """
        A response is an error with a sentence, which is returned.
        """
        self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (status, code), answer.body)
        return str(answer.json()["errors"][0]["message"])

    def assert_pushed(self, data: bytes = DATA, digest: Digest = DIGEST) -> None:
        """
        The repository has a blob, and no upload is left.
        """
        answer = self.request(f"/v2/local/app/blobs/{digest}")
        self.assertEqual((answer.status, answer.body), (200, data))
        self.assertEqual(self.store.incoming.sessions, {})


class UploadTests(UploadCase):
    """
    Uploads that go well.
    """

    def test_not_here(self) -> None:
        """
        Clients ask whether a blob is here before they push it.  That is neither a failure nor a
        transfer.
        """
        with capturedLogs() as events:
            self.assertEqual(self.request(f"/v2/local/app/blobs/{DIGEST}", "HEAD").status, 404)
            answer = self.request(f"/v2/local/app/blobs/{DIGEST}")
        self.assertEqual(self.assert_error(answer, 404, "BLOB_UNKNOWN"), f"local/app has no blob {DIGEST}")
        self.assertEqual(events, [])
        self.assertEqual(self.jobs.figures().failures, {})

    def test_whole(self) -> None:
        """
        A blob comes whole with the first request (end-4b).
        """
        answer = self.request(f"{UPLOADS}?digest={DIGEST}", "POST", {}, DATA)
        self.assertEqual((answer.status, answer.body), (201, b""))
        self.assertEqual(answer.headers["location"], f"/v2/local/app/blobs/{DIGEST}")
        self.assertEqual(answer.headers["docker-content-digest"], str(DIGEST))
        self.assertEqual(answer.headers["content-length"], "0")
        self.assert_pushed()

    def test_post_and_put(self) -> None:
        """
        A blob comes whole with the second request (end-6).
        """
        answer = self.send_end(self.begin(), DATA)
        self.assertEqual((answer.status, answer.headers["location"]), (201, f"/v2/local/app/blobs/{DIGEST}"))
        self.assert_pushed()

    def test_no_slash(self) -> None:
        """
        An upload begins also without the last slash of the path.
        """
        path = UPLOADS.removesuffix("/")
        answer = self.request(path, "POST")
        self.assertEqual(answer.status, 202)
        self.assertEqual(self.send_end(str(answer.headers["location"]), DATA).status, 201)
        self.assertEqual(self.request(f"{path}?digest={DIGEST}", "POST", {}, DATA).status, 201)
        self.assert_pushed()

    def test_chunks(self) -> None:
        """
        A blob comes in chunks with their ranges (end-5), the last one with the end.
        """
        url = self.begin()
        answer = self.send_chunk(url, DATA[:5], Content_Range="0-4")
        self.assertEqual(answer.status, 202)
        self.assertEqual((answer.headers["range"], answer.headers["location"]), ("0-4", url))
        self.assertEqual(self.send_chunk(url, DATA[5:9], Content_Range="bytes 5-8/*").status, 202)
        self.assertEqual(self.send_end(url, DATA[9:], Content_Range=f"9-{len(DATA) - 1}").status, 201)
        self.assert_pushed()

    def test_stream(self) -> None:
        """
        A blob comes as a stream without a length, as docker sends it.
        """
        url = self.begin()
        body = (
            b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (DATA[:7], DATA[7:])) + b"0\r\n\r\n"
        )
        connection = self.connect()
        connection.send("PATCH", url, {"Host": "localhost", "Transfer-Encoding": "chunked"}, body)
        self.settle()
        answer = connection.answer()
        self.assertEqual((answer.status, answer.headers["range"]), (202, f"0-{len(DATA) - 1}"))
        self.assertEqual(self.send_end(url).status, 201)
        self.assert_pushed()

    def test_sha512(self) -> None:
        """
        Digests of sha512 are verified, too, with and without their announcement.
        """
        digest = Digest.of(DATA, "sha512")
        for query in ("", "?digest-algorithm=sha512"):
            self.assertEqual(self.send_end(self.begin(query), DATA, digest).status, 201)
            self.assert_pushed(digest=digest)

    def test_status(self) -> None:
        """
        The status of an upload has the last byte (end-13).
        """
        url = self.begin()
        self.assertEqual(self.request(url).headers["range"], "0-0")
        self.send_chunk(url, DATA)
        answer = self.request(url)
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(answer.headers["range"], f"0-{len(DATA) - 1}")
        self.assertEqual(answer.headers["location"], url)

    def test_cancel(self) -> None:
        """
        A cancelled upload is gone (end-14).
        """
        url = self.begin()
        self.assertEqual(self.request(url, "DELETE").status, 204)
        self.assert_error(self.request(url), 404, "BLOB_UPLOAD_UNKNOWN")
        self.assert_error(self.request(url, "DELETE"), 404, "BLOB_UPLOAD_UNKNOWN")
        self.assertEqual(self.store.incoming.sessions, {})

    def test_delete(self) -> None:
        """
        A deleted blob is gone (end-10).
        """
        self.push_blob()
        self.assertEqual(self.request(f"/v2/local/app/blobs/{DIGEST}", "DELETE").status, 202)
        for method in ("GET", "DELETE"):
            self.assert_error(self.request(f"/v2/local/app/blobs/{DIGEST}", method), 404, "BLOB_UNKNOWN")


class MountTests(UploadCase):
    """
    Blobs of other repositories.
    """

    def mount(self, query: str) -> Answer:
        """
        Request a mount of the blob.
        """
        return self.request(f"{UPLOADS}?mount={DIGEST}{query}", "POST", {"Content-Length": "0"})

    def test_from(self) -> None:
        """
        A blob is mounted from the named repository (end-11), or from any own one.
        """
        self.push_blob(name="local/other")
        for query in ("&from=local/other", ""):
            answer = self.mount(query)
            self.assertEqual(answer.status, 201)
            self.assertEqual(answer.headers["location"], f"/v2/local/app/blobs/{DIGEST}")
            self.assert_pushed()
            self.request(f"/v2/local/app/blobs/{DIGEST}", "DELETE")

    def test_mirrored(self) -> None:
        """
        A blob is mounted from a mirrored repository only if the request names it.
        """
        image = self.add(sample_image(1))
        digest = image.layers[0].blob.digest
        self.request("/v2/app/manifests/latest")
        self.request(f"/v2/app/blobs/{digest}")
        self.assertEqual(self.request(f"{UPLOADS}?mount={digest}", "POST").status, 202)
        self.assertEqual(self.request(f"{UPLOADS}?mount={digest}&from=app", "POST").status, 201)

    def test_named_only(self) -> None:
        """
        A mirrored repository whose upstream only names a blob gives none away that
        came from elsewhere.
        """
        self.push_blob(name="local/other")
        blob = Descriptor(OCTET_STREAM, DIGEST, len(DATA))
        manifest = CatalogManifest(Descriptor(OCI_MANIFEST, Digest.of(b"m"), 1), (blob,))
        name = Repository(HOST, "app")
        _ = self.store.catalog.put_manifest(name, manifest, [], 0.0)
        self.request(f"/v2/local/other/blobs/{DIGEST}", "DELETE")
        self.assertEqual(self.mount("&from=app").status, 202)

    def test_unknown(self) -> None:
        """
        Without the blob in that repository, an upload begins.
        """
        self.push_blob(name="local/other")
        for query in ("&from=local/none", "&from=no..name", "&from=quay.io/app", "&from="):
            self.assertEqual(self.mount(query).status, 202, query)

    def test_bytes_gone(self) -> None:
        """
        A blob whose file is gone is not mounted.
        """
        self.push_blob(name="local/other")
        self.store.blobs.contents.clear()
        self.assertEqual(self.mount("&from=local/other").status, 202)

    def test_with_body(self) -> None:
        """
        The body of a mount is dropped.
        """
        self.push_blob(name="local/other")
        answer = self.request(f"{UPLOADS}?mount={DIGEST}&from=local/other", "POST", {}, b"x")
        self.assertEqual(answer.status, 201)


class RefusalTests(UploadCase):
    """
    Uploads that are refused.
    """

    def test_wrong_digest(self) -> None:
        """
        Bytes with another digest are refused in each form, and the upload ends.
        """
        wrong = Digest.of(b"x")
        self.assert_error(self.request(f"{UPLOADS}?digest={wrong}", "POST", {}, DATA), 400, "DIGEST_INVALID")
        self.assert_error(self.send_end(self.begin(), DATA, wrong), 400, "DIGEST_INVALID")
        url = self.begin()
        self.send_chunk(url, DATA)
        self.assert_error(self.send_end(url, b"", wrong), 400, "DIGEST_INVALID")
        self.assertEqual(self.store.incoming.sessions, {})
        self.assert_error(self.request(f"/v2/local/app/blobs/{wrong}"), 404, "BLOB_UNKNOWN")

    def test_no_digest(self) -> None:
        """
        The end of an upload names a digest, and one that can be verified.
        """
        url = self.begin()
        for query in ("?digest=", "?digest=md5:1234", "?digest=sha256:../../etc/passwd"):
            self.assert_error(self.request(url + query, "PUT", {}, DATA), 400, "DIGEST_INVALID")
        self.assert_error(self.request(url, "PUT", {}, DATA), 400, "UNSUPPORTED")
        self.assert_error(self.request(f"{UPLOADS}?digest=x", "POST", {}, DATA), 400, "DIGEST_INVALID")
        self.assert_error(self.request(f"{UPLOADS}?mount=x", "POST"), 400, "DIGEST_INVALID")
        self.assert_error(self.request(f"{UPLOADS}?digest-algorithm=md5", "POST"), 400, "UNSUPPORTED")
        self.assertEqual(self.send_end(url, DATA).status, 201)

    def test_order(self) -> None:
        """
        A chunk that is not the next one is 416, with the offset; the upload goes on.
        """
        url = self.begin()
        self.send_chunk(url, DATA[:5], Content_Range="0-4")
        for content_range, data in (("0-4", DATA[:5]), ("6-7", DATA[6:8])):
            answer = self.send_chunk(url, data, Content_Range=content_range)
            self.assert_error(answer, 416, "BLOB_UPLOAD_INVALID")
            self.assertEqual((answer.headers["range"], answer.headers["location"]), ("0-4", url))
        answer = self.send_end(url, DATA[6:], Content_Range=f"6-{len(DATA) - 1}")
        self.assert_error(answer, 416, "BLOB_UPLOAD_INVALID")
        self.assertEqual(self.send_end(url, DATA[5:]).status, 201)
        self.assert_pushed()

    def test_range_invalid(self) -> None:
        """
        A malformed range, or one that does not fit the body, is refused.
        """
        url = self.begin()
        for content_range in ("x", "0", "-5", "0-3", "0-900", "3-0", "0-" + "9" * 40):
            answer = self.send_chunk(url, DATA[:5], Content_Range=content_range)
            self.assertIn(answer.status, (400, 416), content_range)
        self.assertEqual(self.request(url).headers["range"], "0-0")

    def test_stream_range(self) -> None:
        """
        The bytes of a stream are those of its range.
        """
        for content_range in ("0-3", "0-19"):
            url = self.begin()
            fields = {"Transfer-Encoding": "chunked", "Content-Range": content_range, "Host": "localhost"}
            connection = self.connect()
            connection.send("PATCH", url, fields, b"5\r\nabcde\r\n0\r\n\r\n")
            self.settle()
            self.assertEqual(connection.answer().status, 400)

    def test_unknown(self) -> None:
        """
        An upload of another repository, or with a malformed ID, is unknown.
        """
        name = self.begin().rpartition("/")[2]
        for url in (f"/v2/local/other/blobs/uploads/{name}", UPLOADS + "..", UPLOADS + "0"):
            self.assert_error(self.send_chunk(url, DATA), 404, "BLOB_UPLOAD_UNKNOWN")
            self.assert_error(self.send_end(url, DATA), 404, "BLOB_UPLOAD_UNKNOWN")
            self.assert_error(self.request(url), 404, "BLOB_UPLOAD_UNKNOWN")

    def test_two_at_once(self) -> None:
        """
        The second request of two on one upload is refused; the status is known.
        """
        url = self.begin()
        connection = self.connect()
        connection.send("PATCH", url, {"Host": "localhost", "Content-Length": "20"}, DATA[:5])
        self.settle()
        self.assert_error(self.send_chunk(url, DATA), 409, "BLOB_UPLOAD_INVALID")
        self.assert_error(self.request(url, "DELETE"), 409, "BLOB_UPLOAD_INVALID")
        self.assertEqual(self.request(url).headers["range"], "0-4")
        connection.protocol.dataReceived(DATA[5:])
        self.settle()
        self.assertEqual(connection.answer().status, 202)
        self.assertEqual(self.send_end(url).status, 201)
        self.assert_pushed()

    def test_connection_lost(self) -> None:
        """
        What arrived of a chunk stays when the connection breaks, and the upload can
        be continued.
        """
        url = self.begin()
        connection = self.connect()
        connection.send("PATCH", url, {"Host": "localhost", "Content-Length": "20"}, DATA[:5])
        self.settle()
        connection.lose()
        self.assertEqual(self.request(url).headers["range"], "0-4")
        self.assertEqual(self.send_end(url, DATA[5:]).status, 201)
        self.assert_pushed()

    def test_whole_lost(self) -> None:
        """
        Nothing stays of a blob in one request whose connection breaks.
        """
        connection = self.connect()
        fields = {"Host": "localhost", "Content-Length": "20"}
        connection.send("POST", f"{UPLOADS}?digest={DIGEST}", fields, DATA[:5])
        self.settle()
        connection.lose()
        self.settle()
        self.assertEqual(self.store.incoming.sessions, {})

    def test_lost_while_committing(self) -> None:
        """
        A client that leaves while its blob is made durable does not prevent that.
        """
        self.store.gate.hold("incoming.commit")
        connection = self.connect()
        fields = {"Host": "localhost", "Content-Length": "20"}
        connection.send("PUT", f"{self.begin()}?digest={DIGEST}", fields, DATA)
        self.settle()
        connection.lose()
        self.store.gate.release("incoming.commit")
        self.settle()
        self.assertTrue(self.store.blobs.has(DIGEST))
        self.assertEqual(self.store.incoming.sessions, {})

    def test_disk_full(self) -> None:
        """
        On a full disk, a body that is too large is refused before it is read; one
        of unknown size when the disk is full.  The upload stays.
        """
        url = self.begin()
        self.send_chunk(url, DATA[:5])
        self.store.blobs.free = 10
        connection = self.connect()
        connection.send("PATCH", url, {"Host": "localhost", "Content-Length": "15"})
        self.settle()
        connection.protocol.dataReceived(DATA[5:])
        self.settle()
        self.assertIn("free bytes", self.assert_error(connection.answer(), 507, "UNAVAILABLE"))
        connection = self.connect()
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (15, DATA[5:])
        connection.send("PATCH", url, {"Host": "localhost", "Transfer-Encoding": "chunked"}, body)
        self.settle()
        self.assert_error(connection.answer(), 507, "UNAVAILABLE")
        self.assertTrue(self.store.free_space.why)
        self.store.blobs.free = 1 << 40
        self.assertEqual(self.request(url).headers["range"], "0-4")
        self.assertEqual(self.send_end(url, DATA[5:]).status, 201)
        self.assert_pushed()

    def test_too_many(self) -> None:
        """
        A flood of uploads is refused.
        """
        self.store.incoming.most = 2
        self.begin()
        self.begin()
        self.assert_error(self.request(UPLOADS, "POST"), 429, "TOOMANYREQUESTS")

    def test_store_fails(self) -> None:
        """
        An error of the store is reported, and the upload stays.
        """
        url = self.begin()
        self.store.gate.fail("incoming.write", StoreError("the disk is broken"))
        self.assert_error(self.send_chunk(url, DATA), 500, "UNKNOWN")
        self.store.gate.fail("incoming.commit", DiskFull("the disk is full"))
        self.assert_error(self.send_end(url, DATA), 507, "UNAVAILABLE")
        self.assertEqual(self.send_end(url).status, 201)

    def test_mirrored(self) -> None:
        """
        A name of an upstream takes no pushes, and the error names the prefix to use.
        """
        for name in ("app", "up/app", f"{HOST}/app"):
            answer = self.request(f"/v2/{name}/blobs/uploads/", "POST")
            self.assertIn("local/", self.assert_error(answer, 403, "DENIED"))
            answer = self.request(f"/v2/{name}/manifests/1", "PUT", {"Content-Type": "x/y"}, b"{}")
            self.assertIn("local/", self.assert_error(answer, 403, "DENIED"))

    def test_stranger(self) -> None:
        """
        A stranger may neither push nor delete, and a body is not read for that.
        """
        self.push_blob()
        for method, path in (
            ("POST", UPLOADS),
            ("PATCH", UPLOADS + "0"),
            ("PUT", "/v2/local/app/manifests/1"),
            ("DELETE", f"/v2/local/app/blobs/{DIGEST}"),
        ):
            connection = self.connect(Trust.NONE)
            length = "0" if method == "DELETE" else str(10 << 30)
            connection.send(method, path, {"Host": "localhost", "Content-Length": length})
            self.settle()
            self.assert_error(connection.answer(), 403, "DENIED")


class DrainTests(UploadCase):
    """
    Pushes to a daemon that is drained.
    """

    def test_drained(self) -> None:
        """
        No upload begins, and the client is asked to try later; one that was begun ends, and
        what is there is served.
        """
        here = self.push_blob()
        url = self.begin()
        self.successResultOf(self.jobs.steering.drain(keep=False, by="ann"))
        refused = self.request(UPLOADS, "POST")
        self.assertIn("drained by ann", self.assert_error(refused, 503, "UNAVAILABLE"))
        self.assertEqual(refused.headers["retry-after"], "30")
        other = Digest.of(b"other")
        self.assertEqual(self.send_end(url, b"other", other).status, 201)
        self.assertEqual(self.request(f"/v2/local/app/blobs/{here}", "HEAD").status, 200)
        self.successResultOf(self.jobs.steering.end_drain())
        self.begin()
