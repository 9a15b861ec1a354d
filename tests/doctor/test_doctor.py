"""
Tests for L{xferd.doctor.doctor} and its checks.
"""

from __future__ import annotations

import os
import resource
import socket
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, cast

from attrs import evolve
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorThreads
from twisted.trial.unittest import SynchronousTestCase, TestCase

from xferd.config import Config, StoreLimits
from xferd.doctor import machine, network
from xferd.doctor.doctor import CHECKS, Doctor, examine
from xferd.doctor.problem import Problem, Running
from xferd.errors import ConfigError
from xferd.jobs.limits import Limits
from xferd.registry.transport.proxies import ProxySettings
from xferd.store.disk.reserve import RESERVE
from xferd.testing.certificates import Authority
from xferd.v2.settings import RegistrySettings, UpstreamSettings

DAY = 24 * 3600.0


class DoctorTests(SynchronousTestCase):
    """
    Each check, on an installation with one problem.
    """

    def setUp(self) -> None:
        """
        Make an installation without problems.
        """
        # The authority of the tests issues certificates for one day.
        self.patch(network, "SOON", 3600.0)
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir(mode=0o755)
        for name in ("data", "run", "certs"):
            (self.place / name).mkdir(mode=0o700)
        self.data = self.place / "data"
        self.socket = self.place / "run/s.sock"
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(os.path.relpath(self.socket))
        self.socket.chmod(0o600)
        self.token = self.write("run/s.token", "token")
        (self.data / "reserve").write_bytes(b"x" * RESERVE)
        (self.data / "reserve").chmod(0o600)
        self.auth = self.write("auth.json", "{}")
        self.file = self.write("xferd.toml", "", 0o644)
        config = Config(
            data_dir=str(self.data),
            listen=("tcp:0:interface=127.0.0.1",),
            socket=str(self.socket),
            auth_file=str(self.auth),
            certs_dirs=(str(self.place / "certs"),),
        )
        self.running = Running(
            config=config,
            config_file=str(self.file),
            reread=lambda: config,
            sockets=(str(self.socket),),
            exposed=(),
            sandbox={},
            is_root=True,
            skews={},
            now=datetime.now(UTC).timestamp(),
        )

    def write(self, name: str, text: str | bytes, mode: int = 0o600) -> Path:
        """
        Write a file.
        """
        path = self.place / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def problems(self, check: str) -> list[Problem]:
        """
        The problems that one check finds.
        """
        return list(CHECKS[check](self.running))

    def assert_found(self, check: str, message: str, remedy: str) -> None:
        """
        One check finds exactly one problem.
        """
        problems = self.problems(check)
        self.assertEqual(len(problems), 1, problems)
        self.assertIn(message, problems[0].message)
        self.assertIn(remedy, problems[0].remedy)

    def change(self, **changes: Any) -> None:
        """
        Run with other settings.
        """
        config = evolve(self.running.config, **changes)
        self.running = evolve(self.running, config=config, reread=lambda: config)

    def test_well(self) -> None:
        """
        An installation without problems passes all checks.
        """
        found = {str(check["name"]): check["problems"] for check in examine(self.running)}
        self.assertEqual(list(found), list(CHECKS))
        for name, problems in found.items():
            # What the machine of the tests lacks is not what is tested.
            if name not in ("disk", "limits", "certificates"):
                self.assertEqual(problems, [], name)

    def test_data_directory(self) -> None:
        """
        A data directory that others can change, and content that others can read, are
        problems.
        """
        self.data.chmod(0o777)
        self.assert_found("data directory", "all users can write", "chmod o-w it")
        self.change(store=StoreLimits(trust_data_dir=True))
        self.assertEqual(self.problems("data directory"), [])
        (self.data / "content").mkdir(mode=0o700)
        (self.data / "content").chmod(0o755)
        self.assert_found("data directory", "content: its mode is 755", f"chmod go= {self.data}/content")

    def test_quarantine(self) -> None:
        """
        Damaged content that could not be replaced is a problem, and is named.
        """
        quarantine = self.data / "quarantine"
        quarantine.mkdir(mode=0o700)
        self.assertEqual(self.problems("data directory"), [])
        for number in range(5):
            (quarantine / f"blob-{number}").mkdir()
        self.assert_found("data directory", "blob-0, blob-1, blob-2 and 2 more", "pull the images again")

    def test_sockets(self) -> None:
        """
        A socket is a problem if all users or an unknown group can connect, if it is
        missing, or if its directory can be changed.
        """
        self.socket.chmod(0o666)
        self.assert_found("sockets", "every user can connect", f"chmod o= {self.socket}")
        self.socket.chmod(0o660)
        if os.geteuid() == 0:
            os.chown(self.socket, -1, 12345)
            self.assert_found("sockets", "group 12345 can connect", "chmod g=")
        self.socket.chmod(0o600)
        (self.place / "run").chmod(0o777)
        self.assert_found("sockets", "other users can change", f"chmod go-w {self.place}/run")
        (self.place / "run").chmod(0o700)
        self.socket.unlink()
        self.assert_found("sockets", "cannot reach the socket", "restart xferd")
        self.write("run/s.sock", "")
        self.assert_found("sockets", "is not a socket", "remove it")

    def test_settings(self) -> None:
        """
        A configuration file is a problem if others can change it, or read its password,
        if it is invalid, or if it has changed.
        """
        self.file.chmod(0o666)
        self.assert_found("settings", "other users can change", f"chmod go-w {self.file}")
        self.file.chmod(0o644)
        self.change(proxy=ProxySettings(https="http://u:p@proxy:3128"))
        self.assert_found("settings", "other users can read", f"chmod go= {self.file}")
        self.file.chmod(0o600)
        config = self.running.config
        self.running = evolve(self.running, reread=lambda: evolve(config, grace=1.0))
        self.assert_found("settings", "has changed since xferd started: grace", "restart xferd")

        def wrong() -> Config:
            raise ConfigError("x.toml: grace is wrong")

        self.running = evolve(self.running, reread=wrong)
        self.assert_found("settings", "x.toml: grace is wrong", "cannot restart with")
        self.running = evolve(self.running, config_file="")
        self.assertEqual(self.problems("settings"), [])

    def test_credentials(self) -> None:
        """
        A credential file is a problem if others can read it, if it is damaged, or if its
        helper is missing.
        """
        self.auth.chmod(0o644)
        self.assert_found("credentials", "other users can read", f"chmod go= {self.auth}")
        self.write("auth.json", "{")
        self.assert_found("credentials", "invalid JSON", "log in again")
        self.write("auth.json", '{"credsStore": "nowhere"}')
        self.assert_found("credentials", "docker-credential-nowhere", "install")
        self.write("auth.json", '{"auths": {"r.example/a": {"auth": "?"}}}')
        self.assert_found("credentials", "auth must be", "xferctl login r.example")
        self.auth.unlink()
        self.assertIn("is missing", self.problems("credentials")[0].message)

    def test_owner(self) -> None:
        """
        A file of another user is a problem.
        """
        if os.geteuid() != 0:
            return
        os.chown(self.auth, 65534, -1)
        self.assert_found("credentials", "belongs to user 65534", f"chown 0 {self.auth}")

    def test_tokens(self) -> None:
        """
        A token file is a problem if others can read it, or if it is missing.
        """
        self.token.chmod(0o640)
        self.assert_found("tokens", "other users can read", f"chmod go= {self.token}")
        self.token.unlink()
        self.assert_found("tokens", "is missing", "restart xferd")
        self.change(token_file=str(self.write("tokens", "")))
        self.assert_found("tokens", "is empty", "cannot restart without")

    def test_listeners(self) -> None:
        """
        An exposed listener without TLS is a problem, and so is a TLS key that others can
        read.
        """
        self.running = evolve(self.running, exposed=("tcp:9337",))
        self.assert_found("listeners", "tcp:9337 has no TLS", "ssl:")
        certificate, key = Authority().issue("a.example")
        cert_path, key_path = self.write("a.crt", certificate), self.write("a.key", key, 0o644)
        endpoint = f"ssl:9337:privateKey={key_path}:certKey={cert_path}"
        self.running = evolve(self.running, exposed=(endpoint,))
        self.assert_found("listeners", "other users can read", f"chmod go= {key_path}")

    def test_registry(self) -> None:
        """
        A registry with logins and without TLS is a problem where other machines reach it,
        and so is a file of passwords that others can read.
        """
        self.running = evolve(self.running, served=("tcp:5000",))
        self.assertEqual(self.problems("registry"), [])
        users = self.write("users", "ann:plain", 0o644)
        self.change(registry=RegistrySettings(htpasswd=str(users)))
        found = [problem.message for problem in self.problems("registry")]
        self.assertEqual(len(found), 3, found)
        self.assertIn("registry at tcp:5000 has no TLS", found[0])
        self.assertIn("other users can read", found[1])
        self.assertIn("line 1: the password of 'ann' is not hashed", found[2])
        users.chmod(0o640)
        users.write_text("")
        self.change(registry=RegistrySettings(htpasswd=str(users), external_url="https://r.lan"))
        self.assertEqual(self.problems("registry"), [])
        passing = {"r.example": UpstreamSettings(policy="pass")}
        self.change(registry=RegistrySettings(upstreams=passing))
        self.assert_found("registry", "registry at tcp:5000 has no TLS", "set external_url")
        certificate, key = Authority().issue("a.example")
        cert_path, key_path = self.write("b.crt", certificate), self.write("b.key", key, 0o644)
        self.running = evolve(self.running, served=(f"ssl:1:privateKey={key_path}:certKey={cert_path}",))
        self.assert_found("listeners", "other users can read", f"chmod go= {key_path}")
        self.assertEqual(self.problems("registry"), [])

    def test_certificates(self) -> None:
        """
        A certificate is a problem if it has expired, expires soon or is not one.
        """
        before = self.problems("certificates")
        certificate, key = Authority().issue("a.example")
        (self.place / "certs/r.example").mkdir()
        path = self.write("certs/r.example/a.crt", certificate)
        self.assertEqual(self.problems("certificates"), before)
        end = load_pem_x509_certificates(certificate)[0].not_valid_after_utc.timestamp()
        for now, message in (
            (end + DAY, "expired on"),
            (end - 60, "expires on"),
            (0.0, "not valid before"),
        ):
            self.running = evolve(self.running, now=now)
            self.assertIn(f"{path}", self.problems("certificates")[-1].message)
            self.assertIn(message, self.problems("certificates")[-1].message)
        self.write("certs/r.example/a.crt", "none")
        self.assertIn("no PEM certificates", " ".join(p.message for p in self.problems("certificates")))
        self.write("certs/r.example/a.crt", certificate)
        self.write("certs/r.example/b.cert", certificate)
        self.write("certs/r.example/b.key", key, 0o644)
        self.assertIn("b.key", " ".join(p.remedy for p in self.problems("certificates")))

    def test_proxies(self) -> None:
        """
        A proxy that refuses connections is a problem; its password is not quoted.
        """
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://u:secret@127.0.0.1:{server.getsockname()[1]}"
            self.change(proxy=ProxySettings(https=url))
            self.assertEqual(self.problems("proxies"), [])
        self.assert_found("proxies", "refuses connections: Connection refused", "HTTPS_PROXY")
        self.assertNotIn("secret", repr(self.problems("proxies")))

    def test_clock(self) -> None:
        """
        A clock that differs from those of most registries is a problem; the wrong clock of
        one registry is not.
        """
        self.running = evolve(self.running, skews={"a": -3700.0, "b": -3600.0, "c": 1.0})
        self.assert_found("clock", "the clock is 3600 s ahead of that of b", "synchronise")
        self.running = evolve(self.running, skews={"a": 100.0})
        self.assert_found("clock", "the clock is 100 s behind that of a", "synchronise")
        self.running = evolve(self.running, skews={"a": -3600.0, "b": 2.0, "c": 1.0})
        self.assertEqual(self.problems("clock"), [])

    def test_disk(self) -> None:
        """
        A full disk, a quota larger than the disk, and a missing reserve are problems.
        """
        (self.data / "reserve").unlink()
        self.patch(machine, "free_bytes", lambda _: 5 * 1024**2)
        self.change(store=StoreLimits(quota=1 << 60))
        found = " ".join(p.message for p in self.problems("disk"))
        for text in ("has 5 MiB left", "the reserve of the store has 0 KiB", f"the quota is {1 << 60} bytes"):
            self.assertIn(text, found)
        self.change(data_dir="/nowhere/at/all")
        self.assert_found("disk", "cannot read the disk", "mount it")

    def test_limits(self) -> None:
        """
        Few open files and too many workers are problems.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        self.assert_found("limits", "may open 1024 files", "LimitNOFILE")
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
        self.change(limits=Limits(workers=4 * len(os.sched_getaffinity(0)) + 1))
        self.assert_found("limits", "layers are unpacked at the same time", "lower workers")

    def test_engines(self) -> None:
        """
        A container engine that could not be started is a problem.
        """
        self.assertEqual(self.problems("engines"), [])
        self.running = evolve(self.running, engines={"containerd node": "its socket is in use"})
        self.assert_found("engines", "containerd node is not served: its socket is in use", "restart xferd")

    def test_sandbox(self) -> None:
        """
        Missing measures of the sandbox are problems.
        """
        self.running = evolve(self.running, sandbox={"limits": "", "seccomp": "the kernel refuses it"})
        self.assert_found("sandbox", "without seccomp: the kernel refuses it", "The sandbox")
        self.running = evolve(self.running, sandbox=None)
        self.assertEqual(self.problems("sandbox"), [])

    def test_sandbox_of_a_user(self) -> None:
        """
        Measures that only root can have are no problems of another user's daemon.
        """
        missing = dict.fromkeys(("network", "ipc", "mounts", "bounding_set"), "Operation not permitted")
        self.running = evolve(self.running, sandbox=missing, is_root=True)
        self.assertEqual(len(self.problems("sandbox")), 4)
        self.running = evolve(self.running, is_root=False)
        self.assertEqual(self.problems("sandbox"), [])
        self.running = evolve(self.running, sandbox={**missing, "landlock": "Function not implemented"})
        self.assert_found("sandbox", "without landlock", "The sandbox")


class SharingTests(TestCase):
    """
    L{Doctor}.
    """

    async def test_shared(self) -> None:
        """
        Concurrent requests share one examination; a cancelled request does not end it,
        and the next request starts another one.
        """
        go = Event()
        states: list[Running] = []

        def wait() -> Config:
            go.wait(20)
            raise ConfigError("it is wrong")

        def state() -> Running:
            config = Config(data_dir=self.mktemp(), certs_dirs=())
            states.append(Running(config, "/dev/null", wait, (), (), None, True, {}, 0.0))
            return states[-1]

        examiner = Doctor(cast("IReactorThreads", reactor), state)
        first, second, third = examiner.examine(), examiner.examine(), examiner.examine()
        second.cancel()
        await self.assertFailure(second, CancelledError)
        go.set()
        found = await first
        self.assertIn("it is wrong", str(found))
        self.assertIs(await third, found)
        self.assertEqual(len(states), 1)
        await examiner.examine()
        self.assertEqual(len(states), 2)
