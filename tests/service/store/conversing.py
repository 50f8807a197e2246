"""What tests do with conversations over HTTP."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import httpx

from translator.service.config.store import Location
from translator.service.database.connection import connect
from translator.service.database.statement import DatabaseTime, Statement

CONVERSATIONS = "/v1/conversations"

CALL = {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "a.txt"}


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


async def new(client: httpx.AsyncClient, *items: dict[str, Any], **fields: Any) -> str:
    """The id of a new conversation."""
    headers = fields.pop("headers", {})
    body = {"items": list(items)} | fields
    answer = await client.post(CONVERSATIONS, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    conversation_id: str = answer.json()["id"]
    return conversation_id


async def items_of(client: httpx.AsyncClient, conversation: str) -> list[Any]:
    """All items of a conversation, in their order."""
    path, found = f"{CONVERSATIONS}/{conversation}/items?order=asc&limit=100", list[Any]()
    while True:
        after = f"&after={found[-1]['id']}" if found else ""
        answer = await client.get(path + after)
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        if not answer.json()["has_more"]:
            return found


async def texts_of(client: httpx.AsyncClient, conversation: str) -> list[str]:
    """The texts of its messages, and the types of its other items."""
    return [
        item["content"][0]["text"] if item["type"] == "message" else item["type"]
        for item in await items_of(client, conversation)
    ]


def rows(location: Location, what: str) -> list[Any]:
    """The rows of a query."""
    with closing(connect(location, DatabaseTime())) as connection:
        return connection.execute(Statement(what))
