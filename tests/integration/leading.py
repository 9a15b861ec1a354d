"""
Two servers for a network namespace: a registry that leads each request
elsewhere, and another server that prints who asks it.

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
    A registry whose C{/v2/HOST/...} leads to C{HOST}.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """
        Lead elsewhere.
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
    Another server.
    """

    def do_GET(self) -> None:
        """
        Print for whom it was asked, and refuse.
        """
        print(f"asked for {self.headers['Host']}", flush=True)
        self.send_response(500)
        self.send_header("Content-Length", str(len(SECRET)))
        self.end_headers()
        self.wfile.write(SECRET)


def main() -> None:
    """
    Serve until killed; write a line into a FIFO once both listen.
    """
    registry = ThreadingHTTPServer(("", REGISTRY), Leading)
    other = ThreadingHTTPServer(("", OTHER), Asked)
    Path(sys.argv[1]).write_text("ready\n")
    Thread(target=registry.serve_forever, daemon=True).start()
    other.serve_forever()


if __name__ == "__main__":
    main()
