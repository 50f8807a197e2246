"""A small MCP server on stdin and stdout: what Codex starts when its configuration says so.

get_weather      a city to a line of text
draw_map         a city to a line of text and an image
LONG_NAME        the same as get_weather, under a name that no upstream takes with its prefix
"""

from __future__ import annotations

import json
import sys
from typing import Any

LONG_NAME = "get_the_weather_of_tomorrow_morning_for_one_city"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNoEBAAAAG0AKGmw+FrAAAAAElFTkSuQmCC"
)
"""One pixel, as a PNG."""
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"name": "get_weather", "description": "The weather in a city.", "inputSchema": CITY},
    {"name": "draw_map", "description": "A map of a city.", "inputSchema": CITY},
    {"name": LONG_NAME, "description": "The weather of tomorrow.", "inputSchema": CITY},
]


def called(name: str, city: str) -> dict[str, Any]:
    if name == "draw_map":
        image = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
        return {"content": [{"type": "text", "text": f"a map of {city}"}, image]}
    return {"content": [{"type": "text", "text": f"{name}: sunny in {city}"}]}


def answered(method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            return {
                "protocolVersion": parameters["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "weather", "version": "1"},
            }
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            return called(parameters["name"], parameters["arguments"]["city"])
        case _:
            return {}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            result = answered(message["method"], message.get("params", {}))
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
