"""
Tests for L{xferd.web.pagination}.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.web.connection import Answer
from tests.web.fakes import TRANSFER, image, job
from tests.web.world import World
from xferd.web import job_list

JOB_A = {"id": "a", "created": "2026-01-02T03:04:01.000Z"}


class ListCase(SynchronousTestCase):
    """
    A server with lists.
    """

    path = ""
    key = "id"

    def setUp(self) -> None:
        """
        Make the server.
        """
        self.world = World()

    def ask(self, query: str = "") -> Answer:
        """
        Request the list.
        """
        return self.world.ask("GET", f"/api/v1/{self.path}{query}")

    def found(self, query: str = "") -> list[str]:
        """
        The keys of the items.
        """
        return [str(item[self.key]) for item in self.ask(query).json()]

    def pages(self, query: str) -> list[list[str]]:
        """
        All pages, following their links.
        """
        pages = []
        path: str | None = f"/api/v1/{self.path}{query}"
        while path is not None:
            answer = self.world.ask("GET", path)
            self.assertEqual(answer.status, 200)
            pages.append([str(item[self.key]) for item in answer.json()])
            link = answer.headers["link"]
            match = None if link is None else re.fullmatch('<(.*)>; rel="next"', link)
            path = None if match is None else match[1]
        return pages


class JobListTests(ListCase):
    """
    C{GET /api/v1/jobs}.
    """

    path = "jobs"

    def add(self, job_id: str, second: int, **fields: Any) -> None:
        """
        Add a job.
        """
        created = f"2026-01-02T03:04:{second:02}.000Z"
        self.world.jobs.known[job_id] = job(id=job_id, created=created, **fields)

    def test_filters(self) -> None:
        """
        Jobs are filtered by each field, and by several.
        """
        self.add("a", 1, state="done", client="me")
        self.add("b", 2, kind="push", target="docker.io/library/alpine:3")
        self.add("c", 3, kind="copy", client="me", reference="quay.io/a/b:1")
        for query, expected in [
            ("", "cba"),
            ("?state=running", "cb"),
            ("?kind=push", "b"),
            ("?client=me", "ca"),
            ("?client=nobody", ""),
            ("?reference=alpine", "ba"),
            ("?reference=alpine:3", "b"),
            ("?reference=quay.io/a/b:1", "c"),
            ("?host=quay.io", "c"),
            ("?host=docker.io&kind=push", "b"),
            ("?text=ALPINE:3", "b"),
            ("?text=nothing", ""),
            ("?client=me&state=running", "c"),
            ("?limit=2", "cb"),
        ]:
            self.assertEqual(self.found(query), list(expected), query)

    def test_refused(self) -> None:
        """
        Errors name unknown fields and values.
        """
        for query, words in [
            ("state=runing", "'state' must be one of"),
            ("kind=move", "'kind' must be one of"),
            ("reference=A+B", "is not an image reference"),
            ("client=" + "x" * 513, "'client' has more than"),
            ("limit=0", "'limit'"),
            ("limit=10001", "'limit'"),
            ("user=me", "unknown parameter \"user\"; the parameters of jobs are 'state', 'kind', 'client'"),
            ("%ff=1", "unknown parameter"),
        ]:
            answer = self.ask(f"?{query}")
            self.assertEqual(answer.status, 400, query)
            self.assertIn(words, answer.json()["error"]["message"])

    def test_pages(self) -> None:
        """
        The pages contain every item once, also with equal times, and keep the
        filter.
        """
        for n in range(7):
            self.add(f"j{n}", n // 3, state="done" if n == 5 else "running")
        self.assertEqual(self.pages("?limit=3"), [["j6", "j5", "j4"], ["j3", "j2", "j1"], ["j0"]])
        self.assertEqual(self.pages("?limit=3&state=running"), [["j6", "j4", "j3"], ["j2", "j1", "j0"]])
        self.assertEqual(len(self.pages("?limit=7")), 1)

    def test_changes_between(self) -> None:
        """
        Items that are added or removed between two pages do not shift the next
        page.
        """
        for n in range(4):
            self.add(f"j{n}", n)
        link = self.ask("?limit=2").headers["link"]
        path = link.partition(">")[0][1:]
        self.add("new", 50)
        del self.world.jobs.known["j2"]
        self.assertEqual([j["id"] for j in self.world.ask("GET", path).json()], ["j1", "j0"])

    def test_pages_into_the_journal(self) -> None:
        """
        Pages with C{limit} continue in the journal; without it, the list ends
        with the jobs in memory.
        """
        self.patch(job_list, "CHUNK", 3)
        for n in range(20):
            self.add(f"j{n:02}", n // 3, state="running" if n == 1 else "done")
            if n < 10 and n != 1:
                self.world.jobs.older[f"j{n:02}"] = self.world.jobs.known.pop(f"j{n:02}")
        newest = [f"j{n:02}" for n in range(19, -1, -1)]
        self.assertEqual(self.found(), [*newest[:10], "j01"])
        for limit in (1, 4, 19, 20):
            pages = self.pages(f"?limit={limit}")
            self.assertEqual([each for page in pages for each in page], newest, limit)
            self.assertEqual({len(page) for page in pages[:-1]} | {limit}, {limit})
        self.assertEqual(self.pages("?limit=8&state=running"), [["j01"]])
        self.assertEqual(self.pages("?limit=8&state=done")[-1], ["j03", "j02", "j00"])

    def test_memory_wins(self) -> None:
        """
        A job in memory is newer than its record in the journal, and may not be
        in the journal yet.
        """
        self.add("a", 1)
        self.add("b", 2)
        self.world.jobs.recorded = lambda *_: succeed([job(**JOB_A)])  # type: ignore[method-assign]
        self.world.jobs.known["a"]["state"] = "done"
        found = self.ask("?limit=5").json()
        self.assertEqual([(j["id"], j["state"]) for j in found], [("b", "running"), ("a", "done")])

    def test_bounded_reads(self) -> None:
        """
        A page reads as much of the journal as it needs, in chunks.
        """
        self.patch(job_list, "CHUNK", 5)
        for n in range(50):
            self.add(f"j{n:02}", n)
        self.assertEqual(len(self.found("?limit=6")), 6)
        self.assertEqual(len(self.world.jobs.reads), 2)

    def test_odd_marks(self) -> None:
        """
        An invented mark leads to a position in the list.
        """
        self.add("a", 1)
        for after, found in (("", []), ("~", ["a"]), ("9", ["a"]), ("2026-01-02T03:04:01.000Z~b", ["a"])):
            self.assertEqual(self.found(f"?after={after}"), found, after)


class TransferListTests(ListCase):
    """
    C{GET /api/v1/transfers}.
    """

    path = "transfers"

    def test_filters_and_pages(self) -> None:
        """
        Transfers are filtered by state, kind, host and job, the oldest first.
        """
        self.world.jobs.running = [
            {**TRANSFER, "id": "a", "created": "2026-01-02T03:04:06.000Z", "state": "queued"},
            {**TRANSFER, "id": "b", "kind": "upload", "source": "r.example:5000/x"},
            {**TRANSFER, "id": "c", "kind": "unpacking", "source": "", "jobs": ["j1", "j22"]},
        ]
        for query, expected in [
            ("", "bca"),
            ("?state=queued", "a"),
            ("?kind=upload", "b"),
            ("?host=r.example:5000", "b"),
            ("?host=r.example", ""),
            ("?job=j22", "c"),
            ("?job=j2", ""),
            ("?limit=2", "bc"),
        ]:
            self.assertEqual(self.found(query), list(expected), query)
        self.assertEqual(self.pages("?limit=1"), [["b"], ["c"], ["a"]])
        self.assertEqual(self.ask("?client=me").status, 400)
        self.assertEqual(self.ask("?state=gone").status, 400)


class ImageListTests(ListCase):
    """
    C{GET /api/v1/images}.
    """

    path = "images"
    key = "reference"

    def test_filters_and_pages(self) -> None:
        """
        Images are filtered by name: one image, or all images of a repository.
        """
        names = ["localhost:5000/a:1", "localhost:5000/a:2", "localhost:5000/b:1"]
        for name in names:
            self.world.store.images.put(image(name))  # type: ignore[unused-awaitable]
        for query, expected in [
            ("", names),
            ("?name=localhost:5000/a", names[:2]),
            ("?name=localhost:5000/a:2", names[1:2]),
            ("?name=localhost:5000/a:latest", []),
            ("?name=b", []),
        ]:
            self.assertEqual(self.found(query), expected, query)
        self.assertEqual(self.pages("?limit=2"), [names[:2], names[2:]])
        self.assertEqual(self.ask("?name=A").status, 400)


class RepositoryListTests(SynchronousTestCase):
    """
    Repositories of the registry.
    """

    def test_listed(self) -> None:
        """
        The mirrored ones come by name, then xferd's own, in pages and by host.
        """
        world = World()
        names = ["local/a", "ghcr.io/b", "ghcr.io/a", "docker.io/c"]
        world.repositories = [
            {
                "name": name,
                "own": name == "local/a",
                "policy": "" if name == "local/a" else "public",
                "tags": 1,
                "manifests": 1,
                "size": 1,
                "used": None,
                "kept": ["for good"],
            }
            for name in names
        ]

        def listed(query: str = "") -> list[str]:
            answer = world.ask("GET", f"/api/v1/registry/repositories{query}")
            self.assertEqual(answer.status, 200)
            return [repository["name"] for repository in answer.json()]

        self.assertEqual(listed(), ["docker.io/c", "ghcr.io/a", "ghcr.io/b", "local/a"])
        self.assertEqual(listed("?host=ghcr.io"), ["ghcr.io/a", "ghcr.io/b"])
        self.assertEqual(listed("?limit=1&after=0ghcr.io/b%20public"), ["local/a"])
        self.assertEqual(listed("?host=local"), ["local/a"])
