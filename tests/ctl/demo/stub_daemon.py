# -*- test-case-name: tests.ctl.demo.test_run -*-
"""
A daemon for tests of the demo: C{python -m tests.ctl.demo.stub_daemon PORT KIND}.
"""

from __future__ import annotations

import signal
import sys

from tests.ctl.fake_daemon import Answer, FakeDaemon, event, job, layer, one_pull


def main(port: int, kind: str) -> None:
    """
    Run the daemon; its pulls succeed (C{good}), fail (C{failed}) or hang (C{hangs}), or it
    does not answer (C{absent}).
    """
    fake = FakeDaemon(port=port)
    fake.on("GET", "/status", Answer({}))
    if kind == "good":
        fake.takes(*one_pull())
    elif kind == "failed":
        fake.takes(event("job", job("failed", error={"code": "DENIED", "message": "no"}), True))
    elif kind == "hangs":
        fake.takes(event("job", job()), event("layer", layer(0, "done")), signal.pause)
    fake.start()
    signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
