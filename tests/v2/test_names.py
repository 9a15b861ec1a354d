"""
Tests for L{xferd.v2.names} and L{xferd.v2.settings}.
"""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BadReference, NotFound
from xferd.interfaces.mirror import TagPolicy
from xferd.v2.names import Names, Target
from xferd.v2.settings import ANY_PUBLIC, RegistrySettings, UpstreamSettings

HUB, GHCR, PORT = UpstreamSettings(), UpstreamSettings(alias="gh"), UpstreamSettings(alias="ours")
SETTINGS = RegistrySettings(
    local=("local/", "team/a/"),
    upstreams={"docker.io": HUB, "ghcr.io": GHCR, "registry.example:5000": PORT},
)


class NamesTests(SynchronousTestCase):
    """
    The repositories of requests.
    """

    def found(self, name: str, alias: str = "", namespace: str = "") -> str:
        """
        The repository of a request, as text.
        """
        return str(self.target(name, alias, namespace).repository)

    def target(self, name: str, alias: str = "", namespace: str = "") -> Target:
        """
        The target of a request.
        """
        return Names(SETTINGS).find(name, alias, namespace)

    def test_namespace(self) -> None:
        """
        C{ns} chooses the upstream, and is part of the answer.
        """
        target = self.target("team/app", namespace="ghcr.io")
        self.assertEqual((str(target.repository), target.namespaced), ("ghcr.io/team/app", True))
        self.assertIs(target.upstream, GHCR)
        self.assertEqual(self.found("app", namespace="registry.example:5000"), "registry.example:5000/app")

    def test_docker_hub(self) -> None:
        """
        Docker Hub has three names, and its official images are in C{library/}.
        """
        for host in ("docker.io", "index.docker.io", "registry-1.docker.io", "Docker.io"):
            self.assertEqual(self.found("debian", namespace=host), "docker.io/library/debian")
            self.assertEqual(self.found(f"{host}/debian"), "docker.io/library/debian")
        self.assertEqual(self.found("debian", alias="docker.io"), "docker.io/library/debian")

    def test_path(self) -> None:
        """
        The first component is the host of an upstream, or its alias.
        """
        self.assertEqual(self.found("ghcr.io/team/app"), "ghcr.io/team/app")
        self.assertEqual(self.found("gh/team/app"), "ghcr.io/team/app")
        self.assertEqual(self.found("ours/app"), "registry.example:5000/app")
        self.assertEqual(self.found("registry.example:5000/app"), "registry.example:5000/app")

    def test_prefix(self) -> None:
        """
        An alias, or a host, may stand before C{/v2/}.
        """
        self.assertEqual(self.found("team/app", alias="gh"), "ghcr.io/team/app")
        self.assertEqual(self.found("team/app", alias="ghcr.io"), "ghcr.io/team/app")
        self.assertRaises(NotFound, self.found, "team/app", "other")

    def test_namespace_and_path(self) -> None:
        """
        With C{ns}, an alias in the path has precedence, and a host has not.
        """
        self.assertEqual(self.found("gh/app", namespace="docker.io"), "ghcr.io/app")
        self.assertEqual(self.found("local/app", namespace="ghcr.io"), "ghcr.io/local/app")
        self.assertEqual(self.found("a.b/app", namespace="ghcr.io"), "ghcr.io/a.b/app")

    def test_override_path(self) -> None:
        """
        containerd's C{override_path} has the registry in the path and in C{ns}.
        """
        self.assertEqual(self.found("docker.io/library/a", namespace="docker.io"), "docker.io/library/a")
        self.assertEqual(self.found("docker.io/a", namespace="registry-1.docker.io"), "docker.io/library/a")
        ours = "registry.example:5000"
        self.assertEqual(self.found(f"{ours}/a/b", namespace=ours), f"{ours}/a/b")
        names = Names(RegistrySettings(upstreams=ANY_PUBLIC))
        self.assertEqual(str(names.find("quay.io/a/b", namespace="quay.io").repository), "quay.io/a/b")
        self.assertEqual(str(names.find("a.b/c", namespace="quay.io").repository), "quay.io/a.b/c")

    def test_default(self) -> None:
        """
        A plain name is one of the default upstream.
        """
        self.assertEqual(self.found("library/debian"), "docker.io/library/debian")
        self.assertEqual(self.found("debian"), "docker.io/library/debian")
        self.assertRaises(NotFound, Names(RegistrySettings(default="")).find, "debian")

    def test_local(self) -> None:
        """
        Names with a local prefix are xferd's own, and no upstream's.
        """
        for name in ("local/app", "team/a/app", "localhost/local/app"):
            target = self.target(name)
            self.assertIsNone(target.upstream)
            self.assertEqual(str(target.repository), f"localhost/{name.removeprefix('localhost/')}")
        self.assertEqual(self.found("team/app"), "docker.io/team/app")
        self.assertRaises(NotFound, self.found, "localhost/app")

    def test_not_listed(self) -> None:
        """
        No other registry is reached, however it is named: this is no open proxy.
        """
        for arguments in (("app", "", "10.0.0.1:5000"), ("10.0.0.1:5000/app",), ("app", "quay.io")):
            error = self.assertRaises(NotFound, self.found, *arguments)
            self.assertIn("not one of the upstreams", str(error))

    def test_any_public(self) -> None:
        """
        With C{any-public}, every host is an upstream, and none is listed.
        """
        names = Names(RegistrySettings(upstreams=ANY_PUBLIC))
        target = names.find("quay.io/a/b")
        self.assertEqual((str(target.repository), target.listed), ("quay.io/a/b", False))
        self.assertTrue(self.target("ghcr.io/a").listed)

    def test_malformed(self) -> None:
        """
        A malformed name is refused, wherever it stands.
        """
        for arguments in (
            ("A/b",),
            ("a//b",),
            ("../b",),
            ("a/../b",),
            ("b", "", "ghcr.io/x"),
            ("b:1",),
            ("b@c",),
            ("x" * 300,),
            ("",),
        ):
            self.assertRaises((BadReference, NotFound), self.found, *arguments)


