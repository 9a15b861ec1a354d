"""
Tests for L{xferd.engines.engines}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.engines.engines import Engines
from xferd.errors import BadReference, ConfigError, EngineFailed, NotFound
from xferd.interfaces.engines import CONTAINERD, CONTAINERS_STORAGE, SERVING, FilledJSON, IEngine, IEngines
from xferd.testing.fake_engine import FakeEngine


class EnginesTests(SynchronousTestCase):
    """
    Starting and stopping engines.
    """

    def start(self, *engines: FakeEngine) -> tuple[Engines, Deferred[None]]:
        """
        Start engines.
        """
        made = Engines(engines)
        return made, Deferred.fromCoroutine(made.start())

    def states(self, engines: Engines) -> dict[str, tuple[str, str | None]]:
        """
        The states and problems by name.
        """
        found = self.successResultOf(engines.describe())
        return {each["name"]: (each["state"], each["problem"]) for each in found}

    def test_interface(self) -> None:
        """
        The engines and the fake provide their Interfaces.
        """
        verifyObject(IEngine, FakeEngine("a"))
        verifyObject(IEngines, Engines([]))

    def test_none(self) -> None:
        """
        Without engines, nothing is started.
        """
        engines, started = self.start()
        self.successResultOf(started)
        self.assertEqual(self.states(engines), {})
        self.successResultOf(Deferred.fromCoroutine(engines.stop()))

    def test_at_once(self) -> None:
        """
        Engines start and stop at once; the end of both is waited for.
        """
        first, second = FakeEngine("a", started=Deferred(), stopped=Deferred()), FakeEngine("b")
        engines, started = self.start(first, second)
        self.assertEqual((first.calls, second.calls), (["start"], ["start"]))
        self.assertNoResult(started)
        first.started.callback(None)
        self.successResultOf(started)
        self.assertEqual(self.states(engines), {"a": (SERVING, None), "b": (SERVING, None)})
        self.assertEqual(engines.figures()[CONTAINERD, "b"], second.counted)
        stopped = Deferred.fromCoroutine(engines.stop())
        self.assertEqual((first.calls[1:], second.calls[1:]), (["stop"], ["stop"]))
        self.assertNoResult(stopped)
        first.stopped.callback(None)
        self.successResultOf(stopped)

    def test_failure(self) -> None:
        """
        An engine that fails is described with the reason; the others serve.
        """
        bad = FakeEngine("a", started=fail(ConfigError("the socket is in use")))
        engines, started = self.start(bad, FakeEngine("b"))
        self.successResultOf(started)
        self.assertEqual(
            self.states(engines), {"a": ("failed", "the socket is in use"), "b": (SERVING, None)}
        )
        self.assertEqual(list(engines.figures()), [(CONTAINERD, "b")])
        self.assertEqual(engines.problems, {"containerd a": "the socket is in use"})

    def test_failure_later(self) -> None:
        """
        The problem of an engine that is not served at present is one until it is served again.
        """
        engine = FakeEngine("a")
        engines, started = self.start(engine, FakeEngine("b"))
        self.successResultOf(started)
        self.assertEqual(engines.problems, {})
        engine.problem = "its process has gone"
        self.assertEqual(engines.problems, {"containerd a": "its process has gone"})
        self.assertEqual(self.states(engines)["a"], ("failed", "its process has gone"))
        engine.problem = None
        self.assertEqual(engines.problems, {})

    def test_error(self) -> None:
        """
        An unexpected error at the start or at the end of one is logged, and the others
        serve.
        """
        bad = FakeEngine("a", started=fail(ValueError("x")), stopped=fail(ValueError("y")))
        engines, started = self.start(bad, FakeEngine("b"))
        self.successResultOf(started)
        self.assertEqual(self.states(engines)["a"], ("failed", "internal error; see the daemon's log"))
        self.successResultOf(Deferred.fromCoroutine(engines.stop()))
        self.assertEqual([str(f.value) for f in self.flushLoggedErrors(ValueError)], ["x", "y"])

    def test_cancel(self) -> None:
        """
        Cancelling the start cancels that of each engine; they can still be stopped.
        """
        first, second = FakeEngine("a", started=Deferred()), FakeEngine("b", started=Deferred())
        engines, started = self.start(first, second)
        started.cancel()
        self.failureResultOf(started, CancelledError)
        self.assertTrue(first.started.called)
        self.assertTrue(second.started.called)
        self.successResultOf(Deferred.fromCoroutine(engines.stop()))
        self.assertEqual(first.calls, ["start", "stop"])

    def test_fill(self) -> None:
        """
        A containerd is filled by its name.
        """
        view = FakeEngine("node", kind=CONTAINERS_STORAGE)
        node = FakeEngine("node")
        engines, _ = self.start(view, node)
        filling = engines.fill("node", "app", "k8s.io", "ann", {})
        self.assertEqual(node.calls[1:], [("docker.io/library/app:latest", "k8s.io", "ann", {})])
        self.assertEqual(view.calls, ["start"])
        filled = FilledJSON(image="a", namespaces=[], blobs=0, written=0, bytes=0)
        node.filled.callback(filled)
        self.assertEqual(self.successResultOf(filling), filled)

    def test_not_filled(self) -> None:
        """
        An engine that is not there or does not serve, and what is no reference.
        """
        bad = FakeEngine("bad", started=fail(ConfigError("the socket is in use")))
        engines, _ = self.start(FakeEngine("view", kind=CONTAINERS_STORAGE), bad)
        for name, reference, kind, why in (
            ("view", "app", NotFound, "the settings have no [engines.containerd.view]"),
            ("bad", "app", EngineFailed, "containerd bad is not served: the socket is in use"),
            ("bad", "A B", BadReference, "A B"),
        ):
            failure = self.failureResultOf(engines.fill(name, reference, None, "ann"), kind)
            self.assertIn(why, str(failure.value))
