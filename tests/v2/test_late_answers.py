"""
Tests for L{xferd.v2.app}: manifests that wait for the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tests.jobs.case import HOST
from tests.v2.case import RegistryCase
from tests.web.connection import Connection
from xferd.interfaces.engines import ILateAnswers
from xferd.names import Repository
from xferd.oci import Document
from xferd.testing.images import sample_image
from xferd.v2.settings import RegistrySettings, UpstreamSettings

PODMAN = {"Host": "localhost:5000", "User-Agent": "libpod/4.3.1"}


@implementer(ILateAnswers)
@define(eq=False)
class FakeLateAnswers:
    """
    Has the manifests of user 7 wait until a test ends that.

    @ivar asked: the repositories and manifests that wait.
    @ivar waiting: the waits.
    @ivar left: the waits that were ended by their clients.
    """

    asked: list[tuple[Repository, Document, str]] = field(factory=list)
    waiting: list[Deferred[None]] = field(factory=list)
    left: list[Deferred[None]] = field(factory=list)

    def waits(self, uid: int, agent: str) -> bool:
        """
        Whether it is podman of user 7.
        """
        return (uid, agent) == (7, "libpod/4.3.1")

    def ready(self, repository: Repository, document: Document, client: str) -> Deferred[None]:
        """
        Wait.
        """
        self.asked.append((repository, document, client))
        self.waiting.append(Deferred(self.left.append))
        return self.waiting[-1]


class LateManifestCase(RegistryCase):
    """
    A registry with an image, and podman of a user.
    """

    def setUp(self) -> None:
        """
        Put an image into the upstream.
        """
        self.late = self.late_answers = FakeLateAnswers()
        super().setUp()
        self.image = self.add(sample_image(1))

    def ask(
        self,
        wanted: str = "latest",
        method: str = "GET",
        uid: int | None = 7,
        headers: Mapping[str, str] | None = None,
    ) -> Connection:
        """
        Ask for a manifest, as podman of a user does.
        """
        connection = self.connect()
        channel: Any = connection.protocol
        channel.uid = uid
        connection.send(method, f"/v2/app/manifests/{wanted}", {**PODMAN, **(headers or {})})
        self.settle()
        return connection


class LateManifestTests(LateManifestCase):
    """
    Manifests for engines of this machine.
    """

    def test_waits(self) -> None:
        """
        A manifest, by its tag or its digest, is sent once its layers can be used.
        """
        for number, wanted in enumerate(("latest", str(self.image.digest))):
            connection = self.ask(wanted)
            self.assertEqual(connection.received(), b"")
            self.assertEqual(self.late.asked[number][:2], (Repository(HOST, "app"), self.image.manifest))
            self.late.waiting[number].callback(None)
            self.settle()
            answer = connection.answer()
            self.assertEqual((answer.status, answer.body), (200, self.image.manifest.data))

    def test_others(self) -> None:
        """
        Nobody else waits: not the user's other programs, other users, clients of other
        machines or behind a proxy; and no request without a body.
        """
        for connection in (
            self.ask(uid=8),
            self.ask(uid=None),
            self.ask(method="HEAD"),
            self.ask(headers={"User-Agent": "curl/8"}),
            self.ask(headers={"X-Forwarded-For": "192.0.2.1"}),
            self.ask(headers={"If-None-Match": f'"{self.image.digest}"'}),
        ):
            self.assertIn(connection.answer().status, (200, 304))
        self.assertEqual(self.late.asked, [])

    def test_leaves(self) -> None:
        """
        The wait of a client that leaves ends.
        """
        connection = self.ask()
        connection.lose()
        self.assertEqual(self.late.left, self.late.waiting)

    def test_unknown(self) -> None:
        """
        An error is sent at once.
        """
        self.assertEqual(self.ask("other").answer().status, 404)
        self.assertEqual(self.late.asked, [])


class OwnCredentialsTests(LateManifestCase):
    """
    Manifests of an upstream that checks its clients' own credentials.
    """

    settings = RegistrySettings(default=HOST, upstreams={HOST: UpstreamSettings(alias="up", policy="pass")})

    def test_ordinary(self) -> None:
        """
        Nothing is pulled with the daemon's credentials for them: nobody waits.
        """
        self.assertEqual(self.ask().answer().status, 200)
        self.assertEqual(self.late.asked, [])
