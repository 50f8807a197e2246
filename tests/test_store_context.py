"""What a store changes of a translation: items in two versions, ends that are taken back, references."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from msgspec.structs import replace

import translator
from tests import strategies as draws
from tests.invariants import check_events
from tests.replaying import REQUEST, chunk, sse, translation
from translator import CompactRequest, Event, InvalidRequest, NotFound, Options, Translation
from translator.request.compaction import MAX_KEPT_CHARACTERS
from translator.request.store_context import StoreContext
from translator.wire import items
from translator.wire.notices import Notice

FEW = settings(max_examples=25)
KEEPS = StoreContext(keeps=True)
TOOLS = [
    {"type": "function", "name": name, "parameters": {"type": "object"}}
    for name in ("get_weather", "add", "exec_command", "f", "a-b_c")
]
ASKING = {**REQUEST, "tools": TOOLS}
FAMILIES = st.sampled_from(["summary", "text", "both", "none"])
REASONING = sse(
    chunk({"reasoning_content": "hm"}), chunk({"content": "Hi"}), chunk({}, "stop"), "[DONE]"
)


def run(translated: Translation, body: bytes) -> list[Event]:
    return translated.start() + translated.receive(body) + translated.close()


def encoded(events: list[Event]) -> list[bytes]:
    return [translator.encode_sse(event) for event in events]


def raw(item: dict[str, Any]) -> Raw:
    return Raw(msgspec.json.encode(item))


# --- two versions of an item -------------------------------------------------------------------


@FEW
@given(st.data(), draws.answers(), FAMILIES, st.booleans())
def test_what_is_kept_is_what_was_shown_but_for_the_seals(
    data: st.DataObject, answer: draws.Answer, family: Any, asks: bool
) -> None:
    """Item by item; all of the model's reasoning is sealed in what is kept."""
    body = draws.body_of(data.draw(draws.streams(answer)))
    include = {"include": ["reasoning.encrypted_content"]} if asks else {}
    translated = translation(
        {**ASKING, **include}, options=Options(reasoning_events=family), store=KEEPS
    )
    check_events(run(translated, body))
    shown, kept = translated.response.output, translated.kept_output
    assert len(shown) == len(kept)
    for one, other in zip(shown, kept, strict=True):
        if isinstance(other, items.Reasoning):
            assert isinstance(one, items.Reasoning)
            assert isinstance(other.encrypted_content, str)
            assert one.encrypted_content == (other.encrypted_content if asks else UNSET)
            other = replace(other, encrypted_content=one.encrypted_content)
        assert one == other
    assert any(isinstance(one, items.Reasoning) for one in kept) == bool(answer.reasoning)


@FEW
@given(st.data(), draws.answers(), FAMILIES, st.sampled_from(["base", "deepseek", "vllm"]))
def test_what_is_kept_goes_back_as_what_a_client_seals_itself(
    data: st.DataObject, answer: draws.Answer, family: Any, dialect: str
) -> None:
    """A turn that goes on from kept items is the one that goes on from sealed ones, byte for byte."""
    body = draws.body_of(data.draw(draws.streams(answer)))
    options = Options(reasoning_events=family)
    keeping = translation(ASKING, dialect=dialect, options=options, store=KEEPS)
    sealing = translation(
        {**ASKING, "include": ["reasoning.encrypted_content"]}, dialect=dialect, options=options
    )
    run(keeping, body)
    run(sealing, body)
    asked = raw({"role": "user", "content": "Hello"})
    results = [
        {"type": "function_call_output", "call_id": call.id, "output": "r"} for call in answer.calls
    ]
    bodies = [
        translation(
            {**ASKING, "input": [*results, {"role": "user", "content": "Go on"}],
             "previous_response_id": "resp_1"},
            dialect=dialect,
            earlier=[asked, *(Raw(msgspec.json.encode(one)) for one in output)],
        ).chat_body
        for output in (keeping.kept_output, sealing.response.output)
    ]  # fmt: skip
    assert bodies[0] == bodies[1]
    if answer.reasoning and (answer.text or answer.refusal or answer.calls):
        assert json.dumps(answer.reasoning, ensure_ascii=False)[1:-1] in bodies[0].decode()


@FEW
@given(st.data(), draws.answers())
def test_only_the_echo_tells_a_client_that_a_response_is_kept(
    data: st.DataObject, answer: draws.Answer
) -> None:
    """The events are those of a response that is not kept, but for `store`."""
    body = draws.body_of(data.draw(draws.streams(answer)))
    plain = encoded(run(translation(ASKING), body))
    kept = encoded(run(translation(ASKING, store=KEEPS), body))
    assert [one.replace(b'"store":true', b'"store":false') for one in kept] == plain
    assert any(b'"store":true' in one for one in kept)


def test_reasoning_that_nobody_is_shown_is_kept_all_the_same() -> None:
    options = Options(reasoning_events="none")
    shown = translation(REQUEST, options=options)
    run(shown, REASONING)
    assert [one.__struct_config__.tag for one in shown.response.output] == ["message"]
    kept = translation(REQUEST, options=options, store=KEEPS)
    check_events(run(kept, REASONING))
    assert [one.__struct_config__.tag for one in kept.kept_output] == ["reasoning", "message"]


