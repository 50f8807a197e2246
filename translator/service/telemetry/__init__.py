"""Telemetry: Prometheus metrics, OpenTelemetry spans, and the log's format.

`metrics` and `otel` are observers of requests and count without reading the conversation, and
`shared_metrics` sums the metrics of several processes.
`logs` formats log records. Start with `metrics`.
"""
