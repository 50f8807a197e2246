"""Rules that hold for every answer and every way of sending it. The docstring is the rule."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

import translator
from tests import strategies as draws
from tests.invariants import check_events, check_response_types
from tests.replaying import REQUEST, cut, replay, translation
from translator import Options
from translator.wire import events, items

TOOLS = [
    {"type": "function", "name": name, "parameters": {"type": "object"}}
    for name in ("get_weather", "add", "exec_command", "f", "a-b_c")
]
ASKING = {**REQUEST, "tools": TOOLS, "include": ["reasoning.encrypted_content"]}


def wire(given_events: list[events.Event]) -> list[bytes]:
    return [translator.encode_sse(event) for event in given_events]


def said(response: translator.Response) -> list[Any]:
    """The output without the ids that each run makes up."""
    output = json.loads(translator.encode_json(response))["output"]
    return [{key: value for key, value in item.items() if key != "id"} for item in output]


def done_events(given_events: list[events.Event]) -> list[Any]:
    """What clients keep of a stream: everything but the deltas and the numbering."""
    kept = []
    for event in given_events:
        body = json.loads(translator.encode_json(event))
        if not body["type"].endswith(".delta"):
            kept.append({key: value for key, value in body.items() if key != "sequence_number"})
    return kept


@given(st.data(), draws.answers())
def test_every_answer_becomes_a_legal_event_list(data: st.DataObject, answer: draws.Answer) -> None:
    """Numbering, nesting, agreement of deltas and items, types: all rules of a response hold."""
    body = draws.body_of(data.draw(draws.streams(answer, interleave=True)))
    family = data.draw(st.sampled_from(["summary", "text", "both", "none"]))
    given_events, _ = replay(body, ASKING, options=Options(reasoning_events=family))
    check_events(given_events)


@given(st.data(), draws.answers())
def test_nothing_is_lost_and_nothing_invented(data: st.DataObject, answer: draws.Answer) -> None:
    """The output says what the model said: reasoning, text, refusal, calls, and usage."""
    _, response = replay(draws.body_of(data.draw(draws.streams(answer))), ASKING)
    thoughts = [item for item in response.output if isinstance(item, items.Reasoning)]
    messages = [item for item in response.output if isinstance(item, items.Message)]
    calls = [item for item in response.output if isinstance(item, items.FunctionCall)]
    assert "".join(part.text for item in thoughts for part in item.summary) == answer.reasoning
    parts = [part for item in messages for part in item.content]
    texts = [part.text for part in parts if isinstance(part, items.OutputText)]
    refusals = [part.refusal for part in parts if isinstance(part, items.OutputRefusal)]
    assert "".join(texts) == answer.text
    assert "".join(refusals) == answer.refusal
    assert [(c.call_id, c.name, c.arguments) for c in calls] == [
        (c.id, c.name, c.arguments) for c in answer.calls
    ]
    assert response.status == ("incomplete" if answer.finish == "length" else "completed")
    if answer.usage is None:
        assert response.usage is None
    else:
        assert response.usage is not None
        assert response.usage.input_tokens == answer.usage["prompt_tokens"]
        assert response.usage.output_tokens == answer.usage["completion_tokens"]


@given(st.data(), draws.answers())
def test_packet_boundaries_do_not_matter(data: st.DataObject, answer: draws.Answer) -> None:
    """However the network cuts the upstream body, the client sees the same events."""
    body = draws.body_of(data.draw(draws.streams(answer, interleave=True)))
    places = data.draw(st.lists(st.integers(0, len(body)), max_size=12))
    assert wire(replay(cut(body, places), ASKING)[0]) == wire(replay(body, ASKING)[0])


@given(st.data(), draws.answers())
def test_delta_boundaries_move_deltas_only(data: st.DataObject, answer: draws.Answer) -> None:
    """However the upstream slices its texts, everything but the deltas stays the same."""
    manner = draws.Manner()
    one = draws.body_of(data.draw(draws.streams(answer, manner=manner)))
    other = draws.body_of(data.draw(draws.streams(answer, manner=manner)))
    assert done_events(replay(one, ASKING)[0]) == done_events(replay(other, ASKING)[0])


@given(st.data(), draws.answers())
def test_interleaved_calls_come_out_in_order(data: st.DataObject, answer: draws.Answer) -> None:
    """Calls whose pieces arrive mixed give the same items as calls that arrive one by one."""
    manner = draws.Manner()
    mixed = draws.body_of(data.draw(draws.streams(answer, manner=manner, interleave=True)))
    plain = draws.body_of(data.draw(draws.streams(answer, manner=manner)))
    assert done_events(replay(mixed, ASKING)[0]) == done_events(replay(plain, ASKING)[0])


@given(st.data(), draws.answers())
def test_manners_do_not_matter(data: st.DataObject, answer: draws.Answer) -> None:
    """Roles, empty keys, extra keys, places of usage, a missing [DONE]: the response is the same."""
    manner = data.draw(draws.manners())
    body = draws.body_of(data.draw(draws.streams(answer, manner=manner)), done=manner.done)
    plain = draws.body_of(data.draw(draws.streams(answer, manner=draws.Manner())))
    _, odd = replay(body)
    _, even = replay(plain)
    assert said(odd) == said(even)
    assert (odd.status, odd.usage) == (even.status, even.usage)


NOISE = st.sampled_from([b": ping\n\n", b": OPENROUTER PROCESSING\n", b"\n", b"data:\n\n", b"event: message\n", b"id: 7\nretry: 10\n"])  # fmt: skip


@given(st.data(), draws.answers())
def test_framing_does_not_matter(data: st.DataObject, answer: draws.Answer) -> None:
    """Line ends, comments, names, blank data, a BOM: the events are the same."""
    body = draws.body_of(data.draw(draws.streams(answer)))
    frames = [frame + b"\n\n" for frame in body.split(b"\n\n") if frame]
    noisy = b"".join(b"".join(data.draw(st.lists(NOISE, max_size=2))) + frame for frame in frames)
    if data.draw(st.booleans()):
        noisy = noisy.replace(b"data: ", data.draw(st.sampled_from([b"data:", b" data: "])))
    end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    noisy = noisy.replace(b"\n", end)
    if data.draw(st.booleans()):
        noisy = b"\xef\xbb\xbf" + noisy
    if data.draw(st.booleans()):
        noisy = noisy.rstrip()
    places = data.draw(st.lists(st.integers(0, len(noisy)), max_size=6))
    assert wire(replay(cut(noisy, places), ASKING)[0]) == wire(replay(body, ASKING)[0])


@given(st.data(), draws.answers())
def test_streaming_or_not_is_the_same_response(data: st.DataObject, answer: draws.Answer) -> None:
    """The JSON answer is the last snapshot of the stream."""
    _, streamed = replay(draws.body_of(data.draw(draws.streams(answer))), ASKING)
    body = draws.completion_of(answer)
    whole = translation({**ASKING, "stream": False}).complete(body)
    check_response_types(json.loads(translator.encode_json(whole)))
    if not data.draw(st.booleans()):
        _, whole = replay(body, ASKING)  # JSON although a stream was asked for
    assert translator.encode_json(msgspec.structs.replace(whole, output=[])) == (
        translator.encode_json(msgspec.structs.replace(streamed, output=[]))
    )
    blobless = [
        [{k: v for k, v in item.items() if k != "encrypted_content"} for item in said(response)]
        for response in (whole, streamed)
    ]
    assert blobless[0] == blobless[1]


@given(draws.TEXT | st.text(), st.data())
def test_free_form_input_comes_out_as_it_was_meant(text: str, data: st.DataObject) -> None:
    """For every text and every cut of its JSON, the deltas of a free-form call join to the text."""
    escaped = data.draw(st.booleans())
    text = text.encode("utf-8", "ignore").decode()
    arguments = json.dumps({"input": text}, ensure_ascii=escaped)
    request = {**REQUEST, "tools": [{"type": "custom", "name": "patch"}]}
    call = draws.Call("call_1", "patch", arguments)
    chunks = data.draw(draws.streams(draws.Answer(calls=(call,), finish="tool_calls")))
    given_events, response = replay(draws.body_of(chunks), request)
    check_events(given_events)
    (item,) = response.output
    assert isinstance(item, items.CustomToolCall)
    assert item.input == text
    deltas = [e.delta for e in given_events if isinstance(e, events.CustomToolCallInputDelta)]
    assert "".join(deltas) == text


@given(st.data(), draws.answers(), st.sets(draws.NAMES))
def test_only_allowed_tools_are_called(
    data: st.DataObject, answer: draws.Answer, names: set[str]
) -> None:
    """With `allowed_tools`, no call of another tool reaches the client."""
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": n} for n in sorted(names)]}  # fmt: skip
    given_events, response = replay(
        draws.body_of(data.draw(draws.streams(answer))), {**ASKING, "tool_choice": allowed}
    )
    check_events(given_events)
    called = [item.name for item in response.output if isinstance(item, items.FunctionCall)]
    assert called == [call.name for call in answer.calls if call.name in names]


# --- there and back -----------------------------------------------------------------------------


@given(st.data(), draws.answers(), st.sampled_from(["base", "fireworks", "deepseek", "vllm"]))
def test_a_turn_comes_back_to_the_upstream_as_it_was(
    data: st.DataObject, answer: draws.Answer, dialect: str
) -> None:
    """A client that appends the output to its input gives the upstream its own words back."""
    manner = draws.Manner()
    body = draws.body_of(data.draw(draws.streams(answer, manner=manner)))
    _, response = replay(body, ASKING, dialect=dialect)
    output = json.loads(translator.encode_json(response))["output"]
    results = [
        {"type": "function_call_output", "call_id": call.id, "output": f"result of {call.id}"}
        for call in answer.calls
    ]
    again = {
        **ASKING,
        "input": [
            {"role": "user", "content": "Hello"},
            *output,
            *results,
            {"role": "user", "content": "Go on"},
        ],
    }
    messages = json.loads(translation(again, dialect=dialect).chat_body)["messages"]
    if not answer.text and not answer.refusal and not answer.calls:
        assert [message["role"] for message in messages] == ["user", "user"]
        return
    assistant = messages[1]
    assert (assistant.get("content") or "") == answer.text
    assert assistant.get("refusal", "") == answer.refusal
    blank = " " if dialect == "deepseek" else ""
    assert assistant.get("reasoning_content", "") == (answer.reasoning or blank)
    calls = [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in assistant.get("tool_calls", [])
    ]
    assert calls == [(call.id, call.name, call.arguments) for call in answer.calls]
    assert [m["tool_call_id"] for m in messages if m["role"] == "tool"] == [
        call.id for call in answer.calls
    ]


EVERY_TOOL = [
    {"type": "function", "name": "f"},
    {"type": "namespace", "name": "ns", "description": "d", "tools": [{"type": "function", "name": "g"}]},
    {"type": "custom", "name": "patch"},
    {"type": "local_shell"},
    {"type": "shell"},
    {"type": "apply_patch"},
    {"type": "tool_search", "execution": "client"},
]  # fmt: skip
WORDS = st.lists(draws.TEXT, min_size=1, max_size=3)
EVERY_CALL = st.one_of(
    st.tuples(st.just("f"), st.dictionaries(draws.TEXT, draws.ARGUMENTS, max_size=3)),
    st.tuples(st.just("ns__g"), st.dictionaries(draws.TEXT, draws.ARGUMENTS, max_size=3)),
    st.tuples(st.just("patch"), st.fixed_dictionaries({"input": draws.TEXT})),
    st.tuples(st.just("local_shell"), st.fixed_dictionaries({"command": WORDS}, optional={"timeout_ms": st.integers(1, 9), "working_directory": draws.TEXT})),
    st.tuples(st.just("shell"), st.fixed_dictionaries({"commands": WORDS}, optional={"timeout_ms": st.integers(1, 9), "max_output_length": st.integers(1, 9)})),
    st.tuples(st.just("apply_patch"), st.fixed_dictionaries({"type": st.just("update_file"), "path": draws.TEXT, "diff": draws.TEXT})),
    st.tuples(st.just("tool_search"), st.dictionaries(draws.TEXT, draws.ARGUMENTS, max_size=3)),
)  # fmt: skip
RESULTS: dict[str, dict[str, Any]] = {
    "function_call": {"type": "function_call_output", "output": "done"},
    "custom_tool_call": {"type": "custom_tool_call_output", "output": "done"},
    "local_shell_call": {"type": "local_shell_call_output", "output": "done"},
    "shell_call": {"type": "shell_call_output", "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]},
    "apply_patch_call": {"type": "apply_patch_call_output", "status": "completed"},
    "tool_search_call": {"type": "tool_search_output", "tools": []},
}  # fmt: skip


@given(st.data(), st.lists(EVERY_CALL, min_size=1, max_size=4), draws.VISIBLE)
def test_calls_of_every_kind_of_tool_come_back(
    data: st.DataObject, called: list[tuple[str, dict[str, Any]]], thought: str
) -> None:
    """The upstream knows functions alone: it finds the calls it made, under their ids."""
    request = {**REQUEST, "tools": EVERY_TOOL, "include": ["reasoning.encrypted_content"]}
    calls = tuple(
        draws.Call(f"call_{number}", name, json.dumps(arguments))
        for number, (name, arguments) in enumerate(called)
    )
    answer = draws.Answer(reasoning=thought, calls=calls, finish="tool_calls")
    given_events, response = replay(draws.body_of(data.draw(draws.streams(answer))), request)
    check_events(given_events)
    output = json.loads(translator.encode_json(response))["output"]
    results = [{"call_id": i["call_id"], **RESULTS[i["type"]]} for i in output if "call_id" in i]
    history = [{"role": "user", "content": "Hello"}, *output, *results]
    t = translation({**request, "input": history})
    _, assistant, *tools = json.loads(t.chat_body)["messages"]
    assert thought in (assistant.get("reasoning_content"), assistant.get("reasoning"))
    assert [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in assistant["tool_calls"]
    ] == [(f"call_{number}", name, arguments) for number, (name, arguments) in enumerate(called)]
    assert [message["tool_call_id"] for message in tools] == [call.id for call in calls]


ROLES = st.sampled_from(["user", "assistant", "system", "developer"])


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Conversations as clients keep them: results late, missing, or with images."""
    history: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
    open_calls: list[str] = []
    for number in range(draw(st.integers(0, 10))):
        match draw(st.sampled_from(["message", "call", "result", "reasoning", "custom"])):
            case "message":
                history.append({"role": draw(ROLES), "content": draw(draws.VISIBLE), "id": "msg_1"})
            case "reasoning":
                summary = [{"type": "summary_text", "text": draw(draws.VISIBLE)}]
                history.append({"type": "reasoning", "id": "rs_1", "summary": summary})
            case "result" if open_calls:
                call_id = open_calls.pop(draw(st.integers(0, len(open_calls) - 1)))
                image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
                output = draw(st.sampled_from(["fine", [image], []]))
                history.append(
                    {"type": "function_call_output", "call_id": call_id, "output": output}
                )
            case "custom":
                open_calls.append(f"call_{number}")
                history.append(
                    {
                        "type": "custom_tool_call",
                        "call_id": f"call_{number}",
                        "name": "p",
                        "input": "x",
                    }
                )
            case _:
                open_calls.append(f"call_{number}")
                arguments = draw(st.sampled_from(["{}", "", '{"a": 1}', "{broken"]))
                history.append(
                    {
                        "type": "function_call",
                        "call_id": f"call_{number}",
                        "name": "f",
                        "arguments": arguments,
                    }
                )
    return history


