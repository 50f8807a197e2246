"""Client keys, and a service that demands them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.service.wire import MODELS, client_of
from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings

RESPONSES = "/v1/responses"
CHAT = "/v1/chat/completions"
ASK_CHAT: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
ALICE, BOB, FREE = new_key(), new_key(), new_key()
USAGE = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def settings_for(
    url: str,
    clients: Mapping[str, Mapping[str, Any]],
    *,
    models: Mapping[str, Any] | None = MODELS,
    **server: Any,
) -> Settings:
    """Settings with these clients in front of one upstream, which has no key of its own."""
    table: dict[str, Any] = {
        "server": server,
        "upstreams": {"up": {"base_url": url}},
        "clients": clients,
    }
    if models is not None:
        table["models"] = models
    return read_table(table, {})


def keyed(key: str, **more: Any) -> dict[str, Any]:
    return {"keys": [str(store(key))], **more}


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def limited(
    url: str, clock: Clock | None = None, **limits: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the service whose key has these limits."""
    settings = settings_for(url, {"alice": keyed(ALICE, **limits)})
    async with client_of(settings, clock=clock or Clock()) as client:
        client.headers.update(bearer(ALICE))
        yield client
