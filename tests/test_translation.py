"""The facade: one exchange, streaming or not, and everything that can go wrong with its body."""

from __future__ import annotations

import json
from typing import Any

import pytest

import translator
from tests.invariants import check_events, check_response_types
from tests.replaying import REQUEST, chunk, cut, replay, sse, translation
from translator import Event, InvalidRequest, Options, Translation, UpstreamError, UpstreamTimeout
from translator.reader.sse import MAX_EVENT_BYTES
from translator.wire import items

TEXT = chunk({"content": "Hello"})
BODY = sse(TEXT, chunk({}, "stop"), "[DONE]")


def kinds(given: list[Event]) -> list[str]:
    return [str(event.__struct_config__.tag).removeprefix("response.") for event in given]


def test_the_whole_grammar_of_an_answer() -> None:
    body = sse(
        chunk({"reasoning_content": "th"}),
        chunk({"reasoning_content": "ink"}),
        chunk({"content": "Hi"}),
        chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}),
        chunk({}, "tool_calls"),
    )  # fmt: skip
    given, response = replay(body)
    check_events(given)
    assert kinds(given) == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added",
        "reasoning_summary_text.delta", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
        "output_item.done", "completed",
    ]  # fmt: skip
    assert response.completed_at == 5


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("text", ["output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done"]),
        ("both", ["output_item.added", "reasoning_summary_part.added", "content_part.added", "reasoning_summary_text.delta", "reasoning_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done", "reasoning_text.done", "content_part.done", "output_item.done"]),
        ("none", []),
    ],
)  # fmt: skip
def test_families_of_reasoning_events(family: Any, expected: list[str]) -> None:
    body = sse(chunk({"reasoning": "a"}), chunk({}, "stop"))
    given, _ = replay(body, options=Options(reasoning_events=family))
    check_events(given)
    assert kinds(given)[2:-1] == expected


@pytest.mark.parametrize("asks", [{"include": ["reasoning.encrypted_content"]}, {"store": False}])
def test_hidden_reasoning_travels_sealed(asks: dict[str, Any]) -> None:
    """Sealed for clients that ask for it, and for those that keep the conversation themselves."""
    request = REQUEST | asks
    body = sse(chunk({"reasoning": "a"}), chunk({"content": "b"}, "stop"))
    given, response = replay(body, request, options=Options(reasoning_events="none"))
    check_events(given)
    thought = response.output[0]
    assert isinstance(thought, items.Reasoning)
    assert thought.summary == []
    assert isinstance(thought.encrypted_content, str)


@pytest.mark.parametrize("asks", [{}, {"store": True}, {"include": ["file_search_call.results"]}])
def test_reasoning_is_not_sealed_for_others(asks: dict[str, Any]) -> None:
    """A blob is as long as the reasoning once more."""
    given, _ = replay(sse(chunk({"reasoning": "a"}), chunk({}, "stop")), REQUEST | asks)
    assert "encrypted_content" not in check_events(given)["output"][0]


def test_reasoning_too_large_to_seal_is_shown_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translator.common.sealed, "MAX_REASONING_BYTES", 10)  # type: ignore[attr-defined]
    request = {**REQUEST, "include": ["reasoning.encrypted_content"]}
    given, response = replay(sse(chunk({"reasoning": "a" * 100}), chunk({}, "stop")), request)
    final = check_events(given)
    assert "encrypted_content" not in final["output"][0]
    assert response.output[0].summary[0].text == "a" * 100  # type: ignore[union-attr]


def test_reasoning_of_details_alone_is_sealed() -> None:
    request = {**REQUEST, "include": ["reasoning.encrypted_content"]}
    details = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}
    given, response = replay(sse(chunk(details), chunk({"content": "a"}, "stop")), request)
    check_events(given)
    assert [type(item).__name__ for item in response.output] == ["Reasoning", "Message"]


def test_text_then_refusal_are_two_parts() -> None:
    body = sse(chunk({"content": "a"}), chunk({"refusal": "b"}), chunk({"content": "c"}, "stop"))
    given, response = replay(body)
    check_events(given)
    assert [part.__struct_config__.tag for part in response.output[0].content] == [  # type: ignore[union-attr]
        "output_text", "refusal", "output_text",
    ]  # fmt: skip


