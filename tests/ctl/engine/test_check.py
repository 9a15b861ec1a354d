"""
Tests for L{xferd.ctl.engine.check}, with clients that are scripts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.ctl.engine.test_served import NODE, STORAGE, found
from tests.ctl.fake_daemon import DIGEST, Answer, DaemonTestCase, event, job
from xferd.ctl.address import Address
from xferd.ctl.client import Daemon
from xferd.ctl.engine import check
from xferd.ctl.engine.check import Check, Checked
from xferd.ctl.engine.clients import CLIENTS
from xferd.ctl.engine.machine import Machine, Version
from xferd.ctl.engine.served import Engine
from xferd.ctl.errors import ClientError
from xferd.platforms import Platform

CLIENT = """\
#!{python}
# Requests contents of an image, by the agents that a file has for each.
import json, sys
from urllib.request import Request, urlopen
place, words = {place!r}, sys.argv[1:]
with open(place + "/calls", "a") as calls:
    print(*words[:-1], file=calls)
plan = json.load(open(place + "/plan"))
if "pull" in words:
    url = "http://" + words[-1].partition("/")[0] + "/v2/xferd-check/"
    def get(path, agent):
        with urlopen(Request(url + path, headers={{"User-Agent": agent}})) as answer:
            return answer.read()
    manifest = json.loads(get("manifests/1", "engine/1"))
    for agent in plan["layer"]:
        get("blobs/" + manifest["layers"][0]["digest"], agent)
    with open(place + "/pulled", "w") as file:
        file.write(words[-1])
    sys.exit(plan.get("error"))
