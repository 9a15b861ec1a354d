# -*- test-case-name: tests.tracing.test_settings -*-
"""
The settings of traces, and whether the environment has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import Attribute, field, frozen

_URL: Final = re.compile(r"https?://[^/?#\s@]+(/[^?#\s]*)?")

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The variables of OpenTelemetry that name a collector."""


@frozen
class TracesSettings:
    """
    Where traces go.

    @ivar endpoint: the URL of a collector that takes OTLP over HTTP, without C{/v1/traces}; the
        empty string for that of the environment.
    @ivar propagate: whether requests to registries carry the trace.
    """

    endpoint: str = field(default="")
    propagate: bool = False

    @endpoint.validator
    def _check_endpoint(self, _: Attribute[str], value: str) -> None:
        if value and _URL.fullmatch(value) is None:
            raise ValueError(f"'endpoint' must be a URL such as 'http://127.0.0.1:4318', not {value!r}")

    def is_wanted(self, environ: Mapping[str, str]) -> bool:
        """
        Whether traces are exported, by the settings or by the environment.
        """
        if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return False
        if self.endpoint:
            return True
        exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
        return exporter == "otlp" and any(environ.get(name, "").strip() for name in ENDPOINTS)
