"""Play a response of several rounds through the core: scripted turns of a model, and a fake runner.

    played = play(REQUEST, [calls(search("a")), says("It is so [1].")])

`Played` has the events, the final response, and the chat request of each round.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Raw

import translator
from translator import Event, Options, Response, Target, Translation
from translator.common.hosted import Hosted, HostedCall, Outcome
from translator.dialects import Dialect
from translator.request.store_context import StoreContext
from translator.rounds import Rounds
from translator.wire.deltas import Source
from translator.wire.errors import UpstreamError
from translator.wire.items import SearchResult

from .replaying import numbered_ids, sse

SEARCH: dict[str, Any] = {"type": "web_search"}
REQUEST: dict[str, Any] = {
    "model": "a-model",
    "input": [{"role": "user", "content": "What is new?"}],
    "stream": True,
    "store": False,
    "tools": [SEARCH],
}
FUNCTION: dict[str, Any] = {"type": "function", "name": "act", "parameters": {"type": "object"}}

Payload = dict[str, Any] | str
Turn = Sequence[Payload]
Runner = Callable[[HostedCall], Outcome]


def _delta(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call(name: str, call_id: str | None = None, **arguments: Any) -> dict[str, Any]:
    """A function call of the model."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


def search(query: str, call_id: str | None = None) -> dict[str, Any]:
    return call("web_search", call_id, query=query)


def turn(
    *calls: dict[str, Any],
    text: str = "",
    reasoning: str = "",
    finish: str | None = None,
    usage: tuple[int, int] | None = (10, 5),
) -> list[Payload]:
    """One turn of the model, as the payloads of a stream."""
    payloads: list[Payload] = []
    if reasoning:
        payloads.append(_delta({"reasoning_content": reasoning}))
    payloads += [_delta({"content": letter}) for letter in text]
    for index, one in enumerate(calls):
        named = {**one, "id": one["id"] or f"call_{index}", "index": index}
        payloads.append(_delta({"tool_calls": [named]}))
    payloads.append(_delta({}, finish or ("tool_calls" if calls else "stop")))
    if usage is not None:
        tokens = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
        payloads.append({"choices": [], "usage": tokens})
    return [*payloads, "[DONE]"]


def says(text: str, **more: Any) -> list[Payload]:
    """A turn that answers."""
    return turn(text=text, **more)


def page(number: int) -> SearchResult:
    return SearchResult(f"https://site.test/{number}", f"Page {number}", f"Snippet {number}.")


def found(*numbers: int) -> Outcome:
    """The outcome of a search that has found these pages."""
    results = tuple(map(page, numbers))
    parts: list[str | Source] = []
    for one in results:
        parts += [Source(one.url, one.title), f" {one.title} ({one.url})\n{one.snippet}\n"]
    return Outcome(tuple(parts or ["No results."]), results=results)


def finds_pages(call: HostedCall) -> Outcome:
    """A runner that finds two pages for everything."""
    del call
    return found(1, 2)


@dataclass
class Played:
    """A response of several rounds."""

    events: list[Event] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    ran: list[HostedCall] = field(default_factory=list)
    translation: Translation | None = None

    @property
    def response(self) -> Response:
        assert self.translation is not None
        return self.translation.response

    @property
    def rounds(self) -> Rounds:
        assert self.translation is not None
        assert self.translation.rounds is not None
        return self.translation.rounds

    @property
    def output(self) -> list[dict[str, Any]]:
        """The items of the final response, as JSON."""
        items: list[dict[str, Any]] = json.loads(translator.encode_json(self.response))["output"]
        return items

    @property
    def kinds(self) -> list[str]:
        return [item["type"] for item in self.output]


class Loop:
    """Translations of one response, each like the one before."""

    def __init__(
        self,
        request: dict[str, Any],
        *,
        hosted: Hosted | None = None,
        dialect: str | Dialect = "base",
        options: Options | None = None,
        target: Target | None = None,
        store: StoreContext | None = None,
    ) -> None:
        self._request = request
        self._given: dict[str, Any] = {
            "hosted": hosted or Hosted(),
            "dialect": dialect,
            "options": options or Options(),
            "target": target or Target(),
            "store": store,
            "new_id": numbered_ids(),
        }

    def translation(
        self, rounds: Rounds | None = None, earlier: Sequence[Raw] | None = None
    ) -> Translation:
        return Translation(
            self._request,
            response_id="resp_000000000000000000000000",
            created_at=3,
            now=lambda: 5,
            rounds=rounds,
            earlier=earlier,
            **self._given,
        )


def play(
    request: dict[str, Any],
    turns: Sequence[Turn | UpstreamError],
    run: Runner = finds_pages,
    *,
    cut_into: int | None = None,
    backwards: bool = False,
    **given: Any,
) -> Played:
    """A whole response. An error among the turns breaks its round's stream.

    `cut_into` is the size of the chunks of the upstream's bodies; `backwards`: tools end in the
    opposite order of their calls.
    """
    loop = Loop(request, **given)
    played = Played()
    translation = loop.translation()
    played.events += translation.start()
    for one in turns:
        played.translation = translation
        played.bodies.append(json.loads(translation.chat_body))
        if isinstance(one, UpstreamError):
            played.events += translation.close(one)
            break
        data = sse(*one)
        for start in range(0, len(data), cut_into or len(data)):
            played.events += translation.receive(data[start : start + (cut_into or len(data))])
        played.events += translation.close()
        if translation.finished:
            break
        assert translation.round_over
        rounds = translation.rounds
        assert rounds is not None
        for todo in reversed(rounds.todo) if backwards else rounds.todo:
            played.ran.append(todo)
            played.events += translation.ran(todo.key, run(todo))
        if translation.finished:
            break
        translation = loop.translation(rounds)
    return played


def replayed(
    request: dict[str, Any], output: Sequence[dict[str, Any]], *more: dict[str, Any]
) -> dict[str, Any]:
    """The request that goes on from an output."""
    return {**request, "input": [*request["input"], *output, *more]}


def body_of(request: dict[str, Any], **given: Any) -> dict[str, Any]:
    """The chat request of a request's first round."""
    body: dict[str, Any] = json.loads(Loop(request, **given).translation().chat_body)
    return body
