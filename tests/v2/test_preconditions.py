"""
Tests for L{xferd.v2.preconditions}, and for the routes of manifests that use them.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.local.test_manifests import descriptor, image
from tests.v2.case import RegistryCase
from tests.v2.test_uploads import UploadCase
from xferd.errors import PreconditionFailed
from xferd.names import Digest
from xferd.testing.images import sample_image
from xferd.v2.preconditions import Preconditions

DIGEST, OTHER = Digest.of(b"1"), Digest.of(b"2")


class PreconditionsTests(SynchronousTestCase):
    """
    The conditions alone.
    """

    def test_held(self) -> None:
        """
        A client has a manifest that its C{If-None-Match} names, quoted or not.
        """
        for field in (f'"{DIGEST}"', f'"x", W/"{DIGEST}"', str(DIGEST), "*"):
            self.assertTrue(Preconditions(None, field).holds(DIGEST), field)
        for absent in (None, "", f'"{OTHER}"', f"x{DIGEST}"):
            self.assertFalse(Preconditions(None, absent).holds(DIGEST), absent)

    def test_expected(self) -> None:
        """
        C{If-Match} names what has to be there; a weak tag proves nothing.
        """
        for field in (f'"{DIGEST}"', f'"x", "{DIGEST}"', "*", None):
            Preconditions(field, None).check(DIGEST, "app:1")
        for refused, present in (
            (f'"{OTHER}"', DIGEST),
            (f'W/"{DIGEST}"', DIGEST),
            ("", DIGEST),
            ("*", None),
            (f'"{DIGEST}"', None),
        ):
            self.assertRaises(PreconditionFailed, Preconditions(refused, None).check, present, "app:1")

    def test_changes(self) -> None:
        """
        C{If-None-Match} names what must not be there.
        """
        Preconditions(None, "*").check_change(None, "app:1")
        Preconditions(None, f'"{OTHER}"').check_change(DIGEST, "app:1")
        for field in ("*", f'"{DIGEST}"'):
            self.assertRaises(PreconditionFailed, Preconditions(None, field).check_change, DIGEST, "app:1")


class PullTests(RegistryCase):
    """
    Manifests of an upstream.
    """

    def test_pull(self) -> None:
        """
        A client that has the manifest gets no bytes, and one that expects another one an
        error.
        """
        digest = self.add(sample_image(1)).digest
        for headers, status in (
            ({"If-None-Match": str(digest)}, 304),
            ({"If-None-Match": '"x"'}, 200),
            ({"If-Match": f'"{digest}"'}, 200),
            ({"If-Match": '"x"'}, 412),
        ):
            for method in ("GET", "HEAD"):
                answer = self.request("/v2/app/manifests/latest", method, headers)
                self.assertEqual(answer.status, status, headers)


class BlobTests(RegistryCase):
    """
    Blobs of an upstream.
    """

    def setUp(self) -> None:
        """
        Have a blob that a manifest names.
        """
        super().setUp()
        self.blob = self.add(sample_image(1)).layers[0].blob
        self.request("/v2/app/manifests/latest")
        self.path = f"/v2/app/blobs/{self.blob.digest}"

    def test_held(self) -> None:
        """
        A proxy that has the blob gets no bytes, and none are fetched; one that has another
        representation gets all.
        """
        for method in ("GET", "HEAD"):
            held = {"If-None-Match": f'"{self.blob.digest}"', "Range": "bytes=0-9"}
            answer = self.request(self.path, method, held)
            self.assertEqual((answer.status, answer.body), (304, b""))
            self.assertEqual(answer.headers["etag"], f'"{self.blob.digest}"')
            self.assertEqual(self.request(self.path, method, {"If-Match": '"x"'}).status, 412)
        self.assertEqual(self.gets(self.blob.digest), 0)
        answer = self.request(self.path, headers={"If-None-Match": '"x"'})
        self.assertEqual((answer.status, answer.body), (200, self.blob.read()))

    def test_range(self) -> None:
        """
        A range for another representation than this one is ignored (RFC 9110, section 13.1.5).
        """
        for field, status in (
            (f'"{self.blob.digest}"', 206),
            ('"x"', 200),
            (f'W/"{self.blob.digest}"', 200),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ):
            answer = self.request(self.path, headers={"Range": "bytes=0-9", "If-Range": field})
            data = self.blob.read()
            self.assertEqual((answer.status, answer.body), (status, data[:10] if status == 206 else data))


class PushTests(UploadCase):
    """
    Manifests of an own repository.
    """

    url = "/v2/local/app/manifests/1"

    def setUp(self) -> None:
        """
        Push what two manifests name.
        """
        super().setUp()
        for data in (b"{}", b"layer", b"other"):
            self.push_blob(data)
        self.one, self.two = image(descriptor(b"layer")), image(descriptor(b"other"))

    def put(self, second: bool = False, **headers: str) -> int:
        """
        Push one of the manifests.
        """
        document = self.two if second else self.one
        fields = {"Content-Type": document.media_type, **{k.replace("_", "-"): v for k, v in headers.items()}}
        answer = self.request(self.url, "PUT", fields, document.data)
        if answer.status == 412:
            self.assert_error(answer, 412, "PRECONDITION_FAILED")
        else:
            self.assertEqual(answer.headers["etag"], f'"{document.digest}"')
        return answer.status

    def test_push(self) -> None:
        """
        A tag is created or replaced if it is as the client expects it.
        """
        self.assertEqual(self.put(If_Match="*"), 412)
        self.assertEqual(self.put(If_None_Match="*"), 201)
        self.assertEqual(self.put(second=True, If_None_Match="*"), 412)
        self.assertEqual(self.put(second=True, If_Match=f'"{self.two.digest}"'), 412)
        self.assertEqual(self.request(self.url).body, self.one.data)
        self.assertEqual(self.put(second=True, If_Match=f'"{self.one.digest}"'), 201)
        self.assertEqual(self.request(self.url).body, self.two.data)

    def test_at_once(self) -> None:
        """
        Of two clients that replace the same manifest at once, one does.
        """
        self.put()
        connections = []
        for document in (self.two, image(descriptor(b"layer"), descriptor(b"other"))):
            connection = self.connect()
            fields = {
                "Host": "localhost:5000",
                "Content-Type": document.media_type,
                "Content-Length": str(len(document.data)),
                "If-Match": f'"{self.one.digest}"',
            }
            connection.send("PUT", self.url, fields, document.data)
            connections.append(connection)
        self.settle()
        self.assertEqual(sorted(each.answer().status for each in connections), [201, 412])

    def test_delete(self) -> None:
        """
        A tag or manifest is deleted if it is as the client expects it.
        """
        self.put()
        for url in (self.url, f"/v2/local/app/manifests/{self.one.digest}"):
            self.assertEqual(self.request(url, "DELETE", {"If-Match": f'"{self.two.digest}"'}).status, 412)
            self.assertEqual(self.request(url, "DELETE", {"If-Match": f'"{self.one.digest}"'}).status, 202)
