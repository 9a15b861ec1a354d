"""
Tests for L{xferd.web.responses}: JSON, and the table of statuses.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.web.world import World
from xferd import errors
from xferd.errors import TooManyRequests, XferdError
from xferd.web.responses import STATUSES, status_of


def tree(kind: type[XferdError]) -> Iterator[type[XferdError]]:
    """
    A class of errors and its subclasses.
    """
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


class StatusTests(SynchronousTestCase):
    """
    The table of statuses.
    """

    def test_every_error(self) -> None:
        """
        Every error has a status of 400 or more, its own or that of its branch:
        none has only that of the root.
        """
        kinds = [kind for kind in tree(XferdError) if kind.__module__ == errors.__name__]
        self.assertGreater(len(kinds), 25)
        for kind in kinds:
            self.assertIn(status_of(kind.__new__(kind)) // 100, (4, 5), kind)
            if kind is not XferdError:
                self.assertNotEqual({*kind.__mro__} & {*STATUSES}, {XferdError}, kind)

    def test_whose_fault(self) -> None:
        """
        A status of 4xx is for exactly the errors that the client can remedy.
        """
        self.assertEqual(STATUSES[errors.NotFound], 404)
        self.assertEqual(status_of(errors.BadDigest("x")), 400)
        self.assertEqual(status_of(errors.RegistryUnavailable("x")), 502)
        self.assertEqual(status_of(errors.DigestMismatch("x")), 502)
        self.assertEqual(status_of(errors.StoreError("x")), 500)
        self.assertEqual(status_of(errors.NoSuchPlatform("x")), 422)

    def test_source(self) -> None:
        """
        The response to a source's error contains the known facts of the source.
        """
        world = World()
        world.jobs.refuses = TooManyRequests("enough", host="docker.io", status=429, retry_after=12.4)
        answer = world.ask("GET", "/api/v1/jobs", documented=False)
        self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "12"))
        self.assertEqual(
            answer.json()["error"],
            {
                "code": "TOOMANYREQUESTS",
                "message": "enough",
                "detail": {"retryable": True, "host": "docker.io", "status": 429},
            },
        )
        world.jobs.refuses = TooManyRequests("enough")
        self.assertNotIn("retry-after", world.ask("GET", "/api/v1/jobs", documented=False).headers)
