"""Compaction: a summary of the conversation, made by the upstream, carried by the client."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

import translator
from tests.conversations import (
    call,
    chat_call,
    codes,
    exchange,
    messages,
    output,
    reasoning,
    refusal,
    tool,
    user,
)
from tests.invariants import SCHEMA, check_events
from tests.replaying import chunk, cut, numbered_ids, replay, sse, translation
from tests.strategies import VISIBLE
from translator import CompactRequest, InvalidRequest, Options, UpstreamError
from translator.common.sealed import Thought, seal
from translator.request import compaction
from translator.request.compaction import (
    MAX_KEPT_CHARACTERS,
    PART_CHARACTERS,
    PREFIX,
    SUMMARY_REQUEST,
    read_summary,
    seal_summary,
)

TRIGGER = {"type": "compaction_trigger"}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
ANSWER = sse(
    chunk({"role": "assistant", "reasoning_content": "What matters?"}),
    chunk({"content": "\n The user "}),
    chunk({"content": "said hello. "}),
    chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}),
    chunk({}, "stop"),
    {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}},
    "[DONE]",
)


def request(*items: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "stream": True, "input": [user("Hello"), *items, TRIGGER], **fields}


def item(summary: str, **fields: Any) -> dict[str, Any]:
    return {"type": "compaction", "encrypted_content": seal_summary(summary), **fields}


def summary_in(item: dict[str, Any]) -> str:
    """The message that an item stands for."""
    return read_summary(item["encrypted_content"], "")


# --- what goes upstream ---------------------------------------------------------------------------


def test_a_trigger_asks_the_model_for_a_summary_of_what_came_before() -> None:
    """The conversation goes up as it would without the trigger, so the upstream's cache holds."""
    items = [user("u"), reasoning(encrypted_content=seal(Thought("t", "reasoning_content"))), call("a"), output("a")]  # fmt: skip
    before = messages(items)
    assert messages([*items, TRIGGER]) == [*before, user(SUMMARY_REQUEST)]
    assert before[-1] == tool("a")


def test_a_call_that_was_interrupted_is_part_of_the_summary() -> None:
    written = messages([user("u"), call("a"), TRIGGER])
    assert [message["role"] for message in written] == ["user", "assistant", "tool", "user"]
    assert written[1]["tool_calls"] == [chat_call("a")]


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("base", {"tools": ["f", "g"], "tool_choice": "none"}),
        ("mistral", {"tools": ["f", "g"], "tool_choice": "none"}),
        ("ollama", {"tools": ["f"]}),
    ],
)
def test_no_tool_is_called(dialect: str, expected: dict[str, Any]) -> None:
    """Where that cannot be said, only functions that the history calls stay declared."""
    tools = [FUNCTION, FUNCTION | {"name": "g"}]
    items = [user("u"), call("a"), output("a"), TRIGGER]
    t = exchange(items, dialect=dialect, tools=tools)
    body = json.loads(t.chat_body)
    names = [tool["function"]["name"] for tool in body["tools"]]
    found = {"tools": names} | {key: body[key] for key in ("tool_choice",) if key in body}
    assert found == expected
    assert t.notices == ()


def test_what_would_bend_a_summary_is_left_out_with_a_notice() -> None:
    fields: dict[str, Any] = {
        "tools": [FUNCTION],
        "tool_choice": "required",
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "top_logprobs": 2,
        "reasoning": {"effort": "low"},
        "max_output_tokens": 500,
    }
    t = exchange([user("u"), TRIGGER], dialect="openai", **fields)
    assert {notice.path: notice.code for notice in t.notices} == {
        "tool_choice": "ignored",
        "text.format": "ignored",
        "top_logprobs": "ignored",
    }
    body = json.loads(t.chat_body)
    assert body["tool_choice"] == "none"
    assert body["reasoning_effort"] == "low"
    assert body["max_completion_tokens"] == 500
    assert body["verbosity"] == "low"
    assert not body.keys() & {"response_format", "logprobs", "top_logprobs"}
    assert t.response.text.format == translator.wire.responses.JsonObjectFormat()


