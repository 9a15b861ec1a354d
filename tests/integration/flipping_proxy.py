"""
A proxy that flips a bit in each large piece of what a server sends:
C{python -m tests.integration.flipping_proxy PORT SERVER_PORT}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer

reactor: Any = installed

LARGE = 2048
"""Bytes of a piece that is changed: heads of answers are shorter."""


class Flipping(ProxyClient):
    """
    The connection to the server.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Change the last bit of a large piece.
        """
        if len(data) > LARGE:
            data = data[:-1] + bytes([data[-1] ^ 1])
        super().dataReceived(data)


class FlippingFactory(ProxyClientFactory):
    """
    Makes connections to the server.
    """

    protocol = Flipping


class FlippingServer(ProxyServer):
    """
    A connection of a client.
    """

    clientProtocolFactory = FlippingFactory


class Proxy(ProxyFactory):
    """
    The proxy.
    """

    protocol = FlippingServer


def main(argv: list[str]) -> None:
    """
    Listen at a port, and forward to another one of the same machine.
    """
    port, server = map(int, argv)
    reactor.listenTCP(port, Proxy("127.0.0.1", server))
    print("the proxy listens", flush=True)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
