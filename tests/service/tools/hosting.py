"""A service that runs searches between the turns of a scripted model."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.replaying import sse
from tests.rounds import REQUEST, Turn
from tests.service.wire import Call, Script, ScriptedUpstream, client_of, serving
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings
from translator.service.config.store import Location
from translator.service.database.schema import migrate
from translator.service.store.room import ROOM

from .searching import LOCAL, ScriptedWeb


class Model:
    """A script of an upstream: one turn after the other, streamed or whole, as it is asked."""

    def __init__(self, *turns: Turn | Script) -> None:
        self.turns = list(turns)
        self.bodies: list[dict[str, Any]] = []

    async def __call__(self, call: Call) -> None:
        self.bodies.append(call.json)
        turn = self.turns[min(len(self.bodies), len(self.turns)) - 1]
        if callable(turn):
            await turn(call)
        elif call.json.get("stream"):
            await call.head()
            await call.send(sse(*turn))
            await call.end()
        else:
            await call.answer(_whole(turn))

    def tool_messages(self, round_: int) -> list[str]:
        """What tools have told the model by a round."""
        messages = self.bodies[round_]["messages"]
        return [one["content"] for one in messages if one["role"] == "tool"]


def _whole(turn: Turn) -> dict[str, Any]:
    """A turn as a completion."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    whole: dict[str, Any] = {"object": "chat.completion"}
    finish = "stop"
    for payload in turn:
        if isinstance(payload, str):
            continue
        whole |= {"usage": payload["usage"]} if "usage" in payload else {}
        for choice in payload["choices"]:
            delta = choice["delta"]
            message["content"] += delta.get("content", "")
            if "reasoning_content" in delta:
                message["reasoning_content"] = delta["reasoning_content"]
            message.setdefault("tool_calls", []).extend(delta.get("tool_calls", ()))
            finish = choice["finish_reason"] or finish
    if not message["tool_calls"]:
        del message["tool_calls"]
    return {**whole, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def hosting_settings(
    upstream: str,
    web: ScriptedWeb,
    *,
    tools: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
    pages: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    **server: Any,
) -> Settings:
    """Settings of an upstream, and of tools on a scripted web."""
    table: dict[str, Any] = {
        "server": server,
        "upstreams": {"up": {"base_url": upstream}},
        "tools": {
            "allow_private": list(LOCAL),
            "search": {"backend": "searxng", "url": web.url, **(search or {})},
            "pages": dict(pages or {}),
            **(tools or {}),
        },
        **(more or {}),
    }
    return read_table(table, environ or {})


def stored(folder: Path) -> dict[str, Any]:
    """The section of a store in a new SQLite file."""
    file = folder / "store.db"
    migrate(Location("sqlite", str(file)), ROOM)
    return {"store": {"url": f"sqlite:///{file}"}}


@asynccontextmanager
async def hosting(
    model: Model, web: ScriptedWeb, *, on_socket: bool = False, **settings: Any
) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of a service with these tools, whose model follows a script."""
    async with ScriptedUpstream().running() as upstream:
        upstream.script = model
        made = hosting_settings(upstream.url, web, **settings)
        if not on_socket:
            async with client_of(made) as client:
                yield client
        else:
            async with serving(made) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
                yield client


async def events_of(
    client: httpx.AsyncClient, request: Mapping[str, Any] = REQUEST
) -> list[dict[str, Any]]:
    """The events of a streamed response."""
    answer = await client.post("/v1/responses", json=request)
    assert answer.status_code == 200, answer.text
    return frames(answer.text)


def frames(text: str) -> list[dict[str, Any]]:
    """Event stream text as events."""
    lines = (line for line in text.splitlines() if line.startswith("data: {"))
    return [json.loads(line[6:]) for line in lines]


def items_of(events: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The final items of a type."""
    return [one for one in events[-1]["response"]["output"] if one["type"] == kind]
