"""
Two servers for a network namespace: a registry that redirects each request to
another host, and a server that prints the host of each request that it
receives.

    python -m tests.integration.leading FIFO
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

REGISTRY = 5000
OTHER = 6000
SECRET = b"internal secret: hunter2"


class Leading(BaseHTTPRequestHandler):
    """
    A registry that redirects C{/v2/HOST/...} to C{HOST}.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """
        Redirect to another host.
        """
        self.send_response(307)
        self.send_header("Location", f"http://{self.path.split('/')[2]}:{OTHER}/secret")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """
        Print nothing.
        """


class Asked(Leading):
    """
    The server at the other addresses.
    """

    def do_GET(self) -> None:
        """
        Print the host of the request, and refuse it.
        """
        print(f"asked for {self.headers['Host']}", flush=True)
        self.send_response(500)
        self.send_header("Content-Length", str(len(SECRET)))
        self.end_headers()
        self.wfile.write(SECRET)


def main() -> None:
    """
    Serve until killed; write a line into a FIFO once both servers listen.
    """
    registry = ThreadingHTTPServer(("", REGISTRY), Leading)
    other = ThreadingHTTPServer(("", OTHER), Asked)
    Path(sys.argv[1]).write_text("ready\n")
    Thread(target=registry.serve_forever, daemon=True).start()
    other.serve_forever()


if __name__ == "__main__":
    main()