def test_extra_content_of_calls_is_kept_in_a_reasoning_item() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    call |= {"extra_content": {"google": {"thought_signature": "s"}}}
    body = sse(chunk({"tool_calls": [call]}), chunk({}, "tool_calls"), "[DONE]")
    kept = translation(ASKING, dialect="gemini", store=KEEPS)
    check_events(run(kept, body))
    assert isinstance(kept.response.output[-1], items.Reasoning)
    assert kept.response.output[-1].encrypted_content is UNSET
    goes_on = translation(
        {**ASKING, "previous_response_id": "resp_1",
         "input": [{"type": "function_call_output", "call_id": "c", "output": "r"}]},
        dialect="gemini",
        earlier=[raw({"role": "user", "content": "Hi"}),
                 *(Raw(msgspec.json.encode(one)) for one in kept.kept_output)],
    )  # fmt: skip
    assert b'"thought_signature":"s"' in goes_on.chat_body


# --- an end that is taken back -----------------------------------------------------------------


@FEW
@given(st.data(), draws.answers(), st.booleans())
def test_a_retracted_response_ends_once(
    data: st.DataObject, answer: draws.Answer, done: bool
) -> None:
    """What the client gets is a legal stream that failed: the number of the end is used again."""
    body = draws.body_of(data.draw(draws.streams(answer)), done=done)
    translated = translation(ASKING, store=KEEPS)
    given_events = run(translated, body)
    before = translated.response
    instead = translated.retract("It could not be stored.")
    if before.status == "failed":
        assert instead == []
        assert translated.response == before
        return
    final = check_events(given_events[:-1] + instead, retracted=True)
    assert final["status"] == "failed"
    assert final["error"] == {"code": "server_error", "message": "It could not be stored."}
    assert translated.response.status == "failed"
    assert translated.response.output == before.output
    assert translated.response.usage == before.usage
    assert translated.error is not None
    assert translated.retract("Again.") == []
    assert translated.heartbeat() == translated.close() == translated.receive(body) == []


def test_an_incomplete_response_can_be_retracted() -> None:
    translated = translation(REQUEST, store=KEEPS)
    given_events = run(translated, sse(chunk({"content": "Hi"}), chunk({}, "length"), "[DONE]"))
    assert translated.response.status == "incomplete"
    instead = given_events[:-1] + translated.retract("No.")
    assert check_events(instead, retracted=True)["status"] == "failed"


# --- references and duplicates -------------------------------------------------------------------


def test_a_reference_stands_for_the_stored_item() -> None:
    said = {"role": "user", "content": "Hello"}
    answer = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hi"}],
    }
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "r"}
    stored = {"msg_1": raw(answer), "fc_1": raw(call)}
    references = [{"type": "item_reference", "id": "msg_1"}, {"id": "fc_1"}]
    short = translation(
        {**ASKING, "input": [said, *references, result]}, store=StoreContext(resolved=stored)
    )
    whole = translation({**ASKING, "input": [said, answer, call, result]})
    assert short.chat_body == whole.chat_body
    assert short.notices == ()


def test_a_reference_to_what_is_not_stored() -> None:
    store = StoreContext()
    kept = translation(
        {
            **REQUEST,
            "input": [{"role": "user", "content": "Hi"}, {"type": "item_reference", "id": "rs_1"}],
        },
        store=store,
    )
    assert [(one.path, one.code) for one in kept.notices] == [("input[1]", "reference_dropped")]
    with pytest.raises(NotFound) as caught:
        translation({**REQUEST, "input": [{"type": "item_reference", "id": "msg_1"}]}, store=store)
    assert caught.value.message == (
        "Item with id 'msg_1' not found. Items are not persisted when `store` is set to false. "
        "Try again with `store` set to true, or remove this item from your input."
    )
    assert (caught.value.param, caught.value.code) == ("input[0].id", None)


def test_a_reference_to_an_item_that_only_declares() -> None:
    tools = {"type": "additional_tools", "role": "developer", "tools": TOOLS[:1]}
    translated = translation(
        {
            **REQUEST,
            "input": [{"role": "user", "content": "Hi"}, {"type": "item_reference", "id": "at_1"}],
        },
        store=StoreContext(resolved={"at_1": raw(tools)}),
    )
    assert b"get_weather" in translated.chat_body


def test_an_item_of_the_context_is_left_out() -> None:
    said = [
        {"role": "user", "content": "Hello"},
        {"id": "msg_1", "role": "user", "content": "Again"},
    ]
    store = StoreContext(duplicates={1: "msg_1"})
    translated = translation({**REQUEST, "input": said}, store=store)
    assert translated.chat_body == translation({**REQUEST, "input": said[:1]}).chat_body
    assert [(one.path, one.code) for one in translated.notices] == [
        ("input[1]", "duplicate_dropped")
    ]
    with pytest.raises(InvalidRequest) as caught:
        translation({**REQUEST, "input": said}, store=store, options=Options(strict=True))
    assert caught.value.message == (
        "Duplicate item found with id msg_1. Remove duplicate items from your input and try again."
    )
    assert caught.value.code is None