@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_nothing_is_noticed_where_nothing_is_lost(choice: str | None) -> None:
    t = exchange([user("u"), TRIGGER], tool_choice=choice, text={"format": {"type": "text"}})
    assert t.notices == ()


def test_a_form_that_was_set_inside_the_input_is_left_out_too() -> None:
    update = {"type": "configuration_update", "text": {"format": {"type": "json_object"}}}
    items = [update, user("u"), TRIGGER]
    assert codes(items) == {"text.format": "ignored"}
    assert "response_format" not in json.loads(exchange(items).chat_body)


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([TRIGGER, user("u")], "input[0].type"),
        ([user("u"), TRIGGER, TRIGGER], "input[1].type"),
        ([TRIGGER], "input"),
    ],
)
def test_a_trigger_stands_last_and_behind_something(items: list[Any], param: str) -> None:
    refused = refusal(items)
    assert (refused.status_hint, refused.param, refused.code) == (400, param, "invalid_value")


# --- what comes back ------------------------------------------------------------------------------


def test_the_answer_is_one_compaction() -> None:
    """The model's text; what it thought on the way, and a call that it made, are not part of it."""
    events, _ = replay(ANSWER, request())
    final = check_events(events)
    [made] = final["output"]
    assert made.keys() == {"type", "id", "encrypted_content"}
    assert made["id"].startswith("cmp_")
    assert summary_in(made).endswith("\n\nThe user said hello.")
    assert final["status"] == "completed"
    assert final["usage"]["total_tokens"] == 13
    kinds = [translator.encode_sse(event).split(b"\n")[0].decode() for event in events]
    assert kinds == [
        "event: response.created",
        "event: response.in_progress",
        "event: response.output_item.added",
        "event: response.output_item.done",
        "event: response.completed",
    ]


@given(places=st.lists(st.integers(0, len(ANSWER)), max_size=8))
def test_packet_boundaries_do_not_matter(places: list[int]) -> None:
    assert replay(cut(ANSWER, places), request()) == replay(ANSWER, request())