"""


class CheckCase(DaemonTestCase):
    """
    A daemon and a client.
    """

    def setUp(self) -> None:
        """
        Make the client.
        """
        super().setUp()
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        for name in ("ctr", "podman"):
            program = self.place / name
            program.write_text(CLIENT.format(python=sys.executable, place=str(self.place)))
            program.chmod(0o755)
        self.plan()
        self.daemon = Daemon([Address.parse(self.fake.url)], client="me@here")

    def plan(self, *agents: str, **more: Any) -> None:
        """
        Set by which agents the layer is requested.
        """
        (self.place / "plan").write_text(json.dumps({"layer": agents, **more}))

    def check(self, tool: str, engine: Engine) -> Check:
        """
        The check of a tool.
        """
        environ = {"PATH": str(self.place)}
        machine = Machine(environ, 0, {"containerd": Version(2, 4)})
        return Check(tool, CLIENTS[tool](machine)[0], engine, self.daemon, environ)

    def calls(self) -> list[str]:
        """
        The first word of each command of the client, without its options.
        """
        return [
            line.split("images ")[-1].split()[0] for line in (self.place / "calls").read_text().splitlines()
        ]


class Listed(Answer):
    """
    The engines, the first with the image that the client has pulled.

    @ivar is_listed: whether it has.
    """

    def __init__(self, pulled: Path) -> None:
        """
        @param pulled: the file with the reference.
        """
        self._pulled = pulled
        self.is_listed = True
        super().__init__()

    @property
    def body(self) -> bytes:
        """
        The list at present.
        """
        images = []
        if self._pulled.exists() and self.is_listed:
            images = [{"image": self._pulled.read_text(), "layers": 1, "containers": 0, "by": ""}]
        return json.dumps([found(NODE, images=images)]).encode()

    @body.setter
    def body(self, _: bytes) -> None:
        pass


class ContainerdTests(CheckCase):
    """
    An engine with snapshots.
    """

    def setUp(self) -> None:
        """
        Have the daemon list the image that was pulled, as used.
        """
        super().setUp()
        self.listed = Listed(self.place / "pulled")
        self.fake.on("GET", "/engines", self.listed)

    def run_check(self) -> Checked:
        """
        Run it.
        """
        return self.check("containerd", NODE).with_sample(Platform.local())

    def test_served(self) -> None:
        """
        The engine is served if xferd asked for the layer; the image is removed then.
        """
        self.plan("xferd/1")
        done = self.run_check()
        self.assertEqual((done.tool, done.engine, done.client), ("containerd", "node", "ctr"))
        self.assertEqual((done.by_engine, done.by_xferd), (("manifest",), ("layer",)))
        self.assertEqual(self.calls(), ["pull", "remove"])

    def test_not_used(self) -> None:
        """
        An engine whose image is not on the daemon's list is not served.
        """
        self.plan("xferd/1")
        self.listed.is_listed = False
        error = self.assertRaises(ClientError, self.run_check)
        self.assertIn("containerd uses no layer of xferd's: it does not use xferd; compare", str(error))
        self.assertEqual(self.calls(), ["pull", "remove"])

    def test_fetched(self) -> None:
        """
        An engine that fetched the layer is not served.
        """
        for agents, why in (
            (("xferd/1", "engine/1"), "containerd fetched the layer from the registry"),
            ((), "has the layer, which xferd did not fetch"),
        ):
            self.plan(*agents)
            self.assertIn(why, str(self.assertRaises(ClientError, self.run_check)))

    def test_failed(self) -> None:
        """
        The error of the client has a remedy.
        """
        self.plan("xferd/1", error="unpack: snapshotter not loaded: xferd: invalid argument")
        error = str(self.assertRaises(ClientError, self.run_check))
        self.assertIn("ctr failed: unpack: snapshotter not loaded: xferd", error)
        self.assertIn("add what 'xferctl engine show containerd' prints", error)


class ViewTests(CheckCase):
    """
    podman with the view.
    """

    def setUp(self) -> None:
        """
        Have the daemon pull, and make a view.
        """
        super().setUp()
        self.fake.takes(event("job", job("done"), True))
        self.engine = STORAGE._replace(path=str(self.place / "view"))
        self.images = self.place / "view" / "overlay-images" / "images.json"
        self.images.parent.mkdir(parents=True)
        self.patch(check, "PATIENCE", 0.1)

    def run_check(self) -> Checked:
        """
        Run it with an image.
        """
        return self.check("podman", self.engine).with_image("docker.io/library/debian:12")

    def test_served(self) -> None:
        """
        xferd pulls the image first, and it is in the view when podman pulls it.
        """
        self.images.write_text(json.dumps([{"id": DIGEST.partition(":")[2]}]))
        self.fake.on("GET", "/images/docker.io/library/debian:12", Answer({"image_id": DIGEST}))
        (self.place / "podman").write_text(f"#!/bin/sh\necho $* >> {self.place}/calls\n")
        done = self.run_check()
        self.assertEqual((done.client, done.engine, done.by_engine), ("podman", "", ()))
        self.assertEqual(self.calls(), ["pull", "rmi"])
        self.assertEqual(self.fake.requests[0][:2], ("POST", "/api/v1/jobs"))

    def test_not_shown(self) -> None:
        """
        An image that does not appear in the view is reported, and podman does not pull.
        """
        self.fake.on("GET", "/images/docker.io/library/debian:12", Answer({"image_id": DIGEST}))
        self.fake.on("GET", "/engines", Answer([found(self.engine)]))
        for text in ("", "[]", "[1]", '{"id": 1}'):
            self.images.write_text(text)
            error = self.assertRaises(ClientError, self.run_check)
            self.assertIn(f"the image is not in the view {self.engine.path} within", str(error))
            self.assertIn("see the daemon's log", str(error))
        self.assertFalse((self.place / "calls").exists())

    def test_left_out(self) -> None:
        """
        If the view leaves the image out, the error has the reason.
        """
        self.images.write_text("[]")
        left_out = [{"image": "docker.io/library/debian:12", "reason": "it has 600 layers"}]
        self.fake.on("GET", "/engines", Answer([found(self.engine, left_out=left_out)]))
        self.fake.on("GET", "/images/docker.io/library/debian:12", Answer({"image_id": DIGEST}))
        self.assertIn("s: it has 600 layers", str(self.assertRaises(ClientError, self.run_check)))

    def test_not_pulled(self) -> None:
        """
        So is an image that xferd cannot pull.
        """
        failure = {"code": "NOT_FOUND", "message": "there is no such image"}
        self.fake.takes(event("job", job("failed", error=failure), True))
        error = self.assertRaises(ClientError, self.run_check)
        self.assertEqual(str(error), "xferd cannot pull docker.io/library/debian:12: there is no such image")
