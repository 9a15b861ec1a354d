"""
Servers between a daemon and its registries: nginx that requires client
certificates, and the proxy tinyproxy.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from random import randrange

from twisted.internet.interfaces import IReactorProcess

from tests.integration.programs import Program
from xferd.testing.certificates import Authority


def free_port() -> int:
    """
    A port for a program that cannot choose one itself.

    The kernel does not choose it for another socket of this machine before the program has
    it, and another test hardly does.
    """
    first_of_kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = randrange(10_000, max(first_of_kernel, 20_000))
        with suppress(OSError), socket.socket() as found:
            found.bind(("127.0.0.1", port))
            return port


class Nginx(Program):
    """
    nginx with TLS in front of a registry; it requires a client certificate.

    @ivar host: C{127.0.0.1:<port>}.
    @ivar authority: the authority that signs its certificate and the clients'
        certificates.
    """

    def __init__(self, reactor: IReactorProcess, directory: str, upstream: str) -> None:
        """
        @param directory: is created.
        @param upstream: C{host:port} of the registry, over plain HTTP.
        """
        place = Path(directory).absolute()
        place.mkdir(parents=True)
        self.authority = Authority()
        self.host = f"127.0.0.1:{free_port()}"
        certificate, key = self.authority.issue()
        for name, data in (("ca.pem", self.authority.pem), ("s.pem", certificate), ("s.key", key)):
            (place / name).write_bytes(data)
        self._log = place / "access.log"
        temporary = "\n".join(
            f"{kind}_temp_path {place}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (place / "nginx.conf").write_text(
            f"""
            daemon off; master_process off; pid {place}/pid; error_log stderr notice;
            events {{ }}
            http {{
              {temporary}
              log_format plain '$request_uri $http_x_test $status';
              access_log {place}/access.log plain;
              server {{
                listen {self.host} ssl;
                ssl_certificate {place}/s.pem; ssl_certificate_key {place}/s.key;
                ssl_client_certificate {place}/ca.pem; ssl_verify_client on;
                location / {{ proxy_pass http://{upstream}; proxy_set_header Host $http_host; }}
                location /odd/root/ {{ proxy_pass http://{upstream}/v2/; proxy_set_header Host $http_host; }}
              }}
            }}
            """
        )
        argv = ["nginx", "-p", str(place), "-c", str(place / "nginx.conf"), "-e", "stderr"]
        super().__init__(reactor, argv, "using the", str(place))

    @property
    def log(self) -> str:
        """
        The requests that it has answered.
        """
        return self._log.read_text() if self._log.exists() else ""


class Tinyproxy(Program):
    """
    A proxy to every host.

    @ivar host: C{127.0.0.1:<port>}.
    """

    def __init__(
        self, reactor: IReactorProcess, directory: str, login: tuple[str, str] | None = None
    ) -> None:
        """
        @param directory: is created.
        @param login: the user and password that it requires.
        """
        place = Path(directory).absolute()
        place.mkdir(parents=True)
        port = free_port()
        self.host = f"127.0.0.1:{port}"
        lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 60", "LogLevel Info", "MaxClients 20"]
        if login is not None:
            lines.append(f"BasicAuth {login[0]} {login[1]}")
        (place / "conf").write_text("\n".join([*lines, ""]))
        super().__init__(
            reactor, ["tinyproxy", "-d", "-c", str(place / "conf")], "Accepting connections", str(place)
        )
