"""Responses in the background: upstreams that wait, and clients that poll."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.service.chat_bodies import COMPLETION, HELLO
from tests.service.responses_api import PATH
from tests.service.wire import BOUND_S, Call, bounded

RUNNING = ("queued", "in_progress")


class Gate:
    """A script of HELLO that stops after its first text until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.gone = asyncio.Event()
        """Set when the service hangs up."""

    async def __call__(self, call: Call) -> None:
        leaving = asyncio.ensure_future(call.gone())
        streams = b'"stream":true' in call.body
        if streams:
            await call.head()
            await call.send(*HELLO[:2])
        self.reached.set()
        opening = asyncio.ensure_future(self.open.wait())
        both = (opening, leaving)
        try:
            await asyncio.wait(both, timeout=BOUND_S, return_when=asyncio.FIRST_COMPLETED)
            if not self.open.is_set():
                self.gone.set()
                raise ConnectionError
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)
        if not streams:
            await call.answer(COMPLETION)
            return
        await call.send(*HELLO[2:])
        await call.end()


async def begin(client: httpx.AsyncClient, **fields: Any) -> Any:
    """A response that is queued."""
    headers = fields.pop("headers", {})
    body = {"model": "m", "input": "Hi", "background": True} | fields
    answer = await client.post(PATH, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    response = answer.json()
    assert response["status"] == "queued"
    assert (response["background"], response["output"], response["usage"]) == (True, [], None)
    return response


async def ended(client: httpx.AsyncClient, response_id: str, **more: Any) -> Any:
    """The final response, polled for."""
    async with asyncio.timeout(BOUND_S):
        while True:
            answer = await client.get(f"{PATH}/{response_id}", **more)
            assert answer.status_code == 200, answer.text
            response = answer.json()
            if response["status"] not in RUNNING:
                return response
            assert (response["output"], response["usage"]) == ([], None)
            await asyncio.sleep(0.02)


async def cancel(client: httpx.AsyncClient, response_id: str) -> Any:
    """The response after it was cancelled."""
    answer = await bounded(client.post(f"{PATH}/{response_id}/cancel"))
    assert answer.status_code == 200, answer.text
    return answer.json()
