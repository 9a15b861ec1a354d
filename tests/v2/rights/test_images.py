"""
Tests for the rights to images that jobs brought, under the names of upstreams.
"""

from __future__ import annotations

from tests.jobs.case import HOST
from tests.v2.case import RegistryCase
from xferd.testing.images import sample_image
from xferd.v2.rights.rules import RightsRule
from xferd.v2.settings import RegistrySettings, UpstreamSettings
from xferd.web.peer_trust import Trust


class ImagesTests(RegistryCase):
    """
    A job has pulled a private image with the daemon's credentials.
    """

    def setUp(self) -> None:
        """
        Pull it.
        """
        super().setUp()
        self.image = self.add(sample_image(1))
        self.registry.private.add("app")
        self.pulled()
        self.paths = (
            "/v2/app/manifests/latest",
            f"/v2/app/manifests/{self.image.digest}",
            f"/v2/app/blobs/{self.image.layers[0].blob.digest}",
            f"/v2/app/blobs/{self.image.config.digest}",
        )

    def statuses(self, trust: Trust) -> list[int]:
        """
        The status of each request of a client.
        """
        return [self.request(path, trust=trust).status for path in self.paths]

    def test_strangers(self) -> None:
        """
        A client that the upstream would refuse gets nothing of it, by tag or by
        digest.
        """
        self.assertEqual(self.statuses(Trust.NONE), [404] * 4)

    def test_owner(self) -> None:
        """
        Root and the daemon's user have it by tag and by digest, as it is their own.
        """
        self.assertEqual(self.statuses(Trust.ALL), [200] * 4)

    def test_rule(self) -> None:
        """
        A rule can make it public.
        """
        rule = RightsRule(("anonymous",), (f"{HOST}/app",), ("pull",))
        upstreams = {HOST: UpstreamSettings(alias="up")}
        self.v2.reload(RegistrySettings(default=HOST, upstreams=upstreams, rights=(rule,)))
        self.assertEqual(self.statuses(Trust.NONE), [200] * 4)
