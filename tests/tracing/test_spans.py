"""
Tests for L{xferd.tracing.spans}.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from tests.jobs.case import HOST, JobsCase
from xferd.errors import ConnectionFailed, Denied
from xferd.testing.images import sample_image
from xferd.trace_context import carrying
from xferd.tracing.settings import TracesSettings
from xferd.tracing.spans import QUIET, SDKLog, Spans

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


class SpansCase(JobsCase):
    """
    Jobs that are traced.
    """

    propagate = False
    environ: ClassVar[Mapping[str, str]] = {}

    def setUp(self) -> None:
        """
        Export spans into memory.
        """
        super().setUp()
        self.exporter = InMemorySpanExporter()
        settings = TracesSettings("http://127.0.0.1:9", propagate=self.propagate)
        self.spans = Spans(
            settings, self.environ, wall_clock=self.wall_clock, processor=SimpleSpanProcessor(self.exporter)
        )
        self.jobs.trace(self.spans)
        self.image = self.add(sample_image(1, size=100_000))
        self.blob = self.image.layers[0].blob.digest

    def found(self, name: str) -> list[ReadableSpan]:
        """
        The spans with a name that have ended.
        """
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> Any:
        """
        The only one.
        """
        (span,) = self.found(name)
        return span


class SpanTests(SpansCase):
    """
    One span for each job, transfer and attempt.
    """

    def test_pull(self) -> None:
        """
        An attempt is a child of its transfer, and that of its job; times and values are those
        of the job's record.
        """
        self.registry.stall(self.blob)
        job_id = self.pull()
        self.wait(2)
        self.registry.finish(self.blob)
        self.settle()
        record = self.job(job_id)
        self.assertEqual(record["state"], "done")
        job, transfer, attempt = self.one("pull"), self.one("download"), self.one("attempt download")
        self.assertIsNone(job.parent)
        self.assertEqual(transfer.parent.span_id, job.context.span_id)
        self.assertEqual(attempt.parent.span_id, transfer.context.span_id)
        self.assertEqual(
            {span.context.trace_id for span in self.exporter.get_finished_spans()}, {job.context.trace_id}
        )
        self.assertEqual(job.end_time - job.start_time, 2_000_000_000)
        self.assertEqual(job.attributes["xferd.job"], job_id)
        self.assertEqual(job.attributes["xferd.state"], "done")
        self.assertEqual(job.attributes["xferd.bytes_received"], record["timing"]["bytes_received"])
        self.assertEqual(transfer.attributes["xferd.digest"], str(self.blob))
        self.assertEqual(attempt.attributes["server.address"], HOST)
        self.assertEqual(attempt.attributes["xferd.bytes_moved"], self.image.layers[0].blob.descriptor.size)
        for span in (job, transfer, attempt):
            self.assertIs(span.status.status_code, StatusCode.UNSET)
        self.assertEqual(job.resource.attributes["service.name"], "xferd")
        kinds = {span.name for span in self.exporter.get_finished_spans()}
        self.assertLessEqual({"document", "unpacking", "registration"} & kinds, kinds)
        self.assertEqual((self.spans._jobs, self.spans._transfers), ({}, {}))

    def test_shared(self) -> None:
        """
        A transfer that several jobs watch is a child of the first one and links to the others.
        """
        self.registry.stall(self.blob)
        ids = [self.pull(client=client) for client in ("a", "b", "c")]
        self.settle()
        self.registry.finish(self.blob)
        self.settle()
        jobs = {span.attributes["xferd.job"]: span for span in map(_any, self.found("pull"))}
        transfer = self.one("download")
        self.assertEqual(transfer.parent.span_id, jobs[ids[0]].context.span_id)
        linked = [(link.context.span_id, link.attributes["xferd.job"]) for link in transfer.links]
        self.assertEqual(linked, [(jobs[each].context.span_id, each) for each in ids[1:]])

    def test_failures(self) -> None:
        """
        An attempt that failed, and a job, have the code of the error.
        """
        self.registry.gate.fail("open", ConnectionFailed("broken", host=HOST))
        self.pull()
        self.wait(5)
        first, second = map(_any, self.found("attempt download"))
        self.assertEqual(first.attributes["error.type"], "CONNECTION_FAILED")
        self.assertEqual((first.status.status_code, first.status.description), (StatusCode.ERROR, "broken"))
        self.assertNotIn("error.type", second.attributes)
        self.assertIs(self.one("download").status.status_code, StatusCode.UNSET)
        self.registry.gate.fail("manifest", Denied("no", host=HOST))
        self.pull("other")
        self.settle()
        failed = _any(self.found("pull")[-1])
        self.assertEqual(failed.attributes["error.type"], "DENIED")
        self.assertIs(failed.status.status_code, StatusCode.ERROR)
        self.assertEqual((self.spans._jobs, self.spans._transfers), ({}, {}))

    def test_cancelled(self) -> None:
        """
        A transfer ends when its last job leaves; a cancellation is no error.
        """
        self.registry.stall(self.blob)
        ids = [self.pull(client=client) for client in ("a", "b")]
        self.settle()
        self.jobs.cancel(ids[0])
        self.settle()
        self.assertEqual(self.found("download"), [])
        self.assertEqual(self.one("pull").attributes["xferd.state"], "cancelled")
        self.jobs.cancel(ids[1])
        self.settle()
        self.assertIs(self.one("download").status.status_code, StatusCode.UNSET)
        self.assertEqual((self.spans._jobs, self.spans._transfers), ({}, {}))

    def test_parent(self) -> None:
        """
        A job continues the trace of its client's request.
        """
        self.registry.stall(self.blob)
        with carrying(PARENT):
            job_id = self.pull()
        self.settle()
        self.jobs.cancel(job_id)
        self.settle()
        job = self.one("pull")
        self.assertEqual(f"{job.context.trace_id:032x}", "a" * 32)
        self.assertEqual(f"{job.parent.span_id:016x}", "b" * 16)

    def test_not_traced(self) -> None:
        """
        Without a tracer nothing is observed.
        """
        self.jobs.trace(None)
        self.pull()
        self.settle()
        self.assertEqual(self.exporter.get_finished_spans(), ())


class NamedTests(SpansCase):
    """
    The names of the environment.
    """

    environ: ClassVar[Mapping[str, str]] = {"OTEL_SERVICE_NAME": "mine"}

    def test_resource(self) -> None:
        """
        The environment names the service.
        """
        self.pull()
        self.settle()
        self.assertEqual(self.one("pull").resource.attributes["service.name"], "mine")


class SDKLogTests(JobsCase):
    """
    L{SDKLog}.
    """

    def test_bounded(self) -> None:
        """
        One line a minute is passed on, with the number of those that were left out.
        """
        clock = Clock()
        calls: list[Any] = []
        log = SDKLog(lambda call, *words, **how: calls.append((call, words, how)), clock.seconds)
        log.install()
        self.addCleanup(log.remove)
        sdk = logging.getLogger("opentelemetry.sdk.trace.export")
        with capturedLogs() as events:
            for number in range(3):
                sdk.warning("Queue full, dropping %s.", number)
            sdk.info("nothing")
            clock.advance(QUIET)
            sdk.error("broken")
            for call, words, how in calls:
                call(*words, **how)
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["traces: Queue full, dropping 0.", "traces: broken (2 lines before this one were left out)"],
        )
        log.remove()
        self.assertEqual(logging.getLogger("opentelemetry").handlers, [])


def _any(span: ReadableSpan) -> Any:
    return span