def test_an_item_is_read_with_the_reasoning_that_its_client_has_left_out() -> None:
    """In place of what came without its seal, or beside what came without it."""
    message = {"type": "message", "role": "assistant", "content": "Hi"}
    user = {"role": "user", "content": "And?"}
    for beside in (True, False):
        translated = translation({**REQUEST, "input": "Hi"}, store=KEEPS)
        run(translated, REASONING)
        sealed = Raw(msgspec.json.encode(translated.kept_output[0]))
        shown = json.loads(msgspec.json.encode(translated.response.output[0]))
        source = [message, user] if beside else [shown, message, user]
        completed = (sealed, raw(message)) if beside else (sealed,)
        context = StoreContext(keeps=True, completed={0: completed})
        body = translation({**REQUEST, "input": source}, store=context).chat_body
        first = json.loads(body)["messages"][0]
        assert (first["reasoning_content"], first["content"]) == ("hm", "Hi")


def test_a_store_says_itself_what_it_does_not_keep() -> None:
    """Without one, a request to store is noticed."""
    asked = {**REQUEST, "store": True}
    own = Notice("store", "store_unavailable", "Not now.")
    assert [one.code for one in translation(asked).notices] == ["ignored"]
    assert translation(asked, store=KEEPS).notices == ()
    assert translation(asked, store=StoreContext(notices=(own,))).notices == (own,)


def test_an_item_is_read_with_what_its_client_has_left_out() -> None:
    """The request is that of a client which sends all of it."""
    whole = [
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And?"},
    ]
    store = StoreContext(completed={1: [raw(whole[1]), raw(whole[2])]})
    short = translation(REQUEST | {"input": [whole[0], *whole[2:]]}, store=store)
    assert short.chat_body == translation(REQUEST | {"input": whole}).chat_body
    assert b"hm" in short.chat_body


# --- compaction ------------------------------------------------------------------------------------


def compacted(asked: CompactRequest) -> list[Any]:
    """The texts of the messages that are kept, and the types of other items."""
    done = translation({"model": "m", "input": "Hello"})
    run(done, REASONING)
    answer = asked.answer(done.response, new_id=lambda prefix: prefix)
    kept = json.loads(msgspec.json.encode(answer.output))[: -len(done.response.output)]
    return [one["content"][0]["text"] if "content" in one else one["type"] for one in kept]


def message(text: str, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text, **more}


def test_what_precedes_a_compaction_is_kept_like_its_input() -> None:
    """A stored message stands where it is referred to; a duplicate of an earlier one is left out."""
    source = [
        {"id": "msg_1"},
        {"type": "item_reference", "id": "msg_9"},
        message("own", id="msg_2"),
        {"id": "msg_3", "role": "user", "content": "not a reference"},
        message("again", id="msg_0"),
    ]
    body = json.dumps({"model": "m", "input": source}).encode()
    earlier = [raw(message("earlier", id="msg_0")), raw(message("said", "assistant"))]
    asked = CompactRequest(body)
    stored = {
        "msg_1": raw(message("stored")),
        "msg_2": raw(message("wrong")),
        "msg_3": raw(message("wrong")),
        "msg_9": raw(message("of the model", "assistant")),
    }
    asked.precede(earlier, StoreContext(resolved=stored, duplicates={4: "msg_0"}))
    assert compacted(asked) == ["earlier", "stored", "own", "not a reference"]
    assert asked.notices == []
    asked.precede(earlier, StoreContext(duplicates={4: "msg_0"}))
    assert compacted(asked) == ["earlier", "own", "not a reference"]


def test_what_only_the_summary_covers_is_named_by_its_place() -> None:
    """Of a faulty item nothing is said: the request is refused for it elsewhere."""
    long = "x" * MAX_KEPT_CHARACTERS
    source = [message("old"), {"id": 5}, message(long)]
    asked = CompactRequest(json.dumps({"model": "m", "input": source}).encode())
    earlier = [raw(message("oldest")), raw(message("older"))]
    asked.precede(earlier, StoreContext(resolved={"msg_1": raw(message("stored"))}))
    assert compacted(asked) == [long]
    places = [notice.path for notice in asked.notices]
    assert places == ["previous_response_id", "previous_response_id", "input[0]"]


def test_a_compaction_before_this_one_is_where_the_earlier_items_begin() -> None:
    asked = CompactRequest(b'{"model":"m","input":[]}')
    blob = {"type": "compaction", "id": "cmp_0", "encrypted_content": "x"}
    trigger = {"type": "compaction_trigger"}
    told = [message("a"), message("b", "assistant"), trigger, blob, message("c")]
    asked.precede([raw(one) for one in told], StoreContext())
    assert compacted(asked) == ["a", "c"]
