"""
Tests for the harnesses: that they find faults, and that the readers pass.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from mmap import PAGESIZE, mmap
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import __main__ as command
from tests.fuzz import harness
from tests.fuzz.documents import check_archive, check_document
from tests.fuzz.harness import Broken, Harness, only, run, same
from tests.fuzz.harnesses import HARNESSES
from tests.fuzz.inputs import cut
from xferd.errors import BadInput


class RunTests(SynchronousTestCase):
    """
    L{run}.
    """

    def find(self, check: Callable[[int], None], seconds: float = 0.5) -> harness.Outcome:
        """
        Run a harness on numbers.
        """
        return run(Harness("numbers", st.integers(0, 1000), check), seconds, 1)

    def test_good(self) -> None:
        """
        A reader that passes is run for the time given.
        """
        outcome = self.find(lambda _: None)
        self.assertEqual(outcome.error, "")
        self.assertGreater(outcome.inputs, 10)
        self.assertGreaterEqual(outcome.seconds, 0.5)

    def test_fault(self) -> None:
        """
        A fault ends the run, with the smallest input that has it.
        """

        def check(number: int) -> None:
            if number >= 77:
                raise KeyError(number)

        # It ends with the fault, on the slowest machine, too.
        outcome = self.find(check, 60.0)
        self.assertIn("KeyError: 77", outcome.error)
        self.assertIn("for the input 77", outcome.error)

    def test_time(self) -> None:
        """
        An input that takes too much CPU is a fault.
        """
        self.patch(harness, "MAX_TIME", 0.05)

        def check(number: int) -> None:
            began = time.process_time()
            while time.process_time() - began < 0.1:
                pass

        self.assertIn("seconds of CPU", self.find(check, 60.0).error)

    def test_hang(self) -> None:
        """
        An input that is never read is a fault.
        """
        self.patch(harness, "MAX_WAIT", 0.05)

        def check(number: int) -> None:
            while number == 0:
                time.sleep(0.01)

        self.assertIn("is not read after", self.find(check, 60.0).error)

    def test_memory(self) -> None:
        """
        An input that makes the process grow too much is a fault.
        """

        def check(number: int) -> None:
            # Not from the heap, which may have as much from earlier tests.
            size = harness.MAX_MEMORY * 2
            with mmap(-1, size) as memory:
                memory[::PAGESIZE] = b"x" * (size // PAGESIZE)

        outcome = self.find(check, 60.0)
        self.assertIn("made the process grow", outcome.error)

    def test_same_seed(self) -> None:
        """
        One seed gives the same inputs.
        """

        def inputs() -> list[int]:
            seen: list[int] = []

            def check(number: int) -> None:
                seen.append(number)
                if len(seen) == 50:
                    raise KeyError

            self.find(check, 60.0)
            return seen[:50]

        self.assertEqual(inputs(), inputs())


class InvariantTests(SynchronousTestCase):
    """
    What harnesses check with.
    """

    def test_errors(self) -> None:
        """
        A documented error passes where its message can be shown; others do
        not.
        """
        with only(BadInput):
            raise BadInput("it is no number")
        with self.assertRaises(KeyError), only(BadInput):
            raise KeyError
        for text in ("", "two\nlines", "x" * (harness.MAX_MESSAGE + 1)):
            self.assertRaises(Broken, harness.check_message, text)

    def test_same(self) -> None:
        """
        A difference is a fault.
        """
        same(1, 1, "numbers")
        self.assertRaises(Broken, same, 1, 2, "numbers")

    def test_cut(self) -> None:
        """
        Pieces together are the whole.
        """
        for sizes in ([], [1], [2, 5]):
            self.assertEqual(b"".join(cut(b"hello world", sizes)), b"hello world")


class ReadersTests(SynchronousTestCase):
    """
    The harnesses themselves.
    """

    def test_pass(self) -> None:
        """
        Each reader passes a few inputs.
        """
        for each in HARNESSES.values():
            self.assertEqual(run(each, 0.2, 1).error, "", each.name)

    def test_command(self) -> None:
        """
        The command runs the harnesses that are named, and ends with 0.
        """
        out = io.StringIO()
        with redirect_stdout(out):
            self.assertEqual(command.main(["--seconds", "0.2", "--seed", "7", "pax", "heads"]), 0)
        self.assertIn("seed 7", out.getvalue())
        self.assertEqual([line.split()[0] for line in out.getvalue().splitlines()[2:]], ["pax", "heads"])

    def test_broken(self) -> None:
        """
        The command prints its findings, and ends with 1.
        """

        def check(_: Any) -> None:
            raise Broken("it is wrong")

        self.patch(command, "HARNESSES", {"numbers": Harness("numbers", st.integers(), check)})
        out = io.StringIO()
        with redirect_stdout(out):
            self.assertEqual(command.main(["--seconds", "0.2"]), 1)
        self.assertIn("it is wrong", out.getvalue())
        self.assertIn("for the input 0", out.getvalue())

    def test_good_inputs(self) -> None:
        """
        The harnesses accept valid inputs.
        """
        for data in (b"{}", b"[]", b"null"):
            check_document(("application/json", data))
            check_archive((data, [1]))
