"""Running the probe on a scripted upstream, with a fake clock and without a network."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable
from typing import Any

import httpx

from translator.probe.report import Report, as_settings
from translator.probe.run import probe
from translator.service.config.loading import read_table
from translator.service.config.settings import Upstream

from .scripted import JSON

HOST = "https://unknown.example"


class FakeClock:
    """A clock that moves only in `sleep`."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def run_probe(
    scripted: Callable[[httpx.Request], httpx.Response],
    *,
    model: str | None = None,
    host: str = HOST,
    key: str | None = None,
    headers: dict[str, str] | None = None,
    clock: FakeClock | None = None,
    **more: Any,
) -> Report:
    """The report on a scripted upstream."""
    clock = clock or FakeClock()
    upstream = Upstream(
        name="up",
        base_url=host + getattr(scripted, "path", "/v1"),
        dialect="base",
        api_key=key,
        headers=headers or {},
    )
    return asyncio.run(
        probe(
            upstream,
            model or getattr(scripted, "model", "m"),
            transport=httpx.MockTransport(scripted),
            now=clock.now,
            sleep=clock.sleep,
            **more,
        )
    )


def settings_of(report: Report) -> Any:
    """The printed settings, as the service reads them."""
    text = as_settings(report, name="up", api_key_env=None)
    return read_table(tomllib.loads(text), {})


def facts_about(report: Report, *names: str) -> list[str]:
    return [finding.seen for finding in report.findings if finding.fact in names]


def about_schemas(body: JSON) -> bool:
    return body.get("response_format", {}).get("type") == "json_schema"
