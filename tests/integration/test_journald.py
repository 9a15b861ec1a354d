"""
The log in the journal of systemd: the real one, in a mount namespace of its own.
"""

from __future__ import annotations

import json
import sys
from tempfile import mkdtemp
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.peers import require
from tests.integration.programs import Xferd
from xferd.interfaces.reactor import IReactor

reactor = cast(IReactor, installed)

PATIENCE = 60.0
"""Seconds after which a test that waits fails."""


class JournalTests(TestCase):
    """
    A daemon whose stderr is a stream of the journal.
    """

    timeout = 120

    async def entry(self, daemon: Xferd, **fields: str) -> dict[str, Any]:
        """
        Wait for an entry of the journal with some fields.
        """
        deadline = reactor.seconds() + PATIENCE
        while reactor.seconds() < deadline:
            lines = daemon.output.splitlines(keepends=True)
            entries = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
            for entry in entries:
                if fields.items() <= entry.items():
                    return dict(entry)
            await deferLater(reactor, 0.1)
        raise AssertionError(f"no entry has {fields}: {daemon.output}")

    async def test_fields(self) -> None:
        """
        The journal has the end of a job, and the request for it, with their fields and levels.
        """
        require("journalctl")
        before = (require("unshare"), "-m", sys.executable, "-m", "tests.integration.journal")
        daemon = Xferd(reactor, mkdtemp(prefix="xferd-"), before=before)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        await daemon.ctl("verify")
        ended = await self.entry(daemon, XFERD_EVENT="job-ended")
        self.assertEqual((ended["XFERD_KIND"], ended["XFERD_STATE"]), ("verify", "done"))
        self.assertEqual((ended["PRIORITY"], ended["_TRANSPORT"]), ("6", "journal"))
        asked = await self.entry(daemon, XFERD_EVENT="audit", XFERD_ACTION="create_job")
        self.assertEqual((asked["XFERD_DOOR"], asked["XFERD_JOB"]), ("socket", ended["XFERD_JOB"]))
        self.assertEqual((asked["XFERD_STATUS"], asked["XFERD_UID"]), ("202", asked["_UID"]))
