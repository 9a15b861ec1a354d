"""
Tests for L{xferd.registry.tag_list}, over the registry of L{xferd.testing} in memory.
"""

from __future__ import annotations

from tests.registry.test_referrers import ManifestCase, manifest
from xferd.errors import ManifestUnknown, RegistryError
from xferd.registry.list_pages import MAX_PAGES
from xferd.registry.tag_list import MAX_TAGS
from xferd.testing.answers import Answer, as_json
from xferd.testing.faults import Instead

_PATH = "/v2/team/a/tags/list"


class TagListTests(ManifestCase):
    """
    The tags of a repository.
    """

    def find(self) -> tuple[str, ...]:
        """
        List the tags.
        """
        return self.wait(self.repository.tags())

    def page(self, *tags: object, link: str = "") -> Instead:
        """
        A page with some tags.
        """
        return Instead(as_json({"name": "team/a", "tags": list(tags)}, {"Link": link} if link else {}))

    def plant_page(self, page: Instead, times: int = 1) -> None:
        """
        Answer the next request for tags with a page.
        """
        self.plant(page, "/tags/list", "GET", times)

    def test_listed(self) -> None:
        """
        The tags are listed as the registry has them.
        """
        self.put(manifest(), "b")
        self.put(manifest(), "a")
        self.assertEqual(self.find(), ("a", "b"))

    def test_pages(self) -> None:
        """
        Pages are followed, on this host, and not for ever.
        """
        self.plant_page(self.page("a", "b", link=f'<{_PATH}?last=b>; rel="next"'))
        self.plant_page(self.page("b", "c"))
        self.assertEqual(self.find(), ("a", "b", "c"))
        self.plant_page(self.page("a", link=f'<https://other.example{_PATH}>; rel="next"'))
        self.assertIn("another host", str(self.assertRaises(RegistryError, self.find)))
        for number in range(MAX_PAGES):
            self.plant_page(self.page(str(number), link=f'<{_PATH}?last={number}>; rel="next"'))
        self.assertIn("pages", str(self.assertRaises(RegistryError, self.find)))

    def test_too_many(self) -> None:
        """
        A list with too many tags is refused.
        """
        part = 60_000
        for start in (0, part):
            names = map(str, range(start, start + part))
            self.plant_page(self.page(*names, link=f'<{_PATH}?last={start + 1}>; rel="next"'))
        self.assertIn(f"more than {MAX_TAGS}", str(self.assertRaises(RegistryError, self.find)))

    def test_odd(self) -> None:
        """
        Null is an empty list, and texts that are no tags are left out; other documents are
        refused.
        """
        self.plant_page(Instead(as_json({"name": "team/a", "tags": None})))
        self.assertEqual(self.find(), ())
        self.plant_page(self.page("a", "-x", 7, None, "x/y", ""))
        self.assertEqual(self.find(), ("a",))
        for body in (b"{", b"[]", b'{"tags": {}}', b"<html>", b"{}"):
            self.plant_page(Instead(Answer(200, {"Content-Type": "application/json"}, body)))
            self.assertRaises(RegistryError, self.find)

    def test_refused(self) -> None:
        """
        A registry that has no such repository is reported.
        """
        self.plant_page(self.answer(404, "NAME_UNKNOWN"))
        self.assertRaises(ManifestUnknown, self.find)
