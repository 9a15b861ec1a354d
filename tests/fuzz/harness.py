# -*- test-case-name: tests.fuzz.test_harness -*-
"""
How one reader is fuzzed: inputs, an invariant, and bounds on the memory and
time of each input.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from time import monotonic, process_time
from traceback import format_exception
from types import FrameType
from typing import Any, Final

from attrs import define, frozen
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.strategies import SearchStrategy

from xferd.errors import XferdError

MAX_TIME: Final = 3.0
"""Seconds of CPU that a reader may take for one input."""

MAX_WAIT: Final = 30.0
"""Seconds after which a reader is taken to have hung."""

MAX_MEMORY: Final = 64 * 1024 * 1024
"""Bytes by which one input may make the process grow."""

MAX_MESSAGE: Final = 500
"""Characters of an error's message at most."""

ROUND: Final = 500
"""Inputs of one run of hypothesis, which tries small ones first."""


class _TimeOver(BaseException):
    """
    The time of a run is over.  Hypothesis passes on what is no L{Exception}; if the check
    returned instead, it would generate the rest of the L{ROUND} in vain.
    """


class Broken(AssertionError):
    """
    An input broke an invariant.
    """


@frozen
class Harness:
    """
    One reader.

    @ivar name: its name on the command line.
    @ivar inputs: the source of its inputs.
    @ivar check: reads one input, and fails where the invariant does not hold.
    """

    name: str
    inputs: SearchStrategy[Any]
    check: Callable[[Any], None]


@define
class Outcome:
    """
    What became of a run.

    @ivar inputs: the number of inputs that were read.
    @ivar seconds: the run's length.
    @ivar cpu: the longest time, in seconds of CPU, that one input took.
    @ivar memory: the most bytes by which one input made the process grow.
    @ivar error: what broke the invariant, with the smallest input that was
        found to do so, or the empty string.
    """

    inputs: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    error: str = ""


def run(harness: Harness, seconds: float, entropy: int) -> Outcome:
    """
    Run a harness for some time, or until it finds something.

    @param entropy: the seed; the same one gives the same inputs.
    """
    outcome = Outcome()
    began = monotonic()
    random = Random(entropy)
    failing: list[Any] = []

    def check(value: Any) -> None:
        if not failing and outcome.inputs and monotonic() - began >= seconds:
            raise _TimeOver
        outcome.inputs += 1
        try:
            with _bounded(outcome):
                harness.check(value)
        except Exception:
            failing[:] = [value]
            raise

    while not outcome.error and (not outcome.inputs or monotonic() - began < seconds):
        rounds = settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            print_blob=False,
            verbosity=Verbosity.quiet,
            report_multiple_bugs=False,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        try:
            seed(random.getrandbits(64))(rounds(given(harness.inputs)(check)))()
        except _TimeOver:
            break
        except Exception as e:
            # Hypothesis reads the smallest input that it has found last.
            trace = "".join(format_exception(e)[-4:])
            outcome.error = f"{trace}for the input {failing[0] if failing else None!r:.4000}"
    outcome.seconds = monotonic() - began
    return outcome


@contextmanager
def _bounded(outcome: Outcome) -> Iterator[None]:
    """
    Bound the time and memory of what runs within.
    """

    def hung(_number: int, _frame: FrameType | None) -> None:
        raise Broken(f"an input is not read after {MAX_WAIT} seconds")

    before = _memory("VmRSS")
    _forget_peak()
    earlier = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, MAX_WAIT)
    began = process_time()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
    cpu, memory = process_time() - began, _memory("VmHWM") - before
    outcome.cpu, outcome.memory = max(outcome.cpu, cpu), max(outcome.memory, memory)
    if cpu > MAX_TIME:
        raise Broken(f"an input took {cpu:.1f} seconds of CPU")
    if memory > MAX_MEMORY:
        raise Broken(f"an input made the process grow by {memory} bytes")


def _memory(field: str) -> int:
    """
    A number of bytes out of C{/proc/self/status}.
    """
    with open("/proc/self/status") as file:
        found = next(line for line in file if line.startswith(f"{field}:"))
    return int(found.split()[1]) * 1024


def _forget_peak() -> None:
    """
    Let the kernel reset C{VmHWM} (proc(5), C{clear_refs}).
    """
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


@contextmanager
def only(*errors: type[Exception]) -> Iterator[None]:
    """
    Take the errors that a reader documents, with messages fit to be shown;
    any other one is a fault.
    """
    try:
        yield
    except errors as e:
        if isinstance(e, XferdError):
            check_message(str(e))


def check_message(text: str) -> None:
    """
    Fail where an error's message cannot be shown: it is too long, has more
    than one line, or has characters that do not print.
    """
    if len(text) > MAX_MESSAGE or not text or not text.isprintable():
        raise Broken(f"a message of {len(text)} characters cannot be shown: {text[:1000]!r}")


def same(found: object, expected: object, what: str) -> None:
    """
    Fail where two readers, or two ways to read, disagree.
    """
    if found != expected:
        raise Broken(f"{what}: {found!r:.500} and {expected!r:.500}")