def test_a_source_before_any_text_waits_for_it() -> None:
    cited = {"type": "url_citation", "url": "u", "start_index": 0, "end_index": 1}
    given, _ = replay(sse(chunk({"annotations": [cited]}), chunk({}, "stop")))
    check_events(given)
    assert "output_item.added" not in kinds(given)
    refused = sse(chunk({"refusal": "a"}), chunk({"annotations": [cited]}), chunk({}, "stop"))
    given, _ = replay(refused)
    check_events(given)


def test_text_behind_an_unfinished_call_waits_for_it() -> None:
    """Items never overlap: what comes behind an open call is held until the call is whole."""
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}}
    t = translation()
    t.start()
    t.receive(sse(chunk({"tool_calls": [call]})))
    assert t.receive(sse(TEXT, chunk({"reasoning": "r"}))) == []
    rest = {"index": 0, "function": {"arguments": ":1}"}}
    given = t.receive(sse(chunk({"tool_calls": [rest]})))
    assert kinds(given)[:6] == [
        "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta",
    ]  # fmt: skip
    late = {"index": 0, "function": {"arguments": "late"}}
    assert t.receive(sse(chunk({"tool_calls": [late]}))) == []
    t.receive(sse(chunk({}, "stop")))
    t.close()
    assert [type(item).__name__ for item in t.response.output] == [
        "FunctionCall", "Message", "Reasoning",
    ]  # fmt: skip


def test_a_failure_closes_nothing_that_is_open() -> None:
    """A client that saw half a call done would run it."""
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}}
    given, response = replay(sse(TEXT, chunk({"tool_calls": [call]})))
    check_events(given)
    assert kinds(given)[-3:] == ["function_call_arguments.delta", "error", "failed"]
    assert [type(item).__name__ for item in response.output] == ["Message"]
    assert response.error is not None
    assert response.error.code == "server_error"


# --- other kinds of calls -------------------------------------------------------------------------


def called(tool: dict[str, Any], name: str, arguments: str, finish: str = "tool_calls") -> Any:
    call = {"index": 0, "id": "c", "function": {"name": name, "arguments": arguments}}
    given, response = replay(sse(chunk({"tool_calls": [call]}), chunk({}, finish)), {**REQUEST, "tools": [tool]})  # fmt: skip
    check_events(given)
    (item,) = json.loads(translator.encode_json(response))["output"]
    return item


def test_calls_of_tools_that_the_client_runs() -> None:
    search = {"type": "tool_search", "execution": "client"}
    assert called(search, "tool_search", '{"query": "x"}') == {
        "type": "tool_search_call", "id": "tsc_000000000000000000000001", "call_id": "c",
        "arguments": {"query": "x"}, "status": "completed", "execution": "client",
    }  # fmt: skip
    shell = called({"type": "local_shell"}, "local_shell", '{"command": ["ls"], "timeout_ms": 5}')
    assert shell["type"] == "local_shell_call"
    assert shell["action"] == {
        "type": "exec", "command": ["ls"], "env": {}, "timeout_ms": 5, "user": None,
        "working_directory": None,
    }  # fmt: skip
    shell = called({"type": "shell"}, "shell", '{"commands": ["ls"]}')
    assert shell["type"] == "shell_call"
    assert shell["action"]["commands"] == ["ls"]
    patch = called({"type": "apply_patch"}, "apply_patch", '{"type": "delete_file", "path": "a"}')
    assert patch["type"] == "apply_patch_call"
    assert patch["operation"] == {"type": "delete_file", "path": "a"}
    namespace = {"type": "namespace", "name": "w", "description": "", "tools": [{"type": "custom", "name": "c"}]}  # fmt: skip
    custom = called(namespace, "w__c", '{"input": "x"}')
    assert (custom["name"], custom["namespace"], custom["input"]) == ("c", "w", "x")
    namespace["tools"] = [{"type": "function", "name": "f"}]
    function = called(namespace, "w__f", "{}")
    assert (function["name"], function["namespace"]) == ("f", "w")


def test_arguments_that_fit_no_action_are_shown_as_they_are() -> None:
    item = called({"type": "apply_patch"}, "apply_patch", '{"path": "a"}')
    assert (item["type"], item["arguments"]) == ("function_call", '{"path": "a"}')
    item = called({"type": "local_shell"}, "local_shell", '{"command": ["l', finish="length")
    assert (item["type"], item["status"]) == ("function_call", "incomplete")


# --- bodies ---------------------------------------------------------------------------------------

