"""
podman 5 with the view of the daemon's store.
"""

from __future__ import annotations

from tests.integration import test_engine_podman as podman4
from tests.integration.newer import newer
from xferd.testing.images import image_of, sample_layer


class Podman5Case(podman4.PodmanCase):
    """
    podman of the directory in C{XFERD_ENGINES}.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Find it.
        """
        newer("podman")
        await super().setUp()

    def make_storage(self, name: str, view: str = "") -> podman4.Storage:
        """
        Make the storage of this podman.
        """
        return podman4.Storage(self.place / name, view, podman=newer("podman"))


class Podman5ViewTests(Podman5Case, podman4.ViewTests):
    """
    Images from the daemon's trees.
    """

    async def test_deep(self) -> None:
        """
        An image of 120 layers runs, also in a user namespace.
        """
        base = podman4.tiny_image()
        image = image_of([*base.layers, *(sample_layer(100, number) for number in range(118))])
        reference = await self.push("deep:1", image)
        await self.daemon.ctl("pull", reference)
        for options in ((), ("--uidmap=0:100000:65536", "--gidmap=0:200000:65536")):
            said = await self.run_in(reference, "cat", "/etc/os-release", options=options)
            self.assertEqual(said, podman4.RELEASE, options)


class Podman5RemovalTests(Podman5Case, podman4.RemovalTests):
    """
    What podman needs stays.
    """


class Podman5KilledTests(Podman5Case, podman4.KilledTests):
    """
    A daemon that is killed while it lets C{podman pull} wait.
    """


class Podman5LateAnswerTests(Podman5Case, podman4.LateAnswerTests):
    """
    An unchanged C{podman pull} through the mirror.
    """
