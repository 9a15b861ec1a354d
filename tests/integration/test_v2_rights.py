"""
Rights at the registry with real clients: users, tokens, private upstreams, and other
users of the machine.

The module is long because one set of users, upstreams and listeners serves all its cases.
"""

from __future__ import annotations

import json
import os
import shutil
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.integration.other_engines import Crane, found
from tests.integration.peers import PASSWORD, USER, DockerRegistry, PeerFailed, push, require, run
from tests.integration.places import free_port
from tests.integration.programs import Dockerd, Xferd
from tests.integration.test_door import ask_as
from tests.other_user import OTHER
from tests.v2.rights.users import basic, write_htpasswd
from xferd.interfaces.reactor import IReactor
from xferd.testing.certificates import Authority
from xferd.testing.images import SampleImage, SampleIndex, index_of, sample_image
from xferd.testing.registry import Registry
from xferd.testing.tokens import TokenServer

reactor = cast(IReactor, installed)

ME = f"{USER}:{PASSWORD}"
"""The user of the private upstreams."""

POLICIES: Final = {"open": "public", "account": "account", "pass": "pass", "token": "pass"}
"""The policies of the upstreams, by alias."""


class RightsCase(TestCase):
    """
    A daemon with a public upstream and with private ones: one for the daemon's account, and two
    that check their clients' own credentials, with a password and with tokens.
    """

    options: Sequence[str] = ()

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them.
        """
        if os.geteuid() != 0:
            raise SkipTest("the engines need root, and only root can be another user")
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.place.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        self.image = sample_image(2, 100_000)
        self.upstreams: dict[str, str] = {}
        for alias in ("open", "account", "pass"):
            await self.upstream(alias)
        await self.token_upstream("token")
        users = write_htpasswd(str(self.place / "users"), {"dora": "dora-secret", "bob": "bob-secret"})
        account = self.upstreams["account"]
        self.config = self.place / "xferd.toml"
        self.config.write_text(
            f'[registry]\nhtpasswd = "{users}"\n'
            f'[[registry.rights]]\nusers = ["dora"]\nrepositories = ["{account}/**"]\nmay = ["pull"]\n'
            + "".join(
                f'[registry.upstreams."{host}"]\nalias = "{alias}"\npolicy = "{POLICIES[alias]}"\n'
                for alias, host in self.upstreams.items()
            )
        )
        entry = b64encode(ME.encode()).decode()
        auth = self.place / "auth.json"
        auth.write_text(json.dumps({"auths": {account: {"auth": entry}}}))
        port = free_port()
        self.registry = f"127.0.0.1:{port}"
        self.daemon = Xferd(
            reactor,
            str(self.place / "x"),
            *("--config", str(self.config), "--auth-file", str(auth)),
            *("--registry", f"tcp:{port}:interface=127.0.0.1", *self.options),
        )
        await self.daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.daemon.stop()))

    def content(self, private: bool) -> Mapping[str, SampleImage | SampleIndex]:
        """
        The images of an upstream, by their names.
        """
        return {"team/app:1": self.image}

    async def upstream(self, alias: str) -> None:
        """
        Start Debian's registry with the image; it is private unless its policy is C{public}.
        """
        private = POLICIES[alias] != "public"
        server = DockerRegistry(reactor, str(self.place / f"r-{alias}"), htpasswd=private)
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        options = [f"--dest-creds={ME}"] if private else []
        for name, image in self.content(private).items():
            layout = str(self.place / f"layout-{alias}")
            await push(reactor, image, f"{server.host}/{name}", layout, *options)
        self.upstreams[alias] = server.host

    async def token_upstream(self, alias: str) -> None:
        """
        Start a registry with a token server, with the image.
        """
        tokens = TokenServer(reactor, users={USER: PASSWORD}, anonymous=False)
        server = Registry(reactor, guard=tokens)
        # As Debian's.
        server.lists_referrers = False
        for name, image in self.content(True).items():
            server.add(image, *name.split(":"))
        for each in (tokens, server):
            await each.listen(reactor)
            self.addCleanup(each.stop)
        self.upstreams[alias] = server.url.partition("://")[2]

    async def curl(self, path: str, credentials: str = "", user: int = 0, *options: str) -> int:
        """
        Send one request.

        @param user: the user ID of the client.
        @return: the status.
        """
        prefix = ["setpriv", f"--reuid={user}", "--clear-groups"] if user else []
        login = ["--user", credentials] if credentials else []
        argv = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *login, *options]
        return int(await run(reactor, [*prefix, *argv, f"http://{self.registry}{path}"]))

    async def statuses(self, host: str, credentials: str = "", user: int = 0) -> set[int]:
        """
        Request the image by tag, by digest, and its blobs by digest.

        @return: all statuses.
        """
        base = f"/v2/{host}/team/app"
        paths = [f"{base}/manifests/1", f"{base}/manifests/{self.image.digest}"]
        paths += [f"{base}/blobs/{blob.digest}" for blob in self.image.blobs]
        return {await self.curl(path, credentials, user) for path in paths}

    async def skopeo(self, host: str, credentials: str = "") -> None:
        """
        Copy the whole image.

        @raise PeerFailed: it is refused.
        """
        target = self.place / "copied"
        shutil.rmtree(target, ignore_errors=True)
        login = [f"--src-creds={credentials}"] if credentials else ["--src-no-creds"]
        source = f"docker://{self.registry}/{host}/team/app:1"
        options = ["--quiet", "--src-tls-verify=false", *login]
        await run(reactor, ["skopeo", "--insecure-policy", "copy", *options, source, f"dir:{target}"])
        self.assertEqual((target / "manifest.json").read_bytes(), self.image.manifest.data)

    async def refused(self, working: object) -> None:
        """
        A client is refused.
        """
        await self.assertFailure(Deferred.fromCoroutine(working), PeerFailed)  # type: ignore[arg-type]


class UpstreamTests(RightsCase):
    """
    Private upstreams.
    """

    async def test_public(self) -> None:
        """
        What is public needs no login: for skopeo, with empty or wrong credentials, and for every user
        of the machine.
        """
        await self.skopeo("open")
        for credentials, user in (("", 0), ("", OTHER), ("bob:wrong", OTHER)):
            self.assertEqual(await self.statuses("open", credentials, user), {200})

    async def test_account(self) -> None:
        """
        The daemon's account is for a user with a rule, not for others, and not for root.
        """
        await self.skopeo("account", "dora:dora-secret")
        self.assertEqual(await self.statuses("account", "dora:dora-secret", OTHER), {200})
        for credentials, status in (("", 401), ("dora:wrong", 401), ("bob:bob-secret", 404)):
            for user in (0, OTHER):
                self.assertEqual(await self.statuses("account", credentials, user), {status}, credentials)
        for credentials in ("", "bob:bob-secret"):
            await self.refused(self.skopeo("account", credentials))

    async def test_root_may(self) -> None:
        """
        With C{root_may} root needs no login, and other users of the machine do; the setting counts
        after C{SIGHUP}.
        """
        self.assertEqual(await self.statuses("account"), {401})
        text = self.config.read_text()
        self.config.write_text(text.replace('policy = "account"\n', 'policy = "account"\nroot_may = true\n'))
        await self.daemon.reload()
        await self.skopeo("account")
        self.assertEqual(await self.statuses("account"), {200})
        self.assertEqual(await self.statuses("account", user=OTHER), {401})
        foreign = ("-H", "Origin: http://evil.example")
        self.assertEqual(await self.curl("/v2/account/team/app/manifests/1", "", 0, *foreign), 401)
        rebound = ("-H", "Host: evil.example")
        self.assertEqual(await self.curl("/v2/account/team/app/manifests/1", "", 0, *rebound), 401)
        self.config.write_text(text.replace('policy = "account"', 'policy = "public"'))
        await self.daemon.reload()
        self.assertEqual(await self.statuses("account"), {404})

    async def test_images_of_jobs(self) -> None:
        """
        A private image that root pulled by a job is root's, by tag and by digest, whatever
        happens to tags that an upstream no longer has.  Another user gets nothing of it.
        """
        account = self.upstreams["account"]
        text = self.config.read_text()
        for gone in ("keep", "drop"):
            public = f'policy = "public"\non_upstream_gone = "{gone}"'
            self.config.write_text(text.replace('policy = "account"', public))
            await self.daemon.reload()
            await self.daemon.ctl("pull", f"{account}/team/app:1")
            for _ in range(2):
                self.assertEqual(await self.statuses(account), {200}, gone)
                self.assertEqual(await self.statuses(account, user=OTHER), {404}, gone)

    async def test_pass(self) -> None:
        """
        A client gets what the upstream gives for its own credentials.  A second client with others, or
        without, gets nothing of that.
        """
        for host in ("pass", "token"):
            await self.skopeo(host, ME)
            self.assertEqual(await self.statuses(host, ME), {200}, host)
            for credentials, status in (("", 401), (f"{USER}:wrong", 404), ("dora:dora-secret", 401)):
                for user in (0, OTHER):
                    found = await self.statuses(host, credentials, user)
                    self.assertEqual(found, {status}, (host, credentials))
            for credentials in ("", f"{USER}:wrong"):
                await self.refused(self.skopeo(host, credentials))
            await self.skopeo(host, ME)
        self.assertNotIn(PASSWORD, self.daemon.output)


class SecondUserTests(RightsCase):
    """
    One user has pulled a private image, which has a referrer; another user knows its name and
    all of its digests.
    """

    def content(self, private: bool) -> Mapping[str, SampleImage | SampleIndex]:
        """
        The private upstreams have an image of their own.
        """
        if not private:
            return super().content(private)
        self.secret = sample_image(1, 50_000, "secret")
        self.signature = sample_image(1, 1000, "signature")
        # The upstreams lack the referrers API: a tag has the list instead.
        tag = f"team/secret:{str(self.secret.digest).replace(':', '-')}"
        return {"team/secret:1": self.secret, tag: index_of({self.signature.platform: self.signature})}

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Let the other user push to a repository of his own.
        """
        await super().setUp()
        rule = (
            '[[registry.rights]]\nusers = ["bob"]\nrepositories = ["local/bob/**"]\nmay = ["pull", "push"]\n'
        )
        text = self.config.read_text()
        self.config.write_text(text.replace("[[registry.rights]]", f"{rule}[[registry.rights]]", 1))
        await self.daemon.reload()

    async def ask(self, login: str, *requests: tuple[str, str], **headers: str) -> list[tuple[int, str]]:
        """
        Send requests as another user of the machine.

        @param login: user and password; empty for none.
        @return: statuses and whole responses.
        """
        headers.update(basic(*login.split(":")) if login else {})
        host, _, port = self.registry.partition(":")
        where = {"host": host, "port": int(port)}
        return await ask_as(OTHER, where, *[(*request, None) for request in requests], **headers)

    def names(self) -> list[str]:
        """
        The ends of all paths by which the image and its referrer can be read.
        """
        digest, signature = self.secret.digest, self.signature.digest
        names = ["manifests/1", f"manifests/{digest}", f"manifests/{signature}"]
        names += [f"manifests/{str(digest).replace(':', '-')}", f"referrers/{digest}", "tags/list"]
        return names + [f"blobs/{b.digest}" for b in (*self.secret.blobs, *self.signature.blobs)]

    async def test_nothing(self) -> None:
        """
        The other user gets nothing of it: by tag, by digest, in parts, by its referrers, in lists, and by
        mounting or naming its blobs in an own repository.
        """
        names = self.names()
        for alias, mine in (("account", "dora:dora-secret"), ("pass", ME), ("token", ME)):
            base, host = f"/v2/{alias}/team/secret", self.upstreams[alias]
            answers = await self.ask(mine, *[("GET", f"{base}/{name}") for name in names])
            self.assertEqual([status for status, _ in answers], [200] * len(names), alias)
            (listed,) = [text for name, (_, text) in zip(names, answers, strict=True) if "referrers" in name]
            self.assertIn(str(self.signature.digest), listed)
            forms = (f"{base}/{{}}", f"/v2/{host}/team/secret/{{}}", f"/{alias}/v2/team/secret/{{}}")
            reads = [form.format(name) for form in forms for name in names]
            reads += [f"/v2/team/secret/{name}?ns={host}" for name in names]
            # Another repository of the same store.
            reads += [f"/v2/open/team/app/{name}" for name in names if name.startswith("blobs/")]
            reads += [f"/v2/open/team/app/manifests/{i.digest}" for i in (self.secret, self.signature)]
            requests = [("GET", path) for path in reads] + [("HEAD", f"{base}/{name}") for name in names]
            parts = [("GET", f"{base}/{name}") for name in names if name.startswith("blobs/")]
            lists = [
                ("GET", path)
                for path in ("/v2/_catalog", f"/v2/open/team/app/referrers/{self.secret.digest}")
            ]
            for login in ("", "bob:bob-secret"):
                answers = await self.ask(login, *requests)
                answers += await self.ask(login, *parts, Range="bytes=0-9")
                for request, (status, response) in zip(requests + parts, answers, strict=True):
                    self.assertIn(status, (401, 404), (login, request))
                    self.assertNotIn("schemaVersion", response)
                for status, response in await self.ask(login, *lists):
                    self.assertEqual(status, 200)
                    for part in ("secret", str(self.signature.digest)):
                        self.assertNotIn(part, response)
            await self.assert_not_taken(alias)
            ((status, _),) = await self.ask(mine, ("GET", f"{base}/manifests/1"))
            self.assertEqual(status, 200)

    async def assert_not_taken(self, alias: str) -> None:
        """
        The other user cannot put a blob of the image into his repository without its bytes.
        """
        bob, own = "bob:bob-secret", "/v2/local/bob/app"
        origins = ["", *(f"&from={name}/team/secret" for name in (alias, self.upstreams[alias]))]
        blobs = [blob.digest for blob in self.secret.blobs]
        posts = [
            ("POST", f"{own}/blobs/uploads/?mount={blob}{origin}") for blob in blobs for origin in origins
        ]
        for request, (status, _) in zip(posts, await self.ask(bob, *posts), strict=True):
            self.assertEqual(status, 202, request)
        manifest = self.place / "manifest.json"
        manifest.write_bytes(self.secret.manifest.data)
        kind = ("-H", f"Content-Type: {self.secret.manifest.media_type}")
        put = ("-X", "PUT", *kind, "--data-binary", f"@{manifest}")
        self.assertEqual(await self.curl(f"{own}/manifests/1", bob, OTHER, *put), 400)
        for status, _ in await self.ask(bob, *[("GET", f"{own}/blobs/{blob}") for blob in blobs]):
            self.assertEqual(status, 404)


