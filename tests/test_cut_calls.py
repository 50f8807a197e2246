"""A call that stops in the middle of its arguments: nothing that was cut is called done."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

import translator
from tests.invariants import check_events
from tests.replaying import REQUEST, chunk, replay, sse, translation
from translator import Response, Target, UpstreamError
from translator.common.json_text import is_cut_object
from translator.dialects import BASE, Dialect

LIMIT = 64
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "f"},
    {"type": "function", "name": "g"},
    {"type": "custom", "name": "exec"},
    {"type": "local_shell"},
    {"type": "shell"},
    {"type": "apply_patch"},
    {"type": "tool_search", "execution": "client"},
]
ASK = {**REQUEST, "tools": TOOLS}
LIMITED = {**ASK, "max_output_tokens": LIMIT}
HALF = '{"input": "rm -rf /tmp/build/'


def call(name: str, arguments: str, index: int = 0) -> dict[str, Any]:
    return {"index": index, "id": f"c{index}", "function": {"name": name, "arguments": arguments}}


def usage(tokens: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": 50, "completion_tokens": tokens, "total_tokens": 50 + tokens, **more}


def alone(tokens: int, **more: Any) -> dict[str, Any]:
    return {"choices": [], "usage": usage(tokens, **more)}


def streamed(
    *payloads: Any, request: dict[str, Any] = LIMITED, dialect: str | Dialect = "base"
) -> Response:
    events, response = replay(sse(*payloads), request, dialect=dialect)
    check_events(events)
    return response


def whole(
    calls: list[dict[str, Any]],
    finish: str | None,
    used: dict[str, Any] | None,
    request: dict[str, Any] = LIMITED,
) -> Response:
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    body = {"object": "chat.completion", "choices": [choice]} | ({"usage": used} if used else {})
    return translation({**request, "stream": False}).complete(json.dumps(body).encode())


def states(response: Response) -> list[tuple[str, str]]:
    """The types of the items and what has become of them."""
    output = json.loads(translator.encode_json(response))["output"]
    return [(item["type"], item["status"]) for item in output]


def end(response: Response) -> str:
    if response.incomplete_details:
        return response.incomplete_details.reason
    return response.error.code if response.error else response.status


KINDS = [
    ("exec", HALF, "custom_tool_call"),
    ("exec", '{"inp', "custom_tool_call"),
    ("exec", '{"command": "rm -rf /tmp/', "custom_tool_call"),
    ("f", '{"a": 1', "function_call"),
    ("f", "{", "function_call"),
    ("unknown", '{"a": "', "function_call"),
    ("local_shell", '{"command": ["rm", "-rf", "/tmp', "function_call"),
    ("shell", '{"commands": ["rm -rf /tmp/"', "function_call"),
    ("apply_patch", '{"type": "delete_file", "path": "src', "function_call"),
    ("tool_search", '{"query": "x"', "function_call"),
]


@pytest.mark.parametrize(("name", "arguments", "kind"), KINDS)
@pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call", "xyz", None])
def test_a_cut_call_at_the_limit_is_incomplete(
    name: str, arguments: str, kind: str, finish: str | None
) -> None:
    """Whatever the finish reason is, and where there is none, too."""
    for used in (usage(LIMIT), usage(LIMIT + 1)):
        response = streamed(
            chunk({"tool_calls": [call(name, arguments)]}),
            chunk({}, finish),
            {"choices": [], "usage": used},
            "[DONE]",
        )
        assert (end(response), states(response)) == ("max_output_tokens", [(kind, "incomplete")])
    if finish is not None:
        response = whole([call(name, arguments)], finish, usage(LIMIT))
        assert (end(response), states(response)) == ("max_output_tokens", [(kind, "incomplete")])


@pytest.mark.parametrize(
    ("used", "request_"),
    [
        (usage(LIMIT - 1), LIMITED),
        (usage(LIMIT), ASK),
        (None, LIMITED),
        ({"prompt_tokens": 50}, LIMITED),
        ({"prompt_tokens": 50, "completion_tokens": None, "total_tokens": 500}, LIMITED),
    ],
)
@pytest.mark.parametrize(("name", "arguments", "kind"), KINDS)
def test_any_other_cut_call_is_a_failure_that_clients_retry(
    name: str, arguments: str, kind: str, used: dict[str, Any] | None, request_: dict[str, Any]
) -> None:
    del kind
    given, response = replay(
        sse(chunk({"tool_calls": [call(name, arguments)]}), chunk({}, "tool_calls", usage=used), "[DONE]"),
        request_,
    )  # fmt: skip
    check_events(given)
    assert (end(response), states(response)) == ("server_error", [])
    with pytest.raises(UpstreamError) as raised:
        whole([call(name, arguments)], "tool_calls", used, request_)
    assert raised.value.status_hint == 502
    assert "x-should-retry" not in raised.value.headers


def test_the_limit_is_the_one_that_was_sent() -> None:
    """Under any name, by a client, a dialect or a model of the operator's."""
    extra = msgspec.structs.replace(BASE, extra={"max_tokens": 10})
    other = msgspec.structs.replace(BASE, max_tokens_field="max_completion_tokens")
    renamed = msgspec.structs.replace(BASE, renamed={"max_tokens": "max_new_tokens"})
    forwarded = translator.Options(forward=("max_completion_tokens",))
    for request, options in (
        ({**LIMITED, "max_output_tokens": 10}, {}),
        ({**LIMITED, "max_output_tokens": 10}, {"dialect": other}),
        ({**LIMITED, "max_output_tokens": 10}, {"dialect": renamed}),
        (ASK, {"dialect": extra}),
        (ASK, {"target": Target(max_output_tokens=10)}),
        (LIMITED, {"target": Target(max_output_tokens=10)}),
        ({**ASK, "max_completion_tokens": 10}, {"options": forwarded}),
    ):
        for tokens, expected in ((10, "max_output_tokens"), (9, "server_error")):
            t = translation(request, **options)  # type: ignore[arg-type]
            t.forget_request()
            given = t.receive(
                sse(chunk({"tool_calls": [call("exec", HALF)]}, "stop"), alone(tokens))
            )
            check_events(given + t.close())
            assert end(t.response) == expected
    odd = {**ASK, "max_completion_tokens": "many"}
    t = translation(odd, options=forwarded)
    t.receive(sse(chunk({"tool_calls": [call("exec", HALF)]}, "stop"), alone(10)))
    t.close()
    assert end(t.response) == "server_error"


