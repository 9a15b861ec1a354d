"""
Tests for L{xferd.engines.grpc.listener}, with a client of gRPC's own making.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.engines.grpc.grpcio_client import SIZE
from tests.engines.grpc.test_server import Served
from xferd.engines.grpc.listener import GrpcListener
from xferd.errors import ConfigError
from xferd.interfaces.reactor import IUnixReactor


class ListenerTests(TestCase):
    """
    L{GrpcListener}.
    """

    def setUp(self) -> None:
        """
        Make a path that is short enough for a socket.
        """
        self.directory = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "engines", "node.sock")
        self.served = Served()
        self.listener = self.made()

    def made(self) -> GrpcListener:
        """
        A listener at the path.
        """
        listener = GrpcListener(self.path, self.served.services(), cast(IUnixReactor, reactor))
        self.addCleanup(listener.stop, 0)
        return listener

    def test_modes(self) -> None:
        """
        The socket is for its owner alone.
        """
        self.listener.start()
        found = os.stat(self.path)
        self.assertTrue(stat.S_ISSOCK(found.st_mode))
        self.assertEqual(stat.S_IMODE(found.st_mode), 0o600)

    def test_in_use(self) -> None:
        """
        A second server at the path is refused, and the first one stays.
        """
        self.listener.start()
        error = self.assertRaises(ConfigError, self.made().start)
        self.assertIn(self.path, str(error))
        self.assertTrue(os.path.exists(self.path))

    def test_no_directory(self) -> None:
        """
        A path that cannot be made is one error.
        """
        Path(self.directory, "engines").write_text("")
        error = self.assertRaises(ConfigError, self.listener.start)
        self.assertIn(self.path, str(error))

    def test_too_long(self) -> None:
        """
        A path that no socket can have is an error, and is free afterwards.
        """
        self.path = os.path.join(self.directory, "x" * 100)
        error = self.assertRaises(ConfigError, self.made().start)
        self.assertRegex(str(error), "^cannot listen on .*x: .*path too long")
        error = self.assertRaises(ConfigError, self.made().start)
        self.assertNotIn("another", str(error))

    def test_stop(self) -> Deferred[None]:
        """
        A stopped listener leaves the path to the next one.  Stopping twice, or
        without a start, does nothing.
        """

        async def check() -> None:
            await self.made().stop()
            self.listener.start()
            await self.listener.stop()
            await self.listener.stop()
            self.made().start()

        return ensureDeferred(check())

    def test_grpcio(self) -> Deferred[None]:
        """
        A client of gRPC's own making is served: answers, errors, large messages,
        streams, deadlines, cancellation, and many calls at once.
        """

        async def check() -> None:
            self.listener.start()
            client = str(Path(__file__).with_name("grpcio_client.py"))
            out, err, status = await getProcessOutputAndValue(
                sys.executable,
                [client, self.path],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            self.assertEqual(status, 0, err.decode())
            self.assertEqual(
                json.loads(out),
                {
                    "stat": 5,
                    "missing": [5, "no snapshot »missing« at 100%"],
                    "unknown": [12, "there is no method /a.Other/Stat"],
                    "large": SIZE,
                    "too large": 8,
                    "list": [14, 14, 14],
                    "deadline": 4,
                    "compressed": 12,
                    "many": True,
                    "after": 5,
                },
            )
            self.assertEqual((self.served.cancelled, self.listener.factory.running), (2, 0))

        return ensureDeferred(check())
