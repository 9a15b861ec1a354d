"""
Tests for L{xferd.registry.manifests}, over a registry in memory.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.server import NOT_DONE_YET, Request

from tests.registry.cases import HOST, REPOSITORY, ClientCase
from tests.registry.fakes import failure_of, refuse
from xferd.errors import (
    BadDigest,
    BadDocument,
    BadReference,
    BlobUnknown,
    Denied,
    DigestMismatch,
    ManifestUnknown,
    RegistryError,
    RegistryUnavailable,
    SizeMismatch,
    SourceError,
    TimedOut,
    TooManyRequests,
    UnsupportedImage,
)
from xferd.media_types import ACCEPT, OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import MAX_DOCUMENT
from xferd.registry.client import Registries


class ManifestTests(ClientCase):
    """
    Manifests are fetched and checked.
    """

    def _manifest(self, wanted: str = "1") -> Deferred[object]:
        return self.repository.manifest(wanted)  # type: ignore[return-value]

    def test_by_tag_and_digest(self) -> None:
        """
        A tag and a digest select the same bytes, which are unchanged.
        """
        for wanted in ("1", str(Digest.of(self.sample.manifest))):
            document = self.successResultOf(self.repository.manifest(wanted))
            self.assertEqual(document.data, self.sample.manifest)
            self.assertEqual(document.media_type, OCI_MANIFEST)
            self.assertEqual(document.digest, Digest.of(self.sample.manifest))
        _, path, headers = self.server.log[0]
        self.assertEqual(path, "/v2/team/a/manifests/1")
        # All types on the first line, and one line for each.
        first, *lines = headers.getRawHeaders("Accept", [])
        self.assertEqual(first, ", ".join(lines))
        for media_type in ACCEPT:
            self.assertIn(media_type, lines)

    def test_warnings(self) -> None:
        """
        Each warning of the registry is reported each time, with the
        repository of the request.
        """
        told: list[tuple[Repository, str]] = []

        def warned(repository: Repository, text: str) -> None:
            told.append((repository, text))

        def warn(request: Request) -> None:
            request.setHeader("Warning", '299 - "gone soon"')

        self.server.fault = warn
        registries = Registries(self.clock, wall_clock=self.wall_clock, agent=self.agent, on_warning=warned)
        for _ in range(2):
            self.successResultOf(registries.repository(REPOSITORY).manifest("1"))
        self.assertEqual(told, [(REPOSITORY, "gone soon")] * 2)

    def test_other_algorithm(self) -> None:
        """
        The registry may send a digest by another algorithm than the
        requested one; both are verified.
        """
        digest = str(Digest.of(self.sample.manifest))

        def fault(request: Request) -> bytes:
            request.setHeader("Content-Type", OCI_MANIFEST)
            request.setHeader("Docker-Content-Digest", self.vouch)
            return self.sample.manifest

        self.server.fault = fault
        self.vouch = str(Digest.of(self.sample.manifest, "sha512"))
        self.successResultOf(self._manifest(digest))
        self.vouch = str(Digest.of(b"else", "sha512"))
        failure_of(self, self._manifest(digest), DigestMismatch)
        self.vouch = "md5:abc"
        self.successResultOf(self._manifest(digest))

    def test_sha512(self) -> None:
        """
        A manifest can be requested by sha512.
        """
        wanted = Digest.of(self.sample.manifest, "sha512")
        self.server.manifests[str(wanted)] = (OCI_MANIFEST, self.sample.manifest)
        document = self.successResultOf(self.repository.manifest(str(wanted)))
        self.assertEqual(document.digest, wanted)

    def test_wrong_bytes(self) -> None:
        """
        Bytes without the requested digest, or without the one that the
        registry sends, are refused.
        """
        other = str(Digest.of(b"other"))
        self.server.manifests[other] = (OCI_MANIFEST, self.sample.manifest)
        error = failure_of(self, self._manifest(other), DigestMismatch)
        self.assertIn("hub.example/team/a@sha256:", str(error))

    def test_unknown(self) -> None:
        """
        An image that is not there.
        """
        error = failure_of(self, self._manifest("2"), ManifestUnknown)
        self.assertIn("hub.example/team/a:2", str(error))

    def test_bad_names(self) -> None:
        """
        A name that is neither tag nor digest is not sent to the registry.
        """
        failure_of(self, self._manifest("../x"), BadReference)
        failure_of(self, self._manifest("md5:abc"), BadDigest)
        self.assertEqual(self.server.log, [])

    def test_schema1(self) -> None:
        """
        A schema 1 manifest is refused as such, though its digest is not that
        of its bytes.
        """
        media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
        wanted = str(Digest.of(b"payload"))
        self.server.manifests[wanted] = (media_type, b'{"schemaVersion": 1, "fsLayers": []}')
        self.assertIn("schema 1", str(failure_of(self, self._manifest(wanted), UnsupportedImage)))

    def test_too_large(self) -> None:
        """
        A manifest that is too large is refused.
        """
        self.server.manifests["1"] = (OCI_MANIFEST, b"x" * (MAX_DOCUMENT + 1))
        failure_of(self, self._manifest(), BadDocument)

    def test_encoded(self) -> None:
        """
        A manifest that was encoded all the same is refused.
        """

        def fault(request: Request) -> None:
            request.setHeader("Content-Encoding", "gzip")

        self.server.fault = fault
        self.assertIn("gzip", str(failure_of(self, self._manifest(), RegistryError)))

    def test_refusals(self) -> None:
        """
        Other answers become the errors that they stand for.
        """
        for status, kind in (
            (403, Denied),
            (429, TooManyRequests),
            (502, RegistryUnavailable),
            (400, RegistryError),
        ):

            def fault(request: Request, status: int = status) -> bytes:
                request.setHeader("Retry-After", "17")
                return refuse(request, status, "SOME_CODE", "some words")

            self.server.fault = fault
            error = failure_of(self, self._manifest(), kind)
            assert isinstance(error, SourceError)
            self.assertEqual((error.status, error.host), (status, HOST))
            self.assertIn("SOME_CODE: some words", str(error))
            self.assertEqual(error.retry_after, 17.0 if status in (429, 502) else None)

    def test_time(self) -> None:
        """
        The whole of a document has a limit, and can be cancelled.
        """
        self.server.fault = lambda _: NOT_DONE_YET
        waiting = self._manifest()
        self.clock.advance(50)
        failure_of(self, waiting, TimedOut)
        waiting = self._manifest()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_slow_document(self) -> None:
        """
        A document that arrives slowly fails after its time limit, however
        regularly bytes arrive.
        """
        requests: list[Request] = []

        def fault(request: Request) -> int:
            request.setHeader("Content-Length", "1000")
            request.write(b"x")
            requests.append(request)
            return NOT_DONE_YET

        self.server.fault = fault
        waiting = self._manifest()
        for _ in range(4):
            self.clock.advance(15)
            requests[0].write(b"x")
            self.agent.flush()
        error = failure_of(self, waiting, TimedOut)
        self.assertEqual(getattr(error, "phase", ""), "rate")


class ResolveTests(ClientCase):
    """
    The digest of a manifest.
    """

    def test_head(self) -> None:
        """
        A HEAD with all types finds it, for a tag and for a digest.
        """
        digest = Digest.of(self.sample.manifest)
        for wanted in ("1", str(digest)):
            self.assertEqual(self.successResultOf(self.repository.resolve(wanted)), digest)
        self.assertEqual({method for method, _, _ in self.server.log}, {"HEAD"})
        _, path, headers = self.server.log[0]
        self.assertEqual(path, "/v2/team/a/manifests/1")
        self.assertEqual(len(headers.getRawHeaders("Accept", [])), 1 + len(ACCEPT) + 3)

    def test_without_digest(self) -> None:
        """
        Where HEAD is refused or has no digest, the manifest is fetched.
        """

        def refuse_head(request: Request) -> bytes | None:
            return refuse(request, 405, "UNSUPPORTED", "no") if request.method == b"HEAD" else None

        def no_digest(request: Request) -> bytes | None:
            return b"" if request.method == b"HEAD" else None

        for fault in (refuse_head, no_digest):
            self.server.fault = fault
            found = self.successResultOf(self.repository.resolve("1"))
            self.assertEqual(found, Digest.of(self.sample.manifest))

    def test_failures(self) -> None:
        """
        Refusals, unknown manifests and wrong digests are errors.
        """
        failure_of(self, self.repository.resolve("2"), ManifestUnknown)
        failure_of(self, self.repository.resolve("a b"), BadReference)
        for status, kind in (
            (401, Denied),
            (403, Denied),
            (429, TooManyRequests),
            (500, RegistryUnavailable),
        ):
            self.server.fault = partial(refuse, status=status, code="X", message="no")
            failure_of(self, self.repository.resolve("1"), kind)

        def other(request: Request) -> bytes | None:
            request.setHeader("Docker-Content-Digest", str(Digest.of(b"other")))
            return b""

        self.server.fault = other
        wanted = str(Digest.of(self.sample.manifest))
        failure_of(self, self.repository.resolve(wanted, confirm=True), DigestMismatch)


class DocumentTests(ClientCase):
    """
    Configs are fetched whole and checked.
    """

    def test_fetched(self) -> None:
        """
        The bytes that the descriptor describes.
        """
        fetching = self.repository.config(self.describe(self.sample.config))
        self.assertEqual(self.successResultOf(fetching), self.sample.config)

    def test_wrong_size(self) -> None:
        """
        More or fewer bytes than in the descriptor are refused.
        """
        for size in (len(self.sample.config) - 1, len(self.sample.config) + 1):
            descriptor = self.describe(self.sample.config, size)
            failure_of(self, self.repository.config(descriptor), SizeMismatch)

    def test_wrong_digest(self) -> None:
        """
        Other bytes of the right size are refused.
        """
        self.server.blobs[str(Digest.of(b"abc"))] = b"abd"
        failure_of(self, self.repository.config(self.describe(b"abc")), DigestMismatch)

    def test_unknown(self) -> None:
        """
        A config that is not there.
        """
        failure_of(self, self.repository.config(self.describe(b"none")), BlobUnknown)

    def test_too_large(self) -> None:
        """
        A descriptor that is too large for a document is refused without a request.
        """
        descriptor = self.describe(b"x", MAX_DOCUMENT + 1)
        failure_of(self, self.repository.config(descriptor), BadDocument)
        self.assertEqual(self.server.log, [])
