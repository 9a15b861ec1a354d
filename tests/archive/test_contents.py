"""
Tests for L{xferd.archive.contents}.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from xferd.archive.contents import (
    DOCKER,
    DOCKER_NAME,
    FULL_NAME,
    INDEX,
    LAYOUT,
    MAX_NAMES,
    NAME,
    RENDITION_OF,
    Contents,
    FoundImage,
    StoredFile,
    choose_images,
)
from xferd.errors import BadArchive, BadDocument, BadInput
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Reference
from xferd.oci import Descriptor, Manifest, parse_document
from xferd.store.images import index_file

ONE, TWO = (Descriptor(OCI_MANIFEST, Digest.of(data), 3) for data in (b"one", b"two"))


def layout(*entries: tuple[Descriptor, dict[str, str]], **more: Any) -> Contents:
    """
    An archive that is a layout, with these entries and their annotations.
    """
    contents = Contents()
    contents.documents[LAYOUT] = b'{"imageLayoutVersion":"1.0.0"}'
    listed = [{**descriptor.to_json(), "annotations": notes} for descriptor, notes in entries]
    contents.documents[INDEX] = json.dumps({"schemaVersion": 2, "manifests": listed, **more}).encode()
    return contents


def docker(*images: Any, contents: Contents | None = None) -> Contents:
    """
    An archive as docker saves it: C{config.json}, and the layers C{a/layer.tar}
    and, linked to it, C{b/layer.tar}.
    """
    contents = Contents() if contents is None else contents
    contents.documents[DOCKER] = json.dumps(images).encode()
    contents.files["config.json"] = StoredFile(Digest.of(b"config"), 6, b"{")
    contents.files["a/layer.tar"] = StoredFile(Digest.of(b"layer"), 5, b"laye")
    contents.files["c.tar.gz"] = StoredFile(Digest.of(b"gz"), 2, b"\x1f\x8b\x08\x00")
    contents.files["d.tar.zst"] = StoredFile(Digest.of(b"zst"), 3, b"\x28\xb5\x2f\xfd")
    contents.files["e.tar.zst"] = StoredFile(Digest.of(b"skip"), 4, b"\x5f\x2a\x4d\x18")
    contents.links["b/layer.tar"] = "a/layer.tar"
    return contents


def image(*tags: str, **more: Any) -> dict[str, Any]:
    """
    An image of C{manifest.json}.
    """
    layers = ["a/layer.tar", "b/layer.tar"]
    return {"Config": "config.json", "RepoTags": list(tags), "Layers": layers, **more}


def names(found: list[FoundImage]) -> list[list[str]]:
    """
    The names of images, as people write them.
    """
    return [[name.familiar() for name in one.names] for one in found]


class LayoutTests(SynchronousTestCase):
    """
    OCI layouts.
    """

    def test_names(self) -> None:
        """
        An image has its whole name from containerd's annotation, else from
        the layout's own, if that is a name and no tag.
        """
        found = layout(
            (ONE, {FULL_NAME: "docker.io/library/alpine:3", NAME: "3"}), (TWO, {NAME: "quay.io/me/app:1"})
        ).images()
        self.assertEqual(names(found), [["alpine:3"], ["quay.io/me/app:1"]])
        self.assertEqual([one.entries for one in found], [(ONE,), (TWO,)])

    def test_tags(self) -> None:
        """
        A tag alone is no name.
        """
        (found,) = layout((ONE, {NAME: "latest"})).images()
        self.assertEqual((found.names, found.tag), ((), "latest"))

    def test_two_names(self) -> None:
        """
        One manifest under two names is one image.
        """
        (found,) = layout((ONE, {NAME: "a:1"}), (ONE, {NAME: "a:2"})).images()
        self.assertEqual(names([found]), [["a:1", "a:2"]])

    def test_platforms(self) -> None:
        """
        Two manifests under one name are one image for two platforms.
        """
        (found,) = layout((ONE, {NAME: "a:1"}), (TWO, {NAME: "a:1"})).images()
        self.assertEqual(found.entries, (ONE, TWO))

    def test_names_that_are_none(self) -> None:
        """
        Invalid names, and names with a digest only, are ignored.
        """
        found = layout((ONE, {NAME: "A B:C"}), (TWO, {FULL_NAME: f"a@{TWO.digest}"})).images()
        self.assertEqual(names(found), [[], []])

    def test_renditions(self) -> None:
        """
        In xferd's own store an image of Docker's has two entries, which are
        one image.
        """
        (found,) = layout(
            (ONE, {DOCKER_NAME: "docker.io/library/a:1"}), (TWO, {NAME: "a:1", RENDITION_OF: str(ONE.digest)})
        ).images()
        self.assertEqual((found.entries, found.original), ((TWO,), ONE.digest))
        self.assertEqual(
            (NAME, DOCKER_NAME, RENDITION_OF),
            (index_file.NAME, index_file.DOCKER_NAME, index_file.RENDITION_OF),
        )

    def test_not_a_layout(self) -> None:
        """
        An C{index.json} without C{oci-layout}, or of another version, is
        refused, and so is one that could be read as a manifest.
        """
        for version in (None, b"{}", b"[]", b'{"imageLayoutVersion":"2.0.0"}'):
            contents = layout((ONE, {}))
            if version is None:
                del contents.documents[LAYOUT]
            else:
                contents.documents[LAYOUT] = version
            self.assertRaises(BadDocument, contents.images)
        self.assertRaises(BadDocument, layout((ONE, {}), config={}, layers=[]).images)
        twice = layout()
        twice.documents[LAYOUT] = b'{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"1.0.0"}'
        self.assertRaises(BadDocument, twice.images)


class DockerTests(SynchronousTestCase):
    """
    Archives of C{docker save}.
    """

    def test_image(self) -> None:
        """
        A manifest is made of the files that are named, through links, with
        the packing that their bytes have.
        """
        (found,) = docker(
            image("alpine:3", Layers=["a/layer.tar", "b/layer.tar", "c.tar.gz", "d.tar.zst", "e.tar.zst"])
        ).images()
        self.assertEqual(names([found]), [["alpine:3"]])
        assert found.made is not None
        manifest = parse_document(found.made)
        assert isinstance(manifest, Manifest)
        manifest.check_runnable()
        self.assertEqual(manifest.config.digest, Digest.of(b"config"))
        plain = "application/vnd.oci.image.layer.v1.tar"
        types = [plain, plain, f"{plain}+gzip", f"{plain}+zstd", f"{plain}+zstd"]
        self.assertEqual([layer.media_type for layer in manifest.layers], types)
        contents = (b"layer", b"layer", b"gz", b"zst", b"skip")
        self.assertEqual([layer.digest for layer in manifest.layers], [Digest.of(c) for c in contents])
        self.assertEqual(found.entries, (found.made.descriptor,))

    def test_nothing_named(self) -> None:
        """
        An image may have no name and no layers.
        """
        (found,) = docker(image(Layers=None, RepoTags=None)).images()
        self.assertEqual(found.names, ())

    def test_missing_file(self) -> None:
        """
        A file that is not there is named; links in a circle lead nowhere.
        """
        error = self.assertRaises(BadArchive, docker(image(Layers=["x/layer.tar"])).images)
        self.assertIn("'x/layer.tar'", str(error))
        circle = docker(image(Layers=["x"]))
        circle.links |= {"x": "y", "y": "x"}
        self.assertRaises(BadArchive, circle.images)
        self.assertRaises(BadArchive, docker(image(Layers=["../../etc/passwd"])).images)

    def test_damaged(self) -> None:
        """
        A document that is not a list of images is refused.
        """
        for value in (
            b"{}",
            b"[1]",
            b"nonsense",
            b'[{"Config":1}]',
            b'[{"Config":"a","Layers":{}}]',
            b"[" * 99_999,
        ):
            contents = docker()
            contents.documents[DOCKER] = value
            self.assertRaises(BadDocument, contents.images)

    def test_too_many(self) -> None:
        """
        The numbers of images and of layers are limited.
        """
        self.assertRaises(BadArchive, docker(*[image()] * 1001).images)
        self.assertRaises(BadArchive, docker(image(Layers=["a/layer.tar"] * 1001)).images)

    def test_most(self) -> None:
        """
        A thousand images, each with as many layers as fit, are taken.
        """
        images = [image(f"a{n}:1", Layers=["a/layer.tar"] * 95) for n in range(1000)]
        (found,) = docker(*images).images()
        self.assertEqual(len(found.names), 1000)

    def test_many_names(self) -> None:
        """
        The names of all images have a bound together; up to it, many names
        for one image take no longer than as many images.
        """
        size = len("docker.io/library/a00000:1")
        most = MAX_NAMES // size
        for count in (most, most + 1):
            tags = [f"a{n:05}:1" for n in range(count)]
            for images in ([image(*tags)], [image(*tags[n::1000]) for n in range(1000)]):
                contents = docker(*images)
                if count == most:
                    (found,) = contents.images()
                    self.assertEqual(len(found.names), most)
                else:
                    self.assertIn("together", str(self.assertRaises(BadArchive, contents.images)))

    def test_too_much(self) -> None:
        """
        A list of as many values as a document may hold is read; one of more is
        refused before it is parsed: in Python, each takes twenty times its text.
        """
        for document in (DOCKER, LAYOUT):
            contents = layout() if document == LAYOUT else docker()
            for count, message in (
                (99_997, "is not a list of images"),
                (100_001, "holds more than 100000 values"),
            ):
                contents.documents[document] = b"[" + b"0," * (count - 1) + b"0]"
                error = self.assertRaises(BadDocument, contents.images)
                self.assertIn(
                    message if document == DOCKER or count > 100_000 else "no oci-layout", str(error)
                )
            contents.documents[document] = b"[" + b"{}," * 20_000 + b"{}]"
            self.assertIn(
                "holds more than 20000 objects", str(self.assertRaises(BadDocument, contents.images))
            )


class BothTests(SynchronousTestCase):
    """
    Archives of both forms, and of none.
    """

    def test_both(self) -> None:
        """
        Of both the layout is taken, as it has the manifests; but not where
        only docker's form has names.
        """
        (found,) = docker(image("a:1"), contents=layout((ONE, {NAME: "a:1"}))).images()
        self.assertEqual(found.entries, (ONE,))
        (found,) = docker(image("a:1"), contents=layout((ONE, {NAME: "1"}))).images()
        self.assertEqual(names([found]), [["a:1"]])
        self.assertIsNotNone(found.made)

    def test_neither(self) -> None:
        """
        Anything else is no archive of images.
        """
        error = self.assertRaises(BadArchive, Contents().images)
        self.assertIn("neither", str(error))


class ChooseTests(SynchronousTestCase):
    """
    Which images, and under which names.
    """

    A, B = Reference.parse("a:1"), Reference.parse("b:2")

    def test_all_with_names(self) -> None:
        """
        Without a wish, all that have names are taken.
        """
        found = layout((ONE, {NAME: "a:1"}), (TWO, {})).images()
        self.assertEqual(choose_images(found, None), [(found[0], (self.A,))])

    def test_no_names(self) -> None:
        """
        Without a wish and without names, a name is asked for.
        """
        error = self.assertRaises(BadInput, choose_images, layout((ONE, {NAME: "1"})).images(), None)
        self.assertIn("import PATH REF", str(error))

    def test_only_one(self) -> None:
        """
        The only image gets the wanted name, whatever its name in the archive.
        """
        found = layout((ONE, {NAME: "a:1"})).images()
        self.assertEqual(choose_images(found, self.B), [(found[0], (self.B,))])

    def test_one_of_several(self) -> None:
        """
        Of several one is picked by its name, or by its tag.
        """
        found = layout((ONE, {NAME: "a:1"}), (TWO, {NAME: "2"})).images()
        self.assertEqual(choose_images(found, self.A), [(found[0], (self.A,))])
        self.assertEqual(choose_images(found, self.B), [(found[1], (self.B,))])

    def test_none_of_several(self) -> None:
        """
        Where none of several is meant, all are listed.
        """
        found = layout((ONE, {NAME: "a:1"}), (TWO, {NAME: "2"})).images()
        error = self.assertRaises(BadInput, choose_images, found, Reference.parse("c:3"))
        self.assertIn("they are: a:1, '2'", str(error))

    def test_quoted_names(self) -> None:
        """
        The names of images in an archive cannot write to a terminal, make
        lines of a log, or fill them.
        """
        evil = "\x1b[2J\n\x9b\u202egpj" + "x" * 3000
        found = layout((ONE, {NAME: evil}), (TWO, {NAME: evil + "y"})).images()
        message = str(self.assertRaises(BadInput, choose_images, found, Reference.parse("c:3")))
        self.assertTrue(message.isprintable(), message)
        self.assertLessEqual(len(message), 500)
        found = docker(*[image(f"{'n' * 200}{n}:1") for n in range(20)]).images()
        one, two = (evolve(found[0], entries=(entry,)) for entry in (ONE, TWO))
        message = str(self.assertRaises(BadInput, choose_images, [one, two], Reference.parse("c:3")))
        self.assertLessEqual(len(message), 500)
        self.assertIn(" more", message)
        missing = docker(image(Config="\x1b[2J" + "x" * 900)).images
        message = str(self.assertRaises(BadArchive, missing))
        self.assertTrue(message.isprintable(), message)
        self.assertLessEqual(len(message), 500)
