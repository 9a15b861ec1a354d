# -*- test-case-name: tests.test_platforms -*-
"""
Platforms, their spellings, and which images run on them, as in containerd.
"""

from __future__ import annotations

import platform as machine
import re
from typing import Final

from attrs import frozen

from xferd.errors import BadPlatform

_WORD = re.compile(r"[a-z0-9_.-]*[a-z0-9][a-z0-9_.-]*")


MAX_LENGTH: Final = 100
"""The most characters of a platform in a request: jobs, events and the journal keep it."""


@frozen
class Platform:
    """
    The platform of an image.

    @ivar os: C{linux}.
    @ivar architecture: as Go names it, C{amd64}, C{arm64}, C{arm}.
    @ivar variant: C{v7}, or the empty string.
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """
        Read C{os/architecture[/variant]}, with the usual other spellings
        (C{linux/aarch64} is C{linux/arm64}).

        @raise BadPlatform: C{text} is not a platform.
        """
        parts = text.lower().split("/")
        if len(text) > MAX_LENGTH or len(parts) not in (2, 3) or not all(_WORD.fullmatch(p) for p in parts):
            raise BadPlatform(text)
        return cls.normal(*parts)

    @classmethod
    def normal(cls, os: str, architecture: str, variant: str = "") -> Platform:
        """
        The normal form of a platform, as in containerd: arm64 is v8 and arm is
        v7 without a variant; amd64 v1 is amd64.
        """
        os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
        architecture, implied = _ARCHITECTURES.get(architecture, (architecture, variant))
        # Some names imply a variant; i386 has none.
        variant = variant if implied is None else implied
        if architecture == "arm" and variant in ("", "7"):
            variant = "v7"
        elif architecture == "arm" and variant in ("5", "6", "8"):
            variant = f"v{variant}"
        elif (architecture, variant) in (("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")):
            variant = ""
        return cls("darwin" if os == "macos" else os, architecture, variant)

    @classmethod
    def local(cls) -> Platform:
        """
        The platform of this machine.
        """
        return cls.normal("linux", machine.machine())

    def accepts(self) -> tuple[Platform, ...]:
        """
        The platforms whose images run here, the best first: a v7 arm runs
        what was made for v6 and v5, an amd64 v3 what was made for v2 and v1,
        and, where there is nothing better, an amd64 what was made for 386 and
        an arm64 what was made for arm.
        """
        return tuple(Platform.normal(self.os, *step) for step in self._steps())

    def _steps(self) -> list[tuple[str, str]]:
        """
        Architectures and variants, from this one downwards.
        """
        own = (self.architecture, self.variant)
        if self.architecture == "amd64":
            return [own, *_down("amd64", self.variant, 1), ("386", "")]
        if self.architecture == "arm":
            return [own, *_down("arm", self.variant, 5)]
        if self.architecture == "arm64":
            major, minor = _arm64_version(self.variant)
            lower = [("arm64", _arm64_variant(major, n)) for n in range(minor - 1, -1, -1)]
            if major == 9:
                # What came with v9.x came with v8.(x+5), too.
                lower += [("arm64", _arm64_variant(8, n)) for n in range(minor + 5, -1, -1)]
            return [own, *lower, ("arm", "v8"), *_down("arm", "v8", 5)]
        return [own]

    def __str__(self) -> str:
        return "/".join(p for p in (self.os, self.architecture, self.variant) if p)


_ARCHITECTURES: Final[dict[str, tuple[str, str | None]]] = {
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}
"""Other names of architectures, and the variant that each implies."""


def _down(architecture: str, variant: str, lowest: int) -> list[tuple[str, str]]:
    """
    The variants below one, down to C{lowest}.
    """
    number = variant[1:]
    if not variant.startswith("v") or not number.isdecimal() or len(number) > 2:
        return []
    return [(architecture, f"v{n}") for n in range(int(number) - 1, lowest - 1, -1)]


def _arm64_version(variant: str) -> tuple[int, int]:
    """
    The version of the architecture, (8, 0) for C{v8} or no variant, and (0, 0)
    for an unknown one, which has none below it.
    """
    major, _, minor = (variant or "v8").partition(".")
    known = major in ("v8", "v9") and len(minor) <= 1 and (minor or "0").isdecimal()
    return (int(major[1:]), int(minor or "0")) if known else (0, 0)


def _arm64_variant(major: int, minor: int) -> str:
    """
    The variant of a version.
    """
    return f"v{major}.{minor}" if minor else f"v{major}"
