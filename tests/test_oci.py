"""
Tests for L{xferd.oci}.
"""

import json
from base64 import b64encode
from typing import Any

from hypothesis import given
from hypothesis.strategies import dictionaries, lists, none, one_of, recursive, sampled_from, text
from hypothesis.strategies import integers as whole
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import (
    BadDocument,
    DigestMismatch,
    UnsupportedImage,
    XferdError,
)
from xferd.media_types import DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import (
    MAX_DOCUMENT,
    MAX_INDEX_ENTRIES,
    MAX_LAYERS,
    MAX_OBJECTS,
    MAX_TEXT,
    MAX_VALUES,
    SMALL_DOCUMENT,
    Descriptor,
    Document,
    Index,
    Manifest,
    document_type,
    parse_document,
)
from xferd.platforms import Platform

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(media_type: str = LAYER, data: bytes = b"x", **more: Any) -> dict[str, Any]:
    """
    A descriptor in JSON.
    """
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


def document(value: object, media_type: str = OCI_MANIFEST) -> Document:
    """
    A document of JSON.
    """
    return Document.verified(media_type, json.dumps(value).encode())


def image(**changes: Any) -> dict[str, Any]:
    """
    A manifest of one layer in JSON.
    """
    return {"schemaVersion": 2, "config": descriptor(OCI_CONFIG), "layers": [descriptor()], **changes}


