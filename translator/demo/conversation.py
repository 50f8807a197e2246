"""The demo: one conversation through the real service, with both sides of the wire as they happen.

    a Responses client  ⇄  translator  ⇄  a scripted upstream that speaks only Chat Completions

All three run in this process and talk over 127.0.0.1: no key, no network. The demo also judges:
what the client gets must be what the upstream said, else it ends with a sentence and not with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from translator.service.base.colours import Style
from translator.service.config.loading import read_options
from translator.service.http.app import create_app
from translator.setup.codex import plain_config

from .script import (
    ANSWER,
    ARGUMENTS,
    CALL_ID,
    JSON,
    REASONING,
    REQUEST,
    RESULT,
    SAID,
    first_answer,
    second_answer,
)
from .scripted_upstream import ScriptedUpstream
from .view import Cell, View, json_cell

SERVE = "serve --upstream https://api.fireworks.ai/inference/v1"
CODEX_CONFIG = plain_config(
    base_url="http://127.0.0.1:8080/v1",
    model="accounts/fireworks/models/kimi-k2p6",
    key_env="FIREWORKS_API_KEY",
)
"""What Codex needs in its configuration to use a translator that was started with `SERVE`.

The key goes through to the upstream, so it is the upstream's.
"""

PAUSE_S = 0.08
"""Time between two chunks: long enough to watch, short enough to wait."""

PATIENCE_S = 30.0
"""How long the whole demo may take; it takes four seconds."""


class Unexpected(Exception):
    """Something is not as it should be; the text says what."""


def run(argv: list[str]) -> int:
    """Show the demo; 0 when all was as it should be."""
    parser = argparse.ArgumentParser(
        prog="translator demo",
        description="Shows one conversation between a Responses client and a scripted chat-only "
        "upstream, chunk by chunk. Needs no key and no network.",
    )
    parser.parse_args(argv)
    reconfigure: Callable[..., None] | None = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # a terminal that lacks a sign shows a "?"
    terminal = sys.stdout.isatty()
    view = View(
        sys.stdout,
        width=shutil.get_terminal_size().columns if terminal else 100,
        colour=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
    )
    try:
        asyncio.run(_play(view))
    except Unexpected as difference:
        return _failed(str(difference))
    except TimeoutError:
        return _failed(f"it took longer than {PATIENCE_S:.0f} seconds")
    except (OSError, httpx.HTTPError) as error:
        return _failed(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        return 130
    if view.abandoned:
        raise BrokenPipeError
    return 0


def _failed(reason: str) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"\ntranslator demo: {reason}\n")
    return 1


async def _play(view: View) -> None:
    stage = Conversation(view)
    script = (first_answer(), second_answer())
    async with asyncio.timeout(PATIENCE_S):
        upstream = ScriptedUpstream(script, pause_s=PAUSE_S, heard=stage.heard, said=stage.said)
        async with (
            upstream,
            _translator(upstream.base_url) as url,
            # No proxy of the environment stands between two ends of one process.
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE_S) as http,
        ):
            await stage.play(http, upstream)
    _show_codex(view)


class Conversation:
    """A question, a call, its result, an answer; drawn and judged as it goes."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._turn = 1

    async def play(self, http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
        view = self._view
        view.say(("bold", "translator"), ("plain", "  The client speaks the Responses API."))
        view.say(("plain", "            The model behind it speaks only Chat Completions."))
        view.heading(1, "The request")
        first = [event async for event in self._events(http, REQUEST)]
        output = _judged(first, (REASONING, SAID, ARGUMENTS))
        view.heading(3, "The answer, put together")
        styles: tuple[Style, ...] = ("reasoning", "text", "tool")
        for item, style in zip(output, styles, strict=True):
            view.say((style, f"{item['type']:<14}"), ("plain", _said_in(item)))
        usage = first[-1]["response"]["usage"]
        thought = usage["output_tokens_details"]["reasoning_tokens"]
        counts = f"{usage['input_tokens']} tokens in, {usage['output_tokens']} out"
        view.say(
            ("lifecycle", f"{'usage':<14}"), ("plain", f"{counts}, {thought} of them reasoning")
        )

        self._turn = 2
        view.heading(4, "The next turn: the client sends the result, and the reasoning returns")
        result = {"type": "function_call_output", "call_id": CALL_ID, "output": RESULT}
        history = [*REQUEST["input"], *output, result]
        last = [event async for event in self._events(http, REQUEST | {"input": history})]
        [message] = _judged(last, (ANSWER,))
        _show_return(view, history, upstream.requests[1])
        view.say(("text", f"{message['type']:<14}"), ("plain", _said_in(message)))

    def heard(self, request: JSON) -> None:
        """The upstream has a request and is about to answer."""
        if self._turn == 1:
            self._view.columns("what the client asks", "what the upstream is asked")
            _show_request(self._view, request)
            self._view.heading(2, "The answer, as it happens")
            self._view.columns("the upstream's chunks", "the client's events")

    def said(self, chunk: JSON | None) -> None:
        """The upstream sends a chunk; None is [DONE]."""
        if self._turn == 1:
            self._view.chunk(chunk)

    async def _events(self, http: httpx.AsyncClient, request: JSON) -> AsyncIterator[JSON]:
        """The events of one answer, each drawn when it arrives."""
        done = False
        async with http.stream("POST", "/v1/responses", json=request) as answer:
            if answer.status_code != 200:
                text = (await answer.aread()).decode(errors="replace")
                raise Unexpected(f"the translator answers {answer.status_code}: {text}")
            async for data in _payloads(answer):
                done = data == "[DONE]"
                event: JSON | None = None if done else json.loads(data)
                if self._turn == 1:
                    self._view.event(event)
                if event is not None:
                    yield event
        if not done:
            raise Unexpected("the stream ends without [DONE]")


async def _payloads(answer: httpx.Response) -> AsyncIterator[str]:
    """The data of each event; the translator's frames end in an empty line."""
    rest = b""
    async for piece in answer.aiter_bytes():
        *frames, rest = (rest + piece).split(b"\n\n")
        for frame in frames:
            for line in frame.decode().split("\n"):
                if line.startswith("data: "):
                    yield line.removeprefix("data: ")


def _judged(events: list[JSON], said: tuple[str, ...]) -> list[JSON]:
    """The output items of an answer, when they say what the upstream said."""
    numbers = [event["sequence_number"] for event in events]
    if numbers != list(range(len(events))):
        raise Unexpected(f"the events are numbered {numbers}")
    if not events:
        raise Unexpected("there is not one event")
    last = events[-1]
    if last["type"] != "response.completed":
        raise Unexpected(f"the last event is {last['type']}, not response.completed")
    output: list[JSON] = last["response"]["output"]
    deltas: dict[int, str] = {}
    for event in events:
        if "delta" in event:
            index = event["output_index"]
            deltas[index] = deltas.get(index, "") + event["delta"]
    for name, texts in (
        ("deltas", tuple(deltas.values())),
        ("items", tuple(_said_in(item) for item in output)),
    ):
        if texts != said:
            raise Unexpected(f"the {name} say {texts}, and the upstream said {said}")
    return output


def _said_in(item: Mapping[str, Any]) -> str:
    """What an output item says."""
    if item["type"] == "function_call":
        return str(item["arguments"])
    parts = item["summary"] if item["type"] == "reasoning" else item["content"]
    return "".join(part["text"] for part in parts)


# --- what is shown ------------------------------------------------------------------------------


def _show_request(view: View, chat: JSON) -> None:
    """Both requests, what belongs together side by side."""
    [question] = REQUEST["input"]
    system, user = chat["messages"]
    rows: list[tuple[JSON, JSON]] = [
        ({"model": REQUEST["model"]}, {"model": chat["model"]}),
        ({"instructions": REQUEST["instructions"]}, {"messages[0]": system}),
        ({"input[0]": {key: question[key] for key in ("role", "content")}}, {"messages[1]": user}),
        ({"tools[0]": REQUEST["tools"][0]}, {"tools[0]": chat["tools"][0]}),
        ({"reasoning": REQUEST["reasoning"]}, {"reasoning_effort": chat["reasoning_effort"]}),
        ({"stream": REQUEST["stream"]}, {"stream": chat["stream"]}),
        ({}, {"stream_options": chat["stream_options"]}),
    ]
    for left, right in rows:
        view.pairs(_cells(left), _cells(right))


def _show_return(view: View, history: list[JSON], chat: JSON) -> None:
    """The four items of the turn beside the two messages that they became."""
    turn, result = chat["messages"][-2:]
    if turn.get("reasoning_content") != REASONING:
        got = turn.get("reasoning_content")
        raise Unexpected(f"the reasoning goes back as {got!r}, and it was {REASONING!r}")
    left = {f"input[{n}]": _digest(item) for n, item in enumerate(history) if n > 0}
    keys = ("reasoning_content", "content", "tool_calls")
    right = {f"messages[2].{key}": turn[key] for key in keys} | {"messages[3]": result}
    view.columns("what the client sends back", "what the upstream gets")
    view.pairs(_cells(left), _cells(right))
    view.say()
    view.say(
        ("good", "✓ "), ("plain", "The reasoning is back, letter for letter. Nothing was stored:")
    )
    view.say(("plain", "  it travelled inside encrypted_content.\n"))


def _digest(item: Mapping[str, Any]) -> JSON:
    """An item without what is long or said elsewhere."""
    keys = ("type", "encrypted_content", "name", "arguments", "content", "output")
    return {key: item[key] for key in keys if item.get(key)}


def _cells(values: Mapping[str, object]) -> list[Cell]:
    return [json_cell(path, value, _style(path)) for path, value in values.items()]


def _style(path: str) -> Style:
    """The colour of a place in a request."""
    if "reasoning" in path:
        return "reasoning"
    return "tool" if "tool" in path else "plain"


def _show_codex(view: View) -> None:
    view.heading(5, "Now Codex, on a model that speaks only Chat Completions")
    view.say(("dim", "start the translator:"))
    view.say()
    view.say(("good", f"{_command()} {SERVE}"))
    view.say()
    view.say(("dim", "put into ~/.codex/config.toml:"))
    view.say()
    for line in CODEX_CONFIG.splitlines():
        view.say(("good", line))
    view.say()
    view.say(("dim", "and run:"))
    view.say()
    view.say(("good", "FIREWORKS_API_KEY=... codex"))
    view.say()


def _command() -> str:
    """How this very program is called from here."""
    if shutil.which("translator"):
        return "translator"
    beside = Path(sys.executable).with_name("translator")
    return os.path.relpath(beside) if beside.exists() else "python3 -m translator"


# --- who plays ----------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """A server that leaves Ctrl-C to the demo."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def _translator(upstream: str) -> AsyncGenerator[str]:
    """The real service on a free port; yields its address."""
    settings = read_options(upstream=upstream, dialect="fireworks", environ={})
    app = create_app(settings, transport=httpx.AsyncHTTPTransport())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(
            uvicorn.Config(
                app, access_log=False, log_config=None, timeout_graceful_shutdown=1, ws="none"
            )
        )
        # The socket listens already, so a client may come before the server is up.
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
