"""The target `calls`: answers with tool calls, built from the bytes of the input.

    tidy      calls as the API describes them: interleaved, cut anywhere, with text around them
    odd       indexes, ids and names that are missing, repeated, shared, or come in parts
    native    calls that the model wrote as text, for dialects that read them

All give valid events with one end, however the body is cut. Tidy and native calls are known before
they are sent, so each must come back whole: its name, its id and its arguments, streamed or not.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

import translator
from tests.invariants import check_events, check_response_types
from tests.replaying import chunk, replay, sse, translation
from translator import Dialect, UpstreamError
from translator.dialects import BASE

from .draws import Draws

Json = dict[str, Any]

FUNCTIONS = ("get_weather", "add", "f")
NAMES = (*FUNCTIONS, "n__g", "patch", "shell")
ODD_NAMES = (
    *NAMES, "get_", "weather", "f<|channel|>json", "functions.f", "never declared", "\ud83d",
)  # fmt: skip
ODD_IDS = ("", "call_1", "call_2", "call", "functions.f:0", "call_1~2", "\ud83d", "é" * 70)
ODD_ARGUMENTS = (
    "", "{", "}", '{"a":', '"1"}', "{}", "null", "nu", "[1]", '{"a":1}', '{"input":"x', "\\u",
    "\ud83d", '{"commands":["ls"]}', "</tool_call>", " ",
)  # fmt: skip
FINISHES = (
    "tool_calls", "stop", "function_call", "tool_use", "eos", "length", "content_filter", "error",
    "model_context_window_exceeded", "never heard of", "",
)  # fmt: skip
WORDS = ("a", "b ", "é", "😀", '"', "\\", "\n", "{", "}", "5", "null", "<", "\u2028", "\x00", "[]")
PLAIN_WORDS = ("a", "b", "Paris", "é", "😀", "ls -l")
"""Words of values in native calls: no mark of any syntax."""

REQUEST: Json = {
    "model": "m",
    "input": "Hi",
    "stream": True,
    "tools": [
        *({"type": "function", "name": name} for name in FUNCTIONS),
        {
            "type": "namespace",
            "name": "n",
            "description": "d",
            "tools": [{"type": "function", "name": "g"}],
        },
        {"type": "custom", "name": "patch"},
        {"type": "shell"},
    ],
}

_DIALECTS = [translator.DIALECTS[name] for name in sorted(translator.DIALECTS)]


class Call(Struct, frozen=True):
    """A call as the model made it; `arguments` is JSON text, `id` "" where it has none."""

    name: str
    arguments: str
    id: str = ""


class Answer(Struct, frozen=True):
    """One answer of an upstream; `calls` None where nobody knows what it should become."""

    dialect: Dialect
    request: Json
    chunks: list[Json]
    message: Json
    """The same without a stream."""
    finish: str
    done: bool
    calls: list[Call] | None = None


def calls(data: bytes) -> None:
    """An answer with calls, as a stream and as one body."""
    draws = Draws(data)
    answer = draws.pick((tidy, odd, native))(draws)
    body = _stream(draws, answer)
    events, response = replay(body, answer.request, dialect=answer.dialect)
    final = check_events(events)
    step = 1 + draws.number(64)
    cut = (body[start : start + step] for start in range(0, len(body), step))
    _, again = replay(cut, answer.request, dialect=answer.dialect)
    assert (again.status, again.output) == (response.status, response.output)
    check_calls(answer, final)
    try:
        whole = translation({**answer.request, "stream": False}, dialect=answer.dialect).complete(
            _completion(answer)
        )
    except UpstreamError:
        assert answer.calls is None
        return
    final = json.loads(translator.encode_json(whole))
    check_response_types(final)
    check_calls(answer, final)


def check_calls(answer: Answer, final: Json) -> None:
    """The calls of a final response are those of the answer."""
    if answer.calls is None:
        return
    made = answer.calls if answer.request.get("parallel_tool_calls", True) else answer.calls[:1]
    assert final["status"] == "completed", final["error"]
    items = [item for item in final["output"] if "call_id" in item]
    assert [_content(item) for item in items] == [_expected(call) for call in made]
    for item, call in zip(items, made, strict=True):
        assert item["call_id"]
        assert call.id in ("", item["call_id"])


def _content(item: Json) -> tuple[str, Any]:
    match item["type"]:
        case "function_call":
            namespace = item.get("namespace")
            name = item["name"] if namespace is None else f"{namespace}__{item['name']}"
            return name, item["arguments"]
        case "custom_tool_call":
            return item["name"], item["input"]
        case kind:
            return kind.removesuffix("_call"), item["action"]["commands"]


def _expected(call: Call) -> tuple[str, Any]:
    match call.name:
        case "patch":
            return call.name, json.loads(call.arguments)["input"]
        case "shell":
            return call.name, json.loads(call.arguments)["commands"]
        case name:
            return name, call.arguments or "{}"


# --- the three kinds of answer --------------------------------------------------------------------


def tidy(draws: Draws) -> Answer:
    """Calls with an index, an id and a name in their first delta, and arguments in slices."""
    made = [_call(draws, number) for number in range(1 + draws.number(12))]
    first = draws.pick((0, 1, 7))
    waiting = [_deltas(draws, first + number, call) for number, call in enumerate(made)]
    chunks = [*_narrative(draws)]
    begun = 0
    while any(waiting[:begun]) or begun < len(waiting):
        ready = [number for number in range(begun) if waiting[number]]
        if begun < len(waiting) and (not ready or draws.flag()):
            ready = [begun]
            begun += 1
        group = [waiting[draws.pick(ready)].pop(0)]
        chunks.append(chunk({"tool_calls": group}))
    message = {"content": None, "tool_calls": [_whole(call) for call in made]}
    return Answer(
        dialect=draws.pick(_DIALECTS),
        request=REQUEST | ({"parallel_tool_calls": False} if draws.rarely() else {}),
        chunks=chunks,
        message=message,
        finish=draws.pick(("tool_calls", "stop", "function_call")),
        done=draws.flag(),
        calls=made,
    )


def odd(draws: Draws) -> Answer:
    """Deltas in any order, with any keys."""
    chunks = [*_narrative(draws)]
    names = draws.pick((ODD_NAMES, (*ODD_NAMES, "", None)))
    while draws.left and len(chunks) < 200:
        if draws.rarely():
            chunks += _narrative(draws)
            continue
        deltas = [
            _odd_delta(draws, names) for _ in range(1 + (draws.number(4) if draws.rarely() else 0))
        ]
        fields: Json = {"tool_calls": deltas}
        if draws.rarely():
            fields = {"function_call": deltas[0].get("function")}
        one = chunk(fields, draws.pick(FINISHES) if draws.rarely() else None)
        if draws.rarely():
            one["choices"][0]["index"] = 1
        chunks.append(one)
    dialect = draws.pick(_DIALECTS)
    if draws.flag():
        dialect = _recovers(dialect)
    deltas = [delta for one in chunks for delta in _deltas_of(one)]
    return Answer(
        dialect=dialect,
        request=REQUEST | ({"parallel_tool_calls": False} if draws.rarely() else {}),
        chunks=chunks,
        message={"content": None, "tool_calls": deltas},
        finish=draws.pick(FINISHES),
        done=draws.flag(),
    )


def native(draws: Draws) -> Answer:
    """Calls as text, in one of the syntaxes; cut short, or undeclared, they stay text."""
    style = draws.pick(STYLES)
    values: list[tuple[str, Json]] = []
    for _ in range(1 + draws.number(4)):
        keys = [f"k{number}" for number in range(draws.number(3))]
        given = {key: draws.pick((draws.text(PLAIN_WORDS, 3), 5, True, ["a"])) for key in keys}
        values.append((draws.pick(FUNCTIONS), {key: v for key, v in given.items() if v != ""}))
    text = style(values)
    made: list[Call] | None = [Call(name, _compact(given)) for name, given in values]
    dialect = BASE
    if draws.rarely():
        text, made = text[: draws.number(len(text) + 1)], None
    if draws.rarely():
        name, other = draws.pick(FUNCTIONS), draws.pick(ODD_NAMES)
        text, made = text.replace(name, other.encode("utf-8", "replace").decode()), None
    if draws.rarely():
        dialect, made = draws.pick(_DIALECTS), None
    field = draws.pick(("content", "reasoning_content", "reasoning"))
    chunks = [chunk({field: part}) for part in draws.slices(text, 6)]
    return Answer(
        dialect=_recovers(dialect),
        request=REQUEST,
        chunks=[*([chunk({field: "So. "})] if draws.rarely() else ()), *chunks],
        message={field: text},
        finish=draws.pick(("stop", "tool_calls")),
        done=draws.flag(),
        calls=made,
    )


def _recovers(dialect: Dialect) -> Dialect:
    return msgspec.structs.replace(dialect, recover_calls=True)


# --- their parts ----------------------------------------------------------------------------------


def _call(draws: Draws, number: int) -> Call:
    name = draws.pick(NAMES)
    text = draws.text(WORDS, 12)
    match name:
        case "patch":
            arguments: Json = {"input": text}
        case "shell":
            arguments = {"commands": [text]}
        case _:
            arguments = {text: draws.text(WORDS, 4)} if text else {}
    encoded = json.dumps(arguments, ensure_ascii=draws.flag(), indent=draws.pick((None, 1)))
    if not arguments and draws.flag():
        encoded = ""
    return Call(name, encoded, f"call_{number}")


def _deltas(draws: Draws, index: int, call: Call) -> list[Json]:
    parts = draws.slices(call.arguments, 4)
    first = {"name": call.name, "arguments": parts.pop(0) if draws.flag() else ""}
    return [
        {"index": index, "id": call.id, "type": "function", "function": first},
        *({"index": index, "function": {"arguments": part}} for part in parts),
    ]


def _whole(call: Call) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _odd_delta(draws: Draws, names: Sequence[str | None]) -> Json:
    function: Json = {}
    if None not in names or draws.flag():
        function["name"] = draws.pick(names)
    if not draws.rarely():
        function["arguments"] = draws.pick((*ODD_ARGUMENTS, None, {"a": 1}, {"a": "\ud83d"}))
    delta: Json = {"function": function} if function or draws.flag() else {}
    if draws.flag():
        delta["index"] = draws.pick((0, 0, 1, 2, 3, -1, 2**31, None, "0"))
    if draws.flag():
        delta["id"] = draws.pick((*ODD_IDS, None, 5))
    if draws.rarely():
        delta["extra_content"] = {"google": {"thought_signature": "x"}}
    return delta


def _deltas_of(one: Json) -> list[Json]:
    return one["choices"][0]["delta"].get("tool_calls") or []


def _narrative(draws: Draws) -> Iterator[Json]:
    """Some text or reasoning, or none."""
    field = draws.pick(("content", "reasoning_content", ""))
    if field:
        text = draws.text(("Let me see. ", "é", " ", "😀"), 4)
        yield from (chunk({field: part}) for part in draws.slices(text, 2))


def _stream(draws: Draws, answer: Answer) -> bytes:
    chunks = [*answer.chunks, chunk({}, answer.finish)]
    if draws.flag():
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        chunks.append({"id": "x", "choices": [], "usage": usage})
    return sse(*chunks, *(["[DONE]"] if answer.done else ()))


def _completion(answer: Answer) -> bytes:
    message = {"role": "assistant", **answer.message}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish}
    return json.dumps({"id": "x", "choices": [choice]}).encode()


# --- calls as text --------------------------------------------------------------------------------

Values = list[tuple[str, Json]]


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _raw(value: object) -> str:
    """A value as the syntaxes with tags write it: text without quotes, all else as JSON."""
    return value if isinstance(value, str) else _compact(value)


def _each(before: str, one: Callable[[str, Json], str], after: str) -> Callable[[Values], str]:
    return lambda values: f"{before}{''.join(itertools.starmap(one, values))}{after}"


def _pairs(given: Json, template: str) -> str:
    return "".join(template.format(key, _raw(value)) for key, value in given.items())


def _dsml(name: str, given: Json) -> str:
    pairs = "".join(
        f'<｜DSML｜parameter name="{key}" string="{str(isinstance(value, str)).lower()}">'
        f"{_raw(value)}</｜DSML｜parameter>"
        for key, value in given.items()
    )
    return f'<｜DSML｜invoke name="{name}">{pairs}</｜DSML｜invoke>'


def _fenced(values: Values) -> str:
    listed = [{"function": {"name": name, "arguments": given}} for name, given in values]
    return f"```json\n{_compact({'tool_calls': listed})}\n```"


_MINIMAX_PARAMETER = '<parameter name="{}">{}</parameter>'

STYLES: tuple[Callable[[Values], str], ...] = (
    _each("<｜DSML｜tool_calls>", _dsml, "</｜DSML｜tool_calls>"),
    _each(
        "<｜tool▁calls▁begin｜>",
        lambda name, given: (
            f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{_compact(given)}<｜tool▁call▁end｜>"
        ),
        "<｜tool▁calls▁end｜>",
    ),
    _each(
        "<|tool_calls_section_begin|>",
        lambda name, given: (
            f"<|tool_call_begin|>functions.{name}<|tool_call_argument_begin|>"
            f"{_compact(given)}<|tool_call_end|>"
        ),
        "<|tool_calls_section_end|>",
    ),
    _each(
        "",
        lambda name, given: (
            f"<tool_call>{name}\n"
            f"{_pairs(given, '<arg_key>{}</arg_key><arg_value>{}</arg_value>')}</tool_call>\n"
        ),
        "",
    ),
    _each(
        "",
        lambda name, given: (
            f"<tool_call>{_compact({'name': name, 'arguments': given})}</tool_call>\n"
        ),
        "",
    ),
    _each(
        "",
        lambda name, given: (
            f"<tool_call><function={name}>{_pairs(given, '<parameter={}>{}</parameter>')}"
            "</function></tool_call>\n"
        ),
        "",
    ),
    _each(
        "<minimax:tool_call>",
        lambda name, given: f'<invoke name="{name}">{_pairs(given, _MINIMAX_PARAMETER)}</invoke>',
        "</minimax:tool_call>",
    ),
    _fenced,
)
"""The syntaxes of `translator/reader/native_calls.py`, one function each."""
