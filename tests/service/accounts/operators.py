"""Programs of operators, on the JSON API of a service with accounts."""

from __future__ import annotations

from typing import Any

import httpx

from translator.service.accounts import operator_keys
from translator.service.base.keys import new_key, store
from translator.service.database.connection import writing

from .paying import Books, bearer

API = "/account/api"


class Operator:
    """A program of an operator, with its key."""

    def __init__(self, client: httpx.AsyncClient, key: str) -> None:
        self.client = client
        self.key = key

    async def send(
        self, method: str, path: str, body: Any = None, once: str | None = None, **query: Any
    ) -> httpx.Response:
        headers = bearer(self.key)
        if once is not None:
            headers["idempotency-key"] = once
        return await self.client.request(
            method, f"{API}{path}", json=body, params=query or None, headers=headers
        )

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.send("GET", path, **query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        return answer.json()

    async def post(self, path: str, body: Any, once: str | None = None) -> Any:
        answer = await self.send("POST", path, body, once)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def patch(self, path: str, body: Any) -> Any:
        answer = await self.send("PATCH", path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(
        self, method: str, path: str, body: Any, status: int = 400, **query: Any
    ) -> Any:
        answer = await self.send(method, path, body, **query)
        assert answer.status_code == status, answer.text
        return answer.json()["error"]


def operator_key(books: Books, name: str = "robot") -> str:
    text = new_key(operator_keys.PREFIX)
    with writing(books.connection):
        operator_keys.add_operator_key(books.connection, name, store(text), "tests")
    return text
