"""
Tests for L{xferd.platforms}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import builds, sampled_from
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BadPlatform
from xferd.platforms import Platform


class PlatformTests(SynchronousTestCase):
    """
    Platforms, spelled and matched as in containerd.
    """

    def test_spellings(self) -> None:
        """
        Different spellings of one platform are equal.
        """
        for written, normal in {
            "linux/aarch64": "linux/arm64",
            "linux/arm64/v8": "linux/arm64",
            "linux/x86_64": "linux/amd64",
            "LINUX/AMD64": "linux/amd64",
            "linux/amd64/v1": "linux/amd64",
            "linux/arm": "linux/arm/v7",
            "linux/arm/6": "linux/arm/v6",
            "linux/armhf": "linux/arm/v7",
            "linux/amd64/v3": "linux/amd64/v3",
            "linux/s390x": "linux/s390x",
            "linux/x86-64/v3": "linux/amd64/v3",
            "linux/aarch64/v9": "linux/arm64/v9",
            "linux/i386/v2": "linux/386",
            "macos/arm64": "darwin/arm64",
        }.items():
            self.assertEqual(str(Platform.parse(written)), normal)

    def test_refused(self) -> None:
        """
        Other texts are refused.
        """
        for wrong in ("", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "linux/../x", "linux/ärm"):
            self.assertRaises(BadPlatform, Platform.parse, wrong)

    def test_long(self) -> None:
        """
        A platform of thousands of characters is refused, as jobs keep it.
        """
        self.assertEqual(len(str(Platform.parse("linux/" + "a" * 94))), 100)
        error = self.assertRaises(BadPlatform, Platform.parse, "linux/" + "a" * 95)
        self.assertLess(len(str(error)), 500)

    def test_local(self) -> None:
        """
        The platform of this machine is a Linux one.
        """
        self.assertEqual(Platform.local().os, "linux")

    def test_capitals(self) -> None:
        """
        Upper case is the same platform.
        """
        self.assertEqual(Platform.normal("Linux", "ARM64", "V8"), Platform("linux", "arm64"))

    def accepted(self, text: str) -> list[str]:
        """
        The platforms accepted by a platform, without the operating system.
        """
        return [str(p).removeprefix("linux/") for p in Platform.parse(text).accepts()]

    def test_variants(self) -> None:
        """
        A newer variant accepts older ones, the newest first.
        """
        self.assertEqual(self.accepted("linux/arm/v7"), ["arm/v7", "arm/v6", "arm/v5"])
        self.assertEqual(self.accepted("linux/arm/v5"), ["arm/v5"])
        self.assertEqual(self.accepted("linux/s390x"), ["s390x"])

    def test_smaller_architectures(self) -> None:
        """
        The 32-bit platforms of the same architecture are accepted last.
        """
        arm = ["arm/v8", "arm/v7", "arm/v6", "arm/v5"]
        self.assertEqual(self.accepted("linux/amd64"), ["amd64", "386"])
        self.assertEqual(self.accepted("linux/amd64/v3"), ["amd64/v3", "amd64/v2", "amd64", "386"])
        self.assertEqual(self.accepted("linux/arm64"), ["arm64", *arm])

    def test_arm64_versions(self) -> None:
        """
        arm64 v9.x accepts v8.(x+5).
        """
        accepted = self.accepted("linux/arm64/v8.2")
        self.assertEqual(accepted[:3], ["arm64/v8.2", "arm64/v8.1", "arm64"])
        accepted = self.accepted("linux/arm64/v9.1")
        self.assertEqual(
            accepted[:9],
            ["arm64/v9.1", "arm64/v9", *(f"arm64/v8.{n}" for n in range(6, 0, -1)), "arm64"],
        )

    @given(
        builds(
            Platform,
            sampled_from(["linux", "windows"]),
            sampled_from(["amd64", "arm64", "arm", "386", "x"]),
            sampled_from(["", "v", "v0", "v1", "v4", "v9.99", "v8.5", "v9", "v99", "v1000", "v\u00b2", "x"]),
        )
    )
    def test_anything(self, platform: Platform) -> None:
        """
        Any platform accepts itself first, and few others.
        """
        accepted = platform.accepts()
        self.assertEqual(accepted[0], Platform.normal(platform.os, platform.architecture, platform.variant))
        self.assertLess(len(accepted), 120)