class DescriptorTests(SynchronousTestCase):
    """
    Descriptors.
    """

    def test_round_trip(self) -> None:
        """
        A descriptor is written as it was read.
        """
        value = descriptor(
            platform={"os": "linux", "architecture": "arm", "variant": "v7"},
            annotations={"a": "b"},
            artifactType="application/vnd.example.sbom",
        )
        self.assertEqual(Descriptor.from_json(value, "it").to_json(), value)
        self.assertEqual(Descriptor.from_json(descriptor(), "it").to_json(), descriptor())

    def test_refused(self) -> None:
        """
        A descriptor that violates the specification is refused, and its place is named.
        """
        refused: tuple[object, ...] = (
            None,
            [],
            {},
            descriptor(mediaType=""),
            {**descriptor(), "size": -1},
            {**descriptor(), "size": True},
            {**descriptor(), "size": "1"},
            {**descriptor(), "size": 1 << 63},
            {**descriptor(), "digest": "sha256:../x"},
            {**descriptor(), "digest": None},
            {**descriptor(), "mediaType": ""},
        )
        for wrong in refused:
            error = self.assertRaises(BadDocument, Descriptor.from_json, wrong, "layers[3]")
            self.assertIn("layers[3]", str(error))

    def test_huge_values(self) -> None:
        """
        A size or a digest of megabytes is truncated in the error.
        """
        huge = "9" * 3_900_000
        for wrong in ({"size": huge}, {"size": [huge]}, {"digest": huge}, {"digest": f"sha256:{huge}"}):
            error = self.assertRaises(
                BadDocument, Descriptor.from_json, {**descriptor(), **wrong}, "layers[3]"
            )
            self.assertIn("layers[3]", str(error))
            self.assertLess(len(str(error)), 400)
        error = self.assertRaises(BadDocument, parse_document, document(image(schemaVersion=huge)))
        self.assertIn("schemaVersion '999", str(error))
        self.assertLess(len(str(error)), 400)

    def test_data(self) -> None:
        """
        Embedded bytes must match their descriptor.
        """
        good = b64encode(b"x").decode()
        for algorithm in ("sha256", "sha512"):
            value = {**descriptor(), "data": good, "digest": str(Digest.of(b"x", algorithm))}
            self.assertEqual(Descriptor.from_json(value, "it").data, b"x")
        value = {**descriptor(data=b""), "data": ""}
        self.assertEqual(Descriptor.from_json(value, "it").data, b"")
        self.assertIsNone(Descriptor.from_json({**value, "data": None}, "it").data)
        refused: tuple[object, ...] = ("!", 1, good[:-1], b64encode(b"y").decode(), b64encode(b"xy").decode())
        for wrong in refused:
            value = {**descriptor(), "data": wrong}
            error = self.assertRaises(BadDocument, Descriptor.from_json, value, "layers[3]")
            self.assertIn("layers[3]: its data is not", str(error))

    def test_capitals(self) -> None:
        """
        A name that differs in case only, which Go takes for the same, is refused.
        """
        value = descriptor(Digest=str(Digest.of(b"y")))
        error = self.assertRaises(BadDocument, Descriptor.from_json, value, "config")
        self.assertIn("config can be read in two ways", str(error))

    def test_attestation(self) -> None:
        """
        Attestations of buildkit are recognized.
        """
        cases: tuple[tuple[dict[str, Any], bool], ...] = (
            ({"platform": {"os": "unknown", "architecture": "unknown"}}, True),
            ({"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}, True),
            ({"platform": {"os": "linux", "architecture": "unknown"}}, False),
            ({}, False),
        )
        for more, told in cases:
            read = Descriptor.from_json(descriptor(OCI_MANIFEST, **more), "it")
            self.assertIs(read.is_attestation, told)

    def test_no_platform(self) -> None:
        """
        A platform with an empty part is invalid.
        """
        for platform in (
            {},
            {"os": "", "architecture": ""},
            {"os": "linux", "architecture": ""},
            {"os": "", "architecture": "amd64"},
        ):
            self.assertIs(Descriptor.from_json(descriptor(platform=platform), "x").platform, None)
        found = Descriptor.from_json(
            descriptor(platform={"os": "linux", "architecture": "arm64", "variant": None}), "x"
        )
        self.assertEqual(found.platform, Platform("linux", "arm64"))

    def test_odd_annotations(self) -> None:
        """
        Annotations that are not strings, and invalid platforms, are dropped.
        """
        value = descriptor(annotations={"a": 1, "b": "c"}, platform={"os": 1}, artifactType=["x"])
        read = Descriptor.from_json(value, "it")
        self.assertEqual(read.annotations, {"b": "c"})
        self.assertEqual(read.artifact_type, "")
        self.assertIsNone(read.platform)


class DocumentTests(SynchronousTestCase):
    """
    Manifests and indexes, as registries send them.
    """

    def test_verified(self) -> None:
        """
        Bytes with another digest are refused.
        """
        self.assertRaises(DigestMismatch, Document.verified, OCI_MANIFEST, b"{}", Digest.of(b"x"))
        made = Document.verified("Application/Vnd.OCI.image.manifest.v1+json; charset=utf-8", b"{}")
        self.assertEqual(made.media_type, OCI_MANIFEST)
        self.assertEqual(made.descriptor, Descriptor(OCI_MANIFEST, Digest.of(b"{}"), 2))

    def test_manifest(self) -> None:
        """
        OCI 1.0 without a mediaType, OCI 1.1 and Docker schema 2 give the same manifest.
        """
        for value, media_type in (
            (image(), OCI_MANIFEST),
            (image(mediaType=OCI_MANIFEST, artifactType="x/y"), OCI_MANIFEST),
            (image(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST),
        ):
            manifest = parse_document(document(value, media_type))
            assert isinstance(manifest, Manifest)
            self.assertEqual(manifest.layers[0].digest, Digest.of(b"x"))
            self.assertEqual(manifest.media_type, media_type)

    def test_again(self) -> None:
        """
        A small document that was parsed before is not parsed again.  The same
        bytes with another Content-Type are another document.
        """
        value = image(mediaType=OCI_MANIFEST, artifactType="x/again")
        manifest = parse_document(document(value))
        self.assertIs(parse_document(document(value)), manifest)
        for _ in range(2):
            self.assertRaises(BadDocument, parse_document, document(value, DOCKER_MANIFEST))
            self.assertRaises(BadDocument, parse_document, document(value, OCI_INDEX))
        self.assertEqual(parse_document(document(value, "text/plain")), manifest)

    def test_large_again(self) -> None:
        """
        A large document is parsed each time, as many of them would fill the memory.
        """
        value = image(comment="x" * SMALL_DOCUMENT)
        manifest = parse_document(document(value))
        again = parse_document(document(value))
        self.assertEqual(again, manifest)
        self.assertIsNot(again, manifest)

    def test_plain_content_type(self) -> None:
        """
        For a Content-Type of text/plain, the document's mediaType counts.
        """
        manifest = parse_document(document(image(mediaType=OCI_MANIFEST), "text/plain"))
        assert isinstance(manifest, Manifest)
        self.assertEqual(manifest.media_type, OCI_MANIFEST)

    def test_index(self) -> None:
        """
        An OCI index and a Docker manifest list give the same index.
        """
        for media_type in (OCI_INDEX, DOCKER_LIST):
            value = {"schemaVersion": 2, "mediaType": media_type, "manifests": [descriptor(OCI_MANIFEST)]}
            parsed = parse_document(document(value, media_type))
            assert isinstance(parsed, Index)
            self.assertEqual((len(parsed.manifests), parsed.media_type), (1, media_type))

    def test_no_layers(self) -> None:
        """
        An image may have no layers, as an empty list or null.
        """
        empty: tuple[object, ...] = ([], None)
        for layers in empty:
            manifest = parse_document(document(image(layers=layers)))
            assert isinstance(manifest, Manifest)
            self.assertEqual(manifest.layers, ())

    def test_schema_1(self) -> None:
        """
        Docker schema 1 is refused, with a remedy.
        """
        for value, media_type in (
            ({"schemaVersion": 1, "fsLayers": []}, "application/json"),
            ({"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ):
            error = self.assertRaises(UnsupportedImage, parse_document, document(value, media_type))
            self.assertIn("push it again", str(error))

    def test_refused(self) -> None:
        """
        A document that violates the specification, or is ambiguous, is refused.
        """
        for value, media_type, why in (
            ([], OCI_MANIFEST, "not a JSON object"),
            ({}, OCI_MANIFEST, "schemaVersion"),
            (image(schemaVersion="2"), OCI_MANIFEST, "schemaVersion"),
            (image(mediaType=DOCKER_MANIFEST), OCI_MANIFEST, "with mediaType"),
            (image(mediaType=OCI_INDEX), OCI_INDEX, "manifests is not a list"),
            (image(manifests=[]), OCI_MANIFEST, "as an image and as an index"),
            (image(Manifests=[]), OCI_MANIFEST, "in two ways: it has 'Manifests'"),
            (image(LAYERS=[]), OCI_MANIFEST, "in two ways"),
            ({"schemaVersion": 2, "manifests": [], "config": {}}, OCI_INDEX, "as an image and as an index"),
            (image(layers={}), OCI_MANIFEST, "layers is not a list"),
            (image(layers=[descriptor()] * (MAX_LAYERS + 1)), OCI_MANIFEST, "at most"),
            (image(config=None), OCI_MANIFEST, "config is not a descriptor"),
        ):
            error = self.assertRaises(BadDocument, parse_document, document(value, media_type))
            self.assertIn(why, str(error))

    def test_unknown_type(self) -> None:
        """
        An unknown media type is refused, and named.
        """
        error = self.assertRaises(UnsupportedImage, parse_document, document(image(), "text/html"))
        self.assertIn("text/html", str(error))

    def test_largest_index(self) -> None:
        """
        An index with the largest number of entries, with platforms and annotations, is
        accepted.
        """
        entry = {
            "mediaType": OCI_MANIFEST,
            "digest": str(Digest.of(b"")),
            "size": 0,
            "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
            "annotations": {f"a{n}": "b" for n in range(5)},
        }
        listed = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] * MAX_INDEX_ENTRIES}
        found = parse_document(Document.verified(OCI_INDEX, json.dumps(listed).encode()))
        assert isinstance(found, Index)
        self.assertEqual(len(found.manifests), MAX_INDEX_ENTRIES)

    def test_scripts(self) -> None:
        """
        A large document may be in any script; characters beyond U+FFFF have a lower
        limit.
        """
        for script in ("\u00e9" * 2_000_000, "\u4e2d" * 1_300_000, "\U0001f600" * 1_000_000, "x" * 4_000_000):
            value = {"schemaVersion": 2, "manifests": [], "annotations": {"a": script}}
            data = json.dumps(value, ensure_ascii=False).encode()
            self.assertIsInstance(parse_document(Document.verified(OCI_INDEX, data)), Index)

    def test_surrogates(self) -> None:
        """
        A pair of surrogates is a character; a lone one is refused wherever it is.
        """
        for half, good in (("\\ud83d\\ude00", True), ("\\ud83d", False), ("\\uDE00x", False)):
            for inside in (f'"{half}"', f'["{half}"]', f'{{"{half}": [{{"x": "y"}}]}}', f'{{"x": "{half}"}}'):
                data = f'{{"schemaVersion": 2, "manifests": [], "annotations": {inside}}}'.encode()
                document = Document.verified(OCI_INDEX, data)
                if good:
                    parse_document(document)
                else:
                    self.assertRaises(BadDocument, parse_document, document)

    def test_not_json(self) -> None:
        """
        Documents that are not I-JSON are refused: bad UTF-8, duplicate names, lone
        surrogates, NaN, excessive depth or size.
        """
        for data in (
            b"",
            b"{",
            b"\xff{}",
            b'{"a": 1, "a": 2}',
            b'{"a": [{"b": 1, "\\u0062": 2}]}',
            b'{"a": "\\ud800"}',
            b'{"a": NaN}',
            b'{"a": ' + b"9" * 5000 + b"}",
            b"[" * 100_000,
            b" " * (MAX_DOCUMENT + 1),
            b'{"schemaVersion":2,"manifests":[' + b"{}," * MAX_VALUES + b"{}]}",
            b'{"schemaVersion":2,"manifests":[' + b"{}," * MAX_OBJECTS + b"{}]}",
            b'{"a":"' + b"x" * (MAX_TEXT // 4) + '\U0001f600"}'.encode(),
        ):
            made = Document(OCI_MANIFEST, data, Digest.of(data))
            self.assertRaises(BadDocument, parse_document, made)

    @given(
        recursive(
            one_of(none(), whole(), text(max_size=5), sampled_from([OCI_MANIFEST, OCI_INDEX, 2])),
            lambda inner: one_of(
                lists(inner, max_size=3),
                dictionaries(
                    sampled_from(
                        ["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size"]
                    ),
                    inner,
                    max_size=5,
                ),
            ),
            max_leaves=12,
        ),
        sampled_from([OCI_MANIFEST, OCI_INDEX, DOCKER_LIST, "text/plain"]),
    )
    def test_anything(self, value: object, media_type: str) -> None:
        """
        Any JSON is either parsed or refused, without another error.
        """
        try:
            parsed = parse_document(document(value, media_type))
        except XferdError:
            return
        self.assertIsInstance(parsed, Index | Manifest)


class TypeTests(SynchronousTestCase):
    """
    Tests for L{document_type}.
    """

    def test_own_word(self) -> None:
        """
        A document's mediaType counts; without one, its fields decide.
        """
        for data, expected in [
            (b'{"mediaType": "a/b"}', "a/b"),
            (b'{"manifests": []}', OCI_INDEX),
            (b'{"config": {}, "mediaType": 7}', OCI_MANIFEST),
        ]:
            self.assertEqual(document_type(data), expected)
        self.assertRaises(BadDocument, document_type, b"[]")


class RunnableTests(SynchronousTestCase):
    """
    Images that can be unpacked, and others.
    """

    def check(self, **changes: Any) -> None:
        """
        Parse a manifest, and check that it can be unpacked.
        """
        manifest = parse_document(document(image(**changes)))
        assert isinstance(manifest, Manifest)
        manifest.check_runnable()

    def test_image(self) -> None:
        """
        An image can be unpacked.
        """
        self.check()
        self.check(config=descriptor("application/vnd.docker.container.image.v1+json"))

    def test_artifact(self) -> None:
        """
        An artifact cannot be unpacked, and the message has its type.
        """
        error = self.assertRaises(UnsupportedImage, self.check, config=descriptor("application/x.helm"))
        self.assertIn("an artifact of type application/x.helm, not a container image", str(error))
        error = self.assertRaises(
            UnsupportedImage,
            self.check,
            config=descriptor("application/vnd.oci.empty.v1+json"),
            artifactType="application/x.poem\x1b[2J" + "x" * 200,
        )
        self.assertIn("of type application/x.poem?[2Jxx", str(error))
        self.assertLess(len(str(error)), 300)

    def test_misnamed_config(self) -> None:
        """
        With a generic config type, a manifest is an image if its layers are, and if it
        has no artifactType.
        """
        nameless = {name: value for name, value in descriptor().items() if name != "mediaType"}
        for config in (
            nameless,
            {**nameless, "mediaType": None},
            *map(descriptor, ("", "application/octet-stream", "application/json", "text/html")),
        ):
            self.check(config=config)
            self.check(config=config, layers=[])
            for changes in (
                {"artifactType": "application/x.poem"},
                {"layers": [descriptor(), descriptor("application/x.squashfs")]},
            ):
                error = self.assertRaises(UnsupportedImage, self.check, config=config, **changes)
                self.assertIn("an artifact of type", str(error))

    def test_layer_type(self) -> None:
        """
        A layer of an unknown media type cannot be unpacked, and the message has the type.
        """
        error = self.assertRaises(
            UnsupportedImage, self.check, layers=[descriptor(), descriptor("application/x.squashfs")]
        )
        self.assertIn("layer 1 is of type application/x.squashfs", str(error))