def messages_of(history: list[dict[str, Any]], dialect: str) -> list[dict[str, Any]]:
    request = {"model": "m", "input": history, "instructions": "Be brief."}
    return json.loads(translation(request, dialect=dialect).chat_body)["messages"]


@given(histories(), st.sampled_from(sorted(translator.DIALECTS)))
def test_every_call_is_answered_where_it_was_made(history: list[Any], dialect: str) -> None:
    """Tool messages follow the assistant message with their call, one for each, and JSON in it."""
    expected: list[str] = []
    for message in messages_of(history, dialect):
        if message["role"] == "tool":
            expected.remove(message["tool_call_id"])
        else:
            assert expected == [], "a call is not answered"
        for call in message.get("tool_calls", []):
            expected.append(call["id"])
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
    assert expected == []


@given(histories(), st.sampled_from(sorted(translator.DIALECTS)))
def test_what_was_said_keeps_its_order(history: list[Any], dialect: str) -> None:
    """Texts reach the upstream in the order in which they stand in the input."""
    written = json.dumps(messages_of(history, dialect), ensure_ascii=False)
    position = 0
    for item in history:
        if isinstance(item.get("content"), str):
            text = json.dumps(item["content"], ensure_ascii=False)[1:-1]
            position = written.index(text, position)


