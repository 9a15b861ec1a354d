"""
Tests for L{xferd.ctl.mirror.files}.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.config_file import ConfigFile
from xferd.ctl.errors import ClientError
from xferd.ctl.mirror.files import FILES
from xferd.ctl.mirror.served import Served, Upstream

HUB = Upstream("docker.io")
LAN = Upstream("registry.lan:5000", "lan")
PLAIN = Served("http", "127.0.0.1:5000", "docker.io", (HUB, LAN))


class FilesTests(SynchronousTestCase):
    """
    The files of each client, as the client parses them.
    """

    def files(self, client: str, served: Served = PLAIN) -> dict[str, Any]:
        """
        The parsed files of a client, by path.
        """
        parsers = {"toml": tomllib.loads, "conf": tomllib.loads, "json": json.loads}
        return {
            file.path: parsers.get(file.path.rpartition(".")[2], str)(file.text)
            for file in FILES[client](served)
        }

    def secure(self) -> Served:
        """
        A registry with TLS and an authority of its own.
        """
        path = Path(self.mktemp())
        path.write_text("PEM\n")
        return Served("https", "mirror.lan:5000", "docker.io", (HUB,), str(path))

    def test_docker(self) -> None:
        """
        The classic store has a mirror of Docker Hub, the other one a file for each registry.
        """
        files = self.files("docker")
        self.assertEqual(
            files.pop("/etc/docker/daemon.json"), {"registry-mirrors": ["http://127.0.0.1:5000"]}
        )
        self.assertEqual(set(files), {f"/etc/docker/certs.d/{u.host}/hosts.toml" for u in (HUB, LAN)})

    def test_docker_away(self) -> None:
        """
        Plain HTTP to another machine is declared, as docker refuses it otherwise.
        """
        files = self.files("docker", PLAIN._replace(authority="mirror.lan:5000"))
        self.assertEqual(files["/etc/docker/daemon.json"]["insecure-registries"], ["mirror.lan:5000"])

    def test_docker_other_default(self) -> None:
        """
        Where names without a registry belong to another upstream, or to none, the classic store
        has no mirror, and the setting is named.
        """
        for default in ("", "registry.lan:5000"):
            served = PLAIN._replace(default=default)
            self.assertNotIn("/etc/docker/daemon.json", self.files("docker", served))
            notes = {file.note for file in FILES["docker"](served)}
            self.assertIn('The classic one needs registry.default = "docker.io"', notes.pop())
            self.assertEqual(notes, set())

    def test_docker_without_hub(self) -> None:
        """
        The classic store can mirror nothing but Docker Hub.
        """
        self.assertNotIn("/etc/docker/daemon.json", self.files("docker", PLAIN._replace(upstreams=(LAN,))))

    def test_containerd(self) -> None:
        """
        Each registry has a file, and Kubernetes' plugin the directory, for both versions.
        """
        found = FILES["containerd"](PLAIN)
        for upstream, file in zip((HUB, LAN), found[:2], strict=True):
            self.assertEqual(file.path, f"/etc/containerd/certs.d/{upstream.host}/hosts.toml")
            self.assertEqual(
                tomllib.loads(file.text),
                {"host": {"http://127.0.0.1:5000": {"capabilities": ["pull", "resolve"]}}},
            )
        names = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images")
        for name, version, file in zip(names, (2, 3), found[2:], strict=True):
            self.assertEqual((file.path, file.is_whole), ("/etc/containerd/config.toml", False))
            plugins = {name: {"registry": {"config_path": "/etc/containerd/certs.d"}}}
            self.assertEqual(tomllib.loads(file.text), {"version": version, "plugins": plugins})

    def test_podman(self) -> None:
        """
        Each registry has a mirror, whose name begins with the registry's host or alias.
        """
        files = self.files("podman")
        self.assertEqual(
            files,
            {
                "/etc/containers/registries.conf.d/50-xferd.conf": {
                    "registry": [
                        {
                            "prefix": host,
                            "location": host,
                            "mirror": [{"location": f"127.0.0.1:5000/{component}", "insecure": True}],
                        }
                        for host, component in (("docker.io", "docker.io"), ("registry.lan:5000", "lan"))
                    ]
                }
            },
        )

    def test_podman_needs_alias(self) -> None:
        """
        A registry with a port and without an alias is refused, and the setting named.
        """
        served = PLAIN._replace(upstreams=(Upstream("registry.lan:5000"),))
        error = self.assertRaises(ClientError, FILES["podman"], served)
        self.assertIn('set alias in [registry.upstreams."registry.lan:5000"]', str(error))

    def test_buildkit(self) -> None:
        """
        Each registry has the mirror, and the mirror itself is plain HTTP.
        """
        self.assertEqual(
            self.files("buildkit"),
            {
                "/etc/buildkit/buildkitd.toml": {
                    "registry": {
                        "docker.io": {"mirrors": ["127.0.0.1:5000"]},
                        "registry.lan:5000": {"mirrors": ["127.0.0.1:5000"]},
                        "127.0.0.1:5000": {"http": True},
                    }
                }
            },
        )

    def test_k3s(self) -> None:
        """
        Each registry has an endpoint.
        """
        text = """\
mirrors:
  "docker.io":
    endpoint:
      - "http://127.0.0.1:5000"
  "registry.lan:5000":
    endpoint:
      - "http://127.0.0.1:5000"
"""
        self.assertEqual(self.files("k3s"), {"/etc/rancher/k3s/registries.yaml": text})

    def test_secure(self) -> None:
        """
        With TLS, nothing is insecure, and each client trusts the authority.
        """
        served = self.secure()
        ca = served.authorities
        docker = self.files("docker", served)
        self.assertEqual(docker["/etc/docker/daemon.json"], {"registry-mirrors": ["https://mirror.lan:5000"]})
        self.assertEqual(docker["/etc/docker/certs.d/mirror.lan:5000/ca.crt"], "PEM\n")
        hosts = self.files("containerd", served)["/etc/containerd/certs.d/docker.io/hosts.toml"]
        self.assertEqual(hosts["host"]["https://mirror.lan:5000"]["ca"], ca)
        podman = self.files("podman", served)
        self.assertEqual(podman["/etc/containers/certs.d/mirror.lan:5000/ca.crt"], "PEM\n")
        (registry,) = podman["/etc/containers/registries.conf.d/50-xferd.conf"]["registry"]
        self.assertEqual(registry["mirror"], [{"location": "mirror.lan:5000/docker.io"}])
        buildkit = self.files("buildkit", served)["/etc/buildkit/buildkitd.toml"]
        self.assertEqual(buildkit["registry"]["mirror.lan:5000"], {"ca": [ca]})
        k3s = self.files("k3s", served)["/etc/rancher/k3s/registries.yaml"]
        self.assertTrue(k3s.endswith(f'configs:\n  "mirror.lan:5000":\n    tls:\n      ca_file: "{ca}"\n'))

    def test_no_certificates(self) -> None:
        """
        A file of certificates that cannot be read is named.
        """
        served = PLAIN._replace(authorities="/nowhere/ca.pem")
        for client in ("docker", "podman"):
            self.assertIn("/nowhere/ca.pem", str(self.assertRaises(ClientError, FILES[client], served)))

    def test_paths(self) -> None:
        """
        Every path is absolute, and every text ends with a newline.
        """
        for make in FILES.values():
            for file in make(PLAIN):
                self.assertIsInstance(file, ConfigFile)
                self.assertTrue(file.path.startswith("/etc/"))
                self.assertTrue(file.text.endswith("\n"))
