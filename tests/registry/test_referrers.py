"""
Tests for putting manifests and for L{xferd.registry.referrers}, over the
registry of L{xferd.testing} in memory.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import (
    BadDocument,
    BadReference,
    BlobUnknown,
    Denied,
    DigestMismatch,
    RegistryError,
    RegistryUnavailable,
    XferdError,
)
from xferd.media_types import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Descriptor, Document
from xferd.registry.client import Registries
from xferd.registry.list_pages import MAX_PAGES, next_page
from xferd.registry.referrers import referrers_tag
from xferd.testing.answers import Answer, as_json, problem
from xferd.testing.faults import Fault, Instead, SetHeader
from xferd.testing.layers import Blob
from xferd.testing.registry import Registry

T = TypeVar("T")

_HERE = Repository("hub.example", "team/a")
_CONFIG = b"{}"


def manifest(**more: Any) -> Document:
    """
    A manifest of a config and nothing else.
    """
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": Descriptor(OCI_CONFIG, Digest.of(_CONFIG), len(_CONFIG)).to_json(),
        "layers": [],
        **more,
    }
    return Document.verified(OCI_MANIFEST, json.dumps(value, indent=3).encode())


_SUBJECT = manifest()


def about(kind: str = "application/vnd.example.sbom", **more: Any) -> Document:
    """
    A manifest about that one.
    """
    return manifest(subject=_SUBJECT.descriptor.to_json(), artifactType=kind, **more)


class ManifestCase(SynchronousTestCase):
    """
    A client, and a registry that has the config.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.clock = Clock()
        self.server = Registry(self.clock)
        self.server.storage.put_blob(_HERE.path, Blob.of(OCI_CONFIG, _CONFIG))
        self.agent = RequestTraversalAgent(self.server.resource())
        registries = Registries(self.clock, wall_clock=self.clock.seconds, agent=self.agent)
        self.repository = registries.repository(_HERE)

    def wait(self, work: Deferred[T]) -> T:
        """
        Let bytes pass until it is done.
        """
        results: list[T | Failure] = []
        _ = work.addBoth(results.append)
        for _ in range(2000):
            if results:
                break
            self.clock.advance(0)
            self.agent.flush()
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def put(self, document: Document, wanted: str = "") -> None:
        """
        Put a manifest.
        """
        self.wait(self.repository.put_manifest(wanted or str(document.digest), document))

    def refused(self, kind: type[XferdError], document: Document, wanted: str = "1") -> str:
        """
        Put one, which fails.
        """
        error = self.assertRaises(kind, self.put, document, wanted)
        return str(error)

    def plant(self, fault: Fault, where: str = "/manifests/", method: str = "PUT", times: int = 1) -> None:
        """
        Let a request fail.
        """
        self.server.faults.plant(fault, where, method=method, times=times)

    def answer(self, status: int, code: str = "X", **headers: str) -> Instead:
        """
        Another answer.
        """
        return Instead(problem(status, code, "so it is", headers).answer)


class PutTests(ManifestCase):
    """
    Manifests are put unchanged.
    """

    def test_as_it_is(self) -> None:
        """
        By tag and by digest, byte for byte, with its media type.
        """
        for wanted in ("v1", str(_SUBJECT.digest)):
            self.put(_SUBJECT, wanted)
            found = self.server.storage.stock(_HERE.path).find(wanted)
            self.assertEqual(found, _SUBJECT)
        index = Document.verified(
            OCI_INDEX,
            json.dumps({"schemaVersion": 2, "manifests": [_SUBJECT.descriptor.to_json()]}).encode(),
        )
        self.put(index, "all")
        found = self.server.storage.stock(_HERE.path).find("all")
        self.assertEqual(found, index)

    def test_missing_blob(self) -> None:
        """
        The blobs that it names have to exist.
        """
        self.server.storage.remove(_HERE.path, str(Digest.of(_CONFIG)))
        self.assertIn("names", self.refused(BlobUnknown, _SUBJECT))

    def test_answered_digest(self) -> None:
        """
        The digest that the registry reports must be that of the
        manifest, by any algorithm.
        """
        self.plant(SetHeader("Docker-Content-Digest", str(Digest.of(b"else"))))
        self.refused(DigestMismatch, _SUBJECT)
        self.plant(SetHeader("Docker-Content-Digest", str(Digest.of(_SUBJECT.data, "sha512"))))
        self.put(_SUBJECT)
        self.plant(SetHeader("Docker-Content-Digest", None))
        self.put(_SUBJECT)

    def test_refusals(self) -> None:
        """
        Each refusal is one sentence with the remedy.
        """
        for status, code, kind, says in (
            (413, "SIZE_INVALID", RegistryError, "too many"),
            (415, "UNSUPPORTED", RegistryError, OCI_MANIFEST),
            (400, "MANIFEST_INVALID", RegistryError, OCI_MANIFEST),
            (405, "UNSUPPORTED", RegistryError, "read-only"),
            (404, "NAME_UNKNOWN", RegistryError, "push"),
            (403, "DENIED", Denied, "xferctl login"),
            (503, "", RegistryUnavailable, "server error"),
        ):
            self.plant(self.answer(status, code))
            message = self.refused(kind, _SUBJECT)
            self.assertIn(says, message)
            self.assertIn("team/a:1" if status < 500 else "hub.example", message)

    def test_bad_names(self) -> None:
        """
        A reference that is neither tag nor digest is refused without a
        request.
        """
        self.refused(BadReference, _SUBJECT, "../x")
        self.assertEqual(self.server.log, [])


