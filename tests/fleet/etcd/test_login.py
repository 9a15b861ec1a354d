"""
Tests for L{xferd.fleet.etcd.login}.
"""

from __future__ import annotations

from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.answers import EtcdRefused
from xferd.fleet.etcd.login import LOGIN_SECONDS, SPREAD, WAITED_FOR, Login


class Cores:
    """
    The cores of an etcd: each computes one login at a time, also of a node that no longer
    waits for it.

    @ivar logins: the logins that were computed.
    """

    cost = 0.13

    def __init__(self, clock: Clock, number: int = 2) -> None:
        self._clock = clock
        self._free = [0.0] * number
        self.logins = 0

    def authenticate(self) -> Deferred[str]:
        """
        Log in.
        """
        done: Deferred[str] = Deferred(lambda _: None)
        self._free.sort()
        ends = max(self._free[0], self._clock.seconds()) + self.cost
        self._free[0] = ends

        def finish() -> None:
            self.logins += 1
            if not done.called:
                done.callback("token.1")

        self._clock.callLater(ends - self._clock.seconds(), finish)
        return done


class LoginTests(SynchronousTestCase):
    """
    The login of one node, whose answers the test sends.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.clock = Clock()
        self.asked: list[Deferred[str]] = []
        self.changes: Deferred[int] | int = 5
        self.login = Login(self.clock, Random(1), self.authenticate, self.applied, "a:1")

    def tearDown(self) -> None:
        """
        No timer is left.
        """
        self.login.stop()
        self.assertEqual([], self.clock.getDelayedCalls())

    def authenticate(self) -> Deferred[str]:
        """
        Note a login.
        """
        self.asked.append(Deferred())
        return self.asked[-1]

    async def applied(self) -> int:
        """
        Answer with the changes of etcd.
        """
        if isinstance(self.changes, int):
            return self.changes
        return await self.changes

    def ready(self) -> Deferred[None]:
        """
        Want a token.
        """
        return Deferred.fromCoroutine(self.login.ready())

    def problem(self, waiting: Deferred[None]) -> str:
        """
        The reason of a failure.
        """
        return str(self.failureResultOf(waiting, CoordinationUnavailable).value)

    def have(self, token: str = "abc.5") -> None:
        """
        Have a token.
        """
        waiting = self.ready()
        self.asked.pop().callback(token)
        self.successResultOf(waiting)

    def test_once(self) -> None:
        """
        Several requests wait for one login, and later ones have its token.
        """
        waiting = [self.ready() for _ in range(3)]
        self.assertEqual(1, len(self.asked))
        self.asked[0].callback("abc.5")
        for each in [*waiting, self.ready()]:
            self.successResultOf(each)
        self.assertEqual(1, len(self.asked))

    def test_cancelled(self) -> None:
        """
        A request that gives up leaves the login to the others, and to those that come
        later.
        """
        first, second = self.ready(), self.ready()
        first.cancel()
        second.cancel()
        for each in (first, second):
            self.failureResultOf(each, CancelledError)
        later = self.ready()
        self.assertEqual(1, len(self.asked))
        self.asked[0].callback("abc.5")
        self.successResultOf(later)

    def test_stopped(self) -> None:
        """
        A login ends with its node.
        """
        waiting = self.ready()
        self.login.stop()
        self.failureResultOf(waiting, CancelledError)

    def test_late(self) -> None:
        """
        A login that takes too long fails, and the next one waits, longer each time.  Until
        then, requests fail with its reason.
        """
        pauses = []
        for n in range(5):
            waiting = self.ready()
            self.clock.advance(LOGIN_SECONDS)
            self.assertIn("did not answer a login in time", self.problem(waiting))
            self.assertEqual(n + 1, len(self.asked))
            pauses.append(0)
            while self.login.left > WAITED_FOR:
                self.assertIn("did not answer a login in time", self.problem(self.ready()))
                self.clock.advance(0.5)
                pauses[-1] += 1
            self.clock.advance(self.login.left)
        self.assertEqual(pauses, sorted(pauses))
        self.assertGreater(pauses[-1], 12)

    def test_etcd_away(self) -> None:
        """
        Where etcd answers nothing at all, there is no login, and none has failed.
        """
        self.changes = Deferred()
        waiting = self.ready()
        self.changes.errback(CoordinationUnavailable("etcd is away"))
        self.assertEqual("etcd is away", self.problem(waiting))
        self.assertEqual([], self.asked)
        self.changes = 5
        self.have()

    def test_wrong(self) -> None:
        """
        So it is with a wrong password.
        """
        for n in range(3):
            waiting = self.ready()
            self.asked[n].errback(EtcdRefused("etcd refuses the user"))
            self.assertEqual("etcd refuses the user", self.problem(waiting))
            self.assertGreater(self.login.left, 2**n / 2)
            self.clock.advance(self.login.left)

    def test_refused(self) -> None:
        """
        A token that etcd refuses is replaced; one that was replaced already is not, however
        late its refusal comes.
        """
        self.have("old.5")
        self.login.refused("old.5")
        waiting = self.ready()
        self.clock.advance(SPREAD)
        self.asked[0].callback("new.6")
        self.successResultOf(waiting)
        self.login.refused("old.5")
        self.assertEqual("new.6", self.login.token)

    def test_spread(self) -> None:
        """
        In a large fleet, that waits for the turn of this node.
        """
        self.have()
        self.login.nodes = 1000
        self.login.refused("abc.5")
        self.assertIn(
            "has forgotten the logins: those of all nodes follow within 150 s", self.problem(self.ready())
        )
        self.assertEqual([], self.asked)
        self.clock.advance(1000 * SPREAD)
        self.have()

    def test_doubt(self) -> None:
        """
        A token is kept after a request without an answer, as long as etcd has the changes
        that it had made when it issued the token.
        """
        self.have("abc.5")
        self.login.doubt()
        self.successResultOf(self.ready())
        self.assertEqual("abc.5", self.login.token)
        self.login.doubt()
        self.changes = 4
        waiting = self.ready()
        self.clock.advance(SPREAD)
        self.asked[0].callback("new.4")
        self.successResultOf(waiting)
        self.assertEqual("new.4", self.login.token)

    def test_doubt_away(self) -> None:
        """
        While etcd does not say so, the token is kept.
        """
        self.have("abc.5")
        self.login.doubt()
        self.changes = Deferred()
        waiting = self.ready()
        self.changes.errback(CoordinationUnavailable("etcd is away"))
        self.problem(waiting)
        self.assertEqual("abc.5", self.login.token)

    def test_jwt(self) -> None:
        """
        A token that names no changes is kept; where etcd does not tell them, it is not.
        """
        self.have("eyJhbGciOi.eyJ1c2.c2ln")
        self.login.doubt()
        self.changes = 0
        self.successResultOf(self.ready())
        self.login.doubt()
        self.changes = Deferred()
        waiting = self.ready()
        self.changes.errback(EtcdRefused("permission denied"))
        self.clock.advance(SPREAD)
        self.asked[0].callback("new")
        self.successResultOf(waiting)


class FleetTests(SynchronousTestCase):
    """
    All nodes of a large fleet, whose etcd was restarted.
    """

    def restart(self, nodes: int, known: int) -> tuple[float, int]:
        """
        Let all log in again.

        @param known: how many nodes each knows of.
        @return: the seconds until all have, and the logins that etcd computed.
        """
        clock = Clock()
        cores = Cores(clock)

        async def applied() -> int:
            return 1

        logins = [Login(clock, Random(n), cores.authenticate, applied, "a:1") for n in range(nodes)]
        random = Random(0)

        def ask(login: Login) -> None:
            """
            Make a request now and then, which waits for two seconds.
            """
            waiting = Deferred.fromCoroutine(login.ready())
            _ = waiting.addErrback(lambda _: None)
            clock.callLater(2.0, waiting.cancel)
            if not login.token:
                clock.callLater(2.5 + 2.5 * random.random(), ask, login)

        for login in logins:
            login.token, login.nodes = "token.0", known
            login.refused("token.0")
            ask(login)
        while not all(login.token for login in logins):
            clock.advance(0.05)
            self.assertLess(clock.seconds(), 1000.0)
        return clock.seconds(), cores.logins

    def test_spread(self) -> None:
        """
        All nodes have logged in within the time over which they are spread, each once.
        """
        seconds, logins = self.restart(200, 200)
        self.assertLess(seconds, 200 * SPREAD + 5)
        self.assertEqual(logins, 200)

    def test_unknown(self) -> None:
        """
        So do those that do not know how many they are, with some more logins.
        """
        seconds, logins = self.restart(200, 1)
        self.assertLess(seconds, 60)
        self.assertLess(logins, 400)
