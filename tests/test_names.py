"""
Tests for L{xferd.names}.
"""

from hypothesis import given
from hypothesis.strategies import from_regex, integers, sampled_from, text
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BadDigest, BadReference
from xferd.names import Digest, Reference, Repository, chain_id, is_disguised, is_loopback

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class DigestTests(SynchronousTestCase):
    """
    Digests are parsed strictly, as they become parts of paths and URLs.
    """

    def test_round_trip(self) -> None:
        """
        A parsed digest is formatted unchanged.
        """
        self.assertEqual(str(Digest.parse(f"sha256:{EMPTY}")), f"sha256:{EMPTY}")

    def test_of(self) -> None:
        """
        The digest of the empty string is the well-known one; sha512 works, too.
        """
        self.assertEqual(Digest.of(b"").hex, EMPTY)
        self.assertEqual(len(Digest.of(b"", "sha512").hex), 128)

    def test_hasher(self) -> None:
        """
        A running hash equals a hash of all bytes.
        """
        digest = Digest.of(b"some bytes", "sha512")
        hasher = digest.hasher()
        hasher.update(b"some ")
        hasher.update(b"bytes")
        self.assertEqual(hasher.hexdigest(), digest.hex)

    def test_short(self) -> None:
        """
        The short form has twelve digits.
        """
        self.assertEqual(Digest.of(b"").short, "e3b0c44298fc")

    def test_refused(self) -> None:
        """
        Other texts are refused, and quoted in the message.
        """
        for wrong in (
            "",
            EMPTY,
            "sha256:",
            f"sha256:{EMPTY}0",
            f"sha256:{EMPTY[:-1]}",
            f"sha256:{EMPTY.upper()}",
            f"sha256:{EMPTY}\n",
            f"SHA256:{EMPTY}",
            f"md5:{EMPTY}",
            f"sha512:{EMPTY}",
            f"sha256:../{EMPTY[3:]}",
        ):
            error = self.assertRaises(BadDigest, Digest.parse, wrong)
            self.assertIn(repr(wrong), str(error))

    @given(text(max_size=100))
    def test_nothing_else_than_a_digest_passes(self, wrong: str) -> None:
        """
        Any text is either refused, or a digest that formats as itself.
        """
        try:
            digest = Digest.parse(wrong)
        except BadDigest:
            return
        self.assertEqual(str(digest), wrong)


class ChainIDTests(SynchronousTestCase):
    """
    Chain IDs (OCI image-spec, "Layer ChainID").
    """

    def test_empty(self) -> None:
        """
        A stack without layers has no chain ID.
        """
        self.assertIsNone(chain_id([]))

    def test_bottom(self) -> None:
        """
        The bottom layer's chain ID is its diff ID.
        """
        self.assertEqual(chain_id([Digest.of(b"a")]), Digest.of(b"a"))

    def test_stack(self) -> None:
        """
        Each further layer hashes "chain diff", and can be added later.
        """
        a, b, c = (Digest.of(x) for x in (b"a", b"b", b"c"))
        two = Digest.of(f"{a} {b}".encode())
        three = Digest.of(f"{two} {c}".encode())
        self.assertEqual(chain_id([a, b, c]), three)
        self.assertEqual(chain_id([c], two), three)


