"""
C{xferctl} on terminals of 80, 120 and 200 columns, with a daemon whose downloads stall.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.integration.test_daemon import DaemonCase, reactor
from tests.integration.tmux import Tmux
from xferd.testing.faults import Stall, too_many_requests
from xferd.testing.images import SampleImage
from xferd.testing.registry import Registry

LARGE = 1_500_000
"""Bytes of a layer that has no slots of its own."""


class TerminalTests(DaemonCase):
    """
    What a user sees, and the keys that the user presses.
    """

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
        Wait until a terminal shows all of some words, in one line or in several, and return what
        it shows.
        """

        text = ""

        async def look() -> bool:
            nonlocal text
            text = await tmux.read(window)
            whole = " ".join(text.split())
            return all(word in whole for word in words)

        try:
            await self.until(look)
        except self.failureException as e:
            raise self.failureException(f"no {words} in:\n{text}") from e
        return text

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
        Lists, bars and the board have the whole reason of each job, layer, transfer and registry.
        """
        _, reference = self.stalled()
        job_id = (await self.daemon.ctl("pull", "--detach", reference)).strip()
        other = Registry(reactor)
        await other.listen(reactor)
        self.addCleanup(other.stop)
        other.faults.plant(too_many_requests("300"), "/manifests/", times=None)
        limited = f"{other.host}/team/a-name-that-is-much-longer-than-others/frontend:2026.12.1-rc1"
        await self.daemon.ctl("pull", "--detach", limited)

        asked = f"{other.host} asked to wait"
        lines = [f"waiting for a download slot, {place} in line" for place in ("1st", "2nd")]
        later = [f"{other.host} limits requests (429: TOOMANYREQUESTS: slow down); it asks to wait 300 s"]

        async def all_wait() -> bool:
            whys = [transfer["why"] for transfer in await self.api("GET", "transfers")]
            return all(any(words in why for why in whys) for words in [*lines, *later])

        await self.until(all_wait)
        for width in (80, 120, 200):
            tmux = self.terminal(width, 60)
            for words, *command in (
                ([*lines, *later], "transfers"),
                (later, "jobs"),
                (lines, "job", job_id),
                ([asked], "hosts"),
                ([*lines, *later], "watch"),
                (lines, "pull", reference),
                (later, "pull", limited),
            ):
                window = await tmux.open(self.daemon.url, *command)
                text = await self.shown(tmux, window, *words)
                self.assertLessEqual(max(map(len, text.splitlines())), width, command)

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
