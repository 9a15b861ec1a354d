"""
Tests for registries that deviate from the specification; each behaviour has
been observed.
"""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from tests.registry.cases import ME, ClientCase
from tests.registry.fakes import failure_of, refuse
from tests.registry.pushing import Bytes
from xferd.credentials import Credentials, Secret
from xferd.errors import Denied, ManifestUnknown, RegistryError
from xferd.interfaces.registry import Pushed
from xferd.names import Digest
from xferd.oci import Document


class AuthCase(ClientCase):
    """
    A registry with an unusual form of authentication.

    @ivar tokens: number of tokens that it issued.
    """

    tokens = 0

    def manifest(self, wanted: str = "1") -> Deferred[Document]:
        """
        Request a manifest.
        """
        return self.repository.manifest(wanted)

    def basic(self, request: Request) -> bool:
        """
        Whether a request has user and password.
        """
        self.server.user, self.server.password = ME.username, ME.password.reveal()
        proof = self.server.basic()
        self.server.user = ""
        return request.getHeader("Authorization") == proof

    def challenge(self, request: Request) -> bytes:
        """
        Send a challenge, or a token.
        """
        if request.path == b"/token":
            self.tokens += 1
            return json.dumps({"token": f"t{self.tokens}", "expires_in": 300}).encode()
        request.setHeader("WWW-Authenticate", 'Bearer realm="https://hub.example/token"')
        return refuse(request, 401, "UNAUTHORIZED", "no")


class RootTests(AuthCase):
    """
    Registries that ask for credentials at the root of their API only.
    """

    def test_hidden(self) -> None:
        """
        If anonymous requests get 403 or 404, credentials are sent once
        the root has demanded them; the root is requested once.
        """
        self.credentials = ME
        for status in (404, 403):

            def fault(request: Request, status: int = status) -> bytes | None:
                if self.basic(request):
                    return None
                if request.path == b"/v2/":
                    request.setHeader("WWW-Authenticate", 'Basic realm="Packages"')
                    return refuse(request, 401, "UNAUTHORIZED", "no")
                return refuse(request, status, "DENIED", "no")

            self.server.fault = fault
            self.server.log.clear()
            for _ in range(2):
                self.successResultOf(self.manifest())
            self.successResultOf(self.open_blob()).abandon()
            self.assertEqual(self.server.paths().count("/v2/"), 1)
            self.setUp()
            self.credentials = ME

    def test_token(self) -> None:
        """
        The challenge at the root may require a token.
        """
        self.credentials = ME

        def fault(request: Request) -> bytes | None:
            if request.path in (b"/v2/", b"/token"):
                return self.challenge(request)
            if request.getHeader("Authorization") == "Bearer t1":
                return None
            return refuse(request, 404, "NAME_UNKNOWN", "no")

        self.server.fault = fault
        self.successResultOf(self.manifest())

    def test_open(self) -> None:
        """
        A root without a challenge is not requested again, and without
        credentials none is.
        """
        for credentials, count in ((ME, 1), (None, 0)):
            self.setUp()
            self.credentials = credentials
            for _ in range(3):
                failure_of(self, self.manifest("2"), ManifestUnknown)
            self.assertEqual(self.server.paths().count("/v2/"), count)

    def test_bare(self) -> None:
        """
        After a 401 without a challenge the root is requested, also
        without credentials: there may be anonymous tokens.
        """

        def fault(request: Request) -> bytes | None:
            if request.path in (b"/v2/", b"/token"):
                return self.challenge(request)
            return None if request.getHeader("Authorization") else refuse(request, 401, "NO", "no")

        self.server.fault = fault
        self.successResultOf(self.manifest())
        self.assertEqual(self.server.log[-1][2].getRawHeaders("Authorization"), ["Bearer t1"])

    def test_bare_everywhere(self) -> None:
        """
        If the root has no challenge either, the request is denied.
        """
        self.server.fault = lambda request: refuse(request, 401, "NO", "no")
        for _ in range(2):
            failure_of(self, self.manifest(), Denied)
        self.assertEqual(self.server.paths().count("/v2/"), 1)


