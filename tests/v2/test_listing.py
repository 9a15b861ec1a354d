"""
Tests for L{xferd.v2.listing} and L{xferd.v2.request}.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs.case import HOST
from tests.jobs.local.test_manifests import image as manifest_of
from tests.v2.test_uploads import UploadCase
from tests.web.connection import Answer
from xferd.errors import ConnectionFailed
from xferd.interfaces.catalog import CatalogManifest
from xferd.media_types import OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.testing.images import sample_image
from xferd.v2.listing import MOST_BYTES, PATIENCE, page
from xferd.v2.settings import RegistrySettings, UpstreamSettings
from xferd.web.peer_trust import Trust

APP = Repository("localhost", "local/app")
SUBJECT = Digest.of(b"subject")


class PageTests(UploadCase):
    """
    Pages of names.
    """

    @given(st.sets(st.text("abc", min_size=1)), st.integers(1, 5))
    def test_all(self, names: set[str], most: int) -> None:
        """
        The pages of a list are the list.
        """
        whole, last, more = sorted(names), "", True
        found: list[str] = []
        while more:
            part, more = page(whole, most, last)
            found += part
            last = part[-1] if part else ""
        self.assertEqual(found, whole)

    def test_none(self) -> None:
        """
        An empty page has no next one.
        """
        self.assertEqual(page(["a"], 0, ""), ([], False))


class ListCase(UploadCase):
    """
    A registry with some content.
    """

    def put_manifest(
        self,
        name: str,
        *tags: str,
        repository: Repository = APP,
        subject: Digest | None = None,
        annotations: dict[str, str] | None = None,
        kind: str = "",
    ) -> Descriptor:
        """
        List a manifest.
        """
        data = name.encode()
        found = Descriptor(OCI_MANIFEST, Digest.of(data), len(data), artifact_type=kind)
        found = evolve(found, annotations=annotations or {})
        putting = self.store.catalog.put_manifest(
            repository, CatalogManifest(found, subject=subject), tags, 0.0
        )
        self.settle()
        self.successResultOf(putting)
        return found

    def fetch(self, path: str, trust: Trust = Trust.ALL) -> Answer:
        """
        Request a list.
        """
        connection = self.connect(trust)
        connection.send("GET", path, {"Host": "localhost"})
        self.settle()
        return connection.answer()

    def follow(self, path: str, member: str) -> list[list[Any]]:
        """
        All pages of a list.
        """
        pages: list[list[Any]] = []
        while path:
            answer = self.fetch(path)
            self.assertEqual(answer.status, 200, answer.body)
            pages.append(answer.json()[member])
            link = answer.headers["link"] or ""
            path = link.partition("<")[2].partition(">")[0]
            if path:
                self.assertTrue(link.endswith('>; rel="next"'), link)
        return pages


class TagsTests(ListCase):
    """
    C{tags/list}.
    """

    def test_pages(self) -> None:
        """
        The tags come in their order, in pages of the wanted size; C{last} is not
        among them.
        """
        self.put_manifest("m", "b", "a", "D", "c")
        path = "/v2/local/app/tags/list"
        answer = self.fetch(path)
        self.assertEqual(answer.json(), {"name": "local/app", "tags": ["D", "a", "b", "c"]})
        self.assertIsNone(answer.headers["link"])
        self.assertEqual(self.follow(path + "?n=3", "tags"), [["D", "a", "b"], ["c"]])
        self.assertEqual(self.follow(path + "?n=2", "tags"), [["D", "a"], ["b", "c"]])
        self.assertEqual(self.fetch(path + "?last=a").json()["tags"], ["b", "c"])
        self.assertEqual(self.fetch(path + "?last=aa&n=1").json()["tags"], ["b"])
        self.assertEqual(self.follow(path + "?n=0", "tags"), [[]])

    def test_invalid(self) -> None:
        """
        A size that is no number is refused.
        """
        self.put_manifest("m", "a")
        for n in ("-1", "x", "", "1" * 30, "%D9%A3"):
            answer = self.fetch(f"/v2/local/app/tags/list?n={n}")
            self.assert_error(answer, 400, "UNSUPPORTED")

    def test_unknown(self) -> None:
        """
        A repository without manifests is unknown; one without tags has none.
        """
        self.assert_error(self.fetch("/v2/local/app/tags/list"), 404, "NAME_UNKNOWN")
        self.put_manifest("m")
        self.assertEqual(self.fetch("/v2/local/app/tags/list").json()["tags"], [])

    def test_mirrored(self) -> None:
        """
        Of a mirrored repository, the upstream's tags are listed, and those that it had.
        """
        image = self.add(sample_image(1))
        self.request("/v2/app/manifests/latest")
        self.registry.add(image, "app", "new")
        del self.registry._documents["app", "latest"]
        answer = self.fetch("/v2/app/tags/list")
        self.assertEqual(answer.json(), {"name": f"{HOST}/app", "tags": ["latest", "new"]})
        self.assertNotIn("warning", answer.headers)
        self.assert_error(self.fetch("/v2/absent/tags/list"), 404, "MANIFEST_UNKNOWN")

    def test_upstream_fails(self) -> None:
        """
        Where the upstream fails, or is silent, the tags that are here are listed, with
        a warning; without any, the error is passed on.
        """
        self.add(sample_image(1))
        self.request("/v2/app/manifests/latest")
        self.registry.gate.fail("tags", ConnectionFailed("no route", host=HOST))
        answer = self.fetch("/v2/app/tags/list")
        self.assertEqual(answer.json()["tags"], ["latest"])
        self.assertIn("no route", answer.headers["warning"])
        self.registry.gate.fail("tags", ConnectionFailed("no route", host=HOST))
        self.assert_error(self.fetch("/v2/other/tags/list"), 502, "UNAVAILABLE")
        self.registry.gate.hold("tags")
        connection = self.connect()
        connection.send("GET", "/v2/app/tags/list", {"Host": "localhost"})
        self.wait(PATIENCE)
        answer = connection.answer()
        self.assertEqual(answer.json()["tags"], ["latest"])
        self.assertIn("within 5 s", answer.headers["warning"])


class NamespaceTests(ListCase):
    """
    Lists of an upstream that the query names.
    """

    settings = RegistrySettings(default="", upstreams={HOST: UpstreamSettings()})

    def test_pages(self) -> None:
        """
        All pages are those of that upstream.
        """
        image = self.add(sample_image(1))
        for tag in ("a", "b"):
            self.registry.add(image, "app", tag)
        path = f"/v2/app/tags/list?ns={HOST}"
        self.assertEqual(self.follow(path + "&n=2", "tags"), [["a", "b"], ["latest"]])
        for number in range(2):
            note = {"n": f"{number}" * (MOST_BYTES // 2)}
            there = manifest_of(annotations=note, subject=image.manifest.descriptor.to_json())
            self.registry.add_document(there, "app", str(there.digest))
        pages = self.follow(f"/v2/app/referrers/{image.digest}?ns={HOST}", "manifests")
        self.assertEqual([len(page) for page in pages], [1, 1])


class CatalogTests(ListCase):
    """
    C{_catalog}.
    """

    def setUp(self) -> None:
        """
        Make repositories.
        """
        super().setUp()
        for repository in (
            APP,
            Repository("localhost", "local/b"),
            Repository(HOST, "team/app"),
            Repository("gone.example", "x"),
            Repository("localhost", "old/x"),
        ):
            self.put_manifest("m", repository=repository)

    def test_pages(self) -> None:
        """
        All repositories come in their order, by names that lead to them; those of
        upstreams and prefixes that are no longer served do not come.
        """
        names = ["local/app", "local/b", f"{HOST}/team/app"]
        self.assertEqual(self.follow("/v2/_catalog", "repositories"), [names])
        self.assertEqual(self.follow("/v2/_catalog?n=1", "repositories"), [[name] for name in names])
        self.assertEqual(self.follow("/v2/_catalog?n=2", "repositories"), [names[:2], names[2:]])
        self.assertEqual(self.follow("/v2/_catalog?n=3", "repositories"), [names])
        self.assertEqual(self.follow("/v2/_catalog?n=0", "repositories"), [[]])
        for name in names:
            self.assertEqual(self.fetch(f"/v2/{name}/tags/list").status, 200)

    def test_stranger(self) -> None:
        """
        A client sees the repositories that it may read.
        """
        answer = self.fetch("/v2/_catalog?n=1", Trust.NONE)
        self.assertEqual(answer.json(), {"repositories": [f"{HOST}/team/app"]})
        self.assertIsNone(answer.headers["link"])


class ReferrersTests(ListCase):
    """
    C{referrers}.
    """

    path = f"/v2/local/app/referrers/{SUBJECT}"

    def test_own(self) -> None:
        """
        The referrers come as an index, with types and annotations, filtered if the
        client wants that.
        """
        one = self.put_manifest("one", subject=SUBJECT, kind="x/one", annotations={"a": "b"})
        two = self.put_manifest("two", subject=SUBJECT, kind="x/two")
        self.put_manifest("other", subject=Digest.of(b"x"))
        answer = self.fetch(self.path)
        self.assertEqual(answer.headers["content-type"], OCI_INDEX)
        self.assertIsNone(answer.headers["oci-filters-applied"])
        self.assertEqual(
            answer.json(),
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one.to_json(), two.to_json()]},
        )
        answer = self.fetch(self.path + "?artifactType=x/two")
        self.assertEqual(answer.headers["oci-filters-applied"], "artifactType")
        self.assertEqual([each["digest"] for each in answer.json()["manifests"]], [str(two.digest)])

    def test_none(self) -> None:
        """
        Without referrers, the index is empty; what is no digest is refused.
        """
        self.assertEqual(self.fetch(self.path).json()["manifests"], [])
        self.assert_error(self.fetch("/v2/local/app/referrers/x"), 400, "DIGEST_INVALID")

    def test_pages(self) -> None:
        """
        An index that clients may not read is split.
        """
        found = [
            self.put_manifest(
                f"m{number}", subject=SUBJECT, annotations={"a": "b" * (MOST_BYTES // 2)}, kind="x/y z"
            )
            for number in range(3)
        ]
        for query in ("", "?artifactType=x/y+z"):
            pages = self.follow(self.path + query, "manifests")
            self.assertEqual(
                [[each["digest"] for each in part] for part in pages], [[str(f.digest)] for f in found]
            )

    def test_mirrored(self) -> None:
        """
        The referrers of a mirrored manifest are those that the upstream lists, and
        those that are here, each once.
        """
        image = self.add(sample_image(1))
        self.request("/v2/app/manifests/latest")
        repository = Repository(HOST, "app")
        here = self.put_manifest("here", repository=repository, subject=image.digest)
        there = manifest_of(annotations={"n": "1"}, subject=image.manifest.descriptor.to_json())
        self.registry.add_document(there, "app", str(there.digest))
        for _ in range(2):
            answer = self.fetch(f"/v2/app/referrers/{image.digest}")
            found = [each["digest"] for each in answer.json()["manifests"]]
            self.assertEqual(found, [str(here.digest), str(there.digest)])
            self.request(f"/v2/app/manifests/{there.digest}")

    def test_upstream_fails(self) -> None:
        """
        If the upstream fails or does not answer, what is here is listed.
        """
        image = self.add(sample_image(1))
        self.request("/v2/app/manifests/latest")
        path = f"/v2/app/referrers/{image.digest}"
        self.registry.gate.fail("referrers", ConnectionFailed("down"))
        self.assertEqual(self.fetch(path).json()["manifests"], [])
        self.registry.gate.hold("referrers")
        connection = self.connect()
        connection.send("GET", path, {"Host": "localhost"})
        self.settle()
        self.assertEqual(connection.received(), b"")
        self.clock.advance(PATIENCE)
        self.settle()
        self.assertEqual(connection.answer().json()["manifests"], [])
