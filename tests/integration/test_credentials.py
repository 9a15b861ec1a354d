"""
Credentials with real programs: Debian's registry with one user, a credential
helper, and a token server without OAuth2.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.integration.peers import PASSWORD, USER, DockerRegistry, PeerFailed, push, require
from tests.integration.programs import XFERCTL, Xferd, environment
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import image_of, sample_image
from xferd.testing.layers import LayerBuilder
from xferd.testing.registry import Registry
from xferd.testing.tokens import TokenServer

reactor = cast(IReactor, installed)

WRONG = "not-the-password"

HELPER = f"""#!{sys.executable}
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
server = sys.stdin.read()
path = os.path.join(here, "kept.json")
kept = json.load(open(path)) if os.path.exists(path) else {{}}
if sys.argv[1] == "store":
    entry = json.loads(server)
    kept[entry["ServerURL"]] = entry
elif sys.argv[1] == "erase":
    kept.pop(server, None)
elif server not in kept:
    print("credentials not found in native keychain")
    raise SystemExit(1)
else:
    print(json.dumps(kept[server]), flush=True)
    time.sleep(0.5)
json.dump(kept, open(path, "w"))
"""


class CredentialsTests(TestCase):
    """
    Tests with a daemon and its credentials file.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start the daemon.
        """
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place)
        helper = self.place / "docker-credential-test"
        helper.write_text(HELPER)
        helper.chmod(0o755)
        path = f"{self.place}:{os.environ['PATH']}"
        self.patch(os, "environ", {**os.environ, "PATH": path})
        self.file = self.place / "auth.json"
        self.daemon = Xferd(reactor, str(self.place / "x"), "--auth-file", str(self.file))
        await self.daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.daemon.stop()))

    async def private(self) -> str:
        """
        Start a registry for one user.

        @return: the reference of an image in it.
        """
        server = DockerRegistry(reactor, str(self.place / "registry"), htpasswd=True)
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        reference = f"{server.host}/team/app:1"
        image = image_of([LayerBuilder("gzip").file("a", b"a" * 1000).finish()])
        creds = f"--dest-creds={USER}:{PASSWORD}"
        await push(reactor, image, reference, str(self.place / "layout"), creds)
        return reference

    async def login(self, host: str, password: str) -> tuple[str, int]:
        """
        Log in with a password from a file.
        """
        (self.place / "password").write_text(password + "\n")
        command = f'exec "$@" < {self.place}/password'
        options = ["--host", self.daemon.url, "login", host, "--username", USER, "--password-stdin"]
        _, errors, code = await getProcessOutputAndValue(
            "/bin/sh",
            ["-c", command, "sh", *XFERCTL, *options, "--auth-file", str(self.file)],
            environment(),
            None,
            reactor,
        )
        return errors.decode(), code

    async def denied(self, reference: str, *options: str) -> str:
        """
        The error of a pull that is denied.
        """
        _, errors, code = await self.daemon.try_ctl("pull", reference, *options)
        self.assertEqual(code, 1)
        return errors.splitlines()[-1]

    async def told_nobody(self) -> None:
        """
        No secret is in the daemon's log, its data or its API.
        """
        jobs = await self.daemon.ctl("jobs", "--all", "--json")
        running = self.kept()
        await self.daemon.stop()
        secrets = [
            secret
            for password in (PASSWORD, WRONG)
            for secret in (password.encode(), b64encode(f"{USER}:{password}".encode()))
        ]
        for text in (jobs.encode(), self.daemon.output.encode(), *running, *self.kept()):
            for secret in secrets:
                self.assertNotIn(secret, text)

    def kept(self) -> list[bytes]:
        """
        The content of all files of the daemon: its data, with the journal, and
        the files beside its socket.
        """
        return [path.read_bytes() for path in (self.place / "x").rglob("*") if path.is_file()]

    def own(self, **auths: Any) -> Path:
        """
        Write a credentials file of the user who runs xferctl, which the daemon
        does not read.
        """
        file = self.place / "own/config.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"auths": auths}))
        self.patch(os, "environ", {**os.environ, "DOCKER_CONFIG": str(file.parent)})
        return file

    async def test_own(self) -> None:
        """
        xferctl sends the credentials of the user who runs it, for pull, copy,
        push and export; the daemon stores none of them, and uses its own for
        clients without any.
        """
        reference = await self.private()
        host = reference.partition("/")[0]
        self.own(**{host: {"username": USER, "password": PASSWORD}})
        await self.daemon.ctl("pull", reference)
        await self.daemon.ctl("copy", reference, f"{host}/team/copy:1")
        # A job that outlives its client keeps them.
        job_id = await self.daemon.ctl("pull", "--detach", f"{host}/team/copy:1")
        await self.daemon.ctl("job", "--follow", job_id.strip())
        await self.daemon.ctl("push", reference, f"{host}/other/push:1")
        await self.daemon.ctl("tag", reference, "mine:1")
        await self.daemon.ctl("export", "mine:1", str(self.place / "mine.tar"))
        self.assertIn("without credentials", await self.denied(reference, "--no-credentials"))
        file = self.own(**{host: {"username": USER, "password": WRONG}})
        error = await self.denied(reference)
        self.assertIn(
            f"{host} does not accept a login with the credentials of {USER} from {file} (401", error
        )
        self.assertIn(f"'xferctl login {host}' renews them", error)
        self.own()
        self.file.write_text(json.dumps({"auths": {host: {"username": USER, "password": PASSWORD}}}))
        await self.daemon.ctl("pull", reference)
        await self.told_nobody()

    async def test_own_helper_is_broken(self) -> None:
        """
        If the user's credential helper fails, a public image is pulled with a
        warning.
        """
        registry = Registry(reactor)
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        registry.add(sample_image(1, 1000), "app", "1")
        file = self.own()
        file.write_text('{"credsStore": "desktop"}')
        output, errors, code = await self.daemon.try_ctl("pull", "--quiet", f"{registry.host}/app:1")
        self.assertEqual((code, output.count("\n")), (0, 1), errors)
        self.assertIn(f"docker-credential-desktop, which {file} names, is not in PATH", errors)

    async def test_login(self) -> None:
        """
        A private image can be pulled after a login with the right password, but
        neither after one with a wrong password nor after a logout.
        """
        reference = await self.private()
        host = reference.partition("/")[0]
        error = await self.denied(reference)
        self.assertIn(f"without credentials, as {self.file} has none for it", error)
        self.assertIn(f"'xferctl login {host}'", error)
        error, code = await self.login(host, "wrong")
        self.assertEqual((code, error.count("\n")), (1, 1))
        self.assertIn(f"{host} does not accept a login with the credentials of {USER}", error)
        self.assertFalse(self.file.exists())
        self.assertEqual(await self.login(host, PASSWORD), ("", 0))
        await self.daemon.ctl("pull", reference)
        self.file.write_text("{")
        await self.daemon.ctl("pull", reference)
        self.assertIn(
            f"the previous credentials remain in use: {self.file}, line 1, column 2", self.daemon.output
        )
        self.file.write_text(json.dumps({"auths": {host: {"username": USER, "password": "old"}}}))
        error = await self.denied(reference)
        self.assertIn(f"with the credentials of {USER} from {self.file} (401", error)
        await self.daemon.ctl("logout", host, "--auth-file", str(self.file))
        self.assertIn("without credentials", await self.denied(reference))
        await self.told_nobody()

    async def test_header(self) -> None:
        """
        The credentials of a client apply to its job alone.
        """
        reference = await self.private()
        value = {"username": USER, "password": PASSWORD, "serveraddress": reference.partition("/")[0]}
        header = urlsafe_b64encode(json.dumps(value).encode()).decode()
        argv = ["--silent", "--unix-socket", self.daemon.socket, "http://localhost/api/v1/jobs"]
        body = json.dumps({"kind": "pull", "reference": reference})
        headers = ["-H", "Content-Type: application/json", "-H", f"X-Registry-Auth: {header}"]
        output, _, code = await getProcessOutputAndValue(
            require("curl"), [*argv, *headers, "-d", body], environment(), None, reactor
        )
        self.assertEqual(code, 0)
        job_id = json.loads(output)["id"]
        job: Any = None
        for _ in range(100):
            (job,) = await self.daemon.show("job", job_id)
            if job["state"] not in ("queued", "running"):
                break
            await deferLater(reactor, 0.05)
        self.assertEqual((job["state"], job["error"]), ("done", None))
        self.assertIn("without credentials", await self.denied(reference))
        await self.told_nobody()

    async def test_helper(self) -> None:
        """
        A credential helper stores the credentials of C{login} and returns them
        to the daemon; no command line of a process contains them.
        """
        reference = await self.private()
        host = reference.partition("/")[0]
        self.file.write_text('{"credsStore": "test"}')
        self.assertEqual(await self.login(host, PASSWORD), ("", 0))
        self.assertNotIn(PASSWORD, self.file.read_text())
        self.assertIn(PASSWORD, (self.place / "kept.json").read_text())
        pulling = Deferred.fromCoroutine(self.daemon.ctl("pull", reference))
        seen: set[bytes] = set()
        while not pulling.called:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue
            await deferLater(reactor, 0.02)
        await pulling
        # Other processes may run on this machine.
        ours = [line for line in seen if str(self.place).encode() in line]
        helpers = [line for line in ours if b"docker-credential-test" in line]
        self.assertTrue(helpers)
        for line in helpers:
            self.assertTrue(line.endswith(b"docker-credential-test\0get\0"), line)
        self.assertFalse([line for line in ours if PASSWORD.encode() in line])
        self.file.write_text('{"credsStore": "nowhere"}')
        error = await self.denied(reference)
        self.assertIn(f"{self.file}, whose helper docker-credential-nowhere is not in PATH", error)
        await self.told_nobody()

    async def test_identity_token(self) -> None:
        """
        An identity token is accepted by a token server with OAuth2 and by one
        without; the error of an expired one names its file and the remedy.
        """
        tokens = TokenServer(reactor, users={USER: PASSWORD}, anonymous=False)
        await tokens.listen(reactor)
        self.addCleanup(tokens.stop)
        registry = Registry(reactor, guard=tokens)
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        for name, refuses, method in (("a", None, "POST"), ("b", 405, "GET"), ("c", 404, "GET")):
            registry.add(sample_image(1, 1000), name, "1")
            tokens.refuse_oauth = refuses
            entry = {"identitytoken": tokens.refresh_token(USER)}
            self.file.write_text(json.dumps({"auths": {registry.host: entry}, "n": name * 9}))
            await self.daemon.ctl("pull", f"{registry.host}/{name}:1")
            self.assertEqual((tokens.fetches[-1].method, tokens.fetches[-1].user), (method, USER))
        tokens.refuse_oauth = None
        self.file.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "expired"}}}))
        error = await self.denied(f"{registry.host}/a:1")
        self.assertIn(f"with the credentials from {self.file} (token server 127.0.0.1: 401", error)
        self.assertIn(f"'xferctl login {registry.host}' renews them", error)


class StartTests(TestCase):
    """
    A daemon with an invalid credentials file.
    """

    async def test_malformed(self) -> None:
        """
        It does not start, and reports the position of the error.
        """
        place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, place)
        file = place / "auth.json"
        file.write_text('{\n\t"auths": {},\n\t"credsStore": "/bin/no"\n}')
        daemon = Xferd(reactor, str(place / "x"), "--auth-file", str(file))
        starting: Deferred[Any] = Deferred.fromCoroutine(daemon.start())
        error = str(await self.assertFailure(starting, PeerFailed))
        self.assertIn(f"{file}, line 3: credsStore must be the name of a helper", error)
        self.assertNotIn("Traceback", error)
