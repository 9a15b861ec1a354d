"""
Shared by the tests of clients with different sources and access.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.credentials import Credentials, Secret
from xferd.errors import Denied
from xferd.testing.fake_registry import FakeRegistry
from xferd.testing.images import sample_image

ANN, BOB = (Credentials(name, Secret("hunter2")) for name in ("ann", "bob"))


class SourcesCase(JobsCase):
    """
    Two clients with a registry each.
    """

    def setUp(self) -> None:
        """
        Put one image into both, and hold the bytes of its layer.
        """
        super().setUp()
        self.image = self.add(sample_image(1, 100_000))
        self.other.add(self.image, "app")
        self.blob = self.image.layers[0].blob.digest
        self.registry.stall(self.blob)

    def both(self) -> tuple[str, str]:
        """
        Begin to pull from the one, then from the other.
        """
        first = self.pull()
        self.settle()
        second = str(self.jobs.pull(f"{OTHER}/app", None, "ci", 0)["id"])
        self.settle()
        return first, second


class RightsCase(JobsCase):
    """
    Clients with different access.
    """

    def setUp(self) -> None:
        """
        Let Ann have an image of which Bob knows all but the layer's bytes.
        """
        super().setUp()
        self.image = sample_image(1, 100_000)
        self.blob = self.image.layers[0].blob.digest
        self.hers, self.his = self.of("ann"), self.of("bob")
        self.hers.add(self.image, "app")
        self.his.add(self.image, "app")

    def of(self, user: str) -> FakeRegistry:
        """
        The registry as one client sees it.
        """
        return self.registries.registry(HOST, user)

    def begin(self, who: Credentials, name: str = "app") -> str:
        """
        Begin to pull.
        """
        job_id = str(self.jobs.pull(f"{HOST}/{name}", None, "ci", 0, {HOST: who})["id"])
        self.settle()
        return job_id

    def deny(self, times: int = 9, points: Sequence[str] = ("confirm", "open")) -> None:
        """
        Let Bob have no byte of the layer, so many times.
        """
        error = Denied("not yours", host=HOST, status=401)
        for point in points:
            self.his.gate.fail(point, error, self.blob, times=times)

    def row(self, job_id: str) -> Mapping[str, Any]:
        """
        The layer of a job.
        """
        (row,) = self.job(job_id)["layers"]
        return dict(row)