def test_reasoning_counts_towards_the_limit() -> None:
    """Counted beside the completion, or in it."""
    half = chunk({"tool_calls": [call("f", '{"a')]}, "tool_calls")
    beside = {
        "prompt_tokens": 1,
        "completion_tokens": 4,
        "total_tokens": 65,
        "reasoning_tokens": 60,
    }
    assert end(streamed(half, {"choices": [], "usage": beside})) == "max_output_tokens"
    inside = alone(LIMIT, completion_tokens_details={"reasoning_tokens": 60})
    assert end(streamed(half, inside)) == "max_output_tokens"


def test_earlier_calls_stay_whole() -> None:
    first, second = call("f", '{"a": 1}'), call("exec", HALF, 1)
    for used, expected in (
        (LIMIT, ("max_output_tokens", ["completed", "incomplete"])),
        (5, ("server_error", ["completed"])),
    ):
        response = streamed(chunk({"tool_calls": [first, second]}, "tool_calls"), alone(used))
        assert (end(response), [state for _, state in states(response)]) == expected


@pytest.mark.parametrize("finish", ["tool_calls", "length", "content_filter"])
@pytest.mark.parametrize(
    "behind",
    [[chunk({"tool_calls": [call("g", "{}", 1)]})], [chunk({"content": "Done."})]],
    ids=["call", "text"],
)
def test_nothing_stands_behind_a_cut_call(finish: str, behind: list[Any]) -> None:
    """It is the last item of an answer that was cut, since only that may be incomplete."""
    half = chunk({"tool_calls": [call("exec", HALF)]})
    response = streamed(half, *behind, chunk({}, finish), alone(LIMIT))
    assert response.status == "incomplete"
    assert states(response) == [("custom_tool_call", "incomplete")]
    response = streamed(half, *behind, chunk({}, "stop"), alone(5))
    assert (end(response), states(response)) == ("server_error", [])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("f", '{"a": tru}'),
        ("f", '{"a": [1}'),
        ("f", '{"a":1}}'),
        ("f", r"{\"a\": \"b\"}"),
        ("f", "{'a': 'it}"),
        ("f", '{"a": "say "hi{"}'),
        ("f", "[1, 2"),
        ("f", '"a'),
        ("f", ""),
        ("f", " \n"),
        ("f", "null"),
        ("exec", "ls -la {"),
        ("exec", '"C:\\Program Files\\x.exe'),
        ("exec", "{ ls; }"),
    ],
)
def test_arguments_that_end_are_whole_and_raw_text_is_text(name: str, arguments: str) -> None:
    for used in (LIMIT, 5):
        response = streamed(chunk({"tool_calls": [call(name, arguments)]}, "stop"), alone(used))
        assert end(response) == "completed"
        assert [state for _, state in states(response)] == ["completed"]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ('{"a": {"b": 1}', True),
        ('{"a": "x", ', True),
        ('{"a": "x\\', True),
        ('{"a": "\\u12', True),
        ('{"a": "f() { return 1; }', True),
        ('{"a": "C:\\dir {x}', True),
        ('{"a": "x\n}', True),
        ('{"a":1}{"b', True),
        ("{'a': 'it", True),
        ('  {"a": 1', True),
        ('{"a": ' * 3000 + "}", True),
        ('{"a":1} "', False),
        ("ls {", False),
        ("", False),
    ],
)
def test_where_an_object_is_cut(text: str, cut: bool) -> None:
    assert is_cut_object(text) is cut


