# -*- test-case-name: tests.testing.test_fakes -*-
"""
All fakes of the Interfaces, in one place to import them from.
"""

from xferd.testing.fake_blobs import FakeAnonymousBlob, FakeBlobs, FakePartial
from xferd.testing.fake_body import FakeBody
from xferd.testing.fake_images import FakeImages
from xferd.testing.fake_journal import FakeJournal
from xferd.testing.fake_keychain import FakeKeychain
from xferd.testing.fake_registries import FakeRegistries
from xferd.testing.fake_registry import FakeRegistry, FakeRepository, Request
from xferd.testing.fake_store import FakeStore
from xferd.testing.fake_trees import FakeLayers, FakeTrees
from xferd.testing.fake_unpacker import FakeUnpacker, FakeUnpacking
from xferd.testing.fake_uploads import FakeContent, FakeUpload, FakeUploads
from xferd.testing.fake_wall_clock import FakeWallClock
from xferd.testing.gate import Gate

__all__ = [
    "FakeAnonymousBlob",
    "FakeBlobs",
    "FakeBody",
    "FakeContent",
    "FakeImages",
    "FakeJournal",
    "FakeKeychain",
    "FakeLayers",
    "FakePartial",
    "FakeRegistries",
    "FakeRegistry",
    "FakeRepository",
    "FakeStore",
    "FakeTrees",
    "FakeUnpacker",
    "FakeUnpacking",
    "FakeUpload",
    "FakeUploads",
    "FakeWallClock",
    "Gate",
    "Request",
]
