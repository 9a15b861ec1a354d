"""
Another user of the machine, who has no rights on the daemon of root.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.integration.browser import ENTER, Browser
from tests.integration.programs import Xferd
from tests.integration.test_daemon import DaemonCase, reactor
from xferd.web.openapi import PATHS

NOBODY = 65534

BECOME = """
import encodings.idna, json, os, socket, struct, sys
uid = int(sys.argv[1])
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
"""
"""Begins as root, because only root may be able to read Python's own files."""

LOOKS = ("get", "head")

ASK = """
asked = json.load(sys.stdin)
answers = []
for method, path, body, headers in asked["requests"]:
    with socket.create_connection((asked["host"], asked["port"]), timeout=20) as connection:
        headers.setdefault("Host", f"localhost:{asked['port']}")
        head = [f"{method} {path} HTTP/1.1", "Connection: close"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        connection.sendall(("\\r\\n".join(head) + "\\r\\n\\r\\n" + (body or "")).encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    answers.append(answer.decode("utf-8", "replace"))
json.dump(answers, sys.stdout)
"""
"""Sends requests and prints the responses."""

LEAVE = """
asked = json.load(sys.stdin)
body = asked["body"]
request = (
    f"POST /api/v1/jobs HTTP/1.1\\r\\nHost: localhost:{asked['port']}\\r\\n"
    f"Content-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}"
).encode()
for turn in range(30):
    connection = socket.create_connection((asked["host"], asked["port"]), timeout=20)
    connection.sendall(request)
    if turn % 3 == 1:
        connection.shutdown(socket.SHUT_WR)
    elif turn % 3 == 2:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
"""
"""Posts a job, and closes the connection at once."""

OPEN = """
asked = json.load(sys.stdin)
opened = []
for path in asked["paths"]:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").read()
    except OSError:
        pass
    else:
        opened.append(path)
with socket.socket(socket.AF_UNIX) as connection:
    try:
        connection.connect(asked["socket"])
    except PermissionError:
        pass
    else:
        opened.append(asked["socket"])
json.dump(opened, sys.stdout)
"""
"""Prints which files it could open."""


async def as_user(uid: int, program: str, asked: object) -> Any:
    """
    Run a Python program as another user, while the daemon's log is read.

    @return: its output, decoded from JSON.
    """
    process = await deferToThread(
        subprocess.run,
        [sys.executable, "-I", "-c", BECOME + program, str(uid)],
        input=json.dumps(asked).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
        cwd="/",
    )
    return json.loads(process.stdout or "null")


async def ask_as(
    uid: int, where: Mapping[str, Any], *requests: tuple[str, str, str | None], **headers: str
) -> list[tuple[int, str]]:
    """
    Send requests as another user.

    @return: statuses and bodies.
    """
    asked = [(*request, headers) for request in requests]
    answers = await as_user(uid, ASK, {**where, "requests": asked})
    return [(int(answer.split()[1]), answer) for answer in answers]


class DoorCase(DaemonCase):
    """
    A daemon of root's with its default settings and an image.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Make an image that only root may read.
        """
        if os.geteuid() != 0:
            self.skipTest("only root can become somebody else")
        await super().setUp()
        # The modes that the daemon sets are what denies access.
        os.chmod(self.place, 0o755)
        _, self.reference = self.add(1)
        await self.api.pull(self.reference)
        await self.daemon.ctl("pull", self.reference)
        parts = urlsplit(self.daemon.page)
        self.where: dict[str, Any] = {"host": parts.hostname, "port": parts.port}

    async def address(self, user: str) -> str:
        """
        The address of the page for a user.
        """
        where = f"http://127.0.0.1:{self.where['port']}"
        return (await self.daemon.ctl("page", "--print", "--user", user, "--host", where)).strip()