COMPLETION = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("blank", [b"", b"\n" * 20, b"\xef\xbb\xbf", b" \r\n"])
def test_json_although_a_stream_was_asked_for(blank: bytes) -> None:
    body = blank + json.dumps(COMPLETION).encode()
    for pieces in ([body], [body[n : n + 1] for n in range(len(body))]):
        given, response = replay(pieces)
        check_events(given)
        assert response.output[0].content[0].text == "Hello"  # type: ignore[union-attr]
        assert response.status == "completed"


def test_a_stream_although_json_was_asked_for() -> None:
    response = translation({**REQUEST, "stream": False}).complete(BODY)
    assert response.status == "completed"


def test_chunks_without_framing() -> None:
    body = "\n".join(json.dumps(value) for value in (TEXT, chunk({}, "stop"))).encode()
    assert replay(body)[1].status == "completed"


def test_a_page_of_html_explains_the_failure() -> None:
    given, response = replay(b"<html><title>502 Bad Gateway</title></html>")
    check_events(given)
    assert response.error is not None
    assert response.error.message.endswith("502 Bad Gateway")


def test_a_body_over_the_bound() -> None:
    options = translator.Options(max_answer_bytes=10)
    given, response = replay([b"{" + b" " * 8, b" " * 8, b"}"], options=options)
    check_events(given)
    assert response.error is not None
    assert "over 10 bytes" in response.error.message


@pytest.mark.parametrize("begun", [False, True])
def test_an_event_over_the_bound(begun: bool) -> None:
    t = translation()
    given = t.receive(sse(TEXT)) if begun else []
    t._decoder._max = 10
    given += t.receive(b"data: " + b"x" * 20) + t.close()
    check_events(given)
    assert isinstance(t.error, translator.AnswerTooLarge)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"error": {"message": "x", "code": 429}}', 429, "rate_limit_exceeded"),
        (b'{"base_resp": {"status_code": 1004, "status_msg": "auth"}}', 401, "invalid_api_key"),
        (b"", 502, "upstream_error"),
        (b"{}", 502, "upstream_error"),
        (b"<html>", 502, "upstream_error"),
        (sse({"error": {"message": "context window exceeds limit", "code": 400}}), 400, "context_length_exceeded"),
    ],
)  # fmt: skip
def test_a_body_without_an_answer_is_an_error(body: bytes, status: int, code: str) -> None:
    with pytest.raises(UpstreamError) as raised:
        translation().complete(body)
    assert (raised.value.status_hint, raised.value.code) == (status, code)


def test_a_body_that_breaks_off_is_a_failed_response() -> None:
    response = translation().complete(sse(TEXT))
    assert response.status == "failed"
    check_response_types(json.loads(translator.encode_json(response)))


# --- the life of a translation --------------------------------------------------------------------


def test_every_step_at_most_once() -> None:
    t = translation()
    assert not t.finished
    assert t.heartbeat() == []
    assert kinds(t.start()) == ["created", "in_progress"]
    assert t.start() == []
    assert kinds(t.heartbeat()) == ["in_progress"]
    assert not t.produced
    t.receive(sse(TEXT, chunk({}, "stop")))
    assert t.produced
    assert not t.finished, "usage may follow"
    assert t.response.output == []
    assert kinds(t.receive(sse("[DONE]")))[-1] == "completed"
    assert t.finished, "nothing follows [DONE], whether the upstream closes or not"
    assert t.error is None
    assert t.close() == t.receive(BODY) == t.heartbeat() == t.start() == []
    assert t.close(UpstreamTimeout("late")) == []
    assert t.response.status == "completed"


def test_progress_counts_deltas_with_content() -> None:
    """Keep-alives, usage and the end are none; of a body that is one value, each read is one."""
    t = translation()
    assert t.progress == 0
    grown: list[int] = []
    for body in (
        b": ping\n\n",
        sse(TEXT),
        sse(TEXT),
        sse(TEXT, TEXT, chunk({"reasoning": "a"})),
        sse(chunk({}, usage={"prompt_tokens": 1}, service_tier="flex")),
        sse(chunk({}, "stop")),
        sse(chunk({"content": "a", "reasoning": "b"})),
    ):
        before = t.progress
        t.receive(body)
        grown.append(t.progress - before)
    assert grown == [0, 1, 1, 3, 0, 0, 2]
    whole = translation()
    read = [whole.receive(body) or whole.progress for body in (b"\n", b"{", b" ", b'"a"')]
    assert read[1:] == [1, 1, 2]


