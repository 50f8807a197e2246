"""The Responses API in front of a Chat Completions upstream, as a program to copy and change.

    pip install . httpx          # in a virtual environment, from the folder of pyproject.toml
    UPSTREAM=https://api.fireworks.ai/inference/v1 DIALECT=fireworks API_KEY=... \
        python examples/library.py < request.json

Reads the body of a `POST /v1/responses` from stdin and writes the body of the response to stdout:
server-sent events if the request says `"stream": true`, else JSON. An error before the first byte
is an HTTP response with a status of its own, shown on stderr; after it, it is an event.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator

import httpx

import translator

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:8000/v1")
DIALECT = os.environ.get("DIALECT", "base")  # see `translator dialects`
API_KEY = os.environ.get("API_KEY", "")

MODELS = {  # the models that clients may ask for: their ids at the upstream, and their limits
    "large": translator.Target(model="accounts/fireworks/models/kimi-k2p6", max_output_tokens=8192),
    "small": translator.Target(model="accounts/fireworks/models/gpt-oss-20b", vision=False),
}
OPTIONS = translator.Options(reasoning_events="summary", hosted_tools="drop")
TIMEOUT = httpx.Timeout(300, connect=10)  # seconds; the first is the longest silence


async def respond(body: bytes, http: httpx.AsyncClient) -> AsyncIterator[bytes]:
    """The body of the response, chunk by chunk.

    Raises TranslatorError before the first chunk, never after it. When the client disconnects,
    close the iterator: that closes the upstream request.
    """
    request = translator.parse_request(body)
    t = translate(request)
    if not t.wants_answer:  # it only prepares the next request, and is not sent
        events = t.skip()
        if t.request.stream:
            for event in events:
                yield translator.encode_sse(event)
            yield translator.DONE
        else:
            yield translator.encode_json(t.response)
        return
    for notice in t.notices:
        print(f"{notice.path}: {notice.message}", file=sys.stderr)
    headers = {"content-type": "application/json"}
    if API_KEY:
        headers["authorization"] = f"Bearer {API_KEY}"
    started = False
    error: translator.UpstreamError | None = None
    url = f"{UPSTREAM}/chat/completions"
    try:
        async with http.stream("POST", url, content=t.chat_body, headers=headers) as upstream:
            if not 200 <= upstream.status_code < 300:
                raise await error_of(upstream, t)
            if not t.request.stream:
                yield translator.encode_json(t.complete(await upstream.aread()))
                return
            started = True
            for event in t.start():
                yield translator.encode_sse(event)
            async for data in upstream.aiter_bytes():
                for event in t.receive(data):
                    yield translator.encode_sse(event)
                if t.finished:  # the upstream may keep the connection open after [DONE]
                    break
    except httpx.TimeoutException:
        error = translator.UpstreamTimeout("The upstream did not answer in time.")
    except httpx.HTTPError as broken:
        print(f"{type(broken).__name__}: {broken}", file=sys.stderr)
        error = translator.UpstreamError("The connection to the upstream failed.")
    if error is not None and not started:
        raise error
    for event in t.close(error):  # empty if the response is finished already
        yield translator.encode_sse(event)
    yield translator.DONE


def translate(request: translator.ParsedRequest) -> translator.Translation:
    """The translation of a request; raises InvalidRequest or NotFound."""
    return translator.Translation(
        request,
        dialect=DIALECT,
        response_id=new_id("resp_"),
        created_at=int(time.time()),
        new_id=new_id,
        now=lambda: int(time.time()),
        target=target_of(request.request.model),
        options=OPTIONS,
    )


def target_of(model: str | None) -> translator.Target:
    """The upstream's model for the model of a request; raises NotFound."""
    if model is None:
        return translator.Target()  # Translation raises InvalidRequest: a model is required
    if model not in MODELS:
        message = f"The model '{model}' does not exist. Models: {', '.join(MODELS)}."
        raise translator.NotFound(message, param="model", code="model_not_found")
    return MODELS[model]


async def error_of(upstream: httpx.Response, t: translator.Translation) -> translator.UpstreamError:
    """The error in a response of the upstream with a status that is not 2xx."""
    if upstream.status_code in (401, 403):  # our key, which no client can correct
        return translator.CredentialRefused()
    return translator.read_upstream_error(
        upstream.status_code,
        await upstream.aread(),
        retry_after=upstream.headers.get("retry-after"),
        silent_overflow=t.dialect.overflows_silently(len(t.chat_body)),
    )


def new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(24)


async def main() -> int:
    body = sys.stdin.buffer.read()
    async with httpx.AsyncClient(timeout=TIMEOUT) as http:
        try:
            async for chunk in respond(body, http):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
        except translator.TranslatorError as error:
            print(f"HTTP {error.status_hint} {json.dumps(error.headers)}", file=sys.stderr)
            print(json.dumps(error.envelope()))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
