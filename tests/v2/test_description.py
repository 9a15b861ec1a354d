"""
Tests for L{xferd.v2.description}.
"""

from __future__ import annotations

from typing import get_type_hints

from twisted.trial.unittest import SynchronousTestCase

from xferd.interfaces.job_json import NO_REGISTRY, RegistryJSON
from xferd.interfaces.mirror import UpstreamFigures
from xferd.v2.description import describe
from xferd.v2.settings import RegistrySettings, UpstreamSettings
from xferd.web.schemas import SCHEMAS

NOTHING = {"hits": 0, "misses": 0, "stale": 0, "sent": 0, "fetched": 0, "saved": 0}


class DescriptionTests(SynchronousTestCase):
    """
    The registry as the API describes it.
    """

    def test_upstreams(self) -> None:
        """
        It has the endpoints, their URLs, and each upstream with its alias.
        """
        listed = {"docker.io": UpstreamSettings(), "lan:5000": UpstreamSettings(alias="lan")}
        settings = RegistrySettings(listen=("tcp:1",), local=("a/", "b/"), upstreams=listed)
        self.assertEqual(
            describe(settings, ["http://h:1"], {}),
            {
                "listen": ["tcp:1"],
                "urls": ["http://h:1"],
                "default": "docker.io",
                "any_public": False,
                "upstreams": [
                    {"host": "docker.io", "alias": "", **NOTHING},
                    {"host": "lan:5000", "alias": "lan", **NOTHING},
                ],
                "local": ["a/", "b/"],
            },
        )

    def test_any(self) -> None:
        """
        A registry of all public upstreams lists none.
        """
        found = describe(RegistrySettings(default="", upstreams="any-public"), [], {})
        self.assertEqual((found["any_public"], found["upstreams"], found["default"]), (True, [], ""))

    def test_counters(self) -> None:
        """
        An upstream comes with its counters, also one that is not listed.
        """
        figures = {"quay.io": UpstreamFigures(hits=3, misses=2, stale=1, sent=50, fetched=20)}
        (found,) = describe(RegistrySettings(upstreams="any-public"), [], figures)["upstreams"]
        counted = {"hits": 3, "misses": 2, "stale": 1, "sent": 50, "fetched": 20, "saved": 30}
        self.assertEqual(found, {"host": "quay.io", "alias": "", **counted})

    def test_external(self) -> None:
        """
        The URL in the settings is better than that of a listener; without a listener there is none.
        """
        for listen, urls, known in (
            (("tcp:1",), ["http://h:1"], ["https://registry.lan", "http://h:1"]),
            (("systemd:INET:index=0",), [], ["https://registry.lan"]),
            ((), [], []),
        ):
            settings = RegistrySettings(listen=listen, external_url="https://registry.lan")
            self.assertEqual(describe(settings, urls, {})["urls"], known)

    def test_schema(self) -> None:
        """
        The type has the fields of the schema, also where the daemon has no registry.
        """
        self.assertEqual(set(get_type_hints(RegistryJSON)), set(SCHEMAS["Registry"]["properties"]))
        self.assertEqual(set(NO_REGISTRY), set(get_type_hints(RegistryJSON)))