def test_nothing_is_read_behind_the_end() -> None:
    """Not even what came with it in one read."""
    t = translation()
    given = t.receive(sse(TEXT, TEXT, "[DONE]", TEXT))
    check_events(given)
    assert t.progress == 2
    assert kinds(given).count("output_text.delta") == 2
    failed = translation().receive(sse(TEXT, {"error": {"message": "x"}}, TEXT, "[DONE]"))
    assert kinds(failed)[-2:] == ["error", "failed"]


def test_receive_and_close_begin_by_themselves() -> None:
    assert kinds(translation().receive(b""))[0] == "created"
    assert kinds(translation().close())[0] == "created"


@pytest.mark.parametrize("error", [UpstreamTimeout("no answer"), "no answer"])
def test_a_connection_that_breaks(error: UpstreamTimeout | str) -> None:
    t = translation()
    given = t.receive(sse(TEXT)) + t.close(error)
    check_events(given)
    assert t.response.error is not None
    assert t.response.error.message == "no answer"
    assert t.error is not None


def test_an_error_of_ours_is_the_upstreams_to_the_client() -> None:
    t = translation()
    t.close(translator.TranslatorError("odd"))
    assert isinstance(t.error, UpstreamError)


def test_an_error_object_ends_the_response_at_once() -> None:
    t = translation()
    given = t.receive(sse(TEXT, {"error": {"message": "x"}}, TEXT))
    check_events(given)
    assert t.finished


def test_time_stands_still_without_a_clock() -> None:
    t = Translation(REQUEST, response_id="resp_1", created_at=7, new_id=lambda prefix: prefix + "1")
    t.receive(BODY)
    t.close()
    assert t.response.completed_at == 7


def test_a_clock_that_went_back_does_not_go_before_the_beginning() -> None:
    t = Translation(
        REQUEST, response_id="r", created_at=7, new_id=lambda prefix: prefix, now=lambda: 3
    )
    t.receive(BODY)
    t.close()
    assert t.response.completed_at == 7


def test_a_request_may_be_bytes() -> None:
    t = translation(json.dumps(REQUEST).encode())
    assert json.loads(t.chat_body)["model"] == "a-model"


def test_a_request_may_be_parsed_before() -> None:
    """A program that needs a field of it, to choose an upstream, decodes the body once."""
    body = json.dumps({**REQUEST, "top_k": 3, "unknown_to_all": 1}).encode()
    parsed = translator.parse_request(body)
    assert parsed.request.model == "a-model"
    assert parsed.unknown.keys() == {"top_k", "unknown_to_all"}
    before, bytes_now = translation(parsed), translation(body)
    assert before.chat_body == bytes_now.chat_body
    assert before.notices == bytes_now.notices
    with pytest.raises(translator.InvalidRequest):
        translator.parse_request(b'{"input": 5}')


def test_hosted_tools_can_be_refused() -> None:
    request = {**REQUEST, "tools": [{"type": "web_search"}]}
    assert [notice.code for notice in translation(request).notices] == ["tool_dropped"]
    with pytest.raises(translator.InvalidRequest):
        translation(request, options=Options(hosted_tools="reject"))


def test_cutting_the_body_does_not_change_the_events() -> None:
    whole = [translator.encode_sse(event) for event in replay(BODY)[0]]
    for place in range(len(BODY) + 1):
        assert [translator.encode_sse(e) for e in replay(cut(BODY, [place]))[0]] == whole