class ReferrersTests(ManifestCase):
    """
    The referrers of a manifest are listed with it.
    """

    def find(self) -> tuple[Descriptor, ...]:
        """
        Request the referrers.
        """
        return self.wait(self.repository.referrers(_SUBJECT.digest))

    def listed(self) -> list[dict[str, Any]]:
        """
        The manifests under the referrers tag.
        """
        found = self.server.storage.stock(_HERE.path).find(referrers_tag(_SUBJECT.digest))
        assert found is not None
        self.assertEqual(found.media_type, OCI_INDEX)
        entries: list[dict[str, Any]] = json.loads(found.data)["manifests"]
        return entries

    def test_by_the_registry(self) -> None:
        """
        A registry that keeps lists is left to it.
        """
        sbom = about(annotations={"k": "v"})
        self.put(sbom)
        (entry,) = self.find()
        self.assertEqual((entry.digest, entry.artifact_type), (sbom.digest, "application/vnd.example.sbom"))
        self.assertEqual(entry.annotations, {"k": "v"})
        self.assertIsNone(self.server.storage.stock(_HERE.path).find(referrers_tag(_SUBJECT.digest)))

    def test_by_tag(self) -> None:
        """
        Where it keeps none, an index under a tag is kept, each manifest in it
        once, with its kind and annotations.
        """
        self.server.lists_referrers = False
        self.assertEqual(self.find(), ())
        first, second = about(annotations={"k": "v"}), about("", x=1)
        for document in (first, second, first):
            self.put(document)
        entries = self.listed()
        self.assertEqual([e["digest"] for e in entries], [str(first.digest), str(second.digest)])
        self.assertEqual(entries[0]["annotations"], {"k": "v"})
        self.assertEqual([e["artifactType"] for e in entries], ["application/vnd.example.sbom", OCI_CONFIG])
        self.assertEqual([d.digest for d in self.find()], [first.digest, second.digest])

    def test_together(self) -> None:
        """
        Two who push at once do not forget one another.
        """
        self.server.lists_referrers = False
        documents = [about(x=i) for i in range(3)]
        works = [self.repository.put_manifest(str(d.digest), d) for d in documents]
        for work in works:
            self.wait(work)
        self.assertEqual(len(self.listed()), 3)

    def test_overtaken(self) -> None:
        """
        If others have changed the index meanwhile, it is read again, some
        times.
        """
        self.server.lists_referrers = False
        self.put(about(x=1))
        tag = referrers_tag(_SUBJECT.digest)
        self.plant(self.answer(412), tag)
        self.put(about(x=2))
        self.assertEqual(len(self.listed()), 2)
        self.plant(self.answer(412), tag, times=5)
        self.refused(RegistryError, about(x=3), str(about(x=3).digest))

    def test_something_else(self) -> None:
        """
        A tag that is not an index is not changed.
        """
        self.server.lists_referrers = False
        self.put(_SUBJECT, referrers_tag(_SUBJECT.digest))
        self.assertIn("should list", self.refused(RegistryError, about(), "x"))

    def test_pages(self) -> None:
        """
        Pages are followed, on this host, and not for ever.
        """
        self.put(about(x=1))
        self.put(about(x=2))
        path = f"/v2/team/a/referrers/{_SUBJECT.digest}"
        one, two = (about(x=i).descriptor.to_json() for i in (1, 2))

        def page(entry: dict[str, Any], link: str | None) -> Instead:
            headers = {"Content-Type": OCI_INDEX} | ({"Link": link} if link else {})
            value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
            return Instead(as_json(value, headers))

        self.plant(page(one, f'<{path}?n=1>; rel="next"'), "/referrers/", "GET")
        self.plant(page(two, None), "/referrers/", "GET")
        self.assertEqual(len(self.find()), 2)
        for link in (
            f'<https://other.example{path}>; rel="next"',
            f"<{path}>; rel=next",
            "<ftp://x>; rel=next",
        ):
            self.plant(page(one, link), "/referrers/", "GET")
            self.assertRaises(RegistryError, self.find)
        before = len(self.server.log)
        self.plant(page(one, "<?n=1>; rel=next"), "/referrers/", "GET")
        for n in range(MAX_PAGES):
            self.plant(page(one, f"<?n={n + 2}>; rel=next"), "/referrers/", "GET")
        self.assertIn("pages", str(self.assertRaises(RegistryError, self.find)))
        self.assertEqual(len(self.server.log) - before, MAX_PAGES)

    def test_errors(self) -> None:
        """
        A response that is neither a list nor one of a registry without
        lists is an error, and not an empty list.
        """
        for fault, kind in (
            (self.answer(401), Denied),
            (self.answer(503), RegistryUnavailable),
            (self.answer(403), Denied),
            (self.answer(500), RegistryUnavailable),
            (Instead(Answer(200, {"Content-Type": OCI_INDEX}, _SUBJECT.data)), BadDocument),
            (Instead(Answer(200, {"Content-Type": OCI_INDEX}, b"<html>")), BadDocument),
        ):
            self.plant(fault, "/referrers/", "GET")
            self.assertRaises(kind, self.find)

    def test_no_api(self) -> None:
        """
        Registries without the API answer with other statuses than 404,
        too, or with another document: then the tag is read.
        """
        self.server.lists_referrers = False
        self.put(about())
        html = b"<html>hello</html>"
        for fault in (
            *(self.answer(status) for status in (400, 404, 405, 406, 501)),
            Instead(Answer(200, {"Content-Type": "text/html; charset=utf-8"}, html)),
            Instead(Answer(200, {}, b"")),
            Instead(Answer(200, {"Content-Type": "application/json"}, b'{"errors": []}')),
            Instead(Answer(200, {"Content-Type": OCI_MANIFEST}, _SUBJECT.data)),
        ):
            self.plant(fault, "/referrers/", "GET")
            self.assertEqual([d.digest for d in self.find()], [about().digest])

    def test_large_pages(self) -> None:
        """
        Pages have so many bytes together at most.
        """
        entry = about().descriptor.to_json() | {"annotations": {"a": "b" * 3_000_000}}
        value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        for n in range(5):
            headers = {"Content-Type": OCI_INDEX, "Link": f"<?n={n}>; rel=next"}
            self.plant(Instead(as_json(value, headers)), "/referrers/", "GET")
        before = len(self.server.log)
        self.assertIn("bytes", str(self.assertRaises(RegistryError, self.find)))
        self.assertEqual(len(self.server.log) - before, 3)

    def test_list_without_type(self) -> None:
        """
        A list that comes as plain JSON is one.
        """
        listed = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [about().descriptor.to_json()]}
        self.plant(Instead(as_json(listed, {"Content-Type": "application/json"})), "/referrers/", "GET")
        self.assertEqual([d.digest for d in self.find()], [about().digest])

    def test_later_page(self) -> None:
        """
        What follows a first page and is no list is an error.
        """
        value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        headers = {"Content-Type": OCI_INDEX, "Link": "<?n=1>; rel=next"}
        for fault in (self.answer(400), Instead(Answer(200, {"Content-Type": "text/html"}, b"<html>"))):
            self.plant(Instead(as_json(value, headers)), "/referrers/", "GET")
            self.plant(fault, "/referrers/", "GET")
            self.assertRaises(XferdError, self.find)

    def test_bad_subject(self) -> None:
        """
        An invalid subject is refused before any request.
        """
        self.refused(BadDocument, manifest(subject={"digest": "x"}))
        self.refused(BadDocument, Document.verified(OCI_MANIFEST, b"[]"))
        self.refused(BadDocument, Document.verified(OCI_MANIFEST, b"{"))
        self.assertEqual(self.server.log, [])

    def test_tag(self) -> None:
        """
        The tag is made of the digest, cut to what tags may be.
        """
        self.assertEqual(referrers_tag(Digest("sha256", "a" * 64)), "sha256-" + "a" * 64)
        self.assertEqual(referrers_tag(Digest("sha512", "b" * 128)), "sha512-" + "b" * 64)

    def test_links(self) -> None:
        """
        C{Link} has several forms.
        """
        self.assertEqual(next_page(['</a>; rel="prev", </b>; rel="next"']), "/b")
        self.assertEqual(next_page(["</a>;rel=next"]), "/a")
        self.assertIsNone(next_page([]))
        self.assertIsNone(next_page(["</a>; rel=last", "x"]))
