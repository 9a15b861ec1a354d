"""
The programs that serve a blob by HTTP.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.peers import ROOT, Xferd
from benchmarks.processes import Program, find
from benchmarks.readers import Reading
from xferd.testing.certificates import Authority


class Server(Protocol):
    """
    A running server.
    """

    @property
    def url(self) -> str:
        """
        Where it is, without a path.
        """

    @property
    def pid(self) -> int:
        """
        Its process ID.
        """


class Mirror(Xferd):
    """
    xferd as a mirror of the registry, which is also its default.

    @ivar url: where it is, without a path.
    """

    alias = "bench"
    """What stands for the registry in the names of images."""
    tls = False
    """Whether clients reach it by TLS."""

    def start(self) -> None:
        """
        Start the daemon.
        """
        port = free_port()
        scheme, options = "http", ""
        if self.tls:
            certificate, key = Authority().issue()
            for name, data in (("certificate.pem", certificate), ("key.pem", key)):
                (self._place / name).write_bytes(data)
            scheme = "https"
            options = f":privateKey={self._place}/key.pem:certKey={self._place}/certificate.pem"
        self.url = f"{scheme}://127.0.0.1:{port}"
        kind = "ssl" if self.tls else "tcp"
        self.settings = (
            f'{self.settings}[registry]\ndefault = "{self._registry}"\n'
            f'listen = ["{kind}:{port}:interface=127.0.0.1{options}"]\n'
            f'[registry.upstreams."{self._registry}"]\nalias = "{self.alias}"\n'
        )
        super().start()

    @property
    def pid(self) -> int:
        """
        The daemon's process ID.
        """
        assert self.daemon is not None
        return self.daemon.pid

    def read(self, path: str, number: int, times: int = 1) -> Reading:
        """
        Have clients read a blob.

        @raise Failed: one does not get it.
        """
        return read(f"{self.url}{path}", number, times, self._place, self._within)


class MirrorTLS(Mirror):
    """
    The same with TLS.
    """

    tls = True


class Nginx:
    """
    nginx, which serves files.
    """

    def __init__(self, place: Path, files: Path) -> None:
        """
        @param place: an empty directory.
        @param files: the directory to serve.
        @raise Failed: it does not start.
        """
        find("nginx")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        settings = place / "nginx.conf"
        settings.write_text(
            f"user root; daemon off; worker_processes auto; pid {place}/pid; error_log stderr notice;\n"
            "events { }\n"
            "http { access_log off; sendfile on; tcp_nopush on;\n"
            + "".join(f"{kind}_temp_path {place}/{kind};\n" for kind in kinds)
            + f"server {{ listen 127.0.0.1:{port}; root {files}; }} }}\n"
        )
        self._program = Program(["nginx", "-e", "stderr", "-c", str(settings)], place / "nginx.log")
        self._program.ready("start worker process ")
        self.pid = self._program.pid

    def stop(self) -> None:
        """
        End it.
        """
        self._program.stop()


def read(url: str, number: int, times: int, place: Path, within: Sequence[str] = ()) -> Reading:
    """
    Have clients read a URL, in a process of their own.

    @param number: how many there are.
    @param times: how often each one reads it.
    @param place: a directory for the log.
    @param within: the command that runs a command in their network.
    @raise Failed: one does not get it.
    """
    argv = [*within, sys.executable, "-m", "benchmarks.readers", url, str(number), str(times)]
    program = Program(argv, place / "readers.log", {"PYTHONPATH": ROOT, "PYTHONSAFEPATH": "1"})
    program.finish()
    return Reading(*json.loads(program.text()))


def free_port() -> int:
    """
    A port for a program that does not tell which one the kernel chose.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