@given(histories(), st.sampled_from(sorted(translator.DIALECTS)), st.data())
def test_a_longer_history_begins_with_the_same_bytes(
    history: list[Any], dialect: str, data: st.DataObject
) -> None:
    """Appending to a finished turn changes no earlier message, so prefix caches hit."""
    answered = {item["call_id"] for item in history if item.get("type") == "function_call_output"}
    history = [
        item for item in history if item.get("call_id") is None or item["call_id"] in answered
    ]
    ends = [n for n in range(1, len(history) + 1) if _is_settled(history, n)]
    end = data.draw(st.sampled_from(ends))
    shorter = messages_of(history[:end], dialect)
    longer = messages_of([*history, {"role": "user", "content": "More"}], dialect)
    assert json.dumps(longer).startswith(json.dumps(shorter)[:-1])


TEMPLATES = [
    (dialect, model)
    for dialect in ("llama_cpp", "vllm", "lm_studio")
    for model in (
        "m", "qwen3.5-4b", "qwen3.8", "qwen3-8b", "gemma-2-2b", "gemma-4", "mistral-nemo",
        "devstral", "llama-3.3-70b", "apertus-8b", "gpt-oss-20b", "deepseek-r1-distill-llama-8b",
    )
]  # fmt: skip


@given(histories(), st.sampled_from(TEMPLATES), st.booleans(), st.data())
def test_a_longer_history_begins_with_the_same_bytes_for_every_template(
    history: list[Any], template: tuple[str, str], instructed: bool, data: st.DataObject
) -> None:
    """Messages are joined, split and demoted by what stands before them alone.

    A client asks where the model's word follows; what it then adds begins with that.
    """
    if data.draw(st.booleans()):
        history = [{"role": "developer", "content": "Begin."}, *history[1:]]
    answered = {item["call_id"] for item in history if item.get("type") == "function_call_output"}
    history = [
        item for item in history if item.get("call_id") is None or item["call_id"] in answered
    ]
    history.append({"role": "assistant", "content": "Said."})
    ends = [
        n
        for n in range(1, len(history))
        if _is_settled(history, n, "developer", "system") and _is_of_the_model(history[n])
    ]
    end = data.draw(st.sampled_from(ends or [len(history)]))
    shorter = template_messages(history[:end], template, instructed)
    longer = template_messages(
        [*history, {"role": "user", "content": "More"}], template, instructed
    )
    assert longer[: len(shorter)] == shorter


