"""The conversation of the demo: two turns through the real service, drawn and verified live.

    Responses client  ⇄  translator  ⇄  scripted upstream that speaks only Chat Completions

All three run in this process and talk over 127.0.0.1: no key, no network. The client must receive
exactly what the upstream sent; otherwise the demo prints the difference and its exit code is 1.
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
from typing import Any

import httpx
import uvicorn

from translator.program.invocation import program
from translator.service.base.colours import Style
from translator.service.config.loading import read_options
from translator.service.http.app import create_app

from .script import (
    ANSWER,
    ARGUMENTS,
    CALL_ID,
    JSON,
    REASONING,
    REQUEST,
    RESULT,
    TEXT,
    first_answer,
    second_answer,
)
from .scripted_upstream import ScriptedUpstream
from .view import Cell, View, json_cell

_UPSTREAM = "--upstream https://api.fireworks.ai/inference/v1"
_MODEL = "--model accounts/fireworks/models/kimi-k2p6"

SERVE = f"serve {_UPSTREAM}"
UP = f"up {_UPSTREAM} --api-key-env FIREWORKS_API_KEY {_MODEL} -- codex"
SET_UP = f"codex {_UPSTREAM} --key-env FIREWORKS_API_KEY {_MODEL} --context-window 262144 --write"
"""Sets Codex up with a model and its catalog, and prints the steps after it."""

PAUSE_S = 0.08
"""Delay between two chunks: long enough to watch."""

TIMEOUT_S = 30.0
"""Longest time for the whole demo, which takes four seconds."""


class Mismatch(Exception):
    """The client did not receive what the upstream sent; the text describes the difference."""


def run(argv: list[str]) -> int:
    """Run the demo; returns the exit code, 0 when the conversation was verified."""
    parser = argparse.ArgumentParser(
        prog="translator demo",
        description="Shows a conversation of a Responses client with a scripted upstream that "
        "speaks only Chat Completions, chunk by chunk. Needs no key and no network.",
    )
    parser.parse_args(argv)
    reconfigure: Callable[..., None] | None = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # "?" for characters that the terminal lacks
    terminal = sys.stdout.isatty()
    view = View(
        sys.stdout,
        width=shutil.get_terminal_size().columns if terminal else 100,
        colour=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
    )
    try:
        asyncio.run(_play(view))
    except Mismatch as error:
        return _failed(str(error))
    except TimeoutError:
        return _failed(f"it took longer than {TIMEOUT_S:.0f} seconds")
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
    conversation = Conversation(view)
    script = (first_answer(), second_answer())
    async with asyncio.timeout(TIMEOUT_S):
        upstream = ScriptedUpstream(
            script,
            pause_s=PAUSE_S,
            on_request=conversation.on_request,
            on_chunk=conversation.on_chunk,
        )
        async with (
            upstream,
            _translator(upstream.base_url) as url,
            # Both ends are in this process: no proxy of the environment.
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=TIMEOUT_S) as http,
        ):
            await conversation.play(http, upstream)
    _show_codex(view)


class Conversation:
    """A question, a tool call, its result, and an answer; drawn and verified live."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._turn = 1

    async def play(self, http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
        view = self._view
        view.say(("bold", "translator"), ("plain", "  The client speaks the Responses API."))
        view.say(("plain", "            The model behind it speaks only Chat Completions."))
        view.heading(1, "The request")
        first = [event async for event in self._events(http, REQUEST)]
        output = _verified(first, (REASONING, TEXT, ARGUMENTS))
        view.heading(3, "The complete response")
        styles: tuple[Style, ...] = ("reasoning", "text", "tool")
        for item, style in zip(output, styles, strict=True):
            view.say((style, f"{item['type']:<14}"), ("plain", _content(item)))
        usage = first[-1]["response"]["usage"]
        reasoning = usage["output_tokens_details"]["reasoning_tokens"]
        counts = f"{usage['input_tokens']} tokens in, {usage['output_tokens']} out"
        view.say(
            ("lifecycle", f"{'usage':<14}"), ("plain", f"{counts}, {reasoning} of them reasoning")
        )

        self._turn = 2
        view.heading(4, "The next turn: the client sends the result and the reasoning back")
        result = {"type": "function_call_output", "call_id": CALL_ID, "output": RESULT}
        history = [*REQUEST["input"], *output, result]
        last = [event async for event in self._events(http, REQUEST | {"input": history})]
        [message] = _verified(last, (ANSWER,))
        _show_replay(view, history, upstream.requests[1])
        view.say(("text", f"{message['type']:<14}"), ("plain", _content(message)))

    def on_request(self, request: JSON) -> None:
        """The upstream has received a request and is about to answer."""
        if self._turn == 1:
            self._view.columns("Responses request", "chat request")
            _show_request(self._view, request)
            self._view.heading(2, "The streamed response")
            self._view.columns("chunks from the upstream", "events to the client")

    def on_chunk(self, chunk: JSON | None) -> None:
        """The upstream sends a chunk; None is [DONE]."""
        if self._turn == 1:
            self._view.chunk(chunk)

    async def _events(self, http: httpx.AsyncClient, request: JSON) -> AsyncIterator[JSON]:
        """The events of one response, each drawn when it arrives."""
        done = False
        async with http.stream("POST", "/v1/responses", json=request) as answer:
            if answer.status_code != 200:
                text = (await answer.aread()).decode(errors="replace")
                raise Mismatch(f"the translator answers {answer.status_code}: {text}")
            async for data in _payloads(answer):
                done = data == "[DONE]"
                event: JSON | None = None if done else json.loads(data)
                if self._turn == 1:
                    self._view.event(event)
                if event is not None:
                    yield event
        if not done:
            raise Mismatch("the stream ends without [DONE]")


async def _payloads(answer: httpx.Response) -> AsyncIterator[str]:
    """The data of each event."""
    rest = b""
    async for chunk in answer.aiter_bytes():
        *frames, rest = (rest + chunk).split(b"\n\n")
        for frame in frames:
            for line in frame.decode().split("\n"):
                if line.startswith("data: "):
                    yield line.removeprefix("data: ")


def _verified(events: list[JSON], sent: tuple[str, ...]) -> list[JSON]:
    """The output items of a response whose content is what the upstream sent; raises Mismatch."""
    numbers = [event["sequence_number"] for event in events]
    if numbers != list(range(len(events))):
        raise Mismatch(f"the events are numbered {numbers}")
    if not events:
        raise Mismatch("the stream has no events")
    last = events[-1]
    if last["type"] != "response.completed":
        raise Mismatch(f"the last event is {last['type']}, not response.completed")
    output: list[JSON] = last["response"]["output"]
    deltas: dict[int, str] = {}
    for event in events:
        if "delta" in event:
            index = event["output_index"]
            deltas[index] = deltas.get(index, "") + event["delta"]
    for name, texts in (
        ("deltas", tuple(deltas.values())),
        ("items", tuple(_content(item) for item in output)),
    ):
        if texts != sent:
            raise Mismatch(f"the {name} contain {texts}, and the upstream sent {sent}")
    return output


def _content(item: Mapping[str, Any]) -> str:
    """The text, reasoning or arguments of an output item."""
    if item["type"] == "function_call":
        return str(item["arguments"])
    parts = item["summary"] if item["type"] == "reasoning" else item["content"]
    return "".join(part["text"] for part in parts)


# --- drawing ------------------------------------------------------------------------------------


def _show_request(view: View, chat: JSON) -> None:
    """Both requests, with corresponding fields side by side."""
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


def _show_replay(view: View, history: list[JSON], chat: JSON) -> None:
    """The four items of the turn beside the two messages that they become."""
    turn, result = chat["messages"][-2:]
    if turn.get("reasoning_content") != REASONING:
        got = turn.get("reasoning_content")
        raise Mismatch(f"the reasoning sent back is {got!r}, and it was {REASONING!r}")
    left = {f"input[{n}]": _digest(item) for n, item in enumerate(history) if n > 0}
    keys = ("reasoning_content", "content", "tool_calls")
    right = {f"messages[2].{key}": turn[key] for key in keys} | {"messages[3]": result}
    view.columns("items from the client", "messages to the upstream")
    view.pairs(_cells(left), _cells(right))
    view.say()
    view.say(
        ("good", "✓ "),
        ("plain", "The reasoning is restored, letter for letter. Nothing was stored:"),
    )
    view.say(("plain", "  it was inside encrypted_content.\n"))


def _digest(item: Mapping[str, Any]) -> JSON:
    """The fields of an item that matter here."""
    keys = ("type", "encrypted_content", "name", "arguments", "content", "output")
    return {key: item[key] for key in keys if item.get(key)}


def _cells(values: Mapping[str, object]) -> list[Cell]:
    return [json_cell(path, value, _style(path)) for path, value in values.items()]


def _style(path: str) -> Style:
    """The colour of a field of a request."""
    if "reasoning" in path:
        return "reasoning"
    return "tool" if "tool" in path else "plain"


def _show_codex(view: View) -> None:
    view.heading(5, "Next: Codex with a model that speaks only Chat Completions")
    for what, command in (
        ("with the key in FIREWORKS_API_KEY, in one command:", f"{program()} {UP}"),
        ("or for good: set Codex up once,", f"{program()} {SET_UP}"),
        ("start the translator,", f"{program()} {SERVE}"),
        ("and run Codex:", "codex"),
    ):
        view.say(("dim", what))
        view.say()
        view.say(("good", command))
        view.say()


# --- the service --------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """A uvicorn.Server that leaves signals to the demo."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def _translator(upstream: str) -> AsyncGenerator[str]:
    """The real service on a free port; yields its URL."""
    settings = read_options(upstream=upstream, dialect="fireworks", environ={})
    app = create_app(settings, transport=httpx.AsyncHTTPTransport())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(
            uvicorn.Config(
                app, access_log=False, log_config=None, timeout_graceful_shutdown=1, ws="none"
            )
        )
        # The socket listens already, so a client can connect before the server is up.
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