def test_every_beginning_of_an_object_is_cut() -> None:
    text = json.dumps({"input": 'a "b" {c} \\ \u00e9 \n', "x": [{"y": None}, [1.5]], "z": {}})
    assert [size for size in range(1, len(text)) if not is_cut_object(text[:size])] == []
    assert not is_cut_object(text)


def test_a_body_that_breaks_off_does_not_count_calls_that_are_cut() -> None:
    lenient = msgspec.structs.replace(BASE, lenient_eof=True)
    half = chunk({"tool_calls": [call("f", '{"a"')]})
    assert end(streamed(half, dialect=lenient)) == "server_error"
    response = streamed(chunk({"tool_calls": [call("f", "{}")]}), half, dialect=lenient)
    assert end(response) == "server_error"


def test_a_summary_behind_which_a_call_is_cut_is_none() -> None:
    request = {"model": "m", "input": [{"role": "user", "content": "a"}, {"type": "compaction_trigger"}], "stream": True}  # fmt: skip
    text = chunk({"content": "A summary."})
    half = chunk({"tool_calls": [call("f", '{"a"')]}, "stop")
    response = streamed(text, half, request=request)
    assert (end(response), response.output) == ("server_error", [])
    limited = request | {"max_output_tokens": LIMIT}
    response = streamed(text, half, alone(LIMIT), request=limited)
    assert (end(response), response.output) == ("max_output_tokens", [])


# --- a prompt that fills the window ---------------------------------------------------------------


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MODEL_LENGTH"])
def test_length_without_a_token_is_a_full_context_window(finish: str) -> None:
    for payloads in (
        [chunk({"role": "assistant", "content": ""}), chunk({}, finish, usage=usage(0))],
        [chunk({"content": "\n"}), chunk({}, finish), alone(0), "[DONE]"],
    ):
        assert end(streamed(*payloads)) == "context_length_exceeded"
    with pytest.raises(UpstreamError) as raised:
        whole([], finish, usage(0))
    assert (raised.value.status_hint, raised.value.code) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    "payloads",
    [
        [chunk({}, "length")],
        [chunk({}, "length", usage={"prompt_tokens": 50})],
        [chunk({}, "length", usage={"prompt_tokens": 50, "completion_tokens": None})],
        [chunk({}, "length", usage={"prompt_tokens": 50, "completion_tokens": "many"})],
        [chunk({}, "length", usage=usage(1)), {"choices": [], "usage": {"prompt_tokens": 50}}],
        [chunk({}, "length", usage=usage(1))],
        [chunk({"content": "a"}, "length", usage=usage(0))],
        [chunk({"reasoning": "a"}, "length", usage=usage(0))],
        [chunk({"tool_calls": [call("f", "")]}, "length", usage=usage(0))],
        [chunk({}, "length", usage=usage(0, reasoning_tokens=9, total_tokens=59))],
        [chunk({}, "length", usage=usage(0, completion_tokens_details={"reasoning_tokens": 9}))],
    ],
)
def test_any_other_length_is_the_token_limit(payloads: list[Any]) -> None:
    assert end(streamed(*payloads)) == "max_output_tokens"
