"""
The status page in Chromium: the mirror's upstreams and repositories.
"""

from __future__ import annotations

from tests.integration.http_client import Client
from tests.integration.places import free_port
from tests.integration.programs import Xferd
from tests.integration.test_daemon import reactor
from tests.integration.test_page import PageCase
from xferd.testing.images import sample_image

REPOSITORIES = 12
"""More than are shown at first."""


class MirrorTests(PageCase):
    """
    A daemon that mirrors the registry.
    """

    async def start(self, *options: str) -> Xferd:
        """
        Start the daemon with a registry.
        """
        port = free_port()
        self.mirror = Client(reactor, f"http://127.0.0.1:{port}")
        settings = self.place / "xferd.toml"
        settings.write_text(
            f'[registry]\ndefault = "{self.registry.host}"\n'
            f'[registry.upstreams."{self.registry.host}"]\n'
            f'[[registry.keep]]\nrepositories = ["{self.registry.host}/team/*"]\ndays = 3\n'
        )
        own = ("--config", str(settings), "--registry", f"tcp:{port}:interface=127.0.0.1")
        return await super().start(*own, *options)

    async def names(self) -> list[str]:
        """
        The names of the rows that are shown.
        """
        return await self.browser.read("#mirror .name")

    async def test_more(self) -> None:
        """
        The repositories that were used last are shown, below the upstream, and the others after a
        click.
        """
        image, host = sample_image(1), self.registry.host
        for number in range(REPOSITORIES):
            self.registry.add(image, f"team/app{number:02}", "1")
            answer = await self.mirror.get(f"/v2/team/app{number:02}/manifests/1")
            self.assertEqual(answer.status, 200)
        blob = f"/v2/team/app00/blobs/{image.layers[0].blob.digest}"
        for _ in range(2):
            self.assertEqual((await self.mirror.get(blob)).status, 200)
        await self.browser.run("location.reload()")
        await self.browser.reads("#mirror-count", f"^{REPOSITORIES}$")
        await self.browser.reads("#mirror-more", "^Show 4 more$")
        shown = await self.names()
        self.assertEqual((shown[0], len(shown)), (host, 9))
        await self.browser.reads("#mirror .facts", f"^1 from the store · {REPOSITORIES + 1} fetched$")
        await self.browser.reads("#mirror .saved", "saved$")
        await self.browser.reads("#mirror .kept", r"^kept: for 3 days after its last use \(rule ")
        await self.browser.click("#mirror-more")
        await self.browser.gone("#mirror-more")
        shown = await self.names()
        wanted = {f"{host}/team/app{number:02}" for number in range(REPOSITORIES)}
        self.assertEqual((shown[0], set(shown[1:]), len(shown)), (host, wanted, REPOSITORIES + 1))
        await self.assert_quiet()
