"""The comparison in docs/engines.md: what translator answers, and what the engine's own endpoint does.

    point = requests, what is looked at in the answers, what a client of the Responses API expects ;

Each point is asked of both in the same words. Translator must do what is expected; what the engine
does is written down. After a run of all points docs/engines.md must say what was seen: `make
engines` writes it, and any other run in which engines are required compares.
"""

from __future__ import annotations

import datetime as dt
import http.client
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from pydantic import ValidationError

from tests.invariants import DELTA_OF, RESPONSE_FIELDS, check_types, check_wire
from translator import __version__

from .engine import MODEL, TIMEOUT_S
from .requests import LOOKED_UP, NAMESPACE, PATCH, PIXEL, SCHEMA, TIME, WEATHER, hi
from .script import CALL, PAIR, STORY, TERSE, TEXT

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"


class Endpoint:
    """One of the two: translator, or the engine's own /v1/responses."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._http = httpx.Client(base_url=base_url, timeout=TIMEOUT_S)

    def close(self) -> None:
        self._http.close()

    def post(self, path: str = "/responses", **request: Any) -> httpx.Response:
        return self._http.post(path, json={"model": MODEL, **request})

    def response(self, **request: Any) -> dict[str, Any]:
        """The response object. Raises httpx.HTTPStatusError."""
        answer: dict[str, Any] = self.post(**request).raise_for_status().json()
        return answer

    def events(self, **request: Any) -> list[dict[str, Any]]:
        text = self.post(stream=True, **request).raise_for_status().text
        lines = (line.removeprefix("data: ") for line in text.splitlines())
        return [json.loads(line) for line in lines if line.startswith("{")]

    def error(self, **request: Any) -> str:
        """Status, type, code and param of an error."""
        answer = self.post(**request)
        error = answer.json().get("error") or {}
        words = (error.get("type"), error.get("code"), error.get("param"))
        return " ".join([str(answer.status_code), *(f"`{word}`" for word in words if word)])


def output(response: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [item for item in response["output"] if item["type"] == kind]


def called(response: dict[str, Any]) -> str:
    """The calls, or what came in their place."""
    calls = [
        "/".join(filter(None, (item.get("namespace"), item["name"])))
        for item in response["output"]
        if item["type"].endswith("_call")
    ]
    kinds = {item["type"] for item in response["output"] if item["type"].endswith("_call")}
    return f"{', '.join(sorted(kinds))}: {', '.join(calls)}" if calls else "no call: a message"


def text_of(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in output(response, "message") for part in item["content"])


def status_of(response: dict[str, Any]) -> str:
    why = (response.get("incomplete_details") or {}).get("reason")
    return ": ".join(filter(None, (response["status"], why)))


# --- what is looked at ----------------------------------------------------------------------------


def numbered(of: Endpoint) -> str:
    events = of.events(input=hi())
    count = sum(event.get("sequence_number") == n for n, event in enumerate(events))
    return _share(count, len(events))


def placed(of: Endpoint) -> str:
    events = [event for event in of.events(input=hi()) if "response" not in event]
    return _share(sum("output_index" in event for event in events), len(events))


def typed(of: Endpoint) -> str:
    """Numbers aside, which have a point of their own."""
    events = of.events(input=hi())
    count = 0
    for number, event in enumerate(events):
        try:
            check_types({"sequence_number": number, "output_index": 0, **event})
            count += 1
        except (AssertionError, KeyError, ValidationError):
            pass
    return _share(count, len(events))


def _share(count: int, of: int) -> str:
    return "all" if count == of else "none" if not count else f"{count} of {of}"


def ended(of: Endpoint) -> str:
    """Which kinds of deltas have no done event."""
    kinds = {event["type"] for event in of.events(input=hi())}
    without = [kind for kind in kinds if kind in DELTA_OF and DELTA_OF[kind][0] not in kinds]
    return f"not {', '.join(f'`{kind}`' for kind in sorted(without))}" if without else "all"


def one_at_a_time(of: Endpoint) -> str:
    """Whether an item is done before the next is added."""
    marks = [
        event["type"].rpartition(".")[2]
        for event in of.events(input=hi())
        if event["type"] in ("response.output_item.added", "response.output_item.done")
    ]
    return "yes" if marks == ["added", "done"] * (len(marks) // 2) else f"no: {', '.join(marks)}"


def grammar(of: Endpoint) -> str:
    try:
        check_wire(of.events(input=hi(PAIR), tools=[WEATHER]))
    except (AssertionError, KeyError, ValidationError):
        return "broken"
    return "kept"


def fields(of: Endpoint) -> str:
    response = of.response(input=hi())
    missing = [name for name in RESPONSE_FIELDS if name not in response]
    return f"{len(missing)} of {len(RESPONSE_FIELDS)} are missing" if missing else "all"


def sdk(of: Endpoint) -> str:
    with openai.OpenAI(base_url=of.base_url, api_key="-", max_retries=0) as client:
        try:
            with client.responses.stream(model=MODEL, input=hi()) as stream:
                final = stream.get_final_response()
        except Exception as error:
            return f"fails: {type(error).__name__}, {error}"[:80]
    return "reads it" if final.output_text == TEXT else "another text"


def thinks(of: Endpoint) -> str:
    [item] = output(of.response(input=hi(), reasoning={"summary": "auto"}), "reasoning")
    return "summary" if item["summary"] else "content only"


def sealed(of: Endpoint) -> str:
    asked = {"store": False, "include": ["reasoning.encrypted_content"]}
    [item] = output(of.response(input=hi(), **asked), "reasoning")
    return "filled" if item.get("encrypted_content") else "empty"


def passed_back(of: Endpoint) -> str:
    """Whether the model sees its reasoning again: the prompt is longer by it."""
    asked = {"tools": [WEATHER], "include": ["reasoning.encrypted_content"], "store": False}
    history = [{"role": "user", "content": hi()}]
    first = of.response(input=history, **asked)["output"]
    outcome = {"type": "function_call_output", "call_id": first[-1]["call_id"], "output": "Sleet"}
    tokens = [
        of.response(input=[*history, *given, outcome], **asked)["usage"]["input_tokens"]
        for given in (first, first[-1:])
    ]
    return "yes" if tokens[0] > tokens[1] else "no"


def effort_none(of: Endpoint) -> str:
    response = of.response(input=hi(), reasoning={"effort": "none"})
    return "it thinks" if output(response, "reasoning") else "no reasoning"


def one_call(of: Endpoint) -> str:
    return called(of.response(input=hi(TERSE), tools=[WEATHER]))


def two_calls(of: Endpoint) -> str:
    return called(of.events(input=hi(TERSE, PAIR), tools=[WEATHER])[-1]["response"])


def required(of: Endpoint) -> str:
    return called(of.response(input=LOOKED_UP, tools=[WEATHER], tool_choice="required"))


def named(of: Endpoint) -> str:
    choice = {"type": "function", "name": "get_time"}
    return called(of.response(input=hi(TERSE), tools=[WEATHER, TIME], tool_choice=choice))


def forbidden(of: Endpoint) -> str:
    response = of.response(input=hi(TERSE), tools=[WEATHER], tool_choice="none")
    return "a call's markup as text" if CALL in text_of(response) else called(response)


def beside_schema(of: Endpoint) -> str:
    return called(of.response(input=hi(TERSE), tools=[WEATHER], text=SCHEMA))


def custom(of: Endpoint) -> str:
    return called(of.response(input=hi(TERSE), tools=[PATCH], tool_choice="required"))


def namespace(of: Endpoint) -> str:
    return called(of.response(input=hi(TERSE), tools=[NAMESPACE], tool_choice="required"))


def schema(of: Endpoint) -> str:
    text = text_of(of.response(input=hi(TERSE), text=SCHEMA))
    try:
        found = json.loads(text)
    except ValueError:
        return "ignored: the text is no JSON"
    return "kept" if isinstance(found, dict) and found.keys() == {"city", "people"} else "broken"


def limit_in_text(of: Endpoint) -> str:
    return status_of(of.response(input=hi(STORY, TERSE), max_output_tokens=20))


def limit_in_call(of: Endpoint) -> str:
    response = of.response(input=hi(TERSE), tools=[WEATHER], max_output_tokens=8)
    calls = [item["status"] for item in output(response, "function_call")]
    return f"{status_of(response)}; the call: {', '.join(calls) or 'none'}"


def reasoning_tokens(of: Endpoint) -> str:
    details = of.response(input=hi())["usage"].get("output_tokens_details")
    return "missing" if details is None else "there"


def overflow(of: Endpoint) -> str:
    return of.error(input="x " * 100_000)


def image(of: Endpoint) -> str:
    parts = [{"type": "input_image", "image_url": PIXEL, "detail": "auto"}]
    return of.error(input=[{"role": "user", "content": parts}])


def wrong_type(of: Endpoint) -> str:
    return of.error(input=5)


def previous(of: Endpoint) -> str:
    return of.error(input="Hi", previous_response_id="resp_1")


def metadata(of: Endpoint) -> str:
    response = of.response(input=hi(TERSE), metadata={"run": "7"}, temperature=0.5)
    told = [name for name in ("metadata", "temperature") if response.get(name)]
    return ", ".join(f"`{name}`" for name in told) or "nothing"


def compact(of: Endpoint) -> str:
    return str(of.post("/responses/compact", input="Hi there").status_code)


def count_tokens(of: Endpoint) -> str:
    return str(of.post("/responses/input_tokens", input="Hi there").status_code)


def connection(of: Endpoint) -> str:
    """Whether a second request can be sent on the connection of a streamed answer."""
    url = urlsplit(of.base_url)
    assert url.hostname is not None
    client = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
    body = json.dumps({"model": MODEL, "input": hi(TERSE), "stream": True})
    try:
        for _ in range(2):
            client.request("POST", f"{url.path}/responses", body)
            answer = client.getresponse()
            answer.read()
            if answer.will_close:
                return "closed, as its header says"
            assert client.sock is not None
            client.sock.settimeout(1)
            try:
                client.sock.recv(1)
                return "closed, against its header"
            except TimeoutError:
                client.sock.settimeout(TIMEOUT_S)
    finally:
        client.close()
    return "kept"


@dataclass(frozen=True)
class Point:
    """`expected` is None where translator does not do it either, or does not yet."""

    name: str
    look: Callable[[Endpoint], str]
    expected: str | None


CUT = "incomplete: max_output_tokens"

POINTS = (
    Point("events with their `sequence_number`", numbered, "all"),
    Point("events of items with an `output_index`", placed, "all"),
    Point("events that are valid by the types of `openai`, numbers aside", typed, "all"),
    Point("deltas that have their `done`", ended, "all"),
    Point("one output item ends before the next begins", one_at_a_time, "yes"),
    Point("the grammar of all events (tests/invariants.py)", grammar, "kept"),
    Point("fields of the response object", fields, "all"),
    Point("`openai`'s `responses.stream`", sdk, "reads it"),
    Point("reasoning, where a summary is asked for", thinks, "summary"),
    Point("`reasoning.encrypted_content`, asked for", sealed, "filled"),
    Point("reasoning given back reaches the model", passed_back, "yes"),
    Point("effort `none`", effort_none, "no reasoning"),
    Point("a call", one_call, "function_call: get_weather"),
    Point("parallel calls", two_calls, "function_call: get_weather, get_weather"),
    Point("`tool_choice` required", required, "function_call: get_weather"),
    Point("`tool_choice` names one of two", named, "function_call: get_time"),
    Point("`tool_choice` none, and a model that calls", forbidden, None),
    Point("a call where the text has a schema", beside_schema, None),
    Point("a free-form tool, required", custom, "custom_tool_call: apply_patch"),
    Point("a tool in a namespace, required", namespace, "function_call: atlas/population"),
    Point("a JSON schema for the text", schema, "kept"),
    Point("the limit ends the text", limit_in_text, CUT),
    Point("the limit ends a call", limit_in_call, f"{CUT}; the call: incomplete"),
    Point("`output_tokens_details` in the usage", reasoning_tokens, "there"),
    Point(
        "more than the context", overflow, "400 `invalid_request_error` `context_length_exceeded`"
    ),
    Point("an image for a model that only reads", image, None),
    Point("`input` of a wrong type", wrong_type, None),
    Point("`previous_response_id`", previous, None),
    Point("what the response repeats of the request", metadata, "`metadata`, `temperature`"),
    Point("`POST /v1/responses/compact`", compact, "200"),
    Point("`POST /v1/responses/input_tokens`", count_tokens, None),
    Point("the connection after a streamed answer", connection, "kept"),
)

# --- the page -------------------------------------------------------------------------------------

SEEN: dict[str, tuple[str, str]] = {}
"""What translator and the engine's own endpoint did, by the name of the point."""

