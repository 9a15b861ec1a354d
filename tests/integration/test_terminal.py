"""
C{xferctl} on terminals of 80, 120 and 200 columns, with a daemon whose downloads stall.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.integration.test_daemon import DaemonCase, reactor
from tests.integration.tmux import Tmux
from xferd.testing.faults import Stall
from xferd.testing.images import SampleImage

LARGE = 1_500_000
"""Bytes of a layer that has no slots of its own."""


class TerminalTests(DaemonCase):
    """
    What a user sees, and the keys that the user presses.
    """

    timeout = 180

    def terminal(self, width: int, height: int) -> Tmux:
        """
        A terminal of a size.
        """
        tmux = Tmux(reactor, str(self.place / str(width)), width=width, height=height)
        (self.place / str(width)).mkdir()
        self.addCleanup(lambda: Deferred.fromCoroutine(tmux.quit()))
        return tmux

    def stalled(self) -> tuple[SampleImage, str]:
        """
        An image of five layers whose downloads stall.
        """
        image, reference = self.add(5, LARGE)
        for layer in image.layers:
            self.registry.faults.plant(Stall(100_000), str(layer.blob.digest), times=None)
        return image, reference

    async def shown(self, tmux: Tmux, window: str, *words: str) -> str:
        """
        Wait until a terminal shows all of some words, and return what it shows.
        """

        async def look() -> str | None:
            text = await tmux.read(window)
            return text if all(word in text for word in words) else None

        return str(await self.until(look))

    async def test_ctrl_c(self) -> None:
        """
        Ctrl-C leaves each row once, and none that seems to go on.
        """
        image, reference = self.stalled()
        for width in (80, 120, 200):
            tmux = self.terminal(width, 24)
            window = await tmux.open(self.daemon.url, "pull", reference)
            digests = [layer.blob.digest.hex[:12] for layer in image.layers]
            await self.shown(tmux, window, *digests, "downloading", "in line")
            await tmux.press(window, "C-c")
            text = await self.shown(tmux, window, "was cancelled")
            self.assertEqual([text.count(digest) for digest in digests], [1] * 5, text)
            self.assertEqual((text.count("total"), text.count("interrupted ")), (1, 6), text)
            self.assertNotIn("downloading", text)

    async def test_no_reason_is_cropped(self) -> None:
        """
        Lists, bars and the board have the whole reason of each transfer.
        """
        _, reference = self.stalled()
        await self.daemon.ctl("pull", "--detach", reference)

        async def waiting() -> list[str]:
            transfers = await self.api("GET", "transfers?kind=download&state=queued")
            return [transfer["why"] for transfer in transfers if "in line" in transfer["why"]]

        async def all_wait() -> bool:
            return len(await waiting()) == 2

        await self.until(all_wait)
        for width, height in ((80, 24), (120, 40), (200, 50)):
            tmux = self.terminal(width, height)
            for command in (("transfers", "--state", "queued"), ("pull", reference), ("watch",)):
                window = await tmux.open(self.daemon.url, *command)
                text = await self.shown(tmux, window, *(await waiting()))
                self.assertLessEqual(max(map(len, text.splitlines())), width)

    async def test_watch(self) -> None:
        """
        A job is found by a word, selected, and cancelled after a question.
        """
        _, reference = self.stalled()
        job_id = (await self.daemon.ctl("pull", "--detach", reference)).strip()
        tmux = self.terminal(80, 24)
        window = await tmux.open(self.daemon.url, "watch")
        await self.shown(tmux, window, job_id, "c cancel")
        await tmux.press(window, "/", "n", "o", "n", "e", "Enter")
        await self.shown(tmux, window, "only with 'none'")
        self.assertNotIn(job_id, await tmux.read(window))
        await tmux.press(window, "Escape")
        await self.shown(tmux, window, job_id)
        await tmux.press(window, "Down", "c")
        await self.shown(tmux, window, "cancel the pull of ", "(y/n)")
        await tmux.press(window, "y")
        await self.state(job_id, "cancelled")
        await self.shown(tmux, window, f"job {job_id}: cancelled", "0 transfers")
        await tmux.press(window, "q")

        async def left() -> bool:
            return job_id not in await tmux.read(window)

        await self.until(left)
