"""
Makes the pictures in C{docs/images}, from a real run: a daemon, a registry on
loopback with a rate for each response, and images of this machine's own files.
Run by hand, with chromium and chromedriver::

    python -m tests.integration.pictures

C{pull.svg} is what C{xferctl pull} writes to a terminal, C{page.png} the status page
while three clients pull, C{page-*.png} the same at other widths and in dark colours, and
C{page-job.png} the page of a job.  They take three minutes.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import tempfile
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Final
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

from rich.console import Console
from rich.text import Text
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

from tests.integration.browser import Browser
from tests.integration.programs import XFERCTL, Xferd, environment
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import from_directories
from xferd.testing.registry import Registry

IMAGES: Final = Path(__file__).resolve().parents[2] / "docs" / "images"

APP: Final = ["/usr/lib/python3", "/usr/share/perl", "/usr/share/zoneinfo", "/usr/include", "/usr/share/doc"]
TOOLS: Final = ["/usr/lib/python3", "/usr/share/locale", "/usr/share/man"]
"""The directories whose files make up the images, one layer for each. Both images have the first one."""

RATE: Final = 3_000_000
"""Bytes per second of each response: slow enough to be visible."""

LAYER: Final = 24_000_000
"""Bytes of files in one layer, at most."""

COLUMNS: Final = 102
STEPS: Final = 20
"""Number of states of the terminal in the picture."""

SCREENS: Final = (
    ("page", 1300, 900, "light"),
    ("page-dark", 1300, 900, "dark"),
    ("page-800", 800, 1000, "light"),
    ("page-800-dark", 800, 1000, "dark"),
    ("page-400", 400, 860, "light"),
    ("page-400-dark", 400, 860, "dark"),
)
"""The pictures of the page: name, width, height and colours."""

BEFORE: Final = 9
"""Pulls before the pictures of the page, some seconds apart, for its chart."""

APART: Final = 12.0

LAST: Final = 3.0
"""Seconds for which the last state is shown."""

_PAD: Final = 16
_REDRAW = re.compile(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")
"""The escape sequence that rich writes before it draws the same lines again."""

_SVG: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">
<title>xferctl pull: a progress bar for each layer, then the digest of the image</title>
<style>
text {{ font: 20px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre }}
.s {{ visibility: hidden; animation: show {whole:.2f}s step-end infinite }}
.l {{ animation-name: last }}
@keyframes show {{ 0% {{ visibility: visible }} {step:.3f}%, 100% {{ visibility: hidden }} }}
@keyframes last {{ 0% {{ visibility: visible }} {last:.3f}%, 100% {{ visibility: hidden }} }}
@media (prefers-reduced-motion) {{ .s {{ animation: none }} .l {{ visibility: visible }} }}
{styles}
</style>
<rect width="100%" height="100%" rx="8" fill="#16191d"/>
<g transform="translate({pad} {pad})">
{states}
</g>
</svg>
"""