class ExpiryTests(AuthCase):
    """
    Registries with an unusual response to an expired token.
    """

    status = 401
    valid = "Bearer t1"

    def serve(self, request: Request) -> bytes | None:
        """
        Take one token only.
        """
        sent = request.getHeader("Authorization")
        if request.path == b"/token" or sent is None:
            return self.challenge(request)
        return None if sent == self.valid else refuse(request, self.status, "EXPIRED", "no")

    def test_one_new_token(self) -> None:
        """
        After a bare 401, or a 400, one new token is tried.
        """
        for status in (401, 400):
            self.setUp()
            self.status, self.valid, self.tokens = status, "Bearer t1", 0
            self.server.fault = self.serve
            self.successResultOf(self.manifest())
            self.clock.advance(60)
            self.valid = "Bearer t2"
            self.successResultOf(self.manifest())
            self.assertEqual(self.tokens, 2)
            self.clock.advance(60)
            self.valid = "Bearer other"
            failure_of(self, self.manifest(), Denied if status == 401 else RegistryError)
            self.assertEqual(self.tokens, 3)

    def test_other_400(self) -> None:
        """
        A 400 to a token that was just made has another cause.
        """
        self.server.fault = self.serve
        self.successResultOf(self.manifest())
        self.status, self.valid = 400, "Bearer t2"
        failure_of(self, self.manifest(), RegistryError)
        self.assertEqual(self.tokens, 1)

    def test_new_password(self) -> None:
        """
        After a helper's password has expired, the helper runs again,
        and another password is tried.
        """
        self.credentials = ME

        def fault(request: Request) -> bytes | None:
            if not request.getHeader("Authorization"):
                request.setHeader("WWW-Authenticate", "Basic")
                return refuse(request, 401, "NO", "no")
            if self.basic(request):
                return None
            # The helper's answer from now on.
            self.credentials = ME
            return refuse(request, 400, "EXPIRED", "your authorization token has expired")

        self.server.fault = fault
        self.successResultOf(self.manifest())
        self.credentials = Credentials(ME.username, Secret("old"))
        self.successResultOf(self.manifest())


class UploadTests(AuthCase):
    """
    Upload sessions at such registries.
    """

    def test_expired(self) -> None:
        """
        A session whose token has expired, with a 401 without a challenge or
        with a 400, continues with a new token.
        """
        for status in (401, 400):
            self.setUp()
            self.tokens = 0
            self.assertEqual(self.successResultOf(self._push(status)), Pushed("uploaded"))
            self.assertEqual(self.tokens, 2)

    def test_refused_for_ever(self) -> None:
        """
        A 400 that a new token does not change is the error.
        """
        failure_of(self, self._push(400, "Bearer t3"), RegistryError)
        self.assertEqual(self.tokens, 2)

    def _push(self, status: int, valid: str = "Bearer t2") -> Deferred[Pushed]:
        """
        Push a blob to a registry that takes its bytes with one token only.
        """

        def fault(request: Request) -> bytes | None:
            sent = request.getHeader("Authorization")
            if request.path == b"/token" or sent is None:
                return self.challenge(request)
            if request.method == b"HEAD":
                request.setResponseCode(404)
                return b""
            if request.method == b"PUT" and sent != valid:
                return refuse(request, status, "EXPIRED", "no")
            if request.method == b"POST":
                # No token expires at once.
                self.clock.advance(10)
            request.setResponseCode({b"POST": 202, b"PUT": 201}.get(request.method, 204))
            request.setHeader("Location", "/v2/team/a/blobs/uploads/1")
            request.setHeader("Range", "0-0")
            return b""

        self.server.fault = fault
        target = self.repository
        pushing = target.push(Digest.of(b"small"), Bytes(b"small"), [], None, lambda _: None, lambda _: None)
        for _ in range(100):
            self.agent.flush()
        return pushing


class StorageTests(ClientCase):
    """
    Storage behind a registry.
    """

    def test_expired_url(self) -> None:
        """
        Instead of a signed URL that has expired, another one is
        requested once, if the storage answers 400, 401 or 403.
        """
        for status in (400, 401, 403):
            self.setUp()
            made: list[str] = []

            def fault(request: Request, status: int = status, made: list[str] = made) -> bytes | None:
                if request.path.startswith(b"/storage/"):
                    return b"blob" if request.path == b"/storage/2" else refuse(request, status, "NO", "no")
                if b"/blobs/" in request.path:
                    made.append("")
                    request.setResponseCode(307)
                    request.setHeader("Location", f"https://storage.example/storage/{len(made)}")
                    return b""
                return None

            self.server.fault = fault
            self.assertEqual(self.read_body(self.successResultOf(self.open_blob())), b"blob")
