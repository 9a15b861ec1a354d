"""
Tests for L{xferd.ctl.engine.files}.
"""

from __future__ import annotations

import json
import os
import tomllib

from tests.ctl.engine.case import PLATFORM, ToolCase
from tests.ctl.engine.test_served import NODE, STORAGE
from xferd.ctl.commands.completion import ENGINE_TOOLS
from xferd.ctl.engine.containerd_config import PATH
from xferd.ctl.engine.files import TOOLS, containerd, docker, k3s, podman
from xferd.ctl.engine.machine import PROGRAMS
from xferd.ctl.errors import ClientError

STORAGE_CONF = "/etc/containers/storage.conf"
K3S = "/var/lib/rancher/k3s/agent/etc/containerd"


class FilesTests(ToolCase):
    """
    The files of each tool.
    """

    def test_tools(self) -> None:
        """
        Each tool has a program and is completed.
        """
        self.assertEqual(list(TOOLS), list(ENGINE_TOOLS))
        self.assertEqual(set(TOOLS), set(PROGRAMS))

    def test_paths(self) -> None:
        """
        Every path is absolute, and every text ends with a newline.
        """
        versions = dict.fromkeys(TOOLS, "2.1") | {"docker": "29.0", "k3s": "1.34.1"}
        for tool in TOOLS:
            for file in self.files(tool, self.machine(versions)).values():
                self.assertTrue(file.path.startswith("/"), file.path)
                self.assertTrue(file.text.endswith("\n"))

    def test_k3s(self) -> None:
        """
        k3s with containerd 2 has a template of version 3 that extends k3s' own, whose
        table of CRI has the snapshotter of k3s' configuration.
        """
        for version in ("1.31.6", "1.32.2", "1.33.0", "1.36.1"):
            files = self.files("k3s", self.machine({"k3s": version}))
            text = files[f"{K3S}/config-v3.toml.tmpl"].text
            base, _, rest = text.partition("\n")
            self.assertEqual(base, '{{ template "base" . }}')
            tables = tomllib.loads(rest)
            self.assertEqual(tables["proxy_plugins"]["xferd"]["address"], NODE.path)
            # The base has a table of CRI; a second one is no TOML.
            self.assertEqual(set(tables["plugins"]), {"io.containerd.transfer.v1.local"})
            settings = files["/etc/rancher/k3s/config.yaml.d/50-xferd.yaml"].text
            self.assertEqual(settings, "snapshotter: xferd\n")

    def test_cri(self) -> None:
        """
        Where the engine has CRI's image service, kubelet uses it.
        """
        served = NODE._replace(cri=True)
        machine = self.machine({"containerd": "2.1", "k3s": "1.34.1"})
        *_, kubelet = containerd(served, machine, PLATFORM)
        self.assertEqual((kubelet.path, kubelet.is_whole), ("/var/lib/kubelet/config.yaml", False))
        self.assertEqual(kubelet.text, f'imageServiceEndpoint: "unix://{NODE.path}"\n')
        settings = {file.path: file.text for file in k3s(served, machine, PLATFORM)}
        self.assertEqual(
            settings["/etc/rancher/k3s/config.yaml.d/50-xferd.yaml"],
            f'snapshotter: xferd\nimage-service-endpoint: "{NODE.path}"\n',
        )

    def test_order(self) -> None:
        """
        systemd starts an engine that needs xferd's socket after xferd.
        """
        versions = {"containerd": "2.1", "docker": "29.0", "nerdctl": "2.0", "k3s": "1.34.1"}
        for tool in versions:
            unit = "k3s" if tool == "k3s" else "containerd"
            file = self.files(tool, self.machine(versions))[
                f"/etc/systemd/system/{unit}.service.d/50-xferd.conf"
            ]
            self.assertIn("After=xferd.service\n", file.text)

    def test_old_k3s(self) -> None:
        """
        k3s with containerd 1.7 has a template of version 2, and the note names its limit.
        """
        for version in ("1.30.9", "1.31.5", "1.32.1"):
            file = self.files("k3s", self.machine({"k3s": version}))[f"{K3S}/config.toml.tmpl"]
            self.assertEqual(set(tomllib.loads(file.text.partition("\n")[2])), {"proxy_plugins"})
            self.assertIn("only for images that are already in its store", file.note)

    def test_docker(self) -> None:
        """
        docker has its file, and containerd the proxy plugin alone.
        """
        files = self.files("docker", self.machine({"docker": "29.0", "containerd": "2.1"}))
        self.assertEqual(
            json.loads(files["/etc/docker/daemon.json"].text),
            {
                "containerd": "/run/containerd/containerd.sock",
                "features": {"containerd-snapshotter": True},
                "storage-driver": "xferd",
            },
        )
        self.assertEqual(set(tomllib.loads(files[PATH].text)), {"version", "proxy_plugins"})

    def test_old_docker(self) -> None:
        """
        A docker without snapshotters is refused.
        """
        error = self.assertRaises(ClientError, docker, NODE, self.machine({"docker": "20.10.24"}), PLATFORM)
        self.assertEqual(
            str(error), "docker 20.10.24 cannot use a snapshotter; version 24 is the first that can"
        )

    def test_remapped_docker(self) -> None:
        """
        A docker with a user namespace for all containers is refused.  An empty setting means
        that there is no user namespace.
        """
        versions = {"docker": "29.0", "containerd": "2.1"}
        path = "/etc/docker/daemon.json"
        remapped = self.machine(versions, {path: '{"userns-remap": "default"}'})
        error = self.assertRaises(ClientError, docker, NODE, remapped, PLATFORM)
        self.assertEqual(
            str(error),
            "docker refuses to start with a snapshotter and userns-remap; "
            "remove userns-remap from /etc/docker/daemon.json first",
        )
        plain = self.machine(versions, {path: '{"userns-remap": ""}'})
        self.assertFalse(docker(NODE, plain, PLATFORM)[-1].is_whole)

    def test_rootless(self) -> None:
        """
        containerd, docker and nerdctl of a user who is not root are refused in a sentence for a
        daemon of another user, if they run or the user's variable names them; root's are shown to
        that user.
        """
        versions = {"docker": "29.0", "containerd": "2.1", "nerdctl": "2.0"}
        marks = {
            "docker": "docker.sock",
            **dict.fromkeys(("containerd", "nerdctl"), "containerd-rootless/child_pid"),
        }
        for tool, mark in marks.items():
            for home in ("/run/user/7", "/own"):
                machine = self.machine(
                    versions, {f"{home}/{mark}": "1"}, 7, {} if home != "/own" else {"XDG_RUNTIME_DIR": home}
                )
                error = self.assertRaises(ClientError, self.files, tool, machine)
                why = (
                    "cannot use xferd: it starts a containerd of its own, and gives it no snapshotter; "
                    "run docker as root, or nerdctl with rootless containerd"
                    if tool == "docker"
                    else "needs an xferd of the same user in a user namespace, not the one at " + NODE.path
                )
                self.assertEqual(str(error), f"{tool} of user 7 is rootless ({home}/{mark}), and {why}")
            self.assertTrue(self.files(tool, self.machine(versions, uid=7)))
            self.assertTrue(self.files(tool, self.machine(versions, {f"/run/user/0/{mark}": "1"})))
        there = {"/run/user/7/docker.sock": ""}
        named = {"DOCKER_HOST": "unix:///run/user/7/docker.sock"}
        self.assertRaises(ClientError, self.files, "docker", self.machine(versions, uid=7, environ=named))
        named = {"DOCKER_HOST": "unix:///run/docker.sock"}
        self.assertTrue(self.files("docker", self.machine(versions, there, 7, named)))

    def test_rootless_with_own_daemon(self) -> None:
        """
        Rootless containerd and nerdctl with a daemon of the same user have the user's files,
        without the capability to map owners.
        """
        versions = {"containerd": "2.1", "nerdctl": "2.0"}
        mark, socket = "/run/user/7/containerd-rootless/child_pid", NODE.path
        machine = self.machine(versions, {mark: "1", socket: ""}, 7)
        os.chown(os.path.join(machine.root, socket.lstrip("/")), 7, 7)
        for tool, others in (("containerd", []), ("nerdctl", ["/home/me/.config/nerdctl/nerdctl.toml"])):
            files = self.files(tool, machine)
            config = "/home/me/.config/containerd/config.toml"
            self.assertEqual(list(files), [config, *others])
            plugin = tomllib.loads(files[config].text)["proxy_plugins"]["xferd"]
            self.assertNotIn("capabilities", plugin)
            self.assertEqual(plugin["address"], socket)
            self.assertIn("systemctl --user restart containerd", files[config].note)

    def test_nerdctl(self) -> None:
        """
        nerdctl has its file, and containerd the transfer service without CRI.
        """
        files = self.files("nerdctl", self.machine({"nerdctl": "2.0.3", "containerd": "2.1"}))
        file = files["/etc/nerdctl/nerdctl.toml"]
        self.assertEqual(tomllib.loads(file.text), {"snapshotter": "xferd"})
        self.assertEqual(file.note, "")
        plugins = tomllib.loads(files[PATH].text)["plugins"]
        self.assertEqual(set(plugins), {"io.containerd.transfer.v1.local"})

    def test_old_nerdctl(self) -> None:
        """
        An old nerdctl or containerd is named, with its limit.
        """
        for nerdctl, other in (("1.7.6", "2.1"), ("2.0", "1.7")):
            machine = self.machine({"nerdctl": nerdctl, "containerd": other})
            note = self.files("nerdctl", machine)["/etc/nerdctl/nerdctl.toml"].note
            self.assertIn("only for images that are already in its store", note)

    def test_podman(self) -> None:
        """
        Without any file, the whole one has the roots that the library requires.
        """
        file = self.files("podman", self.machine({"podman": "5.4.2"}))[STORAGE_CONF]
        self.assertTrue(file.is_whole)
        self.assertEqual(
            tomllib.loads(file.text),
            {
                "storage": {
                    "driver": "overlay",
                    "runroot": "/run/containers/storage",
                    "graphroot": "/var/lib/containers/storage",
                    "options": {"additionalimagestores": [STORAGE.path]},
                }
            },
        )
        self.assertNotIn("60 layers", file.note)

    def test_buildah(self) -> None:
        """
        Buildah has podman's file, also where podman is not installed.
        """
        file = self.files("buildah", self.machine({"buildah": "1.28.2"}))[STORAGE_CONF]
        self.assertEqual(file, self.files("podman", self.machine({"podman": "5.4.2"}))[STORAGE_CONF])

    def test_podman_present(self) -> None:
        """
        Beside a file there are only lines; that of the distribution is copied first.
        """
        for path in (STORAGE_CONF, "/usr/share/containers/storage.conf"):
            file = self.files("podman", self.machine({"podman": "4.3.1"}, {path: ""}))[STORAGE_CONF]
            self.assertFalse(file.is_whole)
            options = {"additionalimagestores": [STORAGE.path]}
            self.assertEqual(tomllib.loads(file.text), {"storage": {"options": options}})
            self.assertEqual(path != STORAGE_CONF, "Copy /usr/share/containers" in file.note)
            self.assertIn("podman 4.3.1 cannot mount images of more than 60 layers", file.note)

    def test_podman_of_user(self) -> None:
        """
        A user who is not root has a file of their own, with the default roots.
        """
        (file,) = podman(STORAGE, self.machine({"podman": "5.4"}, uid=1000), PLATFORM)
        self.assertEqual(file.path, "/home/me/.config/containers/storage.conf")
        self.assertEqual(set(tomllib.loads(file.text)["storage"]), {"driver", "options"})

    def test_cri_o(self) -> None:
        """
        CRI-O has the file of podman, and its own option for the case that it overrides
        that.
        """
        files = self.files("cri-o", self.machine({"cri-o": "1.30.1"}))
        self.assertIn(STORAGE.path, files[STORAGE_CONF].text)
        file = files["/etc/crio/crio.conf"]
        option = f"overlay.imagestore={STORAGE.path}"
        self.assertEqual(tomllib.loads(file.text), {"crio": {"storage_option": [option]}})
        self.assertFalse(file.is_whole)
