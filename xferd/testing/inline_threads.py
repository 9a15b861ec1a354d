# -*- test-case-name: tests.store.test_threads -*-
"""
Pools of threads without threads, for a store whose work runs in the caller's
thread, at once or when a test releases it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from attrs import define, field
from twisted.internet.task import Clock
from twisted.python.failure import Failure


class InlineReactor(Clock):
    """
    A clock that runs calls from threads at once.
    """

    def callFromThread(self, f: Callable[..., object], *args: object, **kw: object) -> None:
        """
        Call C{f} in the caller's thread.
        """
        f(*args, **kw)


class InlinePool:
    """
    A pool that does its work before the call returns, or, while it is held, at
    L{step} and L{release}.

    @ivar held: whether new work waits.
    @ivar waiting: the work that waits, the oldest first.
    @ivar running: whether the pool has been started and not stopped.
    """

    def __init__(self) -> None:
        self.held = False
        self.waiting: list[Callable[[], None]] = []
        self.running = False

    def start(self) -> None:
        """
        Begin.
        """
        self.running = True

    def stop(self) -> None:
        """
        End.
        """
        assert not self.waiting, "threads were stopped with work to do"
        self.running = False

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], object] | None, func: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        """
        Do the work, or hold it.
        """
        assert onResult is not None

        def work() -> None:
            try:
                result = func(*args, **kw)
            except BaseException:
                onResult(False, Failure())
            else:
                onResult(True, result)

        if self.held:
            self.waiting.append(work)
        else:
            work()

    def step(self) -> None:
        """
        Do the oldest work that is held.
        """
        self.waiting.pop(0)()

    def release(self) -> None:
        """
        Do all work that is held, and hold no further work.
        """
        self.held = False
        while self.waiting:
            self.step()


@define
class InlinePools:
    """
    Makes pools and remembers them.

    @ivar made: the pools, in the order in which they were made.
    """

    made: list[InlinePool] = field(factory=list)

    def __call__(self, minthreads: int, maxthreads: int, name: str) -> InlinePool:  # noqa: ARG002
        """
        Make a pool.
        """
        self.made.append(InlinePool())
        return self.made[-1]

    @contextmanager
    def held(self) -> Iterator[None]:
        """
        Hold the work of all pools within a block, as a busy disk does, and do
        it at its end.
        """
        for pool in self.made:
            pool.held = True
        yield
        for pool in self.made:
            pool.release()