def terminal(argv: Sequence[str]) -> list[tuple[float, str]]:
    """
    Run a program on a terminal.

    @return: its output in pieces, each with the seconds since the start.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    surroundings = {**environment(), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    start, written, decoder = time.monotonic(), [], getincrementaldecoder("utf-8")()
    with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=surroundings) as process:
        os.close(slave)
        while True:
            try:
                written.append((time.monotonic() - start, decoder.decode(os.read(master, 65536))))
            except OSError:  # Linux reports the end of the other side as EIO.
                break
    os.close(master)
    if process.returncode != 0:
        raise SystemExit(f"{argv} ended with {process.returncode}: {written}")
    return written


def states(written: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """
    The text on the terminal after each piece.
    """
    shown, text = [], ""
    for seconds, piece in written:
        text += piece.replace("\r\n", "\n")
        shown.append((seconds, _REDRAW.split(text)[-1]))
    return shown


def picture(written: Sequence[tuple[float, str]], command: str) -> str:
    """
    Draw the output of a program as an animated SVG.
    """
    shown = states(written)
    length = shown[-1][0]
    step = length / STEPS
    chosen = [""]
    chosen += [
        [text for at, text in shown if at <= step * n or at == shown[0][0]][-1] for n in range(1, STEPS)
    ]
    chosen.append(shown[-1][1])
    parts: list[str] = []
    styles: dict[str, str] = {}
    height = 0.0
    whole = length + LAST
    for number, text in enumerate(chosen):
        console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
        console.print(Text.assemble(("$ ", "bright_black"), (command, "bold")))
        console.print(Text.from_ansi(text.rstrip("\r\n")))
        drawn = console.export_svg(code_format="{styles}\0{matrix}", unique_id="t", font_aspect_ratio=0.61)
        rules, matrix = drawn.split("\0")
        matrix = re.sub(r' clip-path="[^"]*"| textLength="[^"]*"', "", matrix)
        matrix = re.sub(r"<text [^>]*>\s*</text>", "", matrix)
        # Each state names its styles from r1 upwards; the picture has one set of them.
        names = dict(re.findall(r"\.(t-r\d+) \{ (.+?) \}", rules))
        for name, rule in names.items():
            matrix = matrix.replace(f'"{name}"', f'"{styles.setdefault(rule, f"c{len(styles)}")}"')
        kind = "s l" if number == len(chosen) - 1 else "s"
        parts.append(f'<g class="{kind}" style="animation-delay:{step * number:.2f}s">{matrix.strip()}</g>')
        height = max(height, *map(float, re.findall(r' y="([\d.]+)"', matrix)))
    return _SVG.format(
        width=COLUMNS * 20 * 0.61 + 2 * _PAD,
        height=height + 2 * _PAD + 6,
        whole=whole,
        step=100 * step / whole,
        last=100 * LAST / whole,
        styles="\n".join(f".{name} {{ {rule} }}" for rule, name in styles.items()),
        pad=_PAD,
        states="\n".join(parts),
    )


def begin(page: str, client: str, reference: str) -> None:
    """
    Start a pull for one of several clients.
    """
    body = json.dumps({"kind": "pull", "reference": reference}).encode()
    headers = {"Content-Type": "application/json", "X-Xferd-Client": client}
    with urlopen(UrlRequest(f"{page}api/v1/jobs", body, headers)):
        pass


async def photograph(browser: Browser, name: str, width: int, height: int, colours: str) -> None:
    """
    Take a picture of the page.

    @param colours: C{light} or C{dark}.
    """
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    await browser.devtools("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": colours}]
    await browser.devtools("Emulation.setEmulatedMedia", {"features": features})
    await browser.run_async("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    shot = await browser.devtools("Page.captureScreenshot", {"format": "png"})
    (IMAGES / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


async def make(reactor: IReactor, place: Path) -> None:
    """
    Run everything and write the pictures.
    """
    registry = Registry(reactor, rate=RATE)
    for name, tag, directories in [("app", "1.2", APP), ("tools", "latest", TOOLS), ("base", "12", APP[1:3])]:
        (place / name).mkdir()
        image = from_directories(directories, str(place / name), limit=LAYER * len(directories))
        registry.add(image, f"team/{name}", tag)
    await registry.listen(reactor, 5000)
    daemon = Xferd(reactor, str(place / "first"))
    await daemon.start()
    command = [*XFERCTL, "--host", daemon.url, "pull", f"{registry.host}/team/app:1.2"]
    written = await deferToThread(terminal, command)
    await daemon.stop()
    (IMAGES / "pull.svg").write_text(picture(written, f"xferctl pull {registry.host}/team/app:1.2"))

    daemon, browser = Xferd(reactor, str(place / "second")), Browser(reactor, str(place / "browser"))
    await daemon.start()
    await browser.start()
    base = f"{registry.host}/team/base:12"
    for number in range(BEFORE):
        for _ in range(number % 3):
            # It is there: its bytes are saved.
            await daemon.ctl("pull", "--quiet", base)
        if number % 2 == 0:
            await daemon.ctl("pull", "--quiet", base)
            await daemon.ctl("rm", base)
            await daemon.ctl("gc")
        await deferLater(reactor, APART)
    await daemon.ctl("pull", "--quiet", base)
    await browser.open(daemon.page, width=1300, height=900)
    await browser.reads("#link", "^live$")
    for client, name in [("alice", "app:1.2"), ("ci-1", "app:1.2"), ("ci-2", "tools:latest")]:
        await deferToThread(begin, daemon.page, client, f"{registry.host}/team/{name}")
    await browser.devtools("Emulation.setScrollbarsHidden", {"hidden": True})
    await browser.reads(".job .layer .size", r"^[1-9]\d*\.\d+ / ")
    for screen in SCREENS:
        await photograph(browser, *screen)
    await browser.reads("#ended-jobs .name", "team/app")
    await browser.click("#ended-jobs .name")
    await browser.reads("#job-page .attempts", "done")
    await photograph(browser, "page-job", 1300, 900, "light")
    await browser.quit()
    await daemon.stop()
    await registry.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        react(lambda reactor: Deferred.fromCoroutine(make(reactor, Path(directory))))
