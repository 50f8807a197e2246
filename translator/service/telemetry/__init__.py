"""Metrics, OpenTelemetry spans and logs."""
