"""
Tests for L{xferd.web.static_files}, and for the rules that the files of the
page follow.
"""

from __future__ import annotations

import re
from importlib.resources import files

from twisted.trial.unittest import SynchronousTestCase

from tests.web.world import World

SOURCES = {file.name: file.read_text(encoding="utf-8") for file in (files("xferd.web") / "static").iterdir()}


class ServingTests(SynchronousTestCase):
    """
    The files over HTTP.
    """

    def test_types(self) -> None:
        """
        Each file is complete, with its type.
        """
        types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
        for name, source in SOURCES.items():
            answer = World().ask("GET", f"/static/{name}")
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers.get_content_type(), types[name.rpartition(".")[2]])
            self.assertEqual(answer.headers["content-length"], str(len(answer.body)))
            self.assertEqual(answer.body.decode("utf-8"), source)

    def test_page(self) -> None:
        """
        The page is at the root.
        """
        answer = World().ask("GET", "/")
        self.assertEqual(answer.headers["content-type"], "text/html; charset=utf-8")
        self.assertEqual(answer.body.decode("utf-8"), SOURCES["index.html"])

    def test_cached(self) -> None:
        """
        A client with a cached file revalidates it, and receives no second copy.
        """
        for path in ("/", "/static/main.js"):
            first = World().ask("GET", path)
            self.assertEqual(first.headers["cache-control"], "no-cache")
            again = World().ask("GET", path, headers={"If-None-Match": first.headers["etag"]})
            self.assertEqual((again.status, again.body), (304, b""))
            other = World().ask("GET", path, headers={"If-None-Match": '"other"'})
            self.assertEqual(other.status, 200)

    def test_nothing_else(self) -> None:
        """
        No path leads out of the directory.
        """
        for name in ("../app.py", "..%2fapp.py", "%2e%2e/app.py", "nope.css", "", ".", "a/b.js"):
            self.assertEqual(World().ask("GET", f"/static/{name}").status, 404, name)


class SourceTests(SynchronousTestCase):
    """
    Rules for the files of the page.
    """

    def test_small(self) -> None:
        """
        All of them together have less than 150 kB.
        """
        self.assertLess(sum(map(len, SOURCES.values())), 150_000)

    def test_no_markup_from_text(self) -> None:
        """
        No script interprets a text as markup or code.
        """
        for name, source in SOURCES.items():
            found = re.findall(
                r"(?:inner|outer|Adjacent|set)HTML|document\.write|\beval\(|new Function|DOMParser",
                source,
            )
            self.assertEqual(found, [], name)

    def test_policy(self) -> None:
        """
        No script or style is inline, and none is from another site.
        """
        page = SOURCES["index.html"]
        self.assertEqual(
            re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)", page), []
        )
        for name, source in SOURCES.items():
            self.assertEqual(re.findall(r"https?://(?!www\.w3\.org/2000/svg)", source), [], name)

    def test_names_fit(self) -> None:
        """
        Every element that a script names is on the page, and every module and
        file that is named exists.
        """
        page = SOURCES["index.html"]
        identifiers = set(re.findall(r'\sid="([^"]+)"', page))
        for name, source in SOURCES.items():
            asked = set(re.findall(r'byId\("([^"]+)"\)', source))
            asked |= set(re.findall(r'new Rows\([^,]+, "([^"]+)"', source))
            self.assertEqual(asked - identifiers, set(), name)
            named = set(re.findall(r'from "\./([^"]+)"|/static/([\w.]+)', source))
            self.assertEqual({a or b for a, b in named} - set(SOURCES), set(), name)
