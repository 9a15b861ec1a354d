"""
Tests for L{xferd.v2.rights.passwords}.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests

from tests.v2.rights.users import write_htpasswd
from xferd.credentials import Credentials
from xferd.store.threads import Threads
from xferd.testing.inline_threads import InlinePool, InlineReactor
from xferd.v2.rights.htpasswd import HtpasswdFile
from xferd.v2.rights.passwords import GUESS_INTERVAL, GUESSES, KEEP, WAITING, Passwords


class CountingPool(InlinePool):
    """
    Counts the work.
    """

    done = 0

    def callInThreadWithCallback(self, *args: Any, **kw: Any) -> None:
        """
        Count, and do the work.
        """
        self.done += 1
        super().callInThreadWithCallback(*args, **kw)


class PasswordsTests(SynchronousTestCase):
    """
    Checks of passwords.
    """

    def setUp(self) -> None:
        """
        Make a file with two users.
        """
        self.clock = Clock()
        self.pool = CountingPool()
        reactor: Any = InlineReactor()
        threads = Threads(reactor, self.pool, "closed")
        threads.start()
        self.path = write_htpasswd(self.mktemp(), {"ann": "right", "bob": "b" * 80})
        self.passwords = Passwords(HtpasswdFile(self.path), threads, self.clock)

    def begin(self, user: str, password: str, peer: str = "p") -> Deferred[bool]:
        """
        Begin a check.
        """
        return self.passwords.check(Credentials.of(user, password), peer)

    def check(self, user: str, password: str, peer: str = "p") -> bool:
        """
        Check a password.
        """
        return self.successResultOf(self.begin(user, password, peer))

    def test_check(self) -> None:
        """
        Right is right; all else is wrong: another password, an unknown user, a NUL.
        bcrypt reads 72 bytes.
        """
        self.assertTrue(self.check("ann", "right"))
        self.assertTrue(self.check("bob", "b" * 72))
        for user, password in (("ann", "wrong"), ("ann", ""), ("zoe", "right"), ("ann", "ri\0ght"), ("", "")):
            self.assertFalse(self.check(user, password), (user, password))

    def test_once(self) -> None:
        """
        A right password is computed once for a while; a wrong one each time.
        """
        for _ in range(100):
            self.assertTrue(self.check("ann", "right"))
        self.assertEqual(self.pool.done, 1)
        self.assertFalse(self.check("ann", "wrong"))
        self.assertFalse(self.check("ann", "wrong"))
        self.assertEqual(self.pool.done, 3)
        self.clock.advance(KEEP)
        self.assertTrue(self.check("ann", "right"))
        self.assertEqual(self.pool.done, 4)

    def test_unknown_user(self) -> None:
        """
        A check for an unknown user takes as long as another one.
        """
        self.check("zoe", "x")
        self.assertEqual(self.pool.done, 1)

    def test_changed(self) -> None:
        """
        A changed password counts at once, and its stamp is another.
        """
        self.assertTrue(self.check("ann", "right"))
        before = self.passwords.stamp("ann")
        write_htpasswd(self.path, {"ann": "changed"})
        os.utime(self.path, ns=(1, 1))
        self.assertFalse(self.check("ann", "right"))
        self.assertTrue(self.check("ann", "changed"))
        self.assertNotEqual(self.passwords.stamp("ann"), before)
        self.assertEqual(self.passwords.stamp("zoe"), "")

    def test_shared(self) -> None:
        """
        Concurrent requests with the same password share one check, and each may
        leave.
        """
        self.pool.held = True
        first, second = self.begin("ann", "right"), self.begin("ann", "right")
        first.cancel()
        self.failureResultOf(first)
        self.pool.release()
        self.assertTrue(self.successResultOf(second))
        self.assertEqual(self.pool.done, 1)

    def test_guesses(self) -> None:
        """
        A peer may send some wrong passwords, then one at a time.  Other peers, and a
        right password that is known, are not affected.
        """
        self.assertTrue(self.check("ann", "right", "bad"))
        for number in range(GUESSES):
            self.assertFalse(self.check("ann", f"wrong {number}", "bad"))
        refusal = self.failureResultOf(self.begin("ann", "wrong", "bad"), TooManyRequests).value
        self.assertEqual(refusal.retry_after, GUESS_INTERVAL)
        self.assertTrue(self.check("ann", "right", "bad"))
        self.assertTrue(self.check("bob", "b" * 80, "good"))
        self.clock.advance(GUESS_INTERVAL)
        self.assertFalse(self.check("ann", "wrong", "bad"))
        self.failureResultOf(self.begin("ann", "wrong", "bad"), TooManyRequests)

    def test_right_passwords(self) -> None:
        """
        Right passwords are no guesses.
        """
        for _ in range(2 * GUESSES):
            self.assertTrue(self.check("ann", "right"))
            self.clock.advance(KEEP)

    def test_waiting(self) -> None:
        """
        The number of waiting checks is limited.
        """
        self.pool.held = True
        begun = [self.begin("ann", str(number), str(number)) for number in range(WAITING)]
        self.failureResultOf(self.begin("ann", "another", "p"), ServiceUnavailable)
        self.pool.release()
        self.assertEqual({self.successResultOf(each) for each in begun}, {False})
        self.assertTrue(self.check("ann", "right"))

    def test_secrets(self) -> None:
        """
        No password is kept.
        """
        self.check("ann", "hunter2")
        self.assertNotIn("hunter2", repr([vars(self.passwords), vars(self.pool)]))