class ReferenceTests(SynchronousTestCase):
    """
    References normalise as docker's do.
    """

    def test_normal_form(self) -> None:
        """
        A short form and its full form are the same reference.
        """
        for short, full in {
            "alpine": "docker.io/library/alpine:latest",
            "alpine:3.20": "docker.io/library/alpine:3.20",
            "docker.io/alpine": "docker.io/library/alpine:latest",
            "index.docker.io/library/alpine": "docker.io/library/alpine:latest",
            "registry-1.docker.io/alpine:3": "docker.io/library/alpine:3",
            "me/app": "docker.io/me/app:latest",
            "localhost/app": "localhost/app:latest",
            "localhost:5000/app:1": "localhost:5000/app:1",
            "Registry/app": "Registry/app:latest",
            "[::1]:5000/a/b/c:x": "[::1]:5000/a/b/c:x",
            "GCR.io/app": "gcr.io/app:latest",
            "gcr.io/p/app:v1-RC_1.0": "gcr.io/p/app:v1-RC_1.0",
            "host:5000/a__b/c-d--e.f": "host:5000/a__b/c-d--e.f:latest",
        }.items():
            reference = Reference.parse(short)
            self.assertEqual(str(reference), full)
            self.assertEqual(Reference.parse(full), reference)

    def test_digest(self) -> None:
        """
        With a digest, the tag is optional, and the request uses the digest.
        """
        only = Reference.parse(f"alpine@sha256:{EMPTY}")
        self.assertIsNone(only.tag)
        self.assertEqual(only.wanted, f"sha256:{EMPTY}")
        both = Reference.parse(f"alpine:3@sha256:{EMPTY}")
        self.assertEqual((both.tag, both.wanted), ("3", f"sha256:{EMPTY}"))
        self.assertEqual(Reference.parse("alpine").wanted, "latest")

    def test_familiar(self) -> None:
        """
        The familiar form omits Docker Hub, as docker prints it.
        """
        self.assertEqual(Reference.parse("alpine").familiar(), "alpine:latest")
        self.assertEqual(Reference.parse("me/app:1").familiar(), "me/app:1")
        self.assertEqual(Reference.parse("quay.io/me/app:1").familiar(), "quay.io/me/app:1")

    def test_familiar_is_the_same(self) -> None:
        """
        The familiar form never names another image.
        """
        for full, short in (
            ("library/library/alpine", "library/library/alpine:latest"),
            ("docker.io/localhost/app", "docker.io/localhost/app:latest"),
            ("docker.io/quay.io/app", "docker.io/quay.io/app:latest"),
        ):
            reference = Reference.parse(full)
            self.assertEqual(reference.familiar(), short)
            self.assertEqual(Reference.parse(short), reference)

    def test_refused(self) -> None:
        """
        Other texts are refused with a reason.
        """
        for wrong, why in {
            "": "lower-case",
            "Alpine": "lower-case",
            "a//b": "lower-case",
            "a/../b": "lower-case",
            "-a": "lower-case",
            "a:": "a tag is",
            "a:.x": "a tag is",
            f"a:{'x' * 129}": "a tag is",
            "ho st.x/a": "host name",
            "host.x:port/a": "host name",
            "-host.x/a": "host name",
            "https://host.x/a": "host name",
            "host.x:99999/a": "between 1 and 65535",
            "host.x:65536/a": "between 1 and 65535",
            "[::1]:0/a": "between 1 and 65535",
            "host.x:123456/a": "host name",
            "[:::1]/a": "IPv6",
            "[1.2.3.4]:5/a": "IPv6",
            "a@sha256:12": "not a digest",
            "a@": "not a digest",
            "a/" + "b" * 260: "longer than 255",
            "alpine\n": "lower-case",
        }.items():
            error = self.assertRaises(BadReference, Reference.parse, wrong)
            self.assertIn(why, str(error), wrong)

    @given(text(max_size=60))
    def test_whatever_passes_is_stable(self, written: str) -> None:
        """
        Any text is either refused, or its full form parses as the same reference.
        """
        try:
            reference = Reference.parse(written)
        except BadReference:
            return
        self.assertEqual(Reference.parse(str(reference)), reference)
        self.assertNotIn("..", reference.repository.path)

    @given(
        from_regex(r"([a-z0-9]+\.)+[a-z][a-z0-9]*", fullmatch=True),
        integers(1, 65535),
        from_regex(r"[a-z0-9]+([._-][a-z0-9]+){0,3}(/[a-z0-9]+){0,3}", fullmatch=True),
        sampled_from(["latest", "1.0", "_x", "A-b.c"]),
    )
    def test_full_forms_pass(self, host: str, port: int, path: str, tag: str) -> None:
        """
        A full reference by the grammar parses into its parts.
        """
        if len(host) + len(path) > 200 or host.endswith(".docker.io"):
            return
        reference = Reference.parse(f"{host}:{port}/{path}:{tag}")
        self.assertEqual(reference, Reference(Repository(f"{host}:{port}", path), tag))


class LoopbackTests(SynchronousTestCase):
    """
    Loopback hosts may use plain HTTP.
    """

    def test_loopback(self) -> None:
        """
        The loopback names and addresses, with and without a port.
        """
        for host in (
            "localhost",
            "localhost:5000",
            "a.localhost",
            "127.0.0.1:80",
            "127.9.9.9",
            "[::1]:5000",
            "::1",
        ):
            self.assertTrue(is_loopback(host), host)

    def test_others(self) -> None:
        """
        Other hosts, some of which look alike.
        """
        for host in (
            "docker.io",
            "localhost.example",
            "10.0.0.1:5000",
            "127.0.0.1.example",
            "[2001:db8::1]:80",
            "",
        ):
            self.assertFalse(is_loopback(host), host)


class DisguisedTests(SynchronousTestCase):
    """
    L{is_disguised} recognizes addresses in unusual forms.
    """

    def test_disguised(self) -> None:
        """
        Numbers that resolvers read as addresses are recognized.
        """
        for host in (
            "2130706433",
            "0x7f000001",
            "0X7F000001",
            "127.1",
            "0",
            "0177.0.0.1",
            "127.0.0.01",
            "127.0.0.1.",
            "0x7f.1",
            "1.2.3.0x7",
            "1.2.3.4.5",
            "256.1.1.1",
            "0x",
            "a.1",
        ):
            self.assertTrue(is_disguised(host), host)
        for host in ("127.0.0.1", "::1", "hub.example", "4.example", "1e3", "a0x1", "1-2", ""):
            self.assertFalse(is_disguised(host), host)

    def test_references(self) -> None:
        """
        Such a number is refused as the host of a reference.
        """
        for host in ("2130706433:5000", "127.1", "127.1:80", "0x7f.1", "0177.0.0.1"):
            self.assertIn("a number", str(self.assertRaises(BadReference, Reference.parse, f"{host}/a")))
        for host in ("127.0.0.1", "127.0.0.1:5000", "[::1]", "[::1]:5000", "r1.example:1"):
            self.assertEqual(Reference.parse(f"{host}/a").repository.host, host)
