"""
Real registries and clients, as Debian packages them, for the integration
tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from tests.integration.signed_tokens import ISSUER, SigningTokenServer
from xferd.testing.certificates import Authority
from xferd.testing.images import SampleImage, SampleIndex, write_layout

USER: Final = "ann"
PASSWORD: Final = "secret"
_HTPASSWD: Final = "ann:$2y$04$eJcKjjQg5n9v.9J4MNaf6eveJAMjLoLTO8TOCTBfpl7HHIU6.64GO\n"
"""The user's password, as a bcrypt hash: Debian's registry accepts no other kind."""

_LIMIT: Final = "90"
"""Seconds for which a program may run."""


NOT_IN_DEBIAN: Final = ("buildctl", "buildkitd", "crane", "oras", "registry", "regctl", "wharfie")
"""Programs that no package of Debian's has."""


def require(name: str) -> str:
    """
    Find a program that a test needs.

    @param name: its name, or the path of one that is not Debian's.
    @return: its path.
    @raise SkipTest: it is not installed.
    @raise AssertionError: it is not installed, is one of Debian's, and
        XFERD_REQUIRE_PEERS is 1.
    """
    path = shutil.which(name)
    if path is None:
        if name in NOT_IN_DEBIAN or "/" in name:
            raise SkipTest(f"{name} is not installed")
        reason = f"{name} is not installed; see .ci/run for the packages that the integration tests need"
        if os.environ.get("XFERD_REQUIRE_PEERS") == "1":
            raise AssertionError(reason)
        raise SkipTest(reason)
    return path


class PeerFailed(AssertionError):
    """
    A program failed or did not respond as expected.
    """


async def run(reactor: IReactorProcess, argv: Sequence[str], *, directory: str | None = None) -> str:
    """
    Run a program to its end.

    @param argv: its name or path, and its arguments.
    @param directory: where to run it; here by default.
    @return: what it wrote to stdout.
    @raise SkipTest: as L{require}.
    @raise PeerFailed: it failed, or took too long; with its output.
    """
    program, *arguments = argv
    limited = [_LIMIT, require(program), *arguments]
    output, errors, code = await getProcessOutputAndValue(
        require("timeout"), limited, os.environ, directory, reactor
    )
    if code != 0:
        said = (errors or output).decode(errors="replace")
        ended = f"took longer than {_LIMIT} s" if code == 124 else f"ended with {code}"
        raise PeerFailed(f"{' '.join(argv)} {ended}:\n{said}")
    text: str = output.decode(errors="replace")
    return text


async def push(
    reactor: IReactorProcess,
    image: SampleImage | SampleIndex,
    reference: str,
    directory: str,
    *options: str,
    before: Sequence[str] = (),
) -> None:
    """
    Push an image with skopeo.

    @param reference: C{host:port/repository:tag}; plain HTTP or TLS.
    @param directory: a scratch directory; the image's layout stays there.
    @param options: further options of skopeo, C{--dest-creds} for example.
    @param before: a program that runs the rest of its command line.
    """
    write_layout(directory, {"pushed": image})
    argv = ["skopeo", "--insecure-policy", "copy", "--all", "--quiet", *options]
    if not any(option.startswith("--dest-cert-dir") for option in options):
        argv.append("--dest-tls-verify=false")
    await run(reactor, [*before, *argv, f"oci:{directory}:pushed", f"docker://{reference}"])


