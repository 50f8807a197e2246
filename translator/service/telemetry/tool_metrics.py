"""The metrics of tools that the service runs itself."""

from __future__ import annotations

from typing import get_args

from translator.service.observe.observer import ToolName, ToolRan, ToolResult

from .instruments import Instruments


class ToolMetrics:
    """Counts each call of a tool."""

    def __init__(self, instruments: Instruments) -> None:
        self.calls = instruments.counter(
            "tool_calls",
            "Searches, opened pages and the like that the service ran itself.",
            *("tool", "result"),
        )
        self.duration = instruments.histogram(
            "tool_duration_seconds", "From the beginning of such a call to its end.", "tool"
        )
        for tool in get_args(ToolName):
            for result in get_args(ToolResult):
                self.calls.labels(tool, result)

    def ran(self, event: ToolRan) -> None:
        self.calls.labels(event.tool, event.result).inc()
        self.duration.labels(event.tool).observe(event.seconds)
