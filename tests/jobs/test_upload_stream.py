"""
Tests for L{xferd.jobs.upload_stream}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.errors import BadArchive, BadInput, TimedOut, WrongOffset
from xferd.interfaces.jobs import IUploadStream
from xferd.jobs.upload_stream import SILENCE, UploadStream


class UploadStreamTests(SynchronousTestCase):
    """
    A client on the one side, a job on the other.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        self.clock = Clock()
        self.upload_stream = UploadStream(self.clock, None)

    def test_provided(self) -> None:
        """
        It provides L{IUploadStream}.
        """
        self.assertTrue(verifyObject(IUploadStream, self.upload_stream))

    def test_pieces(self) -> None:
        """
        A piece is answered when the job wants the next, and no earlier.
        """
        taken = self.upload_stream.put(0, b"abc")
        self.assertNoResult(taken)
        self.assertEqual(self.successResultOf(self.upload_stream.read()), b"abc")
        self.assertNoResult(taken)
        reading = self.upload_stream.read()
        self.assertEqual(self.successResultOf(taken), 3)
        second = self.upload_stream.put(3, b"de")
        self.assertEqual(self.successResultOf(reading), b"de")
        ending = self.upload_stream.read()
        self.assertEqual(self.successResultOf(second), 5)
        finishing = self.upload_stream.finish(5)
        self.assertEqual(self.successResultOf(ending), b"")
        self.assertNoResult(finishing)
        self.upload_stream.taken()
        self.successResultOf(finishing)
        self.successResultOf(self.upload_stream.finish(5))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_finished_before_it_is_read(self) -> None:
        """
        A job that is slow finds the end, too; and it stays the end.
        """
        _ = self.upload_stream.finish(0)
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.upload_stream.read()), b"")

    def test_repeated(self) -> None:
        """
        A piece that was taken before, or is not the next, is refused with the
        right offset; so is one that comes while another is being taken.
        """
        reading = self.upload_stream.read()
        taken = self.upload_stream.put(0, b"abc")
        self.assertEqual(self.successResultOf(reading), b"abc")
        busy = self.failureResultOf(self.upload_stream.put(3, b"d"), WrongOffset)
        self.assertIn("being read", str(busy.value))
        reading = self.upload_stream.read()
        self.successResultOf(taken)
        for offset in (0, 2, 4):
            failure = self.failureResultOf(self.upload_stream.put(offset, b"abc"), WrongOffset)
            self.assertEqual(failure.value.offset, 3)
        self.assertNoResult(reading)

    def test_bounds(self) -> None:
        """
        More than was announced is refused, and an end that is too early; a
        piece has bytes.
        """
        stream = UploadStream(self.clock, 4)
        self.failureResultOf(stream.put(0, b"abcde"), BadInput)
        self.failureResultOf(stream.put(0, b""), BadInput)
        self.failureResultOf(stream.finish(4), WrongOffset)
        error = self.failureResultOf(stream.finish(0), BadArchive)
        self.assertIn("0 of 4 bytes", str(error.value))
        taken = stream.put(0, b"abcd")
        self.failureResultOf(stream.finish(4), WrongOffset)
        self.successResultOf(stream.read())
        _ = stream.read()
        self.successResultOf(taken)
        finishing = stream.finish(4)
        self.failureResultOf(stream.put(4, b"x"), WrongOffset)
        self.assertNoResult(finishing)

    def test_silence(self) -> None:
        """
        A client that sends nothing times out, but not while its piece is being
        read.
        """
        reading = self.upload_stream.read()
        self.clock.advance(SILENCE - 1)
        _ = self.upload_stream.put(0, b"a")
        self.successResultOf(reading)
        self.clock.advance(10 * SILENCE)
        reading = self.upload_stream.read()
        self.clock.advance(SILENCE)
        self.failureResultOf(reading, TimedOut)

    def test_closed(self) -> None:
        """
        When the job has ended, further pieces fail, and so does one that
        waits.
        """
        taken = self.upload_stream.put(0, b"a")
        self.upload_stream.close(BadInput("it is over"))
        self.upload_stream.close(BadInput("again"))
        self.assertEqual(str(self.failureResultOf(taken, BadInput).value), "it is over")
        self.failureResultOf(self.upload_stream.put(1, b"b"), BadInput)
        self.failureResultOf(self.upload_stream.finish(1), BadInput)

    def test_closed_while_it_ends(self) -> None:
        """
        A job that ends before all of the archive is in the store fails the end.
        """
        finishing, other = self.upload_stream.finish(0), self.upload_stream.finish(0)
        other.cancel()
        self.failureResultOf(other, CancelledError)
        self.upload_stream.close(BadInput("it is over"))
        self.failureResultOf(finishing, BadInput)

    def test_cancelled(self) -> None:
        """
        The piece of a client that is cancelled is used nevertheless; a job
        that is cancelled leaves no timer.
        """
        taken = self.upload_stream.put(0, b"a")
        taken.cancel()
        self.failureResultOf(taken, CancelledError)
        self.assertEqual(self.successResultOf(self.upload_stream.read()), b"a")
        reading = self.upload_stream.read()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.upload_stream.offset, 1)