def test_text_behind_an_unfinished_call_waits_for_its_end() -> None:
    """Items never overlap: what is told while a call is still open is kept, piece by piece."""
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":'}}
    body = sse(
        chunk({"tool_calls": [call]}),
        chunk({"content": "Mean"}),
        chunk({"content": "while"}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        chunk({}, "tool_calls"),
    )
    given, response = replay(body)
    check_events(given)
    called, said = response.output
    assert isinstance(called, items.FunctionCall)
    assert called.arguments == '{"a":1}'
    assert isinstance(said, items.Message)
    assert [part.text for part in said.content if isinstance(part, items.OutputText)] == [
        "Meanwhile"
    ]


def test_blank_reasoning_between_two_texts_is_noise() -> None:
    body = sse(
        chunk({"content": "Hel"}),
        chunk({"reasoning": "\n"}),
        chunk({"content": "lo"}),
        chunk({"reasoning": "Hm."}),
        chunk({}, "stop"),
    )
    given, response = replay(body)
    check_events(given)
    said, thought = response.output
    assert isinstance(said, items.Message)
    assert isinstance(thought, items.Reasoning)
    assert [part.text for part in thought.summary] == ["Hm."]


def test_a_request_can_be_forgotten_once_its_answer_has_begun() -> None:
    """Nothing of the answer depends on it any more, but its names and what the response repeats."""
    asked = {
        **REQUEST,
        "tools": [
            {"type": "custom", "name": "patch"},
            {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]},
        ],
        "tool_choice": {"type": "custom", "name": "patch"},
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}},
        "temperature": 0.5,
    }
    name = json.loads(translation(asked).chat_body)["tools"][1]["function"]["name"]
    pieces = [
        sse(chunk({"content": "Hi"})),
        sse(
            chunk(
                {
                    "tool_calls": [
                        {"index": 0, "function": {"name": "patch", "arguments": '{"input":"x'}}
                    ]
                }
            ),
            chunk(
                {
                    "tool_calls": [
                        {"index": 0, "function": {"arguments": '"}'}},
                        {"index": 1, "function": {"name": name, "arguments": "{}"}},
                    ]
                }
            ),
            chunk({}, "tool_calls"),
        ),
    ]
    forgets, remembers = translation(asked), translation(asked)
    found: list[list[Event]] = []
    for t in (forgets, remembers):
        events = t.receive(pieces[0])
        if t is forgets:
            t.forget_request()
        found.append(events + t.receive(pieces[1]) + t.close())
    assert found[0] == found[1]
    assert forgets.chat_body == b""
    assert forgets.request.input is None
    assert forgets.request.temperature == 0.5
    assert forgets.request.stream


CYCLE: dict[str, Any] = {}
CYCLE["a"] = CYCLE


@pytest.mark.parametrize("odd", ["\ud800", CYCLE, object()])
def test_a_dict_that_is_no_json_is_an_invalid_request(odd: object) -> None:
    with pytest.raises(InvalidRequest):
        translation({"model": "m", "input": "Hi", "metadata": odd})


def test_an_event_that_never_ends_fails_a_stream_that_has_begun() -> None:
    t = translation()
    t.receive(sse(chunk({"content": "Hello"})))
    last = t.receive(b"data: " + b"x" * (MAX_EVENT_BYTES + 1))
    assert [str(event.__struct_config__.tag) for event in last] == ["error", "response.failed"]
    assert t.finished


def test_a_translation_that_is_prepared_early_gives_the_same_answer() -> None:
    prepared, not_prepared = translation(), translation()
    prepared.prepare()
    prepared.prepare()
    for t in (prepared, not_prepared):
        assert (t.produced, t.written, t.held, t.heartbeat()) == (False, 0, 0, [])
    assert prepared.receive(BODY) == not_prepared.receive(BODY)
    assert prepared.close() == not_prepared.close()
    assert prepared.response == not_prepared.response


def test_a_response_is_known_before_its_first_event() -> None:
    t = translation()
    assert t.response.status == "in_progress"
    assert t.response.output == []


def test_a_request_that_is_forgotten_at_once_is_still_repeated() -> None:
    forgets, remembers = (translation({**REQUEST, "instructions": "Be brief."}) for _ in range(2))
    forgets.forget_request()
    assert forgets.start() == remembers.start()
    assert forgets.response.instructions == "Be brief."


def test_what_an_answer_is_at() -> None:
    t = translation()
    assert t.writing == ("", "")
    seen: list[tuple[str, str]] = []
    for delta in (
        {"role": "assistant"},
        {"reasoning_content": "th"},
        {"content": "Hi"},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]},
    ):
        t.receive(sse(chunk(delta)))
        seen.append(t.writing)
    assert seen == [("", ""), ("reasoning", ""), ("message", ""), ("call", "f")]


def test_what_follows_a_failure_is_not_judged_again() -> None:
    judged: list[UpstreamError] = []

    def judge(error: UpstreamError) -> UpstreamError:
        judged.append(error)
        return error

    t = Translation(
        REQUEST, response_id="resp_1", created_at=7, new_id=lambda prefix: prefix, judge=judge
    )
    assert t.receive(b'data: {"error":{"message":"no"}}\n\n')
    assert not t.receive(b": comment\n\n")
    assert len(judged) == 1
