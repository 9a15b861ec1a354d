"""
Tests for L{xferd.v2.app}: pulls through the mirror.
"""

from __future__ import annotations

from tests.jobs.case import HOST
from tests.v2.case import RegistryCase
from xferd.errors import (
    BlobUnknown,
    ConnectionFailed,
    Denied,
    RegistryUnavailable,
    SourceError,
    TimedOut,
    TooManyRequests,
)
from xferd.names import Digest
from xferd.testing.images import sample_image
from xferd.testing.layers import Blob
from xferd.v2.settings import ANY_PUBLIC, RegistrySettings, UpstreamSettings


class PullTests(RegistryCase):
    """
    Manifests and blobs of an upstream.
    """

    def setUp(self) -> None:
        """
        Put an image into the upstream.
        """
        super().setUp()
        self.image = self.add(sample_image(1))
        self.layer: Blob = self.image.layers[0].blob

    def test_ping(self) -> None:
        """
        The root tells that this is a registry.
        """
        answer = self.request("/v2/")
        self.assertEqual((answer.status, answer.json()), (200, {}))
        self.assertEqual(answer.headers["docker-distribution-api-version"], "registry/2.0")

    def test_no_slash(self) -> None:
        """
        The root without its last slash is the root: a redirect would need a URL, which clients
        behind a proxy cannot use.
        """
        for path in ("/v2", "/up/v2"):
            answer = self.request(path)
            self.assertEqual((answer.status, answer.json()), (200, {}), path)

    def test_wrong_method(self) -> None:
        """
        A method that a path does not have is refused with those that it has.
        """
        for path, method, allowed in (
            ("/v2/", "POST", "GET, HEAD"),
            ("/v2/app/manifests/1", "PATCH", "DELETE, GET, HEAD, PUT"),
            ("/v2/app/blobs/uploads/", "PUT", "POST"),
        ):
            answer = self.request(path, method)
            self.assertEqual((answer.status, answer.headers["allow"]), (405, allowed), path)
            (error,) = answer.json()["errors"]
            self.assertEqual(error["code"], "UNSUPPORTED")
            self.assertEqual(error["message"], f"{path} does not support {method}; it supports {allowed}")

    def test_manifest(self) -> None:
        """
        A manifest comes byte for byte, with its type, length and digest, by every
        form of the path.
        """
        for path in (
            "/v2/app/manifests/latest",
            "/v2/up/app/manifests/latest",
            f"/v2/{HOST}/app/manifests/latest",
            "/up/v2/app/manifests/latest",
            f"/v2/app/manifests/latest?ns={HOST}",
            f"/v2/app/manifests/{self.image.digest}",
            f"/v2/app/manifests/{str(self.image.digest).replace(':', '%3A')}",
        ):
            answer = self.request(path)
            self.assertEqual((answer.status, answer.body), (200, self.image.manifest.data), path)
            self.assertEqual(answer.headers["content-type"], self.image.manifest.media_type)
            self.assertEqual(answer.headers["content-length"], str(len(answer.body)))
            self.assertEqual(answer.headers["docker-content-digest"], str(self.image.digest))
            self.assertEqual(answer.headers["etag"], f'"{self.image.digest}"')
            self.assertEqual(answer.headers["oci-namespace"], HOST if "ns=" in path else None)

    def test_namespace(self) -> None:
        """
        Each response of the upstream that C{ns} chose names it, also errors and lists.
        """
        for path, status in (
            ("manifests/latest", 200),
            ("manifests/none", 404),
            (f"blobs/{self.layer.digest}", 200),
            (f"blobs/{Digest.of(b'none')}", 404),
            ("tags/list", 200),
            (f"referrers/{self.image.digest}", 200),
        ):
            answer = self.request(f"/v2/app/{path}?ns={HOST}")
            self.assertEqual((answer.status, answer.headers["oci-namespace"]), (status, HOST), path)
        self.assertIsNone(self.request("/v2/app/tags/list?ns=other.example").headers["oci-namespace"])
        # An upstream in the path has precedence.
        for other in ("%C3%A9", "a%0D%0Ab", "x" * 500):
            answer = self.request(f"/v2/{HOST}/app/tags/list?ns={other}")
            self.assertEqual((answer.status, answer.headers["oci-namespace"]), (200, HOST), other)

    def test_manifest_head(self) -> None:
        """
        HEAD has the same headers and no body.
        """
        answer = self.request("/v2/app/manifests/latest", "HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.headers["content-length"], str(len(self.image.manifest.data)))

    def test_not_modified(self) -> None:
        """
        A client that has the manifest gets no bytes.
        """
        for field in (f'"{self.image.digest}"', f'"x", W/"{self.image.digest}"', "*"):
            answer = self.request("/v2/app/manifests/latest", headers={"If-None-Match": field})
            self.assertEqual((answer.status, answer.body), (304, b""))
            self.assertEqual(answer.headers["docker-content-digest"], str(self.image.digest))
        answer = self.request("/v2/app/manifests/latest", headers={"If-None-Match": '"x"'})
        self.assertEqual(answer.status, 200)

    def test_refusals(self) -> None:
        """
        What the upstream refuses is not here, so that a client asks the upstream
        itself; what passes has a C{Retry-After}.
        """
        cases: tuple[tuple[SourceError, int, str | None], ...] = (
            (Denied("no", host=HOST, status=401), 404, None),
            (Denied("no", host=HOST, status=403), 404, None),
            (TooManyRequests("slow", host=HOST, status=429), 404, None),
            (RegistryUnavailable("no", host=HOST, status=500), 502, "5"),
            (ConnectionFailed("no", host=HOST), 502, "5"),
            (TimedOut("no", phase="headers", host=HOST), 504, "5"),
            (TooManyRequests("slow", host=HOST, status=429, retry_after=7.0), 404, "7"),
        )
        for number, (error, status, again) in enumerate(cases):
            tag = f"t{number}"
            self.registry.gate.fail("manifest", error, tag, times=2)
            connection = self.connect()
            connection.send("GET", f"/v2/app/manifests/{tag}", {"Host": "localhost"})
            self.wait(0.5)
            answer = connection.answer()
            self.assertEqual((answer.status, answer.headers["retry-after"]), (status, again), error)
            limited = '299 - "slow"' if isinstance(error, TooManyRequests) else None
            self.assertEqual(answer.headers["warning"], limited, error)

    def test_stale(self) -> None:
        """
        A tag that cannot be checked comes with a warning.
        """
        self.request("/v2/app/manifests/latest")
        for blob in self.image.blobs:
            self.request(f"/v2/app/blobs/{blob.digest}")
        self.wait(61)
        self.registry.gate.fail("resolve", TooManyRequests("slow", host=HOST, status=429))
        answer = self.request("/v2/app/manifests/latest")
        self.assertEqual((answer.status, answer.body), (200, self.image.manifest.data))
        self.assertRegex(answer.headers["warning"], r'^299 - ".*:latest is as it was 1 minute ago: .*"$')

    def test_blob(self) -> None:
        """
        A blob comes with its length, and the upstream sends it once.
        """
        self.request("/v2/app/manifests/latest")
        for _ in range(2):
            answer = self.request(f"/v2/app/blobs/{self.layer.digest}")
            self.assertEqual((answer.status, answer.body), (200, self.layer.read()))
            self.assertEqual(answer.headers["content-type"], "application/octet-stream")
            self.assertEqual(answer.headers["accept-ranges"], "bytes")
            self.assertEqual(answer.headers["docker-content-digest"], str(self.layer.digest))
        self.assertEqual(self.gets(self.layer.digest), 1)
        self.assert_idle()

    def test_blob_range(self) -> None:
        """
        A range comes as 206, and one without bytes is 416.
        """
        self.request("/v2/app/manifests/latest")
        path, data = f"/v2/app/blobs/{self.layer.digest}", self.layer.read()
        answer = self.request(path, headers={"Range": "bytes=10-19"})
        self.assertEqual((answer.status, answer.body), (206, data[10:20]))
        self.assertEqual(answer.headers["content-range"], f"bytes 10-19/{len(data)}")
        answer = self.request(path, headers={"Range": f"bytes={len(data)}-"})
        self.assertEqual(answer.status, 416)
        self.assertEqual(answer.headers["content-range"], f"bytes */{len(data)}")

    def test_blob_errors(self) -> None:
        """
        A blob that cannot be had is an error with a status, and no body that breaks.
        """
        self.request("/v2/app/manifests/latest")
        cases: tuple[tuple[SourceError, int], ...] = (
            (Denied("no", host=HOST, status=403), 404),
            (BlobUnknown("no", host=HOST, status=404), 404),
            (TooManyRequests("no", host=HOST, status=429, retry_after=1000.0), 404),
            (RegistryUnavailable("no", host=HOST, status=500), 502),
            (ConnectionFailed("no", host=HOST), 502),
            (TimedOut("no", phase="headers", host=HOST), 504),
        )
        for error, status in cases:
            self.registry.gate.fail("open", error, times=9)
            connection = self.connect()
            connection.send("GET", f"/v2/app/blobs/{self.layer.digest}", {"Host": "localhost"})
            self.wait(4)
            answer = connection.answer()
            self.assertEqual(answer.status, status, error)
            self.assertIsNone(answer.headers["docker-content-digest"])
            self.registry.gate.mend()

    def test_blob_other_size(self) -> None:
        """
        A blob of another size than its manifest's is the upstream's error.
        """
        self.request("/v2/app/manifests/latest")
        self.registry.corrupt(self.layer.digest, b"x", times=9)
        answer = self.request(f"/v2/app/blobs/{self.layer.digest}")
        self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (502, "UNAVAILABLE"))

    def test_blob_head(self) -> None:
        """
        HEAD of a blob asks the upstream once, and fetches nothing; what is in the store or
        arrives needs no question.
        """
        self.request("/v2/app/manifests/latest")
        self.registry.put_blob("app", Digest.of(b"loose"), b"loose")
        for digest, size in ((self.layer.digest, len(self.layer.read())), (Digest.of(b"loose"), 5)):
            for _ in range(2):
                answer = self.request(f"/v2/app/blobs/{digest}", "HEAD")
                self.assertEqual((answer.status, answer.headers["content-length"]), (200, str(size)))
                self.assertEqual(answer.body, b"")
            self.assertEqual((self.gets(digest), self.registry.count("confirm", digest)), (0, 1))
        config = self.image.config.digest
        self.request(f"/v2/app/blobs/{config}")
        self.registry.remove_blob("app", config)
        self.assertEqual(self.request(f"/v2/app/blobs/{config}", "HEAD").status, 200)
        self.assertEqual(self.registry.count("confirm", config), 0)

    def test_blob_head_arrives(self) -> None:
        """
        HEAD of a blob that arrives asks nothing.
        """
        self.request("/v2/app/manifests/latest")
        self.registry.stall(self.layer.digest)
        connection = self.connect()
        connection.send("GET", f"/v2/app/blobs/{self.layer.digest}", {"Host": "localhost"})
        self.settle()
        self.assertEqual(self.request(f"/v2/app/blobs/{self.layer.digest}", "HEAD").status, 200)
        self.assertEqual(self.registry.count("confirm", self.layer.digest), 0)
        self.registry.finish(self.layer.digest)
        self.settle()

    def test_blob_head_gone(self) -> None:
        """
        HEAD is no success for a blob that GET could not send: the upstream has lost it, refuses
        it, or does not answer.
        """
        self.request("/v2/app/manifests/latest")
        path = f"/v2/app/blobs/{self.layer.digest}"
        self.registry.gate.fail("confirm", ConnectionFailed("no", host=HOST), times=9)
        connection = self.connect()
        connection.send("HEAD", path, {"Host": "localhost"})
        self.wait(4)
        self.assertEqual(connection.answer().status, 502)
        self.registry.gate.mend()
        self.registry.remove_blob("app", self.layer.digest)
        self.assertEqual(self.request(path, "HEAD").status, 404)

    def test_own_request(self) -> None:
        """
        A request that this daemon itself makes, as an upstream is its own registry, is
        refused at once; own repositories are not concerned.
        """
        own = {"X-Xferd-Via": "1234"}
        for path in ("manifests/latest", f"blobs/{Digest.of(b'')}", "tags/list"):
            answer = self.request(f"/v2/app/{path}", headers=own)
            self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (508, "UNAVAILABLE"))
        self.assertEqual(self.registry.requests, [])
        self.assertEqual(self.request("/v2/local/app/tags/list", headers=own).status, 404)
        self.add(sample_image(1))
        self.assertEqual(
            self.request("/v2/app/manifests/latest", headers={"X-Xferd-Via": "other"}).status, 200
        )

    def test_names(self) -> None:
        """
        A name may have components that are words of the API: the last one counts.
        """
        for name in ("manifests/app", "a/manifests/b", "a/blobs/b", "blobs/tags/list", "v2/app"):
            image = self.add(sample_image(2), name)
            for path in (f"/v2/{name}", f"/v2/{HOST}/{name}", f"/up/v2/{name}"):
                answer = self.request(f"{path}/manifests/latest")
                self.assertEqual((answer.status, answer.body), (200, image.manifest.data), path)
                blob = image.layers[0].blob
                answer = self.request(f"{path}/blobs/{str(blob.digest).replace(':', '%3A')}")
                self.assertEqual((answer.status, answer.body), (200, blob.read()), path)

    def test_unknown(self) -> None:
        """
        What is not there is 404, with a code of the specification.
        """
        for path, code in (
            ("/v2/app/manifests/none", "MANIFEST_UNKNOWN"),
            (f"/v2/app/blobs/{Digest.of(b'x')}", "BLOB_UNKNOWN"),
            ("/v2/quay.io/app/manifests/latest", "NAME_UNKNOWN"),
            ("/v2/nothing", "NAME_UNKNOWN"),
        ):
            answer = self.request(path)
            self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (404, code), path)
        (error,) = self.request("/v2/nothing").json()["errors"]
        self.assertEqual(error["message"], "/v2/nothing does not exist")

    def test_counted(self) -> None:
        """
        Hits, misses and bytes are counted for the upstream.
        """
        blob = f"/v2/app/blobs/{self.layer.digest}"
        self.request("/v2/app/manifests/latest")
        for headers in ({}, {"Range": "bytes=0-9"}, {}):
            self.request(blob, headers=headers)
        figures = self.jobs.figures().upstreams[HOST]
        size = self.layer.descriptor.size
        self.assertEqual((figures.hits, figures.misses, figures.stale), (2, 2, 0))
        self.assertEqual((figures.sent, figures.fetched), (2 * size + 10, size))

    def test_client_leaves(self) -> None:
        """
        A client that leaves does not end the fill: the next one finds the blob.
        """
        self.request("/v2/app/manifests/latest")
        self.registry.stall(self.layer.digest)
        connection = self.connect()
        connection.send("GET", f"/v2/app/blobs/{self.layer.digest}", {"Host": "localhost"})
        self.settle()
        connection.lose()
        self.registry.finish(self.layer.digest)
        self.settle()
        self.assertTrue(self.store.blobs.has(self.layer.digest))
        self.assert_idle()


