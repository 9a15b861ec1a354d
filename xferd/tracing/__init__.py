"""
Traces, by OpenTelemetry: a span for each job, transfer and attempt.

Nothing here is imported unless traces are exported, and only C{spans} needs the extra
C{xferd[traces]}.
"""
