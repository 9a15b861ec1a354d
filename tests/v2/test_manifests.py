"""
Tests for the routes of manifests in own repositories, and for L{xferd.v2.bodies}.
"""

from __future__ import annotations

from tests.jobs.local.test_manifests import descriptor, document, image
from tests.v2.test_uploads import UploadCase
from tests.web.connection import Answer
from xferd.errors import DiskFull
from xferd.media_types import OCI_CONFIG, OCI_INDEX
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT, Document
from xferd.testing.images import sample_image
from xferd.web.peer_trust import Trust

MANIFESTS = "/v2/local/app/manifests/"


class ManifestTests(UploadCase):
    """
    Manifests that are pushed, pulled and deleted.
    """

    def setUp(self) -> None:
        """
        Push a config and a layer.
        """
        super().setUp()
        for data in (b"{}", b"layer"):
            self.push_blob(data)
        self.image = image(descriptor(b"layer"))

    def put_document(self, wanted: object, pushed: Document | None = None, **headers: str) -> Answer:
        """
        Push a manifest.
        """
        pushed = self.image if pushed is None else pushed
        fields = {"Content-Type": pushed.media_type, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.request(f"{MANIFESTS}{wanted}", "PUT", fields, pushed.data)

    def test_by_tag(self) -> None:
        """
        A manifest is pushed by a tag, and pulled by tag and digest.
        """
        answer = self.put_document("1")
        self.assertEqual((answer.status, answer.body), (201, b""))
        self.assertEqual(answer.headers["location"], f"{MANIFESTS}{self.image.digest}")
        self.assertEqual(answer.headers["docker-content-digest"], str(self.image.digest))
        self.assertIsNone(answer.headers["oci-subject"])
        for wanted in ("1", str(self.image.digest)):
            for method, body in (("GET", self.image.data), ("HEAD", b"")):
                answer = self.request(MANIFESTS + wanted, method)
                self.assertEqual((answer.status, answer.body), (200, body))
                self.assertEqual(answer.headers["content-type"], self.image.media_type)
                self.assertEqual(answer.headers["content-length"], str(len(self.image.data)))
                self.assertEqual(answer.headers["docker-content-digest"], str(self.image.digest))
        self.assertEqual(self.request("/v2/localhost/local/app/manifests/1").body, self.image.data)

    def test_by_digest(self) -> None:
        """
        A manifest is pushed by its digest, of either algorithm, with some tags.
        """
        answer = self.put_document(f"{self.image.digest}?tag=1&tag=2")
        self.assertEqual((answer.status, answer.headers.get_all("oci-tag")), (201, ["1", "2"]))
        self.assertEqual(self.request(MANIFESTS + "2").body, self.image.data)
        digest = Digest.of(self.image.data, "sha512")
        self.assertEqual(self.put_document(digest).status, 201)
        self.assertEqual(self.request(f"{MANIFESTS}{digest}").headers["docker-content-digest"], str(digest))

    def test_subject(self) -> None:
        """
        A manifest with a subject is answered with it, whether the subject is here or
        not.
        """
        pushed = image(subject=descriptor(b"missing"))
        answer = self.put_document("1", pushed)
        self.assertEqual((answer.status, answer.headers["oci-subject"]), (201, str(Digest.of(b"missing"))))

    def test_refused(self) -> None:
        """
        A manifest is refused with a sentence that names its fault.
        """
        wrong = Digest.of(b"x")
        for wanted, pushed, headers, code in (
            (wrong, None, {}, "DIGEST_INVALID"),
            ("sha256:bad", None, {}, "DIGEST_INVALID"),
            ("-1", None, {}, "NAME_INVALID"),
            (f"{self.image.digest}?tag=a/b", None, {}, "NAME_INVALID"),
            ("1", None, {"Content_Type": ""}, "UNSUPPORTED"),
            ("1", None, {"Content_Type": "x/y"}, "MANIFEST_INVALID"),
            ("1", image(descriptor(b"none")), {}, "MANIFEST_BLOB_UNKNOWN"),
            ("1", document(OCI_INDEX, manifests=[descriptor(b"m")]), {}, "MANIFEST_BLOB_UNKNOWN"),
        ):
            answer = self.put_document(wanted, pushed, **headers)
            self.assertTrue(self.assert_error(answer, 400, code))
        self.assertEqual(self.store.catalog.repositories(), [])

    def test_unknown(self) -> None:
        """
        What was not pushed is unknown, also in another repository.
        """
        self.put_document("1")
        for path in (f"{MANIFESTS}2", f"{MANIFESTS}{Digest.of(b'x')}", "/v2/local/other/manifests/1"):
            for method in ("GET", "DELETE"):
                self.assert_error(self.request(path, method), 404, "MANIFEST_UNKNOWN")
        self.assert_error(self.request(f"{MANIFESTS}sha256:bad"), 400, "DIGEST_INVALID")

    def test_delete(self) -> None:
        """
        A tag is deleted alone, and a manifest with its tags; the blobs that only it
        named go with it.
        """
        self.put_document("1")
        self.put_document("2")
        self.assertEqual(self.request(MANIFESTS + "1", "DELETE").status, 202)
        self.assertEqual(self.request(MANIFESTS + "1").status, 404)
        self.assertEqual(self.request(MANIFESTS + "2").status, 200)
        layer = f"/v2/local/app/blobs/{Digest.of(b'layer')}"
        self.assert_error(self.request(layer, "DELETE"), 405, "UNSUPPORTED")
        self.assertEqual(self.request(f"{MANIFESTS}{self.image.digest}", "DELETE").status, 202)
        for path in (MANIFESTS + "2", f"{MANIFESTS}{self.image.digest}", layer):
            self.assertEqual(self.request(path).status, 404)
        self.assertFalse(self.store.catalog.holders(Digest.of(b"layer")))

    def test_delete_mirrored(self) -> None:
        """
        What was pulled through can be deleted, and is fetched again.
        """
        mirrored = self.add(sample_image(1))
        self.request("/v2/app/manifests/latest")
        self.assertEqual(self.request(f"/v2/app/manifests/{mirrored.digest}", "DELETE").status, 202)
        self.assertEqual(self.request("/v2/app/manifests/latest").status, 200)

    def test_bytes_gone(self) -> None:
        """
        A blob whose file is gone is unknown, so that the next push sends it again.
        """
        self.put_document("1")
        del self.store.blobs.contents[Digest.of(b"layer")]
        answer = self.request(f"/v2/local/app/blobs/{Digest.of(b'layer')}", "HEAD")
        self.assertEqual(answer.status, 404)
        self.assert_error(self.put_document("2"), 400, "MANIFEST_BLOB_UNKNOWN")

    def test_large(self) -> None:
        """
        A manifest has at most 4 MiB, whether its length is announced or not.
        """
        self.push_blob(b"{}")
        fields = {"Host": "localhost", "Content-Type": OCI_CONFIG}
        connection = self.connect()
        connection.send("PUT", MANIFESTS + "1", {**fields, "Content-Length": str(MAX_DOCUMENT + 1)})
        self.settle()
        self.assert_error(connection.answer(), 413, "SIZE_INVALID")
        connection = self.connect()
        body = b"%x\r\n%s\r\n" % (MAX_DOCUMENT + 1, bytes(MAX_DOCUMENT + 1))
        connection.send("PUT", MANIFESTS + "1", {**fields, "Transfer-Encoding": "chunked"}, body)
        self.settle()
        self.assert_error(connection.answer(), 413, "SIZE_INVALID")
        pushed = image(annotations={"a": "b" * (MAX_DOCUMENT - 1000)})
        self.assertEqual(self.put_document("1", pushed).status, 201)

    def test_many_at_once(self) -> None:
        """
        The memory of all manifests that arrive is limited; it is free again when
        their clients have left.
        """
        self.v2._documents.most = 10
        fields = {"Host": "localhost", "Content-Type": OCI_CONFIG, "Content-Length": "100"}
        connection = self.connect()
        connection.send("PUT", MANIFESTS + "1", fields, b"12345678")
        self.settle()
        self.assert_error(self.put_document("1"), 503, "UNAVAILABLE")
        connection.lose()
        self.assertEqual(self.v2._documents.taken, 0)

    def test_disk_full(self) -> None:
        """
        A manifest that the disk refuses is an error, and nothing is listed.
        """
        self.store.gate.fail("blobs.put", DiskFull("no space is left"))
        self.assert_error(self.put_document("1"), 507, "UNAVAILABLE")
        self.assertEqual(self.request(MANIFESTS + "1").status, 404)

    def test_stranger(self) -> None:
        """
        A stranger sees nothing of own repositories.
        """
        self.put_document("1")
        for path in (
            MANIFESTS + "1",
            f"/v2/local/app/blobs/{Digest.of(b'layer')}",
            "/v2/local/app/tags/list",
        ):
            connection = self.connect(Trust.NONE)
            connection.send("GET", path, {"Host": "localhost"})
            self.settle()
            self.assert_error(connection.answer(), 404, "NAME_UNKNOWN")
