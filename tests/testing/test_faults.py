"""
Tests for L{xferd.testing.faults}, in memory.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed, ResponseNeverReceived

from tests.testing.client import Client
from xferd.errors import UnsupportedImage
from xferd.oci import MAX_DOCUMENT, Document, parse_document
from xferd.testing.answers import BEFORE_HEADERS, Delivery
from xferd.testing.faults import (
    Drop,
    Fault,
    Faults,
    Flip,
    IgnoreRange,
    Redirect,
    SetHeader,
    ShiftRange,
    Shorten,
    Slow,
    Stall,
    huge_manifest,
    not_found,
    schema1_manifest,
    too_many_requests,
    unauthorized,
    unavailable,
    wrong_digest_header,
)
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry


class FaultTests(SynchronousTestCase):
    """
    Each fault, as often as it was planted.
    """

    def setUp(self) -> None:
        """
        Make a registry with an image.
        """
        self.clock = Clock()
        self.registry = Registry(self.clock)
        self.client = Client(self.registry, self.clock)
        self.image = sample_image(1, size=200_000)
        self.registry.add(self.image, "sample")
        self.blob = self.image.layers[0].blob
        self.data = self.blob.read()
        self.path = f"/v2/sample/blobs/{self.blob.digest}"

    def plant(self, fault: Fault) -> None:
        """
        Plant a fault for the next GET of the blob.
        """
        self.registry.faults.plant(fault, self.blob.digest)

    def assertWell(self) -> None:
        """
        The blob arrives without a fault.
        """
        self.assertEqual((200, self.data), ((reply := self.client.ask("GET", self.path)).status, reply.body))

    def test_drop_in_body(self) -> None:
        """
        The connection ends in the body.
        """
        for after in (0, 1, 100_000):
            self.plant(Drop(after))
            self.assertRaises(ResponseFailed, self.client.ask, "GET", self.path)
            self.assertEqual(self.data[:after], self.client.received)
            exchange = self.registry.log[-1]
            self.assertEqual((after, "broken"), (exchange.bytes_sent, exchange.state))
        self.assertWell()

    def test_drop_before_headers(self) -> None:
        """
        The connection ends before the headers.
        """
        self.plant(Drop())
        self.assertRaises(ResponseNeverReceived, self.client.ask, "GET", self.path)
        self.assertIsNone(self.registry.log[-1].status)
        self.assertWell()

    def test_reset(self) -> None:
        """
        The connection is reset after the bytes.
        """
        self.plant(Drop(10, reset=True))
        replied = self.client.begin("GET", self.path)
        self.client.flush()
        self.assertNoResult(replied)
        self.clock.advance(1)
        self.client.flush()
        self.failureResultOf(replied, ResponseFailed)
        self.assertWell()

    def test_stall(self) -> None:
        """
        A stall in the body or before the headers lasts until it is resumed.
        """
        for after in (BEFORE_HEADERS, 0, 100):
            self.plant(Stall(after))
            replied = self.client.begin("GET", self.path)
            self.client.flush()
            self.clock.advance(3600)
            self.client.flush()
            self.assertNoResult(replied)
            exchange = self.registry.log[-1]
            self.assertEqual((max(0, after), "open"), (exchange.bytes_sent, exchange.state))
            self.registry.resume()
            self.client.flush()
            self.assertEqual(self.data, self.successResultOf(replied).body)
        self.registry.resume()

    def test_slow(self) -> None:
        """
        A slow answer takes its time.
        """
        self.plant(Slow(1000))
        replied = self.client.begin("GET", self.path)
        exchange = self.registry.log[-1]
        for _ in range(100):
            self.clock.advance(0.1)
            self.client.flush()
        self.assertNoResult(replied)
        self.assertTrue(9_000 <= exchange.bytes_sent <= 11_000, exchange.bytes_sent)
        self.client.flush()
        while exchange.state == "open":
            self.clock.advance(1)
            self.client.flush()
        self.client.flush()
        self.assertEqual(self.data, self.successResultOf(replied).body)

    def test_rate_in_pieces(self) -> None:
        """
        An answer with a rate is sent in pieces of a useful size.
        """

        def passing() -> float:
            self.clock.rightNow += 1e-4
            return self.clock.rightNow

        pieces = 0
        read = Delivery._read

        def count(delivery: Delivery) -> bytes:
            nonlocal pieces
            pieces += 1
            return read(delivery)

        self.patch(self.clock, "seconds", passing)
        self.patch(Delivery, "_read", count)
        self.registry.rate = 100_000
        replied = self.client.begin("GET", self.path)
        while self.registry.log[-1].state == "open":
            self.clock.advance(0.01)
            self.client.flush()
        self.client.flush()
        self.assertEqual(self.data, self.successResultOf(replied).body)
        self.assertLess(pieces, len(self.data) / 2_000)

    def test_rate_of_small_answers(self) -> None:
        """
        A high rate does not delay small answers.
        """
        self.registry.rate = 1e9
        self.assertWell()

    def test_rate_of_registry(self) -> None:
        """
        A registry can have a rate, and a fault another one.
        """
        self.registry.rate = 1000
        replied = self.client.begin("GET", self.path)
        self.assertNoResult(replied)
        self.registry.rate = None
        self.assertWell()

    def test_flip(self) -> None:
        """
        One byte is corrupted, in a range, too.
        """
        for headers, start in (({}, 0), ({"Range": "bytes=70000-"}, 70_000)):
            self.plant(Flip(100_000))
            body = self.client.ask("GET", self.path, headers).body
            wrong = [
                n for n, pair in enumerate(zip(body, self.data[start:], strict=True)) if pair[0] != pair[1]
            ]
            self.assertEqual([100_000 - start], wrong)
        self.assertWell()

    def test_shorten(self) -> None:
        """
        Fewer bytes arrive, with matching headers.
        """
        self.plant(Shorten(10))
        reply = self.client.ask("GET", self.path)
        self.assertEqual((200, self.data[:10]), (reply.status, reply.body))

    def test_ignore_range(self) -> None:
        """
        The whole content arrives for a range; the log has the request.
        """
        self.plant(IgnoreRange())
        reply = self.client.ask("GET", self.path, {"Range": "bytes=5-"})
        self.assertEqual((200, self.data), (reply.status, reply.body))
        self.assertEqual("bytes=5-", self.registry.log[-1].range)

    def test_shift_range(self) -> None:
        """
        Content-Range differs from the sent bytes.
        """
        self.plant(ShiftRange(3))
        reply = self.client.ask("GET", self.path, {"Range": "bytes=5-9"})
        self.assertEqual((206, self.data[5:10]), (reply.status, reply.body))
        self.assertEqual(f"bytes 8-12/{len(self.data)}", reply.headers["content-range"])
        self.plant(ShiftRange(3))
        self.assertWell()

    def test_set_header(self) -> None:
        """
        A header has another value, or is missing.
        """
        path = "/v2/sample/manifests/latest"
        self.registry.faults.plant(SetHeader("content-type", "text/plain"), path)
        self.assertEqual("text/plain", self.client.ask("GET", path).headers["content-type"])
        self.registry.faults.plant(SetHeader("Docker-Content-Digest", None), path)
        self.assertNotIn("docker-content-digest", self.client.ask("GET", path).headers)
        self.registry.faults.plant(wrong_digest_header(), path)
        self.assertNotEqual(
            str(self.image.digest), self.client.ask("GET", path).headers["docker-content-digest"]
        )

    def test_redirect(self) -> None:
        """
        The client is redirected, or in a loop, with its query.
        """
        self.plant(Redirect("http://cdn.test", 302))
        self.plant(Redirect())
        one = self.client.ask("GET", f"{self.path}?a=%2F")
        two = self.client.ask("GET", f"{self.path}?a=%2F")
        self.assertEqual((302, f"http://cdn.test{self.path}?a=%2F"), (one.status, one.headers["location"]))
        self.assertEqual((307, f"{self.path}?a=%2F"), (two.status, two.headers["location"]))

    def test_other_answers(self) -> None:
        """
        The usual error answers of registries.
        """
        for fault, status, header, value in (
            (too_many_requests(), 429, "retry-after", None),
            (too_many_requests("7"), 429, "retry-after", "7"),
            (
                too_many_requests("Fri, 31 Dec 2027 23:59:59 GMT"),
                429,
                "retry-after",
                "Fri, 31 Dec 2027 23:59:59 GMT",
            ),
            (unavailable(), 503, "content-type", "text/html"),
            (unavailable(502, "3"), 502, "retry-after", "3"),
            (unauthorized(), 401, "www-authenticate", 'Basic realm="test"'),
            (not_found(), 404, "content-type", "application/json"),
        ):
            self.plant(fault)
            reply = self.client.ask("GET", self.path)
            self.assertEqual((status, value), (reply.status, reply.headers.get(header)))
            self.assertWell()

    def test_other_manifests(self) -> None:
        """
        Manifests can be old or huge.
        """
        path = "/v2/sample/manifests/latest"
        self.registry.faults.plant(schema1_manifest(), "manifests/latest")
        reply = self.client.ask("GET", path)
        document = Document.verified(reply.headers["content-type"], reply.body)
        self.assertRaises(UnsupportedImage, parse_document, document)
        self.registry.faults.plant(huge_manifest(), "manifests/latest")
        self.assertEqual(MAX_DOCUMENT + 1, len(self.client.ask("GET", path).body))

    def test_nothing_is_done(self) -> None:
        """
        An upload with a fault as its answer does not happen.
        """
        self.registry.faults.plant(unavailable(), method="POST")
        reply = self.client.ask("POST", f"/v2/new/blobs/uploads/?digest={self.blob.digest}", body=self.data)
        self.assertEqual(503, reply.status)
        self.assertNotIn("new", self.registry.storage.repositories)


class FaultsTests(SynchronousTestCase):
    """
    Faults for some requests.
    """

    def setUp(self) -> None:
        """
        Make an empty set of faults.
        """
        self.faults = Faults()

    def test_in_order(self) -> None:
        """
        One request meets one fault, the first that applies.
        """
        one, two = Drop(1), Drop(2)
        self.faults.plant(one, "/a", times=2)
        self.faults.plant(two, "/a")
        self.assertEqual([one, one, two], [self.faults.take("GET", "/x/a") for _ in range(3)])
        self.assertNotIsInstance(self.faults.take("GET", "/x/a"), Drop)

    def test_for_some(self) -> None:
        """
        Other paths and methods have no fault.
        """
        self.faults.plant(Drop(), "/a", method="HEAD")
        for method, path in (("GET", "/a"), ("HEAD", "/b")):
            self.assertNotIsInstance(self.faults.take(method, path), Drop)
        self.assertIsInstance(self.faults.take("HEAD", "/a"), Drop)

    def test_for_ever(self) -> None:
        """
        A fault without a number stays until all are cleared.
        """
        self.faults.plant(Drop(), times=None)
        for _ in range(5):
            self.assertIsInstance(self.faults.take("GET", "/"), Drop)
        self.faults.clear()
        self.assertNotIsInstance(self.faults.take("GET", "/"), Drop)
