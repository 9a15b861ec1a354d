"""
The daemon with registries behind private authorities, client certificates,
mirrors and proxies, all of them real.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.integration.peers import DockerRegistry, push
from tests.integration.places import Nginx, Tinyproxy, free_port
from tests.integration.programs import Program, Xferd
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import SampleImage, sample_image

reactor = cast(IReactor, installed)

REMOTE = "registry.test"
"""
The name of a registry without a server, which only a mirror or a proxy can
represent.
"""


class HostsCase(TestCase):
    """
    A daemon with a C{certs.d} of its own.
    """

    def setUp(self) -> None:
        """
        Create the directories.
        """
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.certs = self.place / "certs.d"
        self.certs.mkdir()
        self.image = sample_image(3, 300_000)

    async def registry(self, name: str, **how: object) -> DockerRegistry:
        """
        Start Debian's registry.
        """
        registry = DockerRegistry(reactor, str(self.place / name), **how)  # type: ignore[arg-type]
        await registry.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(registry.stop()))
        return registry

    async def program(self, program: Program) -> None:
        """
        Start a program.
        """
        await program.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(program.stop()))

    async def daemon(self, settings: str = "") -> Xferd:
        """
        Start the daemon.

        @param settings: further lines of its TOML file.
        """
        config = self.place / "xferd.toml"
        config.write_text(f'certs_dirs = ["{self.certs}"]\n{settings}')
        daemon = Xferd(reactor, str(self.place / "x"), "--config", str(config))
        await self.program(daemon)
        return daemon

    def say(self, host: str, **files: str | bytes) -> Path:
        """
        Write the files of a host; C{_} in a name represents a dot.
        """
        directory = self.certs / host
        directory.mkdir(exist_ok=True)
        for name, data in files.items():
            content = data.encode() if isinstance(data, str) else data
            (directory / name.replace("_", ".")).write_bytes(content)
        return directory

    async def push(self, reference: str, *options: str, image: SampleImage | None = None) -> None:
        """
        Push an image with skopeo.
        """
        await push(reactor, image or self.image, reference, str(self.place / "layout"), *options)


class TLSTests(HostsCase):
    """
    Certificates.
    """

    async def test_private_authority(self) -> None:
        """
        A registry with an unknown authority is refused, and the error names the
        file for its certificate; once that is written, the running daemon
        accepts it.
        """
        registry = await self.registry("r", tls=True)
        assert registry.authority is not None
        await self.push(f"{registry.host}/team/app:1")
        self.say(registry.host, hosts_toml=f'server = "https://{registry.host}"\nskip_verify = false\n')
        daemon = await self.daemon()
        _, errors, code = await daemon.try_ctl("pull", f"{registry.host}/team/app:1")
        self.assertEqual(code, 1)
        self.assertIn("is not signed by a trusted authority", errors)
        self.assertIn(f"{self.certs}/{registry.host}/ca.crt", errors)
        (self.certs / registry.host / "hosts.toml").unlink()
        self.say(registry.host, ca_crt=registry.authority.pem)
        await daemon.ctl("pull", f"{registry.host}/team/app:1")

    async def test_ssl_cert_file(self) -> None:
        """
        C{SSL_CERT_FILE} names the trusted authorities.
        """
        registry = await self.registry("r", tls=True)
        await self.push(f"{registry.host}/team/app:1")
        self.say(registry.host, hosts_toml="skip_verify = false\n")
        for file, code in (("/dev/null", 1), (f"{registry.certificates}/ca.crt", 0)):
            self.patch(os, "environ", {**os.environ, "SSL_CERT_FILE": file})
            daemon = await self.daemon()
            _, errors, ended = await daemon.try_ctl("pull", f"{registry.host}/team/app:1")
            self.assertEqual(ended, code, errors)
            self.assertEqual("SSL_CERT_FILE is /dev/null" in errors, code == 1, errors)
            await daemon.stop()

    async def test_client_certificate(self) -> None:
        """
        nginx accepts a client certificate that is configured as for containerd
        or as for docker, and receives the headers and the path of the file.
        """
        registry = await self.registry("r")
        await self.push(f"{registry.host}/team/app:1")
        nginx = Nginx(reactor, str(self.place / "n"), registry.host)
        await self.program(nginx)
        certificate, key = nginx.authority.issue("the client")
        directory = self.say(nginx.host, ca_crt=nginx.authority.pem)
        daemon = await self.daemon()
        _, errors, code = await daemon.try_ctl("pull", f"{nginx.host}/team/app:1")
        self.assertEqual(code, 1)
        self.assertIn("400", errors)
        self.say(nginx.host, client_cert=certificate, client_key=key)
        await daemon.ctl("pull", f"{nginx.host}/team/app:1")
        self.say(
            nginx.host.replace(":", "_") + "_",
            hosts_toml=f"""
            server = "https://{nginx.host}/odd/root"
            override_path = true
            ca = "{directory}/ca.crt"
            client = [["{directory}/client.cert", "{directory}/client.key"]]
            [header]
            x-test = "yes"
            """,
        )
        await daemon.ctl("pull", f"{nginx.host}/team/app:1")
        self.assertIn("/odd/root/team/app/manifests/1 yes 200", nginx.log)


class MirrorTests(HostsCase):
    """
    Mirrors.
    """

    async def test_pull_through(self) -> None:
        """
        A pull-through mirror serves blobs of the registry, which receives no
        request from the daemon, and is sent the registry's name.
        """
        origin = await self.registry("origin")
        mirror = await self.registry("mirror", remote=f"http://{origin.host}")
        await self.push(f"{origin.host}/team/app:1")
        self.say(
            REMOTE,
            hosts_toml=f'[host."http://{mirror.host}"]\ncapabilities = ["pull", "resolve"]\n',
        )
        daemon = await self.daemon()
        await daemon.ctl("pull", f"{REMOTE}/team/app:1")
        await mirror.stop()
        paths = [path for method, path, status in mirror.log if method == "GET" and status == 200]
        self.assertIn(f"/v2/team/app/manifests/1?ns={REMOTE}", paths)
        self.assertEqual(len([p for p in paths if "/blobs/" in p]), 4)

    async def test_dead_mirror(self) -> None:
        """
        A mirror that is down, one without the image and one that requires a
        password cost one attempt each, and the registry serves all blobs; the
        reported error is the registry's.
        """
        origin, empty = await self.registry("origin"), await self.registry("empty")
        locked = await self.registry("locked", htpasswd=True)
        await self.push(f"{origin.host}/team/app:1")
        self.say(
            "_default",
            hosts_toml=f"""
            [host."http://127.0.0.1:{free_port()}"]
            dial_timeout = "1s"
            [host."http://{empty.host}"]
            [host."http://{locked.host}"]
            """,
        )
        daemon = await self.daemon()
        await daemon.ctl("pull", f"{origin.host}/team/app:1")
        self.assertEqual(daemon.output.count("is skipped for 15 s"), 1)
        _, errors, code = await daemon.try_ctl("pull", f"{origin.host}/team/app:2")
        self.assertEqual(code, 1)
        self.assertIn(f"{origin.host}/team/app:2 does not exist; {origin.host} answers 404", errors)

    async def test_blobs_lost(self) -> None:
        """
        A mirror with manifests and damaged blobs does not fail a pull.
        """
        origin, mirror = await self.registry("origin"), await self.registry("mirror")
        for registry in (origin, mirror):
            await self.push(f"{registry.host}/team/app:1")
        for path in (self.place / "mirror" / "storage").rglob("blobs/sha256/*/*/data"):
            if path.stat().st_size > 10_000:
                data = bytearray(path.read_bytes())
                data[len(data) // 2] ^= 1
                path.write_bytes(data)
        self.say(origin.host, hosts_toml=f'[host."http://{mirror.host}"]\n')
        daemon = await self.daemon()
        await daemon.ctl("pull", f"{origin.host}/team/app:1")
        await origin.stop()
        self.assertEqual(origin.count("GET", "1"), 0)
        self.assertGreater(origin.count("GET", self.image.layers[0].blob.digest), 0)

    async def test_bad_file(self) -> None:
        """
        An unreadable file prevents the daemon's start, and the error names its
        line; if it becomes unreadable later, a warning is logged.
        """
        registry = await self.registry("r")
        await self.push(f"{registry.host}/team/app:1")
        path = self.say(registry.host, hosts_toml="\nskip_verify = 3\n") / "hosts.toml"
        with self.assertRaises(AssertionError) as caught:
            await self.daemon()
        self.assertIn(f"{path}, line 2: skip_verify must be true or false, not 3", str(caught.exception))
        path.write_text("skip_verify = true\n")
        daemon = await self.daemon()
        await daemon.ctl("pull", f"{registry.host}/team/app:1")
        path.write_text("skip_verify = \n")
        await daemon.ctl("pull", f"{registry.host}/team/app:1")
        await daemon.ctl("pull", f"{registry.host}/team/app:1")
        self.assertEqual(daemon.output.count("remains in effect"), 1)


class ProxyTests(HostsCase):
    """
    Proxies.
    """

    async def pull_through(
        self, scheme: str, login: tuple[str, str] | None, userinfo: str
    ) -> tuple[str, str]:
        """
        Pull through a proxy that the host's own file names: loopback hosts use
        no other proxy.

        @return: the output of xferctl and of the proxy.
        """
        registry = await self.registry("r", tls=scheme == "https")
        proxy = Tinyproxy(reactor, str(self.place / "p"), login)
        await self.program(proxy)
        port = registry.host.partition(":")[2]
        await self.push(f"{registry.host}/team/app:1")
        name = f"{REMOTE}:{port}"
        ca = f'\nca = "{registry.certificates}/ca.crt"' if scheme == "https" else ""
        self.say(
            name,
            hosts_toml=f"""
            server = "{scheme}://127.0.0.1:{port}"
            proxy = "http://{userinfo}{proxy.host}"{ca}
            """,
        )
        daemon = await self.daemon()
        _, errors, code = await daemon.try_ctl("pull", f"{name}/team/app:1")
        self.assertEqual(code, 1 if errors else 0)
        self.assertNotIn("s3cret", daemon.output + errors)
        return errors, proxy.output

    async def test_connect(self) -> None:
        """
        HTTPS uses a proxy by C{CONNECT}.
        """
        errors, said = await self.pull_through("https", None, "")
        self.assertEqual(errors, "")
        self.assertIn("CONNECT 127.0.0.1:", said)

    async def test_connect_with_password(self) -> None:
        """
        The proxy receives its password.
        """
        errors, said = await self.pull_through("https", ("ann", "s3cret"), "ann:s3cret@")
        self.assertEqual(errors, "")
        self.assertIn("CONNECT 127.0.0.1:", said)

    async def test_wrong_password(self) -> None:
        """
        The error names a proxy that refuses, without its password.
        """
        errors, _ = await self.pull_through("https", ("ann", "other"), "ann:s3cret@")
        self.assertIn("the proxy 127.0.0.1:", errors)
        self.assertIn("wants other credentials", errors)

    async def test_plain(self) -> None:
        """
        Plain HTTP requests have absolute URLs.
        """
        errors, said = await self.pull_through("http", ("ann", "s3cret"), "ann:s3cret@")
        self.assertEqual(errors, "")
        self.assertIn("GET http://127.0.0.1:", said)

    async def test_plain_without_password(self) -> None:
        """
        The error names a proxy that requires a password that is not configured.
        """
        errors, _ = await self.pull_through("http", ("ann", "s3cret"), "")
        self.assertIn("the proxy 127.0.0.1:", errors)
        self.assertIn("wants credentials", errors)

    async def test_settings(self) -> None:
        """
        The settings name a proxy for all hosts except some.
        """
        registry = await self.registry("r")
        await self.push(f"{registry.host}/team/app:1")
        proxy = Tinyproxy(reactor, str(self.place / "p"))
        await self.program(proxy)
        daemon = await self.daemon(
            f'[proxy]\nhttps = "{proxy.host}"\nhttp = "{proxy.host}"\nno_proxy = ["direct.test"]\n'
        )
        await daemon.ctl("pull", f"{registry.host}/team/app:1")
        self.assertNotIn("Request", proxy.output)
        _, errors, _ = await daemon.try_ctl("pull", "direct.test/team/app:1")
        self.assertIn("cannot be resolved", errors)
        _, errors, _ = await daemon.try_ctl("pull", f"{REMOTE}/team/app:1")
        self.assertIn(f"the proxy {proxy.host} cannot reach {REMOTE}:443", errors)
