"""The other side of `bench rounds`: a model that calls a tool once, a search backend, MCP.

python -m bench.round_upstream PORT
"""

from __future__ import annotations

import json
import sys
from typing import Any

import uvicorn
from mcp.server import MCPServer
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ARGUMENTS = {"web_search": {"query": "numbers"}}
"""Those of tools that are not called with two numbers."""


def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    fields = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**fields, 'choices': [choice]})}\n\n"


async def chat(request: Request) -> Response:
    """A call of the first tool; once its result is there, the answer."""
    asked = await request.json()
    tools = asked.get("tools", [])
    if tools and asked["messages"][-1]["role"] != "tool":
        name = tools[0]["function"]["name"]
        arguments = json.dumps(ARGUMENTS.get(name, {"a": 1, "b": 2}))
        call = {"index": 0, "id": "call_1", "type": "function"}
        delta = {"tool_calls": [{**call, "function": {"name": name, "arguments": arguments}}]}
        body = chunk({"role": "assistant", **delta}) + chunk({}, "tool_calls")
    else:
        words = [chunk({"content": f" {number}"}) for number in range(10)]
        body = "".join([*words, chunk({}, "stop")])
    return Response(body + "data: [DONE]\n\n", media_type="text/event-stream")


async def search(_: Request) -> Response:
    found = [
        {"url": f"https://example.org/{number}", "title": "A page", "content": "Of numbers. " * 20}
        for number in range(8)
    ]
    return JSONResponse({"results": found})


def add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)


def main(port: int) -> None:
    server = MCPServer("bench", log_level="CRITICAL")
    server.add_tool(add, structured_output=False)
    app = server.streamable_http_app(json_response=True)
    app.router.routes += [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/search", search),
    ]
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical")


if __name__ == "__main__":
    main(int(sys.argv[1]))
