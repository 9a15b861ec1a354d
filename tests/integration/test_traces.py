"""
Traces of a daemon: a collector that takes OTLP over HTTP, one that does not answer, and a
registry that receives the trace.
"""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import FileBodyProducer, readBody
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tests.integration.test_daemon import DaemonCase, reactor
from xferd.jobs.job import ENDED

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Collector(Resource):
    """
    Takes spans.

    @ivar spans: all of them.
    @ivar services: the names of the services.
    @ivar answers: the statuses of the next answers; 200 when there are no more.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.answers: list[int] = []
        self.refused = 0

    def render_POST(self, request: Request) -> bytes:
        """
        Take a message.
        """
        assert request.content is not None
        assert request.path == b"/v1/traces", request.path
        if self.answers:
            self.refused += 1
            request.setResponseCode(self.answers.pop(0))
            return b""
        message = ExportTraceServiceRequest.FromString(request.content.read())
        for resource in message.resource_spans:
            values = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(values["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans
        request.setHeader("Content-Type", "application/x-protobuf")
        return ExportTraceServiceResponse().SerializeToString()

    def named(self, name: str) -> list[Span]:
        """
        The spans with a name.
        """
        return [span for span in self.spans if span.name == name]


def attributes(span: Span) -> dict[str, Any]:
    """
    The attributes of a span.
    """
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
        for each in span.attributes
    }


class TracesTests(DaemonCase):
    """
    Pulls that are traced.
    """

    async def restart(self, endpoint: str, more: str = "") -> None:
        """
        Start the daemon again, with traces.
        """
        await self.daemon.stop()
        config = self.place / "xferd.toml"
        config.write_text(f'[traces]\nendpoint = "{endpoint}"\n{more}\n')
        await self.start("--config", str(config))

    async def collector(self) -> tuple[Collector, str]:
        """
        Start a collector.

        @return: the collector and its URL.
        """
        collector = Collector()
        port: Any = reactor.listenTCP(0, cast("Any", Site(collector)), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return collector, f"http://127.0.0.1:{port.getHost().port}"

    async def pull_traced(self, reference: str) -> str:
        """
        Pull an image on behalf of a traced request.
        """
        body = json.dumps({"kind": "pull", "reference": reference}).encode()
        response = await self.api.agent.request(
            b"POST",
            b"http://localhost/api/v1/jobs",
            Headers({"Content-Type": ["application/json"], "traceparent": [PARENT]}),
            FileBodyProducer(BytesIO(body)),
        )
        return str(json.loads(await readBody(response))["id"])

    async def test_exported(self) -> None:
        """
        The spans of a pull reach the collector, at the stop at the latest, in the trace of its
        client's request; requests to the registry carry the trace if the settings say so.
        """
        collector, url = await self.collector()
        _, reference = self.add(2)
        for propagate in (False, True):
            collector.spans.clear()
            self.registry.log.clear()
            await self.restart(url, f"propagate = {str(propagate).lower()}")
            job_id = await self.pull_traced(reference)
            job = await self.state(job_id, *ENDED)
            self.assertEqual(job["state"], "done")
            await self.daemon.stop()
            await self.until(lambda: collector.named("pull"))
            (pull,) = collector.named("pull")
            self.assertEqual(pull.trace_id.hex(), TRACE)
            self.assertEqual(pull.parent_span_id.hex(), "00f067aa0ba902b7")
            self.assertEqual(attributes(pull)["xferd.job"], job_id)
            self.assertEqual({span.trace_id.hex() for span in collector.spans}, {TRACE})
            if not propagate:
                downloads = collector.named("download")
                self.assertEqual(len(downloads), 2)
                parents = {span.parent_span_id for span in collector.named("attempt download")}
                self.assertEqual(parents, {span.span_id for span in downloads})
                self.assertEqual({span.parent_span_id for span in downloads}, {pull.span_id})
            sent = [exchange.traceparent for exchange in self.registry.log]
            self.assertGreater(len(sent), 3)
            expected = [f"00-{TRACE}-"] if propagate else ["None"]
            self.assertEqual(sorted({str(value)[:36] for value in sent}), expected)
            await self.start()
            await self.daemon.ctl("rm", reference)
        self.assertEqual(collector.services, {"xferd"})

    async def test_no_collector(self) -> None:
        """
        A collector that refuses, or accepts connections and never answers, changes nothing for
        jobs, and hardly delays the stop.
        """
        collector, url = await self.collector()
        collector.answers = [500] * 100
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Protocol))
        self.addCleanup(port.stopListening)
        mute = f"http://127.0.0.1:{port.getHost().port}"
        for number, each in enumerate((url, mute, "http://127.0.0.1:1")):
            await self.restart(each)
            self.registry.add(self.add(1)[0], f"team/app{number}", "1")
            job = await self.state(await self.api.pull(f"{self.registry.host}/team/app{number}:1"), *ENDED)
            self.assertEqual(job["state"], "done")
            stopped = self.daemon
            await stopped.stop()
            self.assertIn("Server Shut Down", stopped.output)
            self.assertNotIn("Traceback", stopped.output)
            if each == mute:
                self.assertIn("traces did not stop within", stopped.output)
