# -*- test-case-name: tests.tracing.test_spans -*-
"""
Jobs, transfers and attempts as spans of OpenTelemetry.

A transfer is a child of the job that began it, and has a link to each other job that watches
it; an attempt is a child of its transfer.  Spans that have ended are exported by a thread of
the SDK, from a queue of a bounded length.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from threading import Timer
from typing import Any, Final

from attrs import define, field
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from twisted.logger import Logger

from xferd import __version__
from xferd.interfaces.job_json import JobJSON
from xferd.interfaces.reactor import WallClock
from xferd.jobs.job import Job
from xferd.jobs.tracer import Tracer
from xferd.trace_context import HEADER
from xferd.tracing.settings import TracesSettings
from xferd.transfer.transfer import Transfer

MOST_LINKS: Final = 1000
"""The most jobs to which a transfer links."""

QUIET: Final = 60.0
"""Seconds between two lines about spans that were not exported."""

STOP_LIMIT: Final = 2.0
"""Seconds for which a failed export of the last spans is repeated."""

_PROPAGATOR: Final = TraceContextTextMapPropagator()


@define(eq=False)
class _Traced:
    """
    The span of a transfer.

    @ivar jobs: the IDs of the jobs that watch it.
    @ivar linked: those that have ever watched it.
    """

    span: Span
    jobs: set[str] = field(factory=set)
    linked: set[str] = field(factory=set)


class Spans(Tracer):
    """
    The spans of one daemon.

    Life cycle: made, after the daemon has detached, as it starts a thread; L{stop}, which
    blocks.
    """

    _log = Logger()

    def __init__(
        self,
        settings: TracesSettings,
        environ: Mapping[str, str],
        *,
        wall_clock: WallClock,
        processor: SpanProcessor | None = None,
    ) -> None:
        """
        @param environ: the environment, which names the service and its resource.
        @param processor: takes the spans; by default one that exports them.
        """
        self._propagate = settings.propagate
        self._wall_clock = wall_clock
        # What is given to the SDK wins over the environment.
        name = environ.get("OTEL_SERVICE_NAME", "").strip()
        if not name and f"{SERVICE_NAME}=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
            name = "xferd"
        named = {SERVICE_VERSION: __version__, **({SERVICE_NAME: name} if name else {})}
        limits = None if environ.get("OTEL_SPAN_LINK_COUNT_LIMIT") else SpanLimits(max_links=MOST_LINKS)
        self._provider = TracerProvider(
            resource=Resource.create(named), span_limits=limits, shutdown_on_exit=False
        )
        self._exporter: OTLPSpanExporter | None = None
        if processor is None:
            endpoint = f"{settings.endpoint.rstrip('/')}/v1/traces" if settings.endpoint else None
            self._exporter = OTLPSpanExporter(endpoint=endpoint)
            processor = BatchSpanProcessor(self._exporter)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("xferd", __version__)
        self._jobs: dict[str, Span] = {}
        self._transfers: dict[str, _Traced] = {}

    def stop(self) -> None:
        """
        Export the spans that have ended.  Blocks, and for longer than L{STOP_LIMIT} only while
        the collector accepts a request and does not answer.
        """
        late = Timer(STOP_LIMIT, self._give_up)
        late.daemon = True
        late.start()
        self._provider.shutdown()
        late.cancel()

    def _give_up(self) -> None:
        """
        Stop repeating failed exports.
        """
        if self._exporter is not None:
            self._exporter.shutdown()

    # --------------------------------------------------------------- Tracer

    def transfer_changed(self, job: Job, transfer: Transfer) -> None:
        traced = self._transfers.get(transfer.id)
        if traced is None:
            if transfer.over:
                return
            span = self._begin(transfer.kind, transfer.created, self._of_job(job))
            span.set_attributes({"xferd.transfer": transfer.id, "xferd.digest": str(transfer.digest)})
            traced = self._transfers[transfer.id] = _Traced(span)
            traced.linked.add(job.id)
        traced.jobs.add(job.id)
        if job.id not in traced.linked:
            traced.linked.add(job.id)
            traced.span.add_link(self._of_job(job).get_span_context(), {"xferd.job": job.id})
        if transfer.over:
            self._end_transfer(transfer)

    def transfer_left(self, job: Job, transfer: Transfer) -> None:
        traced = self._transfers.get(transfer.id)
        if traced is not None:
            traced.jobs.discard(job.id)
            if not traced.jobs:
                self._end_transfer(transfer)

    def attempt_ended(self, record: Mapping[str, Any]) -> None:
        traced = self._transfers.get(record["transfer"])
        if traced is None:
            return
        span = self._begin(f"attempt {record['kind']}", record["started"], traced.span)
        span.set_attributes(
            {
                "xferd.attempt": record["attempt"],
                "xferd.source": record["source"],
                "xferd.bytes_moved": record["bytes_moved"],
                "server.address": record["source"].partition("/")[0],
            }
        )
        self._end(span, record["code"], record["error"], record["finished"])

    def job_ended(self, job: Job, record: JobJSON) -> None:
        span = self._of_job(job)
        del self._jobs[job.id]
        timing, error = record["timing"], record["error"]
        span.set_attribute("xferd.state", record["state"])
        if timing is not None:
            span.set_attributes(
                {f"xferd.{name}": timing[name] for name in ("bytes_received", "bytes_sent", "bytes_saved")}
            )
        code = None if error is None else error["code"]
        self._end(span, code, None if error is None else error["message"], self._wall_clock())

    def traceparent(self, traced: Job | Transfer) -> str:
        if not self._propagate:
            return ""
        if isinstance(traced, Job):
            span = self._of_job(traced)
        else:
            found = self._transfers.get(traced.id)
            if found is None:
                return ""
            span = found.span
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(span))
        return carrier.get(HEADER, "")

    # ---------------------------------------------------------------- spans

    def _of_job(self, job: Job) -> Span:
        """
        The span of a job, which begins when it is first needed: what its client's request
        carries is known by then.
        """
        span = self._jobs.get(job.id)
        if span is None:
            parent = job.request.traceparent
            context = _PROPAGATOR.extract({HEADER: parent}) if parent else None
            span = self._jobs[job.id] = self._tracer.start_span(
                job.kind,
                context,
                SpanKind.SERVER if parent else SpanKind.INTERNAL,
                start_time=_ns(job.created),
            )
            span.set_attributes(
                {
                    "xferd.job": job.id,
                    "xferd.client": job.client,
                    "xferd.reference": job.reference,
                    **({} if job.target is None else {"xferd.target": job.target}),
                }
            )
        return span

    def _begin(self, name: str, when: float, parent: Span) -> Span:
        return self._tracer.start_span(
            name, set_span_in_context(parent), SpanKind.CLIENT, start_time=_ns(when)
        )

    def _end_transfer(self, transfer: Transfer) -> None:
        span = self._transfers.pop(transfer.id).span
        source = transfer.source
        span.set_attributes(
            {
                "xferd.state": transfer.state,
                "xferd.bytes_moved": transfer.bytes_moved,
                "xferd.source": "" if source is None else source.label,
            }
        )
        failed = transfer.state == "failed"
        self._end(
            span, getattr(transfer.error, "code", "INTERNAL") if failed else None, None, self._wall_clock()
        )

    @staticmethod
    def _end(span: Span, code: str | None, message: str | None, when: float) -> None:
        if code is not None:
            span.set_attribute("error.type", code)
            if code != "CANCELLED":
                span.set_status(Status(StatusCode.ERROR, message))
        span.end(_ns(when))


class SDKLog(logging.Handler):
    """
    Passes on what the SDK logs in its threads, one line a minute: it has one for each span that
    does not fit into its queue, and for each failed export.
    """

    _log = Logger()

    def __init__(self, in_reactor: Callable[..., object], seconds: Callable[[], float]) -> None:
        """
        @param in_reactor: calls a function in the reactor's thread, from any thread.
        @param seconds: the present time; may be called in any thread.
        """
        super().__init__(logging.WARNING)
        self._in_reactor = in_reactor
        self._seconds = seconds
        self._quiet_until = 0.0
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """
        Pass a line on.
        """
        now = self._seconds()
        if now < self._quiet_until:
            self._left_out += 1
            return
        self._quiet_until = now + QUIET
        left_out, self._left_out = self._left_out, 0
        self._in_reactor(
            self._log.warn,
            "traces: {text}{more}",
            text=record.getMessage(),
            more=f" ({left_out} lines before this one were left out)" if left_out else "",
        )

    def install(self) -> None:
        """
        Pass on the log of the SDK from now on.
        """
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(self)
        logger.propagate = False

    def remove(self) -> None:
        """
        Stop passing on the log of the SDK.
        """
        logger = logging.getLogger("opentelemetry")
        logger.removeHandler(self)
        logger.propagate = True


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