class LoginTests(RightsCase):
    """
    C{login} of each client.
    """

    async def test_podman(self) -> None:
        """
        podman logs in, and pulls what its user may.
        """
        file = f"--authfile={self.place}/podman.json"
        login = ["podman", "login", file, "--tls-verify=false", self.registry, "--username"]
        await self.refused(run(reactor, [*login, "dora", "--password=wrong"]))
        await run(reactor, [*login, "dora", "--password=dora-secret"])
        places = [f"--root={self.place}/root", f"--runroot={self.place}/run", "--storage-driver=vfs"]
        podman = ["podman", *places, "--cgroup-manager=cgroupfs", "--events-backend=none", "pull", "--quiet"]
        source = f"{self.registry}/account/team/app:1"
        pulled = await run(reactor, [*podman, file, "--tls-verify=false", source])
        self.assertEqual(f"sha256:{pulled.strip()}", str(self.image.config.digest))
        await run(reactor, [*login, "bob", "--password=bob-secret"])
        await self.refused(run(reactor, [*podman, file, "--tls-verify=false", source]))

    async def test_docker(self) -> None:
        """
        docker logs in, and pulls what its user may; without a login it pulls what is public.
        """
        docker = Dockerd(reactor, str(self.place / "docker"))
        await docker.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(docker.stop()))
        source = f"{self.registry}/account/team/app:1"
        await docker.run("pull", "--quiet", f"{self.registry}/open/team/app:1")
        await self.refused(docker.run("pull", "--quiet", source))
        await self.refused(docker.run("login", "--username=dora", "--password=wrong", self.registry))
        await docker.run("login", "--username=dora", "--password=dora-secret", self.registry)
        await docker.run("pull", "--quiet", source)
        await docker.run("login", f"--username={USER}", f"--password={PASSWORD}", self.registry)
        await docker.run("pull", "--quiet", f"{self.registry}/token/team/app:1")
        await self.refused(docker.run("pull", "--quiet", source))

    async def test_crane(self) -> None:
        """
        crane logs in, and pulls what its user may.
        """
        if not found(Crane):
            raise SkipTest("crane is not installed")
        crane = ["env", f"DOCKER_CONFIG={self.place}/crane", "crane"]
        source = f"{self.registry}/account/team/app:1"
        await self.refused(run(reactor, [*crane, "digest", source]))
        await run(reactor, [*crane, "auth", "login", self.registry, "-u", "dora", "-p", "dora-secret"])
        digest = await run(reactor, [*crane, "digest", source])
        self.assertEqual(digest.strip(), str(self.image.digest))
        public = f"{self.registry}/open/team/app:1"
        self.assertEqual(
            (
                await run(reactor, ["env", f"DOCKER_CONFIG={self.place}/none", "crane", "digest", public])
            ).strip(),
            str(self.image.digest),
        )


