"""What a round costs: a tool that the service runs, beside one that the client runs.

    python -m bench rounds [--quick]

The client's own function takes two requests; a hosted search or the tool of an MCP server is called
between two turns of one response. The model, the search backend and the MCP server answer at once
(bench/round_upstream.py), so that what is left is the service's own part.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from .rig import log_progress, settle
from .scheduler import cpu_seconds
from .section import Section, table
from .targets import Running, Target, Unavailable, started

REQUESTS = 200
ROUNDS = 5
WARM_UP = 20

QUESTION = {"role": "user", "content": "Count."}
FUNCTION: dict[str, Any] = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {}, "b": {}}},
}
PLAIN = "no tool"
OWN = "a function of the client: two requests"
SEARCH = "a hosted search"
MCP = "a tool of an MCP server"

TOOLS: Mapping[str, list[dict[str, Any]]] = {
    PLAIN: [],
    OWN: [FUNCTION],
    SEARCH: [{"type": "web_search"}],
    MCP: [{"type": "mcp", "server_label": "math", "require_approval": "never"}],
}

SETTINGS = """\
[upstreams.up]
base_url = "http://127.0.0.1:{port}/v1"
[tools.search]
backend = "searxng"
url = "http://127.0.0.1:{port}"
[tools.mcp.math]
url = "http://127.0.0.1:{port}/mcp"
"""


def _service(folder: Path, port: int, upstream: int) -> list[str]:
    settings = folder / "settings.toml"
    settings.write_text(SETTINGS.format(port=upstream))
    words = [sys.executable, "-m", "translator", "serve", "--port", str(port)]
    return [*words, "--config", str(settings), "--log-level", "warning"]


def _upstream(folder: Path, port: int, upstream: int) -> list[str]:
    del folder, upstream
    return [sys.executable, "-m", "bench.round_upstream", str(port)]


def sections(*, quick: bool) -> Iterator[Section]:
    """The table; raises Unavailable."""
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in TOOLS}
    upstream = Target(name="round upstream", command=_upstream)
    service = Target(name="service with tools", command=_service)
    with (
        started(upstream, 0, None) as behind,
        started(service, behind.port, None) as running,
        closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)) as client,
    ):
        for name in TOOLS:
            measured(client, running, name, WARM_UP)
        for number in range(1 if quick else ROUNDS):
            log_progress(f"round {number + 1}")
            for name, found in costs.items():
                found.append(measured(client, running, name, REQUESTS // (4 if quick else 1)))
    yield report(costs)


def measured(
    client: http.client.HTTPConnection, running: Running, name: str, count: int
) -> tuple[float, float]:
    """CPU time of the service and the median time of an answer, in microseconds."""
    settle(running)
    before = cpu_seconds([running.pid])
    times: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        answer(client, name)
        times.append(time.perf_counter() - began)
    spent = cpu_seconds([running.pid]) - before
    return spent / count * 1e6, statistics.median(times) * 1e6


def answer(client: http.client.HTTPConnection, name: str) -> None:
    """A whole answer; raises Unavailable for another one than is to be measured."""
    request = {"model": "m", "store": False, "input": [QUESTION], "tools": TOOLS[name]}
    output = _output(client, request)
    if name == OWN:
        result = {"type": "function_call_output", "call_id": "call_1", "output": "3"}
        request["input"] = [QUESTION, *output, result]
        output += _output(client, request)
    kinds = [one["type"] for one in output if one["type"] not in ("reasoning", "mcp_list_tools")]
    wanted = {PLAIN: [], OWN: ["function_call"], SEARCH: ["web_search_call"], MCP: ["mcp_call"]}
    failed = any(one.get("status") == "failed" for one in output)
    if failed or kinds != [*wanted[name], "message"]:
        raise Unavailable(f"{name}: {output}")


def _output(client: http.client.HTTPConnection, request: dict[str, Any]) -> list[dict[str, Any]]:
    headers = {"content-type": "application/json"}
    client.request("POST", "/v1/responses", json.dumps(request), headers)
    answered = json.loads(client.getresponse().read())
    output: list[dict[str, Any]] = answered.get("output", [answered])
    return output


def report(costs: Mapping[str, list[tuple[float, float]]]) -> Section:
    """The least of all rounds."""
    least = {name: tuple(map(min, zip(*found, strict=True))) for name, found in costs.items()}
    plain_cpu, plain_time = least[PLAIN]
    rows = [
        (
            name,
            f"{cpu / 1e3:.2f}",
            f"{(cpu - plain_cpu) / 1e3:.2f}",
            f"{elapsed / 1e3:.2f}",
            f"{(elapsed - plain_time) / 1e3:.2f}",
        )
        for name, (cpu, elapsed) in least.items()
    ]
    return Section(
        title="A whole answer with a tool",
        table=table(("", "CPU ms", "more than without", "ms", "more than without"), rows),
        remarks=[
            "One after the other, on a connection that is open. CPU is that of the service; the "
            "time is also that of the model, the search backend and the MCP server.",
        ],
        facts={("round_cpu_us", name): cpu - plain_cpu for name, (cpu, _) in least.items()},
    )
