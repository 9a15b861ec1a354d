"""
A client that a generator makes of the OpenAPI document, with a daemon.
"""

from __future__ import annotations

import json
import sys

from twisted.internet.utils import getProcessOutputAndValue

from tests.integration.programs import environment
from tests.integration.test_daemon import DaemonCase, reactor

SCRIPT = """
import json, sys, time
import httpx
from made.api.hosts import list_hosts
from made.api.images import list_images
from made.api.jobs import create_job, list_jobs, show_attempts, show_job
from made.api.limits import change_limits
from made.client import Client
from made.models import Error, ErrorCode, JobKind, JobState, LimitChanges, PullRequest, TransferKind

socket, reference = sys.argv[1:]
transport = httpx.HTTPTransport(uds=socket)
client = Client(base_url="http://localhost", httpx_args={"transport": transport})
job = create_job.sync(client=client, body=PullRequest(kind="pull", reference=reference))
begun = job
while job.state in (JobState.QUEUED, JobState.RUNNING):
    time.sleep(0.05)
    job = show_job.sync(job.id, client=client)
(listed,) = list_jobs.sync(client=client, kind=JobKind.PULL, state=JobState.DONE)
attempts = show_attempts.sync(job.id, client=client)
unknown = show_job.sync("nothing", client=client)
limits = change_limits.sync(client=client, body=LimitChanges(downloads=7))
print(json.dumps({
    "begun": begun.id,
    "listed": listed.id,
    "state": job.state,
    "layers": [layer.bytes_done for layer in job.layers],
    "digest": job.result.digest,
    "seconds": job.timing.seconds,
    "downloads": sum(attempt.kind is TransferKind.DOWNLOAD for attempt in attempts),
    "images": [image.reference for image in list_images.sync(client=client)],
    "hosts": [host.host for host in list_hosts.sync(client=client)],
    "unknown": isinstance(unknown, Error) and unknown.error.code is ErrorCode.NOT_FOUND,
    "limit": limits.downloads,
}))
"""


class ClientTests(DaemonCase):
    """
    A generated client.
    """

    async def run_python(self, *arguments: str) -> str:
        """
        Run Python in the directory of the test.

        @return: what it has printed.
        """
        output, errors, status = await getProcessOutputAndValue(
            sys.executable,
            arguments,
            {**environment(), "PYTHONPATH": str(self.place), "NO_COLOR": "1"},
            str(self.place),
            reactor,
        )
        self.assertEqual(status, 0, (output + errors).decode(errors="replace"))
        said: bytes = output + errors
        return said.decode()

    async def test_pull(self) -> None:
        """
        The client begins a pull, waits for it, lists jobs, images and hosts, changes a
        limit, and reads an error.  The generator understands all but the tar of an archive.
        """
        image, reference = self.add(2, 50_000)
        document = self.place / "api.json"
        document.write_text(json.dumps(await self.api("GET", "openapi.json")))
        # Neither formatting nor linting.
        options = self.place / "options.yaml"
        options.write_text("post_hooks: []\n")
        said = await self.run_python(
            *("-m", "openapi_python_client", "generate", "--meta", "none"),
            *("--path", str(document), "--output-path", str(self.place / "made"), "--config", str(options)),
        )
        self.assertEqual(said.count("WARNING"), 1, said)
        self.assertIn("/api/v1/archives/{name}", said)
        script = self.place / "client.py"
        script.write_text(SCRIPT)
        found = json.loads(await self.run_python(str(script), self.daemon.socket, reference))
        self.assertEqual(found["begun"], found["listed"])
        self.assertGreater(found.pop("seconds"), 0)
        job = await self.api("GET", f"jobs/{found.pop('begun')}")
        self.assertEqual(
            found,
            {
                "listed": job["id"],
                "state": "done",
                "layers": [layer["size"] for layer in job["layers"]],
                "digest": str(image.digest),
                "downloads": 2,
                "images": [reference],
                "hosts": [self.registry.host],
                "unknown": True,
                "limit": 7,
            },
        )