class PushTests(RightsCase):
    """
    Pushes to xferd's own repositories.
    """

    async def test_push(self) -> None:
        """
        A user with a rule pushes; others are refused, and get nothing of what was pushed.
        """
        settings = self.config.read_text()
        rule = (
            '[[registry.rights]]\nusers = ["dora"]\n'
            'repositories = ["local/dora/**"]\nmay = ["pull", "push"]\n'
        )
        self.config.write_text(settings.replace("[registry.upstreams", f"{rule}[registry.upstreams", 1))
        await self.daemon.reload()
        layout = str(self.place / "layout-open")
        target, other = (f"docker://{self.registry}/local/dora/{name}:1" for name in ("app", "other"))

        async def skopeo(*arguments: str) -> str:
            # Root needs no login here.
            prefix = ["setpriv", f"--reuid={OTHER}", "--clear-groups", "env", "HOME=/nowhere"]
            return await run(reactor, [*prefix, "skopeo", "--insecure-policy", *arguments])

        async def send(to: str, credentials: str) -> str:
            login = f"--dest-creds={credentials}"
            return await skopeo(
                "copy", "--quiet", "--dest-tls-verify=false", login, f"oci:{layout}:pushed", to
            )

        await send(target, "dora:dora-secret")
        inspect = ("inspect", "--raw", "--tls-verify=false", target)
        raw = await skopeo(*inspect, "--creds=dora:dora-secret")
        self.assertEqual(raw, self.image.manifest.data.decode())
        await self.refused(skopeo(*inspect, "--creds=bob:bob-secret"))
        for credentials in ("bob:bob-secret", "dora:wrong"):
            await self.refused(send(other, credentials))
        for credentials, status in (("", 401), ("bob:bob-secret", 403), ("dora:dora-secret", 200)):
            for path in (f"manifests/{self.image.digest}", f"blobs/{self.image.config.digest}"):
                found = await self.curl(f"/v2/local/dora/app/{path}", credentials, OTHER)
                self.assertEqual(found, status, (credentials, path))
        mount = f"/v2/local/bob/app/blobs/uploads/?mount={self.image.config.digest}&from=local/dora/app"
        self.assertEqual(await self.curl(mount, "bob:bob-secret", OTHER, "-X", "POST"), 403)


