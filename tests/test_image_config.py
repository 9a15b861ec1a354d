"""
Tests for L{xferd.image_config}.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BadDocument
from xferd.image_config import ImageConfig, parse_config, platform_of, read_config
from xferd.media_types import OCI_CONFIG
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT, MAX_VALUES, SMALL_DOCUMENT, Descriptor, Manifest
from xferd.platforms import Platform

DIFF_ID = Digest.of(b"tar")
LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar", DIFF_ID, 3)
MANIFEST = Manifest(Descriptor(OCI_CONFIG, Digest.of(b"config"), 6), (LAYER,))
ROOTFS = {"type": "layers", "diff_ids": [str(DIFF_ID)]}


class ConfigTests(SynchronousTestCase):
    """
    Image configs.
    """

    def read(self, value: object) -> ImageConfig:
        """
        Parse a config of a manifest with one layer.
        """
        return parse_config(json.dumps(value).encode(), MANIFEST)

    def test_config(self) -> None:
        """
        The config has the diff IDs and the platform.
        """
        config = self.read({"os": "linux", "architecture": "arm64", "rootfs": ROOTFS})
        self.assertEqual(config.diff_ids, (DIFF_ID,))
        self.assertEqual(config.platform, Platform("linux", "arm64"))

    def test_again(self) -> None:
        """
        A config that was parsed before is compared with each manifest; a large one
        is parsed each time.
        """
        two = Manifest(MANIFEST.config, (LAYER, LAYER))
        small = {"architecture": "again", "rootfs": ROOTFS}
        self.assertIs(self.read(small), self.read(small))
        self.assertRaises(BadDocument, parse_config, json.dumps(small).encode(), two)
        large = {**small, "comment": "x" * SMALL_DOCUMENT}
        self.assertEqual(self.read(large), self.read(small))
        self.assertIsNot(self.read(large), self.read(large))

    def test_refused(self) -> None:
        """
        A config that violates the specification, or differs from its manifest, is
        refused.
        """
        good = str(DIFF_ID)
        for rootfs, why in (
            (None, "no rootfs"),
            ({"type": "other", "diff_ids": [good]}, "no rootfs"),
            ({"type": "layers", "diff_ids": good}, "not a list"),
            ({"type": "layers", "diff_ids": ["x"]}, "not a digest"),
            ({"type": "layers", "diff_ids": [good, good]}, "names 2 layers, its manifest 1"),
            ({"type": "layers", "diff_ids": None}, "names 0 layers, its manifest 1"),
        ):
            error = self.assertRaises(BadDocument, self.read, {"rootfs": rootfs})
            self.assertIn(why, str(error))

    def test_no_platform(self) -> None:
        """
        A config with a missing or incomplete platform has none.
        """
        for named in (
            {},
            {"os": "", "architecture": ""},
            {"os": "linux", "architecture": ""},
            {"os": None, "architecture": "amd64"},
            {"architecture": "amd64", "variant": "v2"},
            {"os": "linux", "architecture": 5},
        ):
            self.assertIs(self.read({**named, "rootfs": ROOTFS}).platform, None)
            self.assertIs(platform_of(json.dumps(named).encode(), DIFF_ID), None)
        named = {"os": "linux", "architecture": "arm", "variant": None}
        self.assertEqual(self.read({**named, "rootfs": ROOTFS}).platform, Platform("linux", "arm", "v7"))


class OddTests(SynchronousTestCase):
    """
    Configs that are not valid JSON, but that Go's tools read.
    """

    def labels(self, text: bytes) -> Any:
        """
        The labels of an otherwise valid config.
        """
        head = b'{"os":"linux","architecture":"amd64","rootfs":' + json.dumps(ROOTFS).encode()
        data = head + b',"config":{"Labels":{' + text + b"}}}"
        config = parse_config(data, MANIFEST)
        self.assertEqual((config.diff_ids, config.platform), ((DIFF_ID,), Platform("linux", "amd64")))
        labels = read_config(data, "config")["config"]["Labels"]
        json.dumps(labels, ensure_ascii=False).encode("utf-8")
        return labels

    def test_texts(self) -> None:
        """
        Lone surrogates and invalid UTF-8 are replaced everywhere; all else stays.
        """
        for text, labels in (
            (rb'"a":"x\ud83dy"', {"a": "x\ufffdy"}),
            (rb'"a":"\ude00\ud83d"', {"a": "\ufffd\ufffd"}),
            (rb'"a":"\ud83d\ude00 \\ud83d"', {"a": "\U0001f600 \\ud83d"}),
            (
                rb'"\ud83d":["\ud83d",[{"b":"\udfff"}],1,null]',
                {"\ufffd": ["\ufffd", [{"b": "\ufffd"}], 1, None]},
            ),
            (b'"a":"caf\xe9"', {"a": "caf\ufffd"}),
            (b'"caf\xe9":"caf\xc3\xa9"', {"caf\ufffd": "caf\xe9"}),
        ):
            self.assertEqual(self.labels(text), labels)

    def test_twice(self) -> None:
        """
        Of a duplicate name, the last value counts.
        """
        self.assertEqual(self.labels(b'"a":"x","b":"y","a":"z"'), {"a": "z", "b": "y"})
        self.assertEqual(
            self.labels(b'"os":"x","os":"y","diff_ids":1,"diff_ids":2'), {"os": "y", "diff_ids": 2}
        )

    def test_ambiguous(self) -> None:
        """
        The fields for layers and platform must not be duplicates with different values.
        """
        other = json.dumps({"type": "layers", "diff_ids": [str(Digest.of(b"other"))]})
        rootfs = json.dumps(ROOTFS)
        for text in (
            f'{{"rootfs":{other},"rootfs":{rootfs}}}',
            f'{{"rootfs":{{"type":"layers","diff_ids":[],"diff_ids":["{DIFF_ID}"]}}}}',
            f'{{"rootfs":{{"type":"x","type":"layers","diff_ids":["{DIFF_ID}"]}}}}',
            f'{{"os":"linux","os":"windows","rootfs":{rootfs}}}',
            f'{{"architecture":"arm64","architecture":"amd64","rootfs":{rootfs}}}',
            f'{{"variant":"","variant":"v8","rootfs":{rootfs}}}',
        ):
            error = self.assertRaises(BadDocument, parse_config, text.encode(), MANIFEST)
            self.assertIn("read in two ways", str(error))
        self.assertRaises(BadDocument, platform_of, b'{"os":"linux","os":"windows"}', DIFF_ID)
        same = f'{{"os":"linux","os":"linux","rootfs":{rootfs},"rootfs":{rootfs}}}'
        self.assertEqual(parse_config(same.encode(), MANIFEST).diff_ids, (DIFF_ID,))

    def test_not_json(self) -> None:
        """
        A config that is not a JSON object, or too large, is refused.
        """
        for data, why in (
            (b"", "not JSON"),
            (b"[]", "not a JSON object"),
            (b'"rootfs"', "not a JSON object"),
            (b'{"a":NaN}', "NaN is not a number"),
            (b'{"a":"\n"}', "not JSON"),
            (b'{"a":' + b"[" * 50_000, "not JSON"),
            (b" " * (MAX_DOCUMENT + 1), "larger than"),
            (b"[" + b"1," * MAX_VALUES + b"1]", "values"),
        ):
            for read in (lambda d: read_config(d, "config x"), lambda d: parse_config(d, MANIFEST)):
                self.assertIn(why, str(self.assertRaises(BadDocument, read, data)))

    @given(
        st.binary(max_size=200)
        | st.text(max_size=50).map(lambda t: b'{"a":"' + t.encode("utf-8", "surrogatepass") + b'"}')
    )
    def test_anything(self, data: bytes) -> None:
        """
        Any bytes are either read, as texts that can be encoded, or refused.
        """
        try:
            value = read_config(data, "config")
        except BadDocument as e:
            self.assertTrue(str(e))
        else:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
