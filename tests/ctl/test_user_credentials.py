"""
Tests for L{xferd.ctl.user_credentials}.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from base64 import b64encode, urlsafe_b64decode
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.commands.case import IMAGE
from tests.ctl.fake_daemon import Answer, DaemonTestCase, FakeDaemon, job, one_pull, refusal
from tests.ctl.run import COMMAND, Outcome, environment, run
from xferd.ctl import auth_file
from xferd.ctl.address import Address
from xferd.ctl.user_credentials import MOST, why_no_secrets

AUTH = b64encode(b"me:hunter2").decode()

HELPER = """
import json, os, sys
server = sys.stdin.read()
if sys.argv[1:] != ["get"]:
    raise SystemExit("what?")
if "none" in server:
    print("credentials not found in native keychain")
    raise SystemExit(1)
user = "<token>" if "token" in server else "me"
print(json.dumps({"ServerURL": server, "Username": user, "Secret": "hunter2"}))
"""


class BroughtTests(DaemonTestCase):
    """
    The credentials that commands send.
    """

    def setUp(self) -> None:
        """
        Make a file, and a daemon that accepts any job.
        """
        super().setUp()
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.file = self.place / "config.json"
        self.environ = {"DOCKER_CONFIG": str(self.place), "PATH": str(self.place)}
        self.host = self.fake.url
        self.fake.on("POST", "/jobs", Answer(job("queued"), 202))

    def helper(self, name: str, script: str = HELPER) -> None:
        """
        Make a credential helper.
        """
        program = self.place / f"docker-credential-{name}"
        program.write_text(f"#!{sys.executable}\n{script}\n")
        program.chmod(0o755)

    def config(self, **config: Any) -> None:
        """
        Write the file.
        """
        self.file.write_text(json.dumps(config))

    def ctl(self, *argv: str) -> Outcome:
        """
        Run a command; its output never has the secret.
        """
        outcome = run(["--host", self.host, *argv], self.environ)
        self.assertNotIn("hunter2", outcome.out + outcome.err)
        self.assertNotIn(AUTH, outcome.out + outcome.err)
        return outcome

    def brought(self) -> Any:
        """
        The credentials of the last request; no other request has any.
        """
        for headers in self.fake.headers[:-1]:
            self.assertNotIn("X-Registry-Config", headers)
        value = self.fake.headers[-1].get("X-Registry-Config")
        return {} if value is None else json.loads(urlsafe_b64decode(value))

    def bring(self, *argv: str, warning: str = "") -> Any:
        """
        Run a command that creates a job; return the credentials it sends.

        @param warning: a part of the expected warning.
        """
        self.fake.headers.clear()
        outcome = self.ctl(*argv, "--detach")
        self.assertEqual((outcome.status, outcome.out), (0, "j1\n"), outcome.err)
        if warning:
            self.assertRegex(outcome.err, r"\Axferctl: warning: .*\n\Z")
            self.assertIn(warning, outcome.err)
        else:
            self.assertEqual(outcome.err, "")
        return self.brought()

    def entry(self, **more: str) -> dict[str, str]:
        """
        The credentials sent for a host.
        """
        return {"username": "me", "password": "hunter2", "origin": str(self.file), **more}

    def test_file(self) -> None:
        """
        The credentials of the image's registry are sent, and no others.
        """
        self.config(auths={"https://index.docker.io/v1/": {"auth": AUTH}, "quay.io": {"auth": AUTH}})
        self.assertEqual(self.bring("pull", "alpine"), {"docker.io": self.entry()})
        self.assertEqual(self.bring("pull", "quay.io/a/b:1"), {"quay.io": self.entry()})
        self.assertEqual(self.bring("pull", "ghcr.io/a/b"), {})

    def test_narrowest(self) -> None:
        """
        The credentials of the longest matching namespace are sent, under the registry's host.
        """
        other = b64encode(b"team:hunter2").decode()
        self.config(auths={"quay.io": {"auth": AUTH}, "quay.io/team": {"auth": other}})
        self.assertEqual(self.bring("pull", "quay.io/team/b")["quay.io"]["username"], "team")
        self.assertEqual(self.bring("pull", "quay.io/other/b")["quay.io"]["username"], "me")

    def test_places(self) -> None:
        """
        The files are docker's, then podman's, or the named one.
        """
        runtime = self.place / "containers"
        runtime.mkdir()
        podman, named = runtime / "auth.json", self.place / "named.json"
        for file in (podman, named):
            file.write_text(json.dumps({"auths": {"quay.io": {"auth": AUTH}}}))
        self.assertEqual(self.bring("pull", "quay.io/a/b"), {})
        self.environ["XDG_RUNTIME_DIR"] = str(self.place)
        self.assertEqual(self.bring("pull", "quay.io/a/b")["quay.io"]["origin"], str(podman))
        self.environ["REGISTRY_AUTH_FILE"] = str(named)
        self.assertEqual(self.bring("pull", "quay.io/a/b")["quay.io"]["origin"], str(named))

    def test_none(self) -> None:
        """
        Without a file, or with C{--no-credentials}, nothing is sent, and no helper runs.
        """
        self.assertEqual(self.bring("pull", "quay.io/a/b"), {})
        self.config(auths={"quay.io": {"auth": AUTH}}, credsStore="missing")
        for argv in (
            ("pull", "quay.io/a/b"),
            ("push", "quay.io/a/b"),
            ("copy", "quay.io/a/b", "ghcr.io/a/b"),
        ):
            self.assertEqual(self.bring(*argv, "--no-credentials"), {})

    def test_helpers(self) -> None:
        """
        Helpers supply credentials, for one host or all; an identity token is supported.
        """
        self.helper("keep")
        self.config(credsStore="keep")
        origin = f"docker-credential-keep ({self.file})"
        self.assertEqual(self.bring("pull", "quay.io/a/b"), {"quay.io": self.entry(origin=origin)})
        found = {"identitytoken": "hunter2", "origin": origin}
        self.assertEqual(self.bring("pull", "token.example/b"), {"token.example": found})
        self.assertEqual(self.bring("pull", "none.example/b"), {})
        self.config(credHelpers={"quay.io": "keep"})
        self.assertEqual(self.bring("pull", "quay.io/a/b"), {"quay.io": self.entry(origin=origin)})
        self.assertEqual(self.bring("pull", "ghcr.io/a/b"), {})
        self.config(auths={"quay.io": {"identitytoken": "hunter2"}})
        found = {"identitytoken": "hunter2", "origin": str(self.file)}
        self.assertEqual(self.bring("pull", "quay.io/a/b"), {"quay.io": found})

    def test_broken_helper(self) -> None:
        """
        A failing helper is a warning; a public image is still pulled.
        """
        self.config(credsStore="missing")
        missing = f"docker-credential-missing, which {self.file} names, is not in PATH"
        self.assertEqual(self.bring("pull", "quay.io/a/b", warning=missing), {})
        for script, why in (
            ("raise SystemExit('the store is locked')", "the store is locked"),
            ("print('hunter2')", "did not answer with Username and Secret"),
            ('print(\'{"Secret": "hunter2"}\'); raise SystemExit(2)', "failed with status 2: no message"),
        ):
            self.helper("bad", script)
            self.config(credsStore="bad")
            self.assertEqual(self.bring("pull", "quay.io/a/b", warning=why), {})
        self.patch(auth_file, "HELPER_LIMIT", 0.2)
        self.helper("bad", "import time; time.sleep(60)")
        self.assertEqual(self.bring("pull", "quay.io/a/b", warning="did not end within 0.2 s"), {})

    def test_broken_file(self) -> None:
        """
        An unreadable file is a warning; the other file is used.
        """
        self.file.write_text("{")
        self.assertEqual(self.bring("pull", "quay.io/a/b", warning=f"{self.file}, line 1, column 2"), {})
        (self.place / "containers").mkdir()
        podman = self.place / "containers/auth.json"
        podman.write_text(json.dumps({"auths": {"quay.io": {"auth": AUTH}}}))
        self.environ["XDG_RUNTIME_DIR"] = str(self.place)
        found = self.bring("pull", "quay.io/a/b", warning="line 1")
        self.assertEqual(found, {"quay.io": self.entry(origin=str(podman))})

    def test_copy(self) -> None:
        """
        A copy sends the credentials of both registries; on one host, those of the target.
        """
        other = b64encode(b"team:hunter2").decode()
        self.config(
            auths={"quay.io": {"auth": AUTH}, "ghcr.io": {"auth": AUTH}, "quay.io/team": {"auth": other}}
        )
        found = self.bring("copy", "quay.io/a/b", "ghcr.io/a/b")
        self.assertEqual(found, {"quay.io": self.entry(), "ghcr.io": self.entry()})
        self.assertEqual(self.bring("copy", "quay.io/a/b", "quay.io/team/b")["quay.io"]["username"], "team")

    def test_push(self) -> None:
        """
        A push sends the credentials of its target, and of the registry from which the image
        came, whatever its name here.
        """
        self.config(auths={name: {"auth": AUTH} for name in ("docker.io", "quay.io", "ghcr.io")})
        self.fake.on("GET", "/images/mine/b", Answer({**IMAGE, "source": "quay.io/a/b"}))
        found = self.bring("push", "mine/b", "ghcr.io/a/b")
        self.assertEqual(found, {"quay.io": self.entry(), "ghcr.io": self.entry()})
        self.assertEqual(set(self.bring("push", "mine/b")), {"docker.io", "quay.io"})

    def test_push_of_nothing(self) -> None:
        """
        A missing image is reported by the job.
        """
        self.config(auths={"ghcr.io": {"auth": AUTH}})
        self.fake.on("GET", "/images/b", refusal(404, "NOT_FOUND", "no"))
        self.assertEqual(self.bring("push", "b", "ghcr.io/a/b"), {"ghcr.io": self.entry()})

    def test_export(self) -> None:
        """
        An export sends the credentials of the registry from which the image came.
        """
        self.config(auths={"quay.io": {"auth": AUTH}})
        self.fake.on("GET", "/images/b", Answer({**IMAGE, "source": "quay.io/a/b"}))
        self.fake.on("GET", "/archives/b?format=docker", Answer({}))
        outcome = self.ctl("export", "b", str(self.place / "b.tar"))
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual(self.brought(), {"quay.io": self.entry()})
        self.ctl("export", "b", str(self.place / "b.tar"), "--no-credentials")
        self.assertNotIn("X-Registry-Config", self.fake.headers[-1])

    def test_bad_reference(self) -> None:
        """
        An invalid reference is refused by the daemon.
        """
        self.config(auths={"quay.io": {"auth": AUTH}})
        self.assertEqual(self.bring("pull", "A B"), {})

    def test_not_encrypted(self) -> None:
        """
        Credentials are not sent without encryption; the pull continues without them.
        """
        self.config(auths={"quay.io": {"auth": AUTH}})
        self.host = self.fake.url.replace("127.0.0.1", "0.0.0.0")
        warning = (
            f"your credentials for quay.io are not sent, as the connection to {self.host} is not encrypted"
        )
        self.assertEqual(self.bring("pull", "quay.io/a/b", warning=warning), {})
        self.assertEqual(self.bring("pull", "ghcr.io/a/b"), {})
        self.assertEqual(self.bring("pull", "quay.io/a/b", "--no-credentials"), {})

    def test_unix_socket(self) -> None:
        """
        Of several addresses, the one where a daemon listens counts.
        """
        self.config(auths={"quay.io": {"auth": AUTH}})
        runtime = Path(self.mktemp()).absolute()
        (runtime / "xferd").mkdir(parents=True)
        here = os.getcwd()
        os.chdir(runtime)
        self.addCleanup(os.chdir, here)
        fake = FakeDaemon("xferd/xferd.sock")
        fake.start()
        self.addCleanup(fake.stop)
        fake.on("POST", "/jobs", Answer(job("queued"), 202))
        outcome = run(["--host", "unix:xferd/xferd.sock", "pull", "quay.io/a/b", "--detach"], self.environ)
        self.assertEqual(outcome, (0, "j1\n", ""))
        self.assertIn("X-Registry-Config", fake.headers[-1])

    def test_too_long(self) -> None:
        """
        Credentials that exceed the daemon's header limit are a warning.
        """
        self.config(auths={"quay.io": {"username": "me", "password": "x" * MOST}})
        self.assertEqual(self.bring("pull", "quay.io/a/b", warning=f"more than {MOST}"), {})
        self.config(auths={"quay.io": {"username": "me", "password": "x" * (MOST * 3 // 4 - 400)}})
        self.assertIn("quay.io", self.bring("pull", "quay.io/a/b"))

    def test_no_daemon(self) -> None:
        """
        If no daemon listens, that is reported.
        """
        self.config(auths={"quay.io": {"auth": AUTH}})
        self.host = f"unix:{self.place}/s"
        outcome = self.ctl("push", "quay.io/a/b")
        self.assertEqual(outcome.status, 1)
        self.assertRegex(outcome.err, r"\Axferctl: the daemon does not answer at [^\n]*\n\Z")

    def test_followed(self) -> None:
        """
        Only the request that creates the job has credentials.
        """
        self.config(auths={"docker.io": {"auth": AUTH}})
        self.fake.takes(*one_pull())
        self.assertEqual(self.ctl("pull", "alpine").status, 0)
        having = [
            r[:2]
            for r, h in zip(self.fake.requests, self.fake.headers, strict=True)
            if "X-Registry-Config" in h
        ]
        self.assertEqual(having, [("POST", "/api/v1/jobs")])

    def test_interrupted(self) -> None:
        """
        An interrupt during the helper creates no job.
        """
        self.helper("slow", "import os, time; open(os.environ['SEEN'], 'w').close(); time.sleep(60)")
        self.config(credsStore="slow")
        seen = self.place / "seen"
        environ = environment(**{**self.environ, "SEEN": str(seen)})
        argv = [*COMMAND, "--host", self.fake.url, "pull", "alpine"]
        with subprocess.Popen(argv, env=environ, stderr=subprocess.PIPE, text=True) as process:
            while not seen.exists():
                self.assertIsNone(process.poll())
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        self.assertEqual((process.returncode, errors), (130, "xferctl: interrupted before the pull began\n"))
        self.assertEqual(self.fake.requests, [])


class SecretsTests(SynchronousTestCase):
    """
    L{why_no_secrets}.
    """

    def test_carriers(self) -> None:
        """
        Secrets are sent over a unix socket, loopback or TLS, and never over a network without
        encryption.
        """
        for url in (
            "unix:/s",
            "http://127.0.0.1:1",
            "http://localhost:1",
            "http://[::1]:1",
            "https://a.example",
        ):
            self.assertIsNone(why_no_secrets(Address.parse(url)), url)
        for url in (
            "http://a.example",
            "http://10.0.0.1:1",
            "http://[2001:db8::1]:1",
            "http://localhost.a.b",
        ):
            self.assertEqual(
                why_no_secrets(Address.parse(url)), f"the connection to {url} is not encrypted: use https"
            )