ENGINE: list[str] = []
"""The name and version of the engine."""

PROBLEMS: list[str] = []


def version_of(engine: str) -> str:
    if engine == "llama.cpp":
        return f"llama.cpp b{importlib.metadata.version('xllamacpp').rpartition('.')[2]}"
    return engine


def table(seen: dict[str, tuple[str, str]], engine: str) -> str:
    rows = [(point.name, *seen[point.name]) for point in POINTS]
    head: Sequence[tuple[str, ...]] = [("", "translator", f"{engine}, by itself"), ("---",) * 3]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the page, or compare it, when all points were asked."""
    if SEEN.keys() != {point.name for point in POINTS} or session.exitstatus not in (0, 1):
        return
    name = ENGINE[0].partition(" ")[0]
    block = re.compile(
        rf"(?<=<!-- comparison: {re.escape(name)} -->\n).*?(?=<!-- /comparison -->)", re.DOTALL
    )
    page = PAGE.read_text("utf-8")
    found = block.search(page)
    assert found is not None, f"{PAGE} has no place for {name}"
    seen = table(SEEN, name)
    if os.environ.get("TRANSLATOR_WRITE_COMPARISON"):
        today = dt.datetime.now(dt.UTC).date()
        when = f"Seen on {today} with translator {__version__} and {ENGINE[0]}.\n\n"
        PAGE.write_text(block.sub(lambda _: f"{when}{seen}\n", page), "utf-8")
    elif os.environ.get("TRANSLATOR_REQUIRE_ENGINES", "") not in ("", "0") and seen not in found[0]:
        PROBLEMS.append("docs/engines.md does not say what was seen: `make engines` writes it")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if PROBLEMS:
        terminalreporter.section("comparison with engines")
        for problem in PROBLEMS:
            terminalreporter.line(problem)