@given(histories(), st.sampled_from(TEMPLATES), st.booleans())
def test_roles_are_as_the_template_requires(
    history: list[Any], template: tuple[str, str], instructed: bool
) -> None:
    """As the templates count: calls and their results are between two answers, or none."""
    dialect = translator.DIALECTS[template[0]].for_model(template[1])
    said = template_messages(history, template, instructed)
    if dialect.system_messages == "demote_later":
        assert all(message["role"] != "system" for message in said[1:])
    if dialect.one_call_per_message:
        assert all(len(message.get("tool_calls", ["one"])) == 1 for message in said)
    if dialect.user_message_required:
        assert next(message["role"] for message in said if message["role"] != "system") == "user"
    if dialect.alternating_roles:
        pairs = [(a["role"], b["role"]) for a, b in itertools.pairwise(said)]
        assert ("user", "user") not in pairs and ("system", "assistant") not in pairs
        assert all(
            "tool_calls" in a
            for a, b in itertools.pairwise(said)
            if a["role"] == b["role"] == "assistant"
        )
    if dialect.answer_between_tool_and_user:
        counted = [
            m["role"] for m in said if m["role"] in ("user", "assistant") and "tool_calls" not in m
        ]
        assert all(a != b for a, b in itertools.pairwise(counted)), counted


