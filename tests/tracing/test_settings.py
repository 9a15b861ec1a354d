"""
Tests for L{xferd.tracing.settings}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.tracing.settings import TracesSettings


class SettingsTests(SynchronousTestCase):
    """
    L{TracesSettings}.
    """

    def test_wanted(self) -> None:
        """
        Traces are exported if the settings or the standard variables name a collector.
        """
        named = TracesSettings("http://127.0.0.1:4318")
        for settings, environ, wanted in (
            (TracesSettings(), {}, False),
            (named, {}, True),
            (named, {"OTEL_SDK_DISABLED": "True"}, False),
            (named, {"OTEL_TRACES_EXPORTER": "none"}, True),
            (TracesSettings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
            (TracesSettings(), {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, True),
            (TracesSettings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
            (
                TracesSettings(),
                {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"},
                False,
            ),
        ):
            self.assertIs(settings.is_wanted(environ), wanted, environ)

    def test_refused(self) -> None:
        """
        An endpoint is a URL without credentials.
        """
        for endpoint in ("collector:4318", "grpc://c", "http://u:p@c:4318", "http://c?x=1"):
            self.assertRaises(ValueError, TracesSettings, endpoint)
