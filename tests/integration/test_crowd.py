"""
Another user of the machine, who occupies all connections.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from unittest import SkipTest
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.programs import Xferd
from tests.integration.test_daemon import reactor
from tests.integration.test_door import NOBODY, as_user

FILES = 256
"""Number of files that the daemon may open."""

CROWD = """
import time
asked = json.load(sys.stdin)
connections = []
for _ in range(asked["count"]):
    try:
        connections.append(socket.create_connection((asked["host"], asked["port"]), timeout=20))
    except OSError:
        # On a busy machine, the kernel lets no more wait to be accepted.
        break

def count():
    left = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            connection.recv(1)
        except BlockingIOError:
            left += 1
        except OSError:
            pass
    return left

open(asked["held"], "w").close()
while not os.path.exists(asked["done"]):
    time.sleep(0.02)
json.dump([len(connections), count()], sys.stdout)
"""
"""
Opens connections without requests until the test ends; prints how many it
opened, and how many are left.
"""


class CrowdTests(TestCase):
    """
    A daemon of root's with a low limit on open files.
    """

    async def test_idle_connections(self) -> None:
        """
        A user who opens idle connections repeatedly gets a limited number;
        requests of root are answered meanwhile, by socket and port.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can be another user")
        place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, place)
        meeting = place / "meeting"
        meeting.mkdir()
        meeting.chmod(0o777)
        place.chmod(0o755)
        daemon = Xferd(reactor, str(place / "x"), before=("prlimit", f"--nofile={FILES}:{FILES}"))
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        page = urlsplit(daemon.page)
        held, done = meeting / "held", place / "done"
        asked = {
            "host": page.hostname,
            "port": page.port,
            "count": FILES,
            "held": str(held),
            "done": str(done),
        }
        crowd = ensureDeferred(as_user(NOBODY, CROWD, asked))
        try:
            while not held.exists() and not crowd.called:
                await deferLater(reactor, 0.05)
            await daemon.ctl("limits")
            await daemon.ctl("limits", "--host", daemon.page)
        finally:
            done.touch()
        made, left = await crowd
        self.assertGreater(made, FILES // 2)
        # A quarter of half of the files, or fewer if ten seconds have passed.
        self.assertLessEqual(left, FILES // 8)