class NobodyTests(DoorCase):
    """
    The rights of the user C{nobody}.
    """

    async def ask(self, *requests: tuple[str, str, str | None], **headers: str) -> list[tuple[int, str]]:
        """
        Send requests as C{nobody}.

        @return: statuses and bodies.
        """
        return await ask_as(NOBODY, self.where, *requests, **headers)

    def everything(self) -> list[tuple[str, str, str | None]]:
        """
        A request for each route and method of the API.
        """
        body = json.dumps({"kind": "pull", "reference": self.reference})
        more = {"get", "head", "post", "delete", "options", "put"}
        return [
            (
                method.upper(),
                path.format(job_id="1", name=self.reference, host="registry.example"),
                None if method in LOOKS else body,
            )
            for path, methods in PATHS.items()
            for method in sorted({*methods, *more} - {"parameters"})
        ]

    async def test_api(self) -> None:
        """
        Every route of the API is refused for every method, and the responses
        contain no data of the daemon.
        """
        public = ("/", "/enter", "/healthz", "/readyz", f"/static/{self.reference}")
        asked = [each for each in self.everything() if each[1] not in public or each[2] is not None]
        self.assertGreater(len(asked), 80)
        before = await self.api("GET", "jobs")
        for headers in (
            {},
            {"Authorization": "Bearer 0"},
            {"Origin": f"http://localhost:{self.where['port']}"},
        ):
            for request, (status, answer) in zip(asked, await self.ask(*asked, **headers), strict=True):
                self.assertEqual(status, 401, request)
                self.assertNotIn(self.reference, answer)
        self.assertEqual(len(await self.api("GET", "jobs")), len(before))
        self.assertEqual(len(await self.api("GET", "images")), 1)

    async def test_public(self) -> None:
        """
        Health and an empty page that requires the token are public.
        """
        paths = ("/healthz", "/readyz", "/", "/static/main.js")
        asked = [(method, path, None) for path in paths for method in ("GET", "HEAD")]
        for status, answer in await self.ask(*asked):
            self.assertEqual(status, 200)
            self.assertNotIn(self.reference, answer)

    async def test_leaves_at_once(self) -> None:
        """
        For a client that posts a job and closes its connection at once, the
        kernel reports root as the user; its job is not started, even if the
        daemon accepts the connection after its end.
        """
        _, other = self.add(2)
        asked = {**self.where, "body": json.dumps({"kind": "pull", "reference": other})}
        before = await self.api("GET", "jobs")
        await as_user(NOBODY, LEAVE, asked)
        os.kill(self.daemon.pid, signal.SIGSTOP)
        try:
            await as_user(NOBODY, LEAVE, asked)
        finally:
            os.kill(self.daemon.pid, signal.SIGCONT)
        self.assertEqual(len(await self.api("GET", "jobs")), len(before))
        self.assertEqual(len(await self.api("GET", "images")), 1)

    async def test_files(self) -> None:
        """
        The socket, the token and the data directory are not accessible.
        """
        token = f"{self.daemon.socket}.token"
        self.assertTrue(os.path.exists(token))
        asked = {"paths": [token, self.daemon.data], "socket": self.daemon.socket}
        self.assertEqual(await as_user(NOBODY, OPEN, asked), [])

    async def test_token(self) -> None:
        """
        A user with root's token has access.
        """
        with open(f"{self.daemon.socket}.token") as file:
            token = file.read().strip()
        (answer,) = await self.ask(("GET", "/api/v1/images", None), Authorization=f"Bearer {token}")
        self.assertEqual(answer[0], 200)
        self.assertIn(self.reference, answer[1])

    async def test_ipv6(self) -> None:
        """
        The same rules apply over IPv6.
        """
        listen = ("--listen", r"tcp:0:interface=\:\:1")
        daemon = Xferd(reactor, str(self.place / "six"), *listen)
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        await daemon.start()
        self.where = {"host": "::1", "port": urlsplit(daemon.page).port}
        (images, health) = await self.ask(("GET", "/api/v1/images", None), ("GET", "/healthz", None))
        self.assertEqual((images[0], health[0]), (401, 200))
        connection = HTTPConnection("::1", self.where["port"], timeout=20)
        self.addCleanup(connection.close)
        connection.request("GET", "/api/v1/images", headers={"Host": "localhost"})
        self.assertEqual(connection.getresponse().status, 200)

    async def test_root(self) -> None:
        """
        Root has access over loopback without a token.
        """
        connection = HTTPConnection(self.where["host"], self.where["port"], timeout=20)
        self.addCleanup(connection.close)
        connection.request("GET", "/api/v1/images", headers={"Host": "localhost"})
        self.assertEqual(connection.getresponse().status, 200)

    async def test_page_code(self) -> None:
        """
        An address of the page for another user is refused to C{nobody}; one for
        C{nobody} yields a cookie once, which grants access.
        """
        host = f"xferd.localhost:{self.where['port']}"
        made = await self.code("root")
        ((status, answer),) = await self.ask(("GET", f"/enter?code={made}", None), Host=host)
        self.assertEqual(status, 403)
        made = await self.code("nobody")
        entering = ("GET", f"/enter?code={made}", None)
        (_, answer), (again, _) = await self.ask(entering, entering, Host=host)
        self.assertEqual(again, 403)
        match = re.search(r"(?i)^set-cookie: ([^;]+);", answer, re.M)
        assert match is not None, answer
        ((status, answer),) = await self.ask(("GET", "/api/v1/images", None), Host=host, Cookie=match[1])
        self.assertEqual(status, 200)

    async def code(self, user: str) -> str:
        """
        The code in the address for a user.
        """
        address = await self.address(user)
        match = re.fullmatch(rf"http://xferd\.localhost:{self.where['port']}/enter\?code=(\S+)", address)
        assert match is not None, address
        return match[1]


