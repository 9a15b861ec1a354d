# -*- test-case-name: tests.ctl.image.test_runtime_config -*-
"""
Tests for L{xferd.ctl.image.runtime_config}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.image.runtime_config import PATH, BadConfig, Execution, Volume, runtime_config
from xferd.ctl.image.users import User

ROOT = User(0, 0, (0, 10), "/root")
APP = User(1000, 1001, (1001, 44), "/home/app")


def image(config: object = None, **more: object) -> dict[str, Any]:
    """
    An image's config with a command.
    """
    if config is None or isinstance(config, dict):
        config = {"Cmd": ["sh"], **(config or {})}
    return {"os": "linux", "architecture": "arm64", "config": config, **more}


class ExecutionTests(SynchronousTestCase):
    """
    Tests for L{Execution.of}.
    """

    def test_command(self) -> None:
        """
        C{Cmd} is appended to C{Entrypoint}; the user's arguments replace it.
        """
        both = image({"Entrypoint": ["/start", "-x"], "Cmd": ["a", "b"]})
        self.assertEqual(Execution.of(both).args, ("/start", "-x", "a", "b"))
        self.assertEqual(Execution.of(both, ["c"]).args, ("/start", "-x", "c"))
        self.assertEqual(Execution.of(image(), ["ls", "-l"]).args, ("ls", "-l"))
        self.assertEqual(Execution.of(image({"Entrypoint": None, "Cmd": "one"})).args, ("one",))
        self.assertEqual(Execution.of({"config": None}, ["ls"]).args, ("ls",))

    def test_plain(self) -> None:
        """
        Missing settings have defaults.
        """
        execution = Execution.of(image())
        self.assertEqual((execution.cwd, execution.env, execution.user, execution.volumes), ("/", (), "", ()))

    def test_cwd(self) -> None:
        """
        The working directory is always absolute.
        """
        for said, cwd in {"/a/b/": "/a/b", "a": "/a", "../..": "/", "//x": "/x", "": "/"}.items():
            self.assertEqual(Execution.of(image({"WorkingDir": said})).cwd, cwd)

    def test_annotations(self) -> None:
        """
        Labels override the specification's annotations; those that control runtimes are left
        out, with a note.
        """
        execution = Execution.of(
            image(
                {
                    "Labels": {
                        "org.opencontainers.image.author": "by label",
                        "mine": "",
                        "run.oci.hooks.stderr": "/etc/passwd",
                        "org.systemd.property.X": "1",
                    },
                    "StopSignal": "SIGINT",
                    "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                },
                author="by field",
                created="2026-01-02T03:04:05Z",
                variant="v8",
                **{"os.version": "1", "os.features": ["a", "b"]},
            )
        )
        self.assertEqual(
            execution.annotations,
            {
                "org.opencontainers.image.os": "linux",
                "org.opencontainers.image.architecture": "arm64",
                "org.opencontainers.image.variant": "v8",
                "org.opencontainers.image.os.version": "1",
                "org.opencontainers.image.os.features": "a,b",
                "org.opencontainers.image.author": "by label",
                "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
                "org.opencontainers.image.stopSignal": "SIGINT",
                "org.opencontainers.image.exposedPorts": "53/udp,80/tcp",
                "mine": "",
            },
        )
        self.assertEqual(len(execution.notes), 2)
        self.assertIn("run.oci.hooks.stderr is left out", execution.notes[0])

    def test_volumes(self) -> None:
        """
        Volumes are absolute and unique; those that cannot be mounted are left out, with a
        note.
        """
        said = ["/data", "data/", "/a/../b", "/", "/proc/x", "/sys", "/dev", "/process"]
        execution = Execution.of(image({"Volumes": {path: {} for path in said}}))
        self.assertEqual(execution.volumes, ("/b", "/data", "/process"))
        self.assertEqual(len(execution.notes), 4)

    def test_bad(self) -> None:
        """
        An invalid config is reported in one sentence that names the setting.
        """
        for config, said in (
            ({"Cmd": None}, "names no command"),
            ({"Cmd": [""]}, "names no command"),
            ({"Cmd": [1]}, "Cmd in the image's config is not a list of texts"),
            ({"Cmd": ["a\0b"]}, "'a\\x00b'"),
            ({"Cmd": ["\udcff"]}, "'\\udcff'"),
            ({"Env": {}}, "Env in"),
            ({"Env": ["A=1", "B"]}, "'B', which is not NAME=value"),
            ({"Env": ["=B"]}, "'=B'"),
            ({"User": 5}, "User in the image's config is not text"),
            ({"Labels": []}, "Labels in the image's config is not an object"),
            ({"Labels": {"a": 1}}, "label 'a' is not text"),
            ({"Volumes": {"/a\0": {}}}, "a volume"),
            ([], "config is not an object"),
        ):
            error = self.assertRaises(BadConfig, Execution.of, image(config))
            self.assertIn(said, str(error))
        error = self.assertRaises(BadConfig, Execution.of, image(os="windows"))
        self.assertIn("for windows", str(error))


class RuntimeConfigTests(SynchronousTestCase):
    """
    Tests for L{runtime_config}.
    """

    def config(self, user: User = ROOT, volumes: tuple[Volume, ...] = (), **more: Any) -> Any:
        """
        The runtime's config of an image.
        """
        execution = Execution.of(image({"Env": more.pop("env", [])}))
        return json.loads(json.dumps(runtime_config(execution, user, volumes, **{"hostname": "app", **more})))

    def test_root(self) -> None:
        """
        Root has docker's capabilities, no terminal, no new privileges, and its own namespaces.
        """
        config = self.config()
        process = config["process"]
        self.assertEqual(process["user"], {"uid": 0, "gid": 0, "additionalGids": [0, 10]})
        self.assertEqual((process["terminal"], process["noNewPrivileges"]), (False, True))
        self.assertEqual(len(process["capabilities"]["effective"]), 14)
        self.assertNotIn("inheritable", process["capabilities"])
        self.assertEqual(config["root"], {"path": "rootfs", "readonly": False})
        kinds = {namespace["type"] for namespace in config["linux"]["namespaces"]}
        self.assertEqual(kinds, {"pid", "network", "ipc", "uts", "mount", "cgroup"})
        self.assertNotIn("seccomp", config["linux"])

    def test_user(self) -> None:
        """
        Other users have capabilities in the bounding set alone.
        """
        process = self.config(APP)["process"]
        self.assertEqual(process["user"], {"uid": 1000, "gid": 1001, "additionalGids": [1001, 44]})
        self.assertEqual(
            (process["capabilities"]["effective"], process["capabilities"]["permitted"]), ([], [])
        )
        self.assertEqual(len(process["capabilities"]["bounding"]), 14)

    def test_environment(self) -> None:
        """
        PATH and HOME are added if the image lacks them.
        """
        self.assertEqual(self.config(APP)["process"]["env"], [f"PATH={PATH}", "HOME=/home/app"])
        own = ["HOME=/", "PATH=/bin", "A=b=c"]
        self.assertEqual(self.config(APP, env=own)["process"]["env"], own)
        self.assertEqual(self.config(User(5, 5, ()))["process"]["env"], [f"PATH={PATH}"])

    def test_volumes(self) -> None:
        """
        A volume is a tmpfs with the directory's owner, mode and content.
        """
        volumes = (Volume("/data", (1000, 1001), 0o1750), Volume("/new"))
        data, new = self.config(volumes=volumes)["mounts"][-2:]
        self.assertEqual((data["destination"], data["type"]), ("/data", "tmpfs"))
        self.assertEqual(data["options"][3:], ["mode=1750", "uid=1000", "gid=1001", "tmpcopyup"])
        self.assertEqual(new["options"][3:], ["mode=755"])

    def test_rootless(self) -> None:
        """
        Without root, the user is mapped to root inside, and nothing requires root outside.
        """
        config = self.config(volumes=(Volume("/data", (5, 5)),), rootless=(1000, 100))
        self.assertEqual(config["linux"]["uidMappings"], [{"containerID": 0, "hostID": 1000, "size": 1}])
        self.assertEqual(config["linux"]["gidMappings"], [{"containerID": 0, "hostID": 100, "size": 1}])
        self.assertIn({"type": "user"}, config["linux"]["namespaces"])
        self.assertNotIn("resources", config["linux"])
        self.assertNotIn("additionalGids", config["process"]["user"])
        options = [option for mount in config["mounts"] for option in mount["options"]]
        self.assertEqual([option for option in options if option.startswith(("gid=", "uid="))], [])

    def test_hostname(self) -> None:
        """
        The host name is valid.
        """
        for said, name in {"my_app.x": "my-app-x", "..": "container", "a" * 80: "a" * 63}.items():
            self.assertEqual(self.config(hostname=said)["hostname"], name)

    def test_read_only(self) -> None:
        """
        The root can be read-only.
        """
        self.assertTrue(self.config(read_only=True)["root"]["readonly"])
