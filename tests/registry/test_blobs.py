"""
Tests for L{xferd.registry.blobs}, over a registry in memory.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.server import NOT_DONE_YET, Request

from tests.registry.cases import ME, ClientCase
from tests.registry.fakes import failure_of, refuse, send_range
from xferd.errors import (
    BlobUnknown,
    Denied,
    RegistryError,
    RegistryUnavailable,
    SizeMismatch,
    TooManyRequests,
    Truncated,
)


class BlobTests(ClientCase):
    """
    Blobs are opened at any offset, and invalid responses are refused.
    """

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        def fault(request: Request) -> bytes:
            request.setResponseCode(status)
            for name, value in headers.items():
                request.setHeader(name.replace("_", "-"), value)
            return body

        self.server.fault = fault

    def test_whole(self) -> None:
        """
        From offset 0, no range is requested.
        """
        body = self.successResultOf(self.open_blob())
        self.assertEqual((body.start, body.total), (0, 1000))
        self.assertEqual(self.read_body(body), self.sample.layer)
        self.assertIsNone(self.server.log[0][2].getRawHeaders("Range"))
        self.assertEqual(self.server.log[0][2].getRawHeaders("Accept-Encoding"), ["identity"])

    def test_rest(self) -> None:
        """
        From an offset on, the rest comes.
        """
        body = self.successResultOf(self.open_blob(990))
        self.assertEqual((body.start, body.total), (990, 1000))
        self.assertEqual(self.read_body(body), self.sample.layer[990:])

    def test_part(self) -> None:
        """
        A part reaches up to the end that was requested, and has the
        whole's size.
        """
        for offset, end in ((0, 10), (700, 800), (990, 1005)):
            body = self.successResultOf(self.open_blob(offset, end))
            self.assertEqual((body.start, body.total), (offset, 1000))
            self.assertEqual(self.read_body(body), self.sample.layer[offset:end])
            self.assertEqual(self.server.log[-1][2].getRawHeaders("Range"), [f"bytes={offset}-{end - 1}"])

    def test_part_of_unknown_length(self) -> None:
        """
        Without a length in the framing, the range has the length of a part.
        """

        def fault(request: Request) -> int:
            request.setResponseCode(206)
            request.setHeader("Content-Range", "bytes 5-9/1000")
            request.write(b"123")
            request.finish()
            return NOT_DONE_YET

        self.server.fault = fault
        body = self.successResultOf(self.open_blob(5, 10))
        failure_of(self, body.deliver(lambda _: None), Truncated)

    def test_range_ignored(self) -> None:
        """
        A registry that ignores Range is recognised by the start.
        """
        self._answer(200, self.sample.layer)
        body = self.successResultOf(self.open_blob(990))
        self.assertEqual((body.start, body.total), (0, 1000))

    def test_behind_the_end(self) -> None:
        """
        A 416 means that the blob is shorter, and has its size.
        """
        self.assertIn("1000 bytes", str(failure_of(self, self.open_blob(1000), SizeMismatch)))

    def _no_ranges(self, status: int, body: bytes = b"", **headers: str) -> None:
        """
        Send an odd response to a request for a part.
        """

        def fault(request: Request) -> bytes:
            if request.getHeader("Range") is None:
                return self.sample.layer
            request.setResponseCode(status)
            for name, value in headers.items():
                request.setHeader(name.replace("_", "-"), value)
            return body

        self.server.fault = fault

    def test_no_ranges(self) -> None:
        """
        From a server that answers a request for a part as if it could not
        understand it, or did not have the blob, the whole comes.
        """
        for status in (400, 403, 404, 405, 406, 416, 501):
            self._no_ranges(status)
            body = self.successResultOf(self.open_blob(990))
            self.assertEqual((body.start, body.total), (0, 1000), status)
            self.assertEqual(self.read_body(body), self.sample.layer)
        self._no_ranges(416, Content_Range="bytes */1000")
        self.assertEqual(self.successResultOf(self.open_blob(990)).start, 0)

    def test_wrong_range(self) -> None:
        """
        A 206 without its range, or with another than the requested one,
        is dropped, and the whole is requested.
        """
        for given in (
            "",
            "990-999/1000",
            "items 990-999/1000",
            "bytes 0-9/1000",
            "bytes 990-994/1000",
            "bytes 990-999/1000, 1-2",
            "junk",
        ):
            self._no_ranges(206, b"x" * 5, Content_Range=given)
            body = self.successResultOf(self.open_blob(990))
            self.assertEqual((body.start, body.total), (0, 1000), given)
            self.assertEqual(self.read_body(body), self.sample.layer)
        self._no_ranges(206, self.sample.layer[990:])
        self.assertEqual(self.successResultOf(self.open_blob(990)).start, 0)

    def test_wrong_part(self) -> None:
        """
        The same holds for more than the requested part, or less, also if only
        the headers differ.
        """
        self._no_ranges(206, b"x" * 10, Content_Range="bytes 990-999/1000")
        self.assertEqual(self.successResultOf(self.open_blob(990, 995)).start, 0)
        self._no_ranges(206, b"x" * 5, Content_Range="bytes 990-994/1000")
        self.assertEqual(self.successResultOf(self.open_blob(990, 999)).start, 0)

    def test_no_ranges_and_no_blob(self) -> None:
        """
        The server's error for the whole is reported; after a temporary
        error, the whole is not requested.
        """
        self._answer(404)
        failure_of(self, self.open_blob(990), BlobUnknown)
        self._answer(403)
        failure_of(self, self.open_blob(990), Denied)
        self._answer(206, b"x", Content_Range="bytes 0-0/1")
        failure_of(self, self.open_blob(0), RegistryError)
        self._no_ranges(503)
        failure_of(self, self.open_blob(990), RegistryUnavailable)

    def test_short_body(self) -> None:
        """
        A body that ends early is a truncation.
        """

        def fault(request: Request) -> int:
            request.setHeader("Content-Length", "1000")
            request.write(self.sample.layer[:300])
            assert request.transport is not None
            request.transport.loseConnection()
            return NOT_DONE_YET

        self.server.fault = fault
        body = self.successResultOf(self.open_blob())
        failure_of(self, body.deliver(lambda _: None), Truncated)

    def test_encoded(self) -> None:
        """
        Bytes with a C{Content-Encoding} are used unchanged: some storage sets
        it for gzipped layers, and the digest decides.
        """
        self._answer(200, b"\x1f\x8bjunk", Content_Encoding="gzip")
        self.assertEqual(self.read_body(self.successResultOf(self.open_blob())), b"\x1f\x8bjunk")

    def test_unknown(self) -> None:
        """
        A blob that is not there, and statuses that mean nothing here.
        """
        self.server.blobs.clear()
        failure_of(self, self.open_blob(), BlobUnknown)
        self._answer(204)
        failure_of(self, self.open_blob(), RegistryError)

    def _confirm(self) -> Deferred[int | None]:
        return self.repository.confirm(self.digest)

    def test_confirmed(self) -> None:
        """
        The right to read a blob is confirmed without a byte of it.
        """
        self.assertEqual(self.successResultOf(self._confirm()), len(self.sample.layer))
        self.assertEqual([method for method, _, _ in self.server.log], ["HEAD"])

    def test_not_confirmed(self) -> None:
        """
        A refusal is reported as that of the blob would be.
        """
        for status, kind in ((404, BlobUnknown), (403, Denied), (429, TooManyRequests)):
            self._answer(status)
            failure_of(self, self._confirm(), kind)

    def test_no_head(self) -> None:
        """
        From a registry without HEAD, the blob is requested and dropped.
        """

        def fault(request: Request) -> bytes | None:
            if request.method == b"HEAD":
                request.setResponseCode(405)
                return b""
            return None

        self.server.fault = fault
        self.assertEqual(self.successResultOf(self._confirm()), len(self.sample.layer))
        self.assertEqual([method for method, _, _ in self.server.log], ["HEAD", "GET"])

    def test_confirming_cancelled(self) -> None:
        """
        The question can be called off.
        """
        self.server.fault = lambda _: NOT_DONE_YET
        asking = self._confirm()
        asking.cancel()
        self.failureResultOf(asking, CancelledError)

    def test_abandoned(self) -> None:
        """
        A body can be dropped unread.
        """
        body = self.successResultOf(self.open_blob())
        body.abandon()
        body.abandon()

    def test_cancelled(self) -> None:
        """
        Opening can be cancelled.
        """
        self.server.fault = lambda _: NOT_DONE_YET
        opening = self.open_blob()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)


class StorageTests(ClientCase):
    """
    Registries keep blobs elsewhere.
    """

    def setUp(self) -> None:
        """
        Let the registry redirect to storage, whose URLs carry a signature.
        """
        super().setUp()
        self.signature = 0
        self.refusals = 0
        self.status = 403
        self.server.user, self.server.password = "me", "hunter2"
        self.credentials = ME
        self.server.fault = self._fault
        self.stored: list[tuple[str | None, str | None]] = []

    def _fault(self, request: Request) -> bytes | None:
        if request.path.startswith(b"/storage/"):
            self.stored.append((request.getHeader("Authorization"), request.getHeader("Range")))
            if self.refusals:
                self.refusals -= 1
                return refuse(request, self.status, "Expired", "signature")
            request.setHeader("Content-Type", "binary/octet-stream")
            return send_range(request, self.sample.layer)
        if request.getHeader("Authorization") == self.server.basic():
            self.signature += 1
            request.setResponseCode(307)
            request.setHeader("Location", f"https://cdn.example/storage/x?Signature={self.signature}")
            return b"moved"
        return None

    def test_redirected(self) -> None:
        """
        Storage gets the range, and no credentials.
        """
        body = self.successResultOf(self.open_blob(995))
        self.assertEqual(self.read_body(body), self.sample.layer[995:])
        self.assertEqual(self.stored, [(None, "bytes=995-")])

    def test_expired(self) -> None:
        """
        When storage refuses, another URL is requested of the registry, once.
        """
        for self.status in (401, 403):
            self.refusals = 1
            before = self.signature
            self.assertEqual(self.read_body(self.successResultOf(self.open_blob())), self.sample.layer)
            self.assertEqual(self.signature, before + 2)

    def test_refused(self) -> None:
        """
        When it refuses again, that is no matter of credentials.
        """
        self.refusals = 2
        error = failure_of(self, self.open_blob(), RegistryError)
        self.assertIn("cdn.example", str(error))
        self.assertNotIn("Signature", str(error))
        self.assertNotIsInstance(error, Denied)

    def test_asked_again(self) -> None:
        """
        A second request goes to the registry again, not to a remembered URL.
        """
        for _ in range(2):
            self.read_body(self.successResultOf(self.open_blob(10)))
        self.assertEqual(self.signature, 2)

    def test_trouble(self) -> None:
        """
        Storage's other troubles are the source's.
        """
        for self.status, kind in ((404, BlobUnknown), (429, TooManyRequests), (503, RegistryUnavailable)):
            self.refusals = 1
            failure_of(self, self.open_blob(), kind)