class TLSTests(RightsCase):
    """
    A listener with a certificate.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Write the certificate.
        """
        require("curl")
        self.port = free_port()
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        self.files = [directory / name for name in ("ca.pem", "cert.pem", "key.pem")]
        self.write()
        _, cert, key = self.files
        endpoint = f"ssl:{self.port}:interface=127.0.0.1:privateKey={key}:certKey={cert}"
        self.options = ("--registry", endpoint)
        await super().setUp()

    def write(self) -> None:
        """
        Write a certificate of another authority.
        """
        authority = Authority()
        for path, data in zip(self.files, (authority.pem, *authority.issue()), strict=True):
            path.write_bytes(data)
        self.files[2].chmod(0o600)

    async def over_tls(self) -> str:
        """
        Request the root, and return its challenge.
        """
        argv = ["curl", "-sS", "-D-", "-o", "/dev/null", "--cacert", str(self.files[0])]
        return await run(reactor, [*argv, f"https://127.0.0.1:{self.port}/v2/"])

    async def test_renewal(self) -> None:
        """
        A new certificate is used after C{SIGHUP}.  Tokens come from the same listener.
        """
        challenge = f'Bearer realm="https://127.0.0.1:{self.port}/v2/token"'
        self.assertIn(challenge, await self.over_tls())
        self.write()
        await self.refused(self.over_tls())
        self.daemon.signal("HUP")
        while "reloaded the settings" not in self.daemon.output:
            await self.daemon.ctl("status")
        self.assertIn(challenge, await self.over_tls())