class SettingsTests(SynchronousTestCase):
    """
    The settings.
    """

    def test_refused(self) -> None:
        """
        Invalid values are refused by name.
        """
        for values in (
            {"local": ("Local/",)},
            {"local": ("local",)},
            {"upstreams": "all"},
            {"upstreams": {"index.docker.io": HUB}},
            {"upstreams": {"a/b": HUB}},
        ):
            (name,) = values
            error = self.assertRaises(ValueError, RegistrySettings, **values)
            self.assertIn(f"'{name}' must be", str(error))
        for upstream in (
            {"tag_ttl": -1.0},
            {"stale_max": -1.0},
            {"tags": {"*": -1.0}},
            {"tags": {"*": "always"}},
            {"on_upstream_gone": "stay"},
            {"on_ratelimit": "503"},
        ):
            (name,) = upstream
            error = self.assertRaises(ValueError, UpstreamSettings, **upstream)
            self.assertIn(f"'{name}' must be", str(error))
        for alias in ("a.b", "A", "v2", "a/b", "localhost"):
            self.assertRaises(ValueError, UpstreamSettings, alias)

    def test_tag_policy(self) -> None:
        """
        The policy of an upstream's tags has its patterns in their order.
        """
        settings = UpstreamSettings(
            tag_ttl=5.0, tags={"v*": "forever", "edge": 1.0}, stale_max=9.0, on_upstream_gone="drop"
        )
        self.assertEqual(settings.tag_policy, TagPolicy(5.0, (("v*", inf), ("edge", 1.0)), 9.0, False))
        self.assertEqual(UpstreamSettings().tag_policy, TagPolicy())
