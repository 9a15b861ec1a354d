"""
Tests for L{xferd.ctl.commands.page}.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.ctl.fake_daemon import Answer, DaemonTestCase, refusal
from tests.ctl.run import run
from xferd.ctl.commands.page import browsing_user
from xferd.ctl.errors import ClientError

CODE = "c" * 43
ADDRESS = f"http://xferd.localhost:9337/enter?code={CODE}"


class PageTests(DaemonTestCase):
    """
    C{xferctl page}.
    """

    def setUp(self) -> None:
        """
        Make a daemon that issues codes.
        """
        super().setUp()
        self.fake.on("POST", "/page", Answer({"code": CODE, "port": 9337, "seconds": 60.0}))

    def test_print(self) -> None:
        """
        The address is printed.
        """
        outcome = run(["page", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.out), (0, f"{ADDRESS}\n"))
        self.assertEqual(self.fake.requests, [("POST", "/api/v1/page", {"uid": os.geteuid()})])

    def test_json(self) -> None:
        """
        With --json the address is printed as JSON.
        """
        outcome = run(["page", "--json", "--user", "1234", "--host", self.fake.url])
        self.assertEqual(json.loads(outcome.out), {"address": ADDRESS})
        self.assertEqual(self.fake.requests[0][2], {"uid": 1234})

    def test_opens(self) -> None:
        """
        On a desktop the address is opened, except with --print.
        """
        place = Path(self.mktemp()).absolute()
        place.mkdir()
        opened = place / "opened"
        os.mkfifo(opened)
        program = place / "xdg-open"
        program.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
        program.chmod(0o755)
        desktop = {"DISPLAY": ":0", "PATH": str(place)}
        self.assertEqual(run(["page", "--host", self.fake.url], desktop).status, 0)
        self.assertEqual(opened.read_text(), f"{ADDRESS}\n")
        opened.unlink()
        self.fake.on("POST", "/page", Answer({"code": CODE, "port": 9337, "seconds": 60.0}))
        self.assertEqual(run(["page", "--print", "--host", self.fake.url], desktop).status, 0)
        self.assertFalse(opened.exists())

    def test_odd(self) -> None:
        """
        An invalid answer is never part of an address.
        """
        for code, port in ((CODE, "9337"), (f"{CODE} -x", 9337), ("", 9337), (None, 9337)):
            self.fake.on("POST", "/page", Answer({"code": code, "port": port}))
            outcome = run(["page", "--host", self.fake.url])
            self.assertEqual((outcome.status, outcome.out), (1, ""))
            self.assertIn("does not speak xferd's API", outcome.err)

    def test_refused(self) -> None:
        """
        The daemon's error is reported.
        """
        self.fake.on("POST", "/page", refusal(404, "NOT_FOUND", "the daemon serves no page"))
        self.assertIn("the daemon serves no page", run(["page", "--host", self.fake.url]).err)


class UserTests(DaemonTestCase):
    """
    The browser's user.
    """

    def test_user(self) -> None:
        """
        The user is the named one, else the one who called sudo, else the caller.
        """
        for name, environ, uid, found in (
            (None, {}, 1000, 1000),
            (None, {"SUDO_UID": "1000"}, 0, 1000),
            (None, {"SUDO_UID": "1000"}, 1001, 1001),
            (None, {"SUDO_UID": "x"}, 0, 0),
            ("root", {"SUDO_UID": "1000"}, 0, 0),
            ("1234", {}, 0, 1234),
        ):
            self.assertEqual(browsing_user(name, environ, uid), found)
        self.assertRaises(ClientError, browsing_user, "no-such-user", {}, 0)
