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
        self.registry.add(self.image, "app", "1")
        self.add(sample_image(1, seed=2), "other")
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

    def lists(self, trust: Trust) -> tuple[int, object, object]:
        """
        What the lists of a client have: the status of the list of tags, the tags, and the
        repositories.
        """
        tags = self.request("/v2/app/tags/list", trust=trust)
        repositories = self.request("/v2/_catalog", trust=trust).json()["repositories"]
        return tags.status, tags.json().get("tags"), repositories

    def test_lists(self) -> None:
        """
        What a client gets is in its lists, and nothing else is.
        """
        self.pulled("other")
        self.pulled("app:1")
        self.assertEqual(self.lists(Trust.NONE), (404, None, []))
        names = [f"{HOST}/app", f"{HOST}/other"]
        self.assertEqual(self.lists(Trust.ALL), (200, ["1", "latest"], names))
        self.publish()
        self.assertEqual(self.lists(Trust.NONE), (200, ["1", "latest"], names[:1]))
        for policy in ("account", "pass"):
            settings = UpstreamSettings(policy=policy, root_may=True)
            self.v2.reload(RegistrySettings(default=HOST, upstreams={HOST: settings}))
            self.assertEqual(self.request("/v2/_catalog").json(), {"repositories": []}, policy)
        self.v2.reload(RegistrySettings(default="", upstreams={}))
        self.assertEqual(self.request("/v2/_catalog").json(), {"repositories": []})

    def publish(self) -> None:
        """
        Make the repository public by a rule.
        """
        rule = RightsRule(("anonymous",), (f"{HOST}/app",), ("pull",))
        upstreams = {HOST: UpstreamSettings(alias="up")}
        self.v2.reload(RegistrySettings(default=HOST, upstreams=upstreams, rights=(rule,)))

    def test_rule(self) -> None:
        """
        A rule can make it public.
        """
        self.publish()
        self.assertEqual(self.statuses(Trust.NONE), [200] * 4)