class RateLimitTests(RegistryCase):
    """
    An upstream whose rate limit clients see.
    """

    settings = RegistrySettings(default=HOST, upstreams={HOST: UpstreamSettings(on_ratelimit="429")})

    def test_told(self) -> None:
        """
        They get its status, and when to come back.
        """
        image = self.add(sample_image(1))
        blob = image.layers[0].blob.digest
        for path, call in (
            ("manifests/latest", "manifest"),
            (f"blobs/{blob}", "confirm"),
            (f"blobs/{blob}", "open"),
        ):
            self.registry.gate.fail(call, TooManyRequests("slow", host=HOST, status=429, retry_after=700.0))
            answer = self.request(f"/v2/app/{path}")
            self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "700"))
            self.assertEqual(answer.json()["errors"][0]["code"], "TOOMANYREQUESTS")
            self.assertIsNone(answer.headers["warning"])
            self.wait(601)
            if call == "confirm":
                self.request("/v2/app/manifests/latest")


class AnyPublicTests(RegistryCase):
    """
    A mirror of every registry with a public address.
    """

    settings = RegistrySettings(default=HOST, upstreams=ANY_PUBLIC)

    def test_public(self) -> None:
        """
        A registry that nobody listed is mirrored.
        """
        image = self.add(sample_image(1))
        answer = self.request(f"/v2/{HOST}/app/manifests/latest")
        self.assertEqual((answer.status, answer.body), (200, image.manifest.data))

    def test_private(self) -> None:
        """
        One without a public address is not there for a client, and gets no request.
        """
        self.add(sample_image(1))
        self.registries.private_hosts.add(HOST)
        answer = self.request(f"/v2/{HOST}/app/manifests/latest")
        self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (404, "NAME_UNKNOWN"))
        self.assertIn("no public address", answer.json()["errors"][0]["message"])
        self.assertEqual(self.registry.requests, [])