class UserTests(TestCase):
    """
    The daemon of a user who is not root.
    """

    async def test_user(self) -> None:
        """
        That user and root have access over loopback, other users have not.
        """
        if os.geteuid() != 0:
            self.skipTest("only root can become somebody else")
        place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, place)
        owner = 1
        os.chown(place, owner, owner)
        # Only root may be able to read Python's own files.
        readable = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        become = ("setpriv", f"--reuid={owner}", f"--regid={owner}", "--clear-groups", *readable)
        daemon = Xferd(reactor, str(place), before=become)
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        await daemon.start()
        parts = urlsplit(daemon.page)
        where = {"host": parts.hostname, "port": parts.port}
        self.assertEqual(os.stat(f"{daemon.socket}.token").st_uid, owner)
        for uid, expected in ((owner, 200), (0, 200), (NOBODY, 401), (2, 401)):
            ((status, _),) = await ask_as(uid, where, ("GET", "/api/v1/status", None))
            self.assertEqual(status, expected, uid)


class BrowserTests(DoorCase):
    """
    The status page in the browser of C{nobody}.
    """

    async def test_page(self) -> None:
        """
        Without a token, the page explains how to log in and shows no data. With
        the address of C{xferctl page} it shows live data and permits actions.
        """
        become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        browser = Browser(reactor, str(self.place / "browser"), before=become)
        os.chown(self.place / "browser", NOBODY, NOBODY)
        browser.environment["HOME"] = str(self.place / "browser")
        await browser.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.quit()))
        await browser.open(self.daemon.page)
        await browser.reads("#ask", "xferctl page gives an address")
        self.assertEqual(await browser.read("#images .name"), [])
        await browser.go(await self.address("nobody"))
        await browser.reads("#link", "^live$")
        await browser.reads("#images .name", f"^{self.reference}$")
        self.assertEqual(await browser.run("return location.pathname + location.search"), "/")
        self.assertEqual(await browser.run("return document.cookie"), "")
        _, other = self.add(1)
        await browser.click("#reference")
        await browser.type(other + ENTER)
        await browser.reads("#images .name", f"^{other}$")