def test_an_answer_in_one_body_is_the_same() -> None:
    body = {
        "choices": [
            {"index": 0, "message": {"content": " The user said hello."}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    }
    whole = exchange([user("Hello"), TRIGGER]).complete(json.dumps(body).encode())
    assert whole.output == replay(ANSWER, request())[1].output


def test_progress_shows_while_nothing_can_be_announced() -> None:
    """A summary takes its time: the service must see that the upstream writes it."""
    t = exchange([user("Hello"), TRIGGER])
    t.receive(sse(chunk({"reasoning_content": "hm"})))
    t.receive(sse(chunk({"content": "Once"})))
    assert (t.progress, t.produced) == (2, False)
    t.receive(sse({"choices": [], "usage": {"prompt_tokens": 1}}))
    assert t.progress == 2
    assert len(t.heartbeat()) == 1


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_half_a_summary_is_none(finish: str, reason: str) -> None:
    events, _ = replay(sse(chunk({"content": "The user"}), chunk({}, finish)), request())
    final = check_events(events)
    assert (final["status"], final["output"]) == ("incomplete", [])
    assert final["incomplete_details"] == {"reason": reason}


@pytest.mark.parametrize(
    "deltas",
    [
        [{}],
        [{"content": " \n"}],
        [{"reasoning_content": "hm"}],
        [{"refusal": "No."}],
        [{"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}],
    ],
)
def test_no_summary_is_a_failure(deltas: list[dict[str, Any]]) -> None:
    """An empty compaction would make a client forget everything."""
    body = sse(*(chunk(delta) for delta in deltas), chunk({}, "stop"), "[DONE]")
    events, response = replay(body, request())
    check_events(events)
    assert (response.status, response.output) == ("failed", [])
    with pytest.raises(UpstreamError, match="no summary") as failed:
        exchange([user("Hello"), TRIGGER]).complete(body)
    assert failed.value.status_hint == 502


def test_an_answer_that_breaks_off_is_a_failure() -> None:
    t = exchange([user("Hello"), TRIGGER])
    events = t.receive(sse(chunk({"content": "The us"}))) + t.close("the line is dead")
    assert check_events(events)["output"] == []
    assert t.response.status == "failed"


def test_a_summary_is_bounded_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    long = item("a" * 1000)
    monkeypatch.setattr(compaction, "MAX_SUMMARY_BYTES", 500)
    _, response = replay(sse(chunk({"content": "a" * 1000}), chunk({}, "stop")), request())
    assert response.error
    assert "over 500 bytes" in response.error.message
    with pytest.raises(InvalidRequest, match="damaged"):
        summary_in(long)


# --- in later requests ----------------------------------------------------------------------------


@given(summary=VISIBLE)
def test_a_summary_stands_in_its_place_as_the_user_s_message(summary: str) -> None:
    """Byte for byte the same in every later request, whatever follows, in any dialect."""
    events, _ = replay(sse(chunk({"content": summary}), chunk({}, "stop")), request())
    [made] = check_events(events)["output"]
    first, second = messages([user("a"), made, user("b")])[:2], messages([user("a"), made])
    assert first == second
    assert second[0] == user("a")
    assert second[1]["role"] == "user"
    introduction, told = second[1]["content"].split("\n\n", 1)
    assert introduction == "[Earlier parts of this conversation were replaced by this summary of them.]"  # fmt: skip
    assert told == summary.strip()


def test_a_summary_may_be_all_there_is() -> None:
    """In mid-turn, clients end their input with it; upstreams want the last message to be asking."""
    [message] = messages([item("All is well.", id="cmp_1", created_by="x")], dialect="vllm")
    assert (message["role"], message["content"][-12:]) == ("user", "All is well.")


def test_a_summary_is_summed_up_again() -> None:
    written = messages([item("The first part."), user("b"), TRIGGER])
    assert written[0]["content"].endswith("The first part.")
    assert written[1:] == [user("b"), user(SUMMARY_REQUEST)]


def behind(earlier: list[Any], *items: Any) -> list[str]:
    """The texts that go upstream when a request refers to a response by its id."""
    t = translator.Translation(
        {"model": "m", "input": list(items), "previous_response_id": "resp_1"},
        response_id="resp_2",
        created_at=3,
        new_id=numbered_ids(),
        earlier=[Raw(json.dumps(one).encode()) for one in earlier],
    )
    written = json.loads(t.chat_body)["messages"]
    return [message["content"].split("\n\n")[-1] for message in written]


def test_a_response_before_a_compaction_is_forgotten_with_it() -> None:
    """A client that sends an id leaves it to the server to shorten what stands behind the id."""
    talk = [user("a"), call("c"), output("c"), {"role": "assistant", "content": "b"}]
    first = [*talk, TRIGGER, item("The first part.")]
    assert behind(first, user("d")) == ["a", "The first part.", "d"]
    again = [*first, user("d"), {"role": "assistant", "content": "e"}, TRIGGER, item("All of it.")]
    assert behind(again, user("f")) == ["a", "d", "All of it.", "f"]


def test_a_compaction_that_came_to_nothing_replaces_nothing() -> None:
    assert behind([user("a"), TRIGGER], user("b")) == ["a", "b"]
    assert behind([item("Elsewhere."), user("a")], user("b")) == ["Elsewhere.", "a", "b"]


def test_a_trigger_may_be_all_that_is_new() -> None:
    assert behind([user("a")], TRIGGER)[0] == "a"


def _packed(plain: bytes) -> str:
    return PREFIX + base64.urlsafe_b64encode(zlib.compress(plain)).decode()


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        ("gAAAAABforeign", "not made here"),
        ("translator.compaction.2.eJw", "not made here"),
        (seal(Thought("a thought", "reasoning")), "not made here"),
        ("", "not made here"),
        (PREFIX, "damaged"),
        (PREFIX + "é", "damaged"),
        (str(seal_summary("A summary of it all, and more."))[:-9], "damaged"),
        (_packed(b"no json"), "damaged"),
        (_packed(b"{}"), "damaged"),
    ],
)
def test_what_cannot_be_read_is_refused(blob: str, says: str) -> None:
    """To go on without it would lose most of a conversation in silence."""
    refused = refusal([user("u"), {"type": "compaction", "encrypted_content": blob}])
    assert (refused.status_hint, refused.param) == (400, "input[1].encrypted_content")
    assert says in refused.message


@given(place=st.integers(0, 10_000), letter=st.sampled_from("AZaz09-_"))
def test_damage_shows(place: int, letter: str) -> None:
    blob = str(seal_summary("a summary of some length, so that there is something to damage"))
    place = len(PREFIX) + place % (len(blob) - len(PREFIX))
    damaged = blob[:place] + letter + blob[place + 1 :]
    try:
        read = read_summary(damaged, "")
    except InvalidRequest:
        return
    assert read == read_summary(blob, "")


# --- the endpoint for it --------------------------------------------------------------------------


def compact(*items: Any) -> tuple[dict[str, Any], CompactRequest]:
    """What `POST /v1/responses/compact` makes of a conversation, of items or of one text."""
    given = items[0] if isinstance(items[0], str) else items
    asked = CompactRequest(json.dumps({"model": "m", "input": given}).encode())
    _, response = replay(ANSWER, asked.body)
    answer = asked.answer(response, new_id=numbered_ids())
    body: dict[str, Any] = json.loads(translator.encode_json(answer))
    return body, asked


def test_messages_come_back_and_the_rest_is_summed_up() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    body, asked = compact(
        {"role": "developer", "content": "Be brief.", "id": None},
        item("The first part."),
        {"type": "message", "id": "msg_1", "role": "user", "content": ["Look:", image]},
        {"role": "assistant", "content": "I see."},
        call("a"),
        output("a"),
        reasoning(),
        {"role": "user", "content": "Go on.", "phase": "x"},
    )
    *kept, made = body["output"]
    text = {"type": "input_text", "text": "Look:"}
    assert kept == [
        {"id": "msg_000000000000000000000001", "type": "message", "status": "completed", "role": "developer", "content": [text | {"text": "Be brief."}]},
        {"id": "msg_1", "type": "message", "status": "completed", "role": "user", "content": [text, image]},
        {"id": "msg_000000000000000000000002", "type": "message", "status": "completed", "role": "user", "content": [text | {"text": "Go on."}], "phase": "x"},
    ]  # fmt: skip
    assert summary_in(made).endswith("The user said hello.")
    assert list(body)[:3] == ["id", "object", "created_at"]
    assert body["object"] == "response.compaction"
    assert body["usage"]["total_tokens"] == 13
    assert asked.notices == []


@pytest.mark.skipif(not SCHEMA.is_file(), reason="OpenAI's JSON Schema is not beside the project")
def test_the_answer_agrees_with_the_schema() -> None:
    body, _ = compact({"role": "user", "content": "Hello"}, {"role": "developer", "content": "Hm"})
    schema = {**json.loads(SCHEMA.read_text()), "$ref": "#/$defs/CompactResource"}
    jsonschema.Draft202012Validator(schema).validate(body)


def test_the_output_is_the_next_input() -> None:
    body, _ = compact({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"})
    written = messages([*body["output"], user("And now?")])
    assert [message["role"] for message in written] == ["user", "user", "user"]
    assert written[0] == user("Hello")
    again, _ = compact(*body["output"], {"role": "user", "content": "And now?"})
    assert [one["type"] for one in again["output"]] == ["message", "message", "compaction"]
    assert again["output"][0] == body["output"][0]


def test_a_text_is_the_user_s_message() -> None:
    asked = CompactRequest(b'{"model":"m","input":"Hello","instructions":"Be brief."}')
    body = json.loads(exchange_of(asked).chat_body)
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, user("Hello"), user(SUMMARY_REQUEST)]  # fmt: skip
    [kept, _] = compact("Hello")[0]["output"]
    assert kept["content"] == [{"type": "input_text", "text": "Hello"}]


def exchange_of(asked: CompactRequest) -> translator.Translation:
    fields = json.loads(asked.body)
    return exchange(fields.pop("input"), **fields)


def test_whatever_else_is_asked_for_goes_the_usual_way() -> None:
    """A trigger of the client's own is enough, and the answer is never a stream."""
    asked = CompactRequest(json.dumps(request(tools=[FUNCTION], seed=7, generate=False)).encode())
    assert json.loads(asked.body)["input"] == [user("Hello"), TRIGGER]
    body = json.loads(exchange_of(asked).chat_body)
    assert (body["stream"], body["seed"], body["tool_choice"]) == (False, 7, "none")
    assert "generate" not in json.loads(asked.body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"),
        ({"model": "", "input": "x"}, "model"),
        ({"model": None, "input": "x"}, "model"),
        ({"model": "m", "input": 5}, "input"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": []}, "input"),
        ({"model": "m", "input": None, "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"model": "m", "input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"model": "m", "input": [{"role": "user"}, 5]}, "input[0].content"),
        ({"model": "m", "input": [user("u"), 5]}, "input[1]"),
        ({"model": "m", "input": [{"type": "brand_new"}]}, "input[0].type"),
        ([], None),
    ],
)
def test_a_faulty_request_is_refused_with_the_path(body: Any, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        exchange_of(CompactRequest(json.dumps(body).encode()))
    assert (refused.value.status_hint, refused.value.param) == (400, param)


def test_without_usage_there_are_zeros() -> None:
    """The field is required, and clients add it up."""
    asked = CompactRequest(json.dumps({"model": "m", "input": "Hello"}).encode())
    _, response = replay(sse(chunk({"content": "Short."}), chunk({}, "stop")), asked.body)
    assert response.usage is None
    usage = asked.answer(response, new_id=numbered_ids()).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (0, 0, 0)


def test_a_summary_that_was_cut_is_no_answer() -> None:
    asked = CompactRequest(json.dumps({"model": "m", "input": "Hello"}).encode())
    _, response = replay(sse(chunk({"content": "The us"}), chunk({}, "length")), asked.body)
    with pytest.raises(UpstreamError, match="was cut: max_output_tokens"):
        asked.answer(response, new_id=numbered_ids())


def test_declarations_are_kept() -> None:
    """Tools and settings that a client declares inside its input would else be gone."""
    tools = {"type": "additional_tools", "role": "developer", "tools": [FUNCTION]}
    update = {"type": "configuration_update", "id": "cu_1", "reasoning": {"effort": "low"}}
    body, _ = compact(tools, {"role": "user", "content": "Hello"}, update)
    assert body["output"][0] == tools | {"id": "at_000000000000000000000001"}
    assert body["output"][2] == update
    written = json.loads(exchange([*body["output"], user("b")]).chat_body)
    assert [tool["function"]["name"] for tool in written["tools"]] == ["f"]
    after = [tools, user("a"), TRIGGER, item("The first part.")]
    assert behind(after, user("b")) == ["a", "The first part.", "b"]


def test_old_messages_are_kept_as_far_as_there_is_room() -> None:
    """The newest whatever its length; no gaps; instructions always; each that goes is noticed."""
    half = "x" * (MAX_KEPT_CHARACTERS // 2)
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    items: list[Any] = [
        {"role": "system", "content": half * 3},
        {"role": "user", "content": "small, but older than one that goes"},
        {"role": "user", "content": [{"type": "input_text", "text": half}, image]},
        {"role": "user", "content": half[PART_CHARACTERS:]},
        {"role": "user", "content": [image]},
    ]
    body, asked = compact(*items)
    roles = [(one.get("role"), len(json.dumps(one)) > 1000) for one in body["output"]]
    assert roles == [("system", True), ("user", True), ("user", False), (None, False)]
    assert {notice.path for notice in asked.notices} == {"input[1]", "input[2]"}
    assert {notice.code for notice in asked.notices} == {"message_summarised"}
    body, asked = compact({"role": "user", "content": "old"}, {"role": "user", "content": half * 3})
    assert [len(one["content"][0]["text"]) for one in body["output"][:-1]] == [len(half) * 3]
    assert [notice.path for notice in asked.notices] == ["input[0]"]


def test_strict_options_hold_here_too() -> None:
    asked = request(text={"format": {"type": "json_object"}})
    with pytest.raises(InvalidRequest) as refused:
        translation(asked, options=Options(strict=True))
    assert refused.value.param == "text.format"