def template_messages(
    history: list[dict[str, Any]], template: tuple[str, str], instructed: bool
) -> list[dict[str, Any]]:
    dialect, model = template
    request = {"model": model, "input": history}
    if instructed:
        request["instructions"] = "Be brief."
    return json.loads(translation(request, dialect=dialect).chat_body)["messages"]


def _is_of_the_model(item: dict[str, Any]) -> bool:
    kind = item.get("type", "")
    return item.get("role") == "assistant" or ("call" in kind and "output" not in kind)


def _is_settled(history: list[Any], end: int, *roles: str) -> bool:
    """The history up to `end` is where a client asks: after a user's word or the last result.

    `roles` end it like the user's.
    """
    calls = [
        i["call_id"] for i in history[:end] if "call" in i.get("type", "") and "output" not in i
    ]
    results = [i["call_id"] for i in history[:end] if "output" in i]
    return sorted(calls) == sorted(results) and (
        history[end - 1].get("role") in ("user", *roles) or "output" in history[end - 1]
    )


EXTRA = st.dictionaries(
    st.sampled_from(["id", "status", "created_by", "annotations", "logprobs", "caller", "phase"]),
    st.none() | st.just("completed") | st.just([]),
)


@given(histories(), st.data())
def test_what_clients_echo_changes_nothing(history: list[Any], data: st.DataObject) -> None:
    """Ids, states and other keys that clients send back with items do not reach the upstream."""
    decorated = [{**data.draw(EXTRA), **item} for item in history]
    assert messages_of(decorated, "base") == messages_of(history, "base")