class DockerRegistry(ProcessProtocol):
    """
    Debian's C{docker-registry}, on a free loopback port.

    Life cycle: made, started, stopped.  Its content stays in its directory.

    @ivar host: C{127.0.0.1:<port>}, once it is started.
    @ivar log: the requests that it has answered, as method, path with query and
        status; complete once it is stopped.
    @ivar authority: the authority that signed its certificate, with TLS.
    @cvar program: the name of its program.
    """

    program = "docker-registry"

    def __init__(
        self,
        reactor: IReactorProcess,
        directory: str,
        *,
        tls: bool = False,
        htpasswd: bool = False,
        remote: str = "",
        tokens: SigningTokenServer | None = None,
        address: str = "127.0.0.1",
        before: Sequence[str] = (),
    ) -> None:
        """
        @param directory: is created, for its storage and its configuration.
        @param tls: whether it uses TLS, with a certificate of C{authority}.
        @param htpasswd: whether it admits only L{USER} with L{PASSWORD}.
        @param remote: the URL of the registry that it is a mirror of.
        @param tokens: the token server that it trusts, which listens already.
        @param address: where it listens.
        @param before: a program that runs the rest of its command line.
        """
        self.host = ""
        self.log: list[tuple[str, str, int]] = []
        self.authority = Authority() if tls else None
        self._reactor = reactor
        self._directory = Path(directory).absolute()
        self._htpasswd = htpasswd
        self._remote = remote
        self._tokens = tokens
        self._address = address
        self._before = before
        self._output = self._errors = b""
        self._process: IProcessTransport | None = None
        self._started: Deferred[None] = Deferred(lambda _: self._kill())
        self._ended: Deferred[None] = Deferred()  # A killed process ends.

    async def start(self) -> None:
        """
        Start it, and wait until it listens.

        @raise SkipTest: as L{require}.
        @raise PeerFailed: it ended at once; with its output.
        """
        argv = [*self._before, require(self.program), "serve", self._configure()]
        self._process = self._reactor.spawnProcess(self, require(argv[0]), argv, os.environ)
        await self._started

    async def stop(self) -> None:
        """
        End it, and wait for its end.
        """
        self._kill()
        if self._process is not None:
            self._process = None
            await self._ended

    @property
    def certificates(self) -> str:
        """
        A directory with the authority's certificate, in the layout of skopeo
        and docker.
        """
        return str(self._directory / "certs")

    def count(self, method: str, wanted: object) -> int:
        """
        Count the successful requests of a method for a tag or digest.
        """
        return sum(
            1
            for m, path, status in self.log
            if m == method and path.partition("?")[0].endswith(f"/{wanted}") and status in (200, 206)
        )

    def outReceived(self, data: bytes) -> None:
        """
        Read the log.
        """
        *lines, self._output = (self._output + data).split(b"\n")
        self._read(lines)

    def errReceived(self, data: bytes) -> None:
        """
        Read a part of the log from stderr.
        """
        *lines, self._errors = (self._errors + data).split(b"\n")
        self._read(lines)

    def _read(self, lines: list[bytes]) -> None:
        """
        Record the requests in some lines of the log.
        """
        for line in lines:
            text = line.decode(errors="replace")
            answered = re.search(r'"([A-Z]+) (\S+) HTTP/[0-9.]+" ([0-9]{3}) ', text)
            listening = re.search(r"listening on ([0-9.]+:[0-9]+)", text)
            if answered is not None and not text.startswith("{"):
                self.log.append((answered[1], answered[2], int(answered[3])))
            elif listening is not None and not self._started.called:
                self.host = listening[1]
                self._started.callback(None)

    def processEnded(self, reason: Failure) -> None:
        """
        Record the end of the process.
        """
        reason.trap(ProcessDone, ProcessTerminated)
        if not self._started.called:
            self._started.errback(PeerFailed(f"{self.program}: {reason.getErrorMessage()}"))
        self._ended.callback(None)

    def _kill(self) -> None:
        """
        End the process, unless it has ended.
        """
        try:
            if self._process is not None:
                self._process.signalProcess("KILL")
        except ProcessExitedAlready:
            pass

    def _configure(self) -> str:
        """
        Write the configuration, as JSON, which is YAML.
        """
        self._directory.mkdir(parents=True)
        certs = Path(self.certificates)
        certs.mkdir()
        http: dict[str, object] = {"addr": f"{self._address}:0", "secret": "not one"}
        value: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "info", "formatter": "json"},
            "storage": {
                "filesystem": {"rootdirectory": str(self._directory / "storage")},
                "delete": {"enabled": True},
            },
            "http": http,
        }
        if self.authority is not None:
            certificate, key = self.authority.issue()
            (certs / "ca.crt").write_bytes(self.authority.pem)
            files = {"certificate": self._directory / "server.crt", "key": self._directory / "server.pem"}
            files["certificate"].write_bytes(certificate)
            files["key"].write_bytes(key)
            http["tls"] = {name: str(path) for name, path in files.items()}
        if self._remote:
            value["proxy"] = {"remoteurl": self._remote}
        if self._htpasswd:
            path = self._directory / "htpasswd"
            path.write_text(_HTPASSWD)
            value["auth"] = {"htpasswd": {"realm": "test", "path": str(path)}}
        if self._tokens is not None:
            path = self._directory / "tokens.pem"
            path.write_bytes(self._tokens.authority.pem)
            realm, service = f"{self._tokens.url}/token", self._tokens.service
            token = {"realm": realm, "service": service, "issuer": ISSUER, "rootcertbundle": str(path)}
            value["auth"] = {"token": token}
        config = self._directory / "config.yml"
        config.write_text(json.dumps(value))
        return str(config)


class Registry3(DockerRegistry):
    """
    The registry of distribution 3, whose program has a common name.
    """

    program = "registry"

    async def start(self) -> None:
        """
        Start it.

        @raise SkipTest: as L{require}, and if the program is another one.
        """
        said = await run(self._reactor, [self.program, "--version"])
        if "distribution/v3" not in said:
            raise SkipTest(f"{self.program} is not that of distribution 3: {said.strip()}")
        await super().start()
