"""
Tests for L{xferd.transfer.sources}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.transfer.case import ONE, TWO, Source
from xferd.errors import (
    BadLayer,
    BlobUnknown,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    RegistryError,
    RegistryUnavailable,
    TimedOut,
    TooManyRequests,
    Truncated,
    WorkerLost,
)
from xferd.interfaces.transfer import HostAccount, ISource
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.sources import Sources, pause_for, retry_after_of

THREE = Source("three.example")


class SourcesTests(SynchronousTestCase):
    """
    The source that is tried next.
    """

    policy = RetryPolicy(jitter=0)

    def setUp(self) -> None:
        """
        Begin with one source, at time 0.
        """
        self.now = 0.0
        self.shut: set[str] = set()
        self.sources = Sources()
        self.sources.add(ONE)

    def best(self) -> Source | None:
        """
        The best source.
        """
        origin = self.sources.best(self.now, lambda source: source.host in self.shut)
        if origin is None:
            return None
        assert isinstance(origin.source, Source)
        return origin.source

    def fail_best(self, error: Exception, progress: bool = False) -> bool:
        """
        Fail the best source.
        """
        origin = self.sources.best(self.now, lambda source: source.host in self.shut)
        assert origin is not None
        return self.sources.failed(origin, error, self.now, self.policy, Random(0), progress)

    def test_interface(self) -> None:
        """
        The source of the tests provides the Interface.
        """
        verifyObject(ISource, ONE)

    def test_counted(self) -> None:
        """
        Equal sources are one, until the last of them is removed.
        """
        self.sources.add(Source("one.example"))
        self.assertEqual(self.sources.all(), [ONE])
        self.sources.drop(ONE)
        self.assertEqual(self.best(), ONE)
        self.sources.drop(ONE)
        self.assertEqual(self.sources.all(), [])
        self.assertIsNone(self.best())
        self.assertTrue(self.sources.exhausted)

    def test_refused(self) -> None:
        """
        A source that refuses is not tried again; the next one is.
        """
        self.sources.add(TWO)
        for error, left in [(Denied("no"), TWO), (BlobUnknown("what?"), None)]:
            self.assertTrue(self.fail_best(error))
            self.assertEqual(self.best(), left)
        self.assertTrue(self.sources.exhausted)
        self.assertIsInstance(self.sources.error_of(ONE), Denied)
        self.assertIsInstance(self.sources.error_of(TWO), BlobUnknown)
        self.assertIsNone(self.sources.error_of(THREE))
        self.assertIsNone(self.sources.error_of(None))

    def test_outage(self) -> None:
        """
        A failing source is delayed by the policy, longer each time, and given
        up after its attempts.
        """
        for n, delay in enumerate([1, 2, 4, 8], 1):
            self.assertTrue(self.fail_best(ConnectionFailed("no route")))
            self.assertIsNone(self.best())
            self.assertEqual(self.sources.next_try(), self.now + delay)
            self.assertFalse(self.sources.exhausted, n)
            self.now += delay
        self.assertTrue(self.fail_best(ConnectionFailed("no route")))
        self.assertTrue(self.sources.exhausted)

    def test_outage_next_source(self) -> None:
        """
        While one host fails, another one is tried.
        """
        self.sources.add(TWO)
        self.fail_best(ConnectionFailed("no route"))
        self.assertEqual(self.best(), TWO)
        self.fail_best(ConnectionFailed("no route"))
        self.assertIsNone(self.best())
        self.now = 1
        self.assertEqual(self.best(), ONE)

    def test_outage_of_a_host(self) -> None:
        """
        A failed connection, and a C{Retry-After} of the host, delay all its
        accounts; but a source that arrives later is tried.
        """
        self.sources.add(Source("one.example", "alice"))
        for error in (
            ConnectionFailed("no route"),
            TimedOut("no route", phase="connect"),
            RegistryUnavailable("down", status=503, retry_after=1),
        ):
            self.fail_best(error)
            self.assertIsNone(self.best())
            self.now += 4
        bob = Source("one.example", "bob")
        self.sources.add(bob)
        self.assertEqual(self.best(), bob)

    def test_failure_of_an_account(self) -> None:
        """
        Other failures concern the account: other accounts are tried at once at
        the same host, and their failures are not counted.
        """
        alice = Source("one.example", "alice")
        for error in (
            TooManyRequests("slow down", retry_after=90),
            RegistryUnavailable("down", status=500, retry_after=90),
            TimedOut("silence", phase="silence"),
            Truncated("cut"),
        ):
            self.setUp()
            self.sources.add(alice)
            self.assertEqual(self.best(), ONE)
            self.assertTrue(self.fail_best(error))
            self.assertEqual(self.best(), alice)

    def test_account_in_many_repositories(self) -> None:
        """
        The account's other repositories at the host are delayed as well.
        """
        self.sources.add(Source("one.example", repository="other"))
        self.fail_best(TooManyRequests("slow down", retry_after=90))
        self.assertIsNone(self.best())

    def test_patience(self) -> None:
        """
        A source that asks for a longer delay than the patience of the policy
        has failed; other accounts and the host are not concerned.
        """
        alice = Source("one.example", "alice")
        self.sources.add(alice)
        for error in (
            TooManyRequests("", retry_after=3600),
            RegistryUnavailable("", status=503, retry_after=3600),
        ):
            pause = pause_for(error, ONE, self.policy)
            self.assertEqual((pause.whom, pause.seconds), (HostAccount("one.example", "anonymous"), 0))
        self.fail_best(TooManyRequests("tomorrow", retry_after=3600))
        self.assertEqual(self.best(), alice)
        self.sources.drop(alice)
        self.assertTrue(self.sources.exhausted)

    def test_progress(self) -> None:
        """
        Progress gives the source all its attempts back, if the policy says so.
        """
        for _ in range(20):
            self.fail_best(ConnectionFailed("cut"), progress=True)
            self.now += 1
        self.assertEqual(self.best(), ONE)
        self.policy = RetryPolicy(jitter=0, reset_on_progress=False)
        for _ in range(4):
            self.fail_best(ConnectionFailed("cut"), progress=True)
            self.now += 100
        self.assertTrue(self.sources.exhausted)

    def test_success_resets(self) -> None:
        """
        Success gives the source all its attempts back.
        """
        for _ in range(4):
            self.fail_best(ConnectionFailed("cut"))
            self.now += 100
        origin = self.sources.best(self.now, lambda host: 0)
        assert origin is not None
        self.sources.succeeded(origin)
        self.fail_best(ConnectionFailed("cut"))
        self.assertEqual(self.sources.next_try(), self.now + 1)

    def test_retry_after(self) -> None:
        """
        A source is delayed as long as it asks for, unless that is out of
        proportion.
        """
        self.fail_best(TooManyRequests("slow down", retry_after=90))
        self.assertEqual(self.sources.next_try(), 90)
        self.now = 90
        self.fail_best(TooManyRequests("slow down", retry_after=0.5))
        self.assertEqual(self.sources.next_try(), 92)
        self.now = 92
        self.fail_best(TooManyRequests("come back tomorrow", retry_after=86_400))
        self.assertTrue(self.sources.exhausted)

    def test_retry_after_of(self) -> None:
        """
        C{Retry-After} is found through causes.
        """
        wrapped = WorkerLost("gone")
        wrapped.__cause__ = TooManyRequests("slow down", retry_after=7)
        self.assertEqual(retry_after_of(wrapped), 7)
        self.assertEqual(retry_after_of(WorkerLost("gone")), 0)

    def test_wrong_bytes_again(self) -> None:
        """
        Wrong bytes are fetched once more, at once, and then no more.
        """
        self.assertTrue(self.fail_best(DigestMismatch("wrong")))
        self.assertEqual(self.best(), ONE)
        self.assertTrue(self.fail_best(DigestMismatch("wrong")))
        self.assertTrue(self.sources.exhausted)

    def test_wrong_bytes_next_source(self) -> None:
        """
        A source that sent wrong bytes comes after all others.
        """
        self.sources.add(TWO)
        self.fail_best(DigestMismatch("wrong"))
        self.assertEqual(self.best(), TWO)
        self.fail_best(Denied("no"))
        self.assertEqual(self.best(), ONE)

    def test_wrong_bytes_twice(self) -> None:
        """
        After wrong bytes from two sources, neither is tried again; a third one
        is.
        """
        self.sources.add(TWO)
        self.sources.add(THREE)
        self.fail_best(DigestMismatch("wrong"))
        self.fail_best(DigestMismatch("wrong"))
        self.assertEqual(self.best(), THREE)
        self.fail_best(Denied("no"))
        self.assertTrue(self.sources.exhausted)

    def test_final_error(self) -> None:
        """
        An error that is not the source's is final, whatever it is wrapped in
        and whatever it wraps.
        """
        wrapped = RuntimeError("broke")
        wrapped.__cause__ = BadLayer("a bomb")
        mixed = ConnectionFailed("broke")
        mixed.__cause__ = BadLayer("a bomb")
        for error in (BadLayer("a bomb"), wrapped, mixed, ZeroDivisionError()):
            self.assertFalse(self.fail_best(error))

    def test_wrapped(self) -> None:
        """
        A wrapper hides neither a retryable error nor a final one.
        """
        wrapped = RuntimeError("broke")
        wrapped.__cause__ = ConnectionFailed("cut")
        self.assertTrue(self.fail_best(wrapped))
        self.assertFalse(self.sources.exhausted)
        self.now = 1
        final = ConnectionFailed("broke")
        final.__cause__ = RegistryError("an odd answer")
        self.assertTrue(self.fail_best(final))
        self.assertTrue(self.sources.exhausted)

    def test_closed_hosts_last(self) -> None:
        """
        A host where something may start is preferred.
        """
        self.shut.add("one.example")
        self.assertEqual(self.best(), ONE)
        self.sources.add(TWO)
        self.assertEqual(self.best(), TWO)

    def test_gone_while_it_was_tried(self) -> None:
        """
        The failure of a source that was removed meanwhile concerns only its
        host.
        """
        alice = Source("one.example", "alice")
        self.sources.add(TWO)
        origin = self.sources.best(0, lambda host: 0)
        assert origin is not None
        self.sources.drop(ONE)
        self.sources.add(alice)
        self.sources.failed(origin, ConnectionFailed("cut"), 0, self.policy, Random(0), False)
        self.assertEqual(self.best(), TWO)
        self.sources.drop(TWO)
        self.assertIsNone(self.best())
        self.assertEqual(self.sources.next_try(), 1)
