"""Settings that steer the answer: words that are not known here."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest

import translator
from tests.conversations import exchange, refusal
from tests.invariants import check_response_types
from tests.replaying import translation
from translator import DIALECTS, InvalidRequest, Options, Translation
from translator.request.advice import MAX_QUOTED_CHARACTERS
from translator.request.compact_request import CompactRequest
from translator.wire import responses


def asked(dialect: str = "base", **fields: Any) -> Translation:
    return exchange("hi", dialect=dialect, **fields)


def sent(dialect: str = "base", **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(asked(dialect, **fields).chat_body)
    return body


def noticed(t: Translation) -> list[str]:
    return [f"{notice.path} {notice.code}" for notice in t.notices]


def strict(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        translation({"model": "m", "input": "hi", **fields}, options=Options(strict=True))
    return refused.value


EFFORTS = [
    ("ultra", "max"),
    ("Ultra", "max"),
    ("maximum", "max"),
    ("HIGH", "high"),
    ("x-high", "xhigh"),
    ("extra_high", "xhigh"),
    ("med", "medium"),
    ("standard", "medium"),
    ("light", "low"),
    ("min", "minimal"),
    ("off", "none"),
    ("disabled", "none"),
]


@pytest.mark.parametrize(("word", "nearest"), EFFORTS)
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_an_effort_is_sent_as_the_nearest_one(dialect: str, word: str, nearest: str) -> None:
    t = asked(dialect, reasoning={"effort": word}, stream=True)
    assert t.chat_body == asked(dialect, reasoning={"effort": nearest}, stream=True).chat_body
    assert noticed(t)[0] == "reasoning.effort weakened"


@pytest.mark.parametrize("word", ["turbo", "", " ", "auto", "adaptive", "5", "ultraviolet", "é"])
@pytest.mark.parametrize("dialect", ["base", "deepseek", "openai", "moonshot"])
def test_an_effort_of_which_nothing_is_known_is_left_out(dialect: str, word: str) -> None:
    t = asked(dialect, reasoning={"effort": word})
    assert t.chat_body == asked(dialect).chat_body
    assert noticed(t) == ["reasoning.effort ignored"]


FIELDS: list[tuple[str, object]] = [
    ("reasoning.effort", responses.Effort),
    ("reasoning.summary", responses.Summary),
    ("reasoning.generate_summary", responses.Summary),
    ("reasoning.context", responses.ReasoningContext),
    ("reasoning.mode", responses.ReasoningMode),
    ("text.verbosity", responses.Verbosity),
    ("service_tier", responses.Tier),
    ("truncation", responses.Truncation),
    ("prompt_cache_retention", responses.CacheRetention),
]


def field(path: str, value: object) -> dict[str, Any]:
    *outer, name = path.split(".")
    return {outer[0]: {name: value}} if outer else {name: value}


@pytest.mark.parametrize("path", [path for path, _ in FIELDS])
def test_an_unknown_word_is_left_out_with_a_notice(path: str) -> None:
    t = asked("openai", **field(path, "turbo"))
    assert noticed(t) == [f"{path} ignored"]
    assert "'turbo'" in t.notices[0].message
    assert t.chat_body == asked("openai").chat_body


@pytest.mark.parametrize("path", [path for path, _ in FIELDS])
def test_an_unknown_word_is_refused_where_the_operator_is_strict(path: str) -> None:
    error = strict(**field(path, "turbo"))
    assert (error.status_hint, error.code, error.param) == (400, "invalid_value", path)
    assert str(error) == "Unknown value 'turbo'; it is not supported."
    first = strict(**field(path, "turbo"), tools=[{"type": "web_search"}])
    assert first.param == path


def test_a_refused_word_was_not_replaced() -> None:
    """Where there is a nearest one, and where the word is too long to repeat it."""
    error = strict(text={"verbosity": "verbose"})
    assert str(error) == "Unknown value 'verbose'; it is not supported."
    assert (error.code, error.param) == ("invalid_value", "text.verbosity")
    error = strict(service_tier="x" * 99)
    assert str(error) == f"Unknown value '{'x' * 40}…'; it is not supported."


@pytest.mark.parametrize(("path", "known"), FIELDS)
def test_a_known_word_is_no_notice_of_its_own(path: str, known: object) -> None:
    for word in get_args(known):
        for notice in asked("openai", **field(path, word)).notices:
            assert "Unknown" not in notice.message, word


@pytest.mark.parametrize("path", [*(path for path, _ in FIELDS), "include[0]"])
@pytest.mark.parametrize("value", [5, True, ["high"], {"a": 1}])
def test_a_value_that_is_no_word_is_refused_with_its_path(path: str, value: object) -> None:
    fields = {"include": [value]} if path == "include[0]" else field(path, value)
    error = refusal("hi", **fields)
    assert (error.status_hint, error.code) == (400, "invalid_type")
    assert error.param in (path, "include")


def test_members_and_values_that_have_no_effect_are_noticed() -> None:
    t = asked(include=["a.new.thing"], stream_options={"include_usage": True})
    assert noticed(t) == ["stream_options ignored", "include[0] ignored"]
    assert refusal("hi", stream_options={"include_obfuscation": "x"}).param == (
        "stream_options.include_obfuscation"
    )


def test_verbosity_and_tier_are_sent_as_the_nearest_ones() -> None:
    body = sent("openai", text={"verbosity": "verbose"}, service_tier="Priority")
    assert (body["verbosity"], body["service_tier"]) == ("high", "priority")
    assert sent("openai", text={"verbosity": "concise"})["verbosity"] == "low"
    assert sent("openai", service_tier="standard")["service_tier"] == "default"


def test_the_response_repeats_the_words_of_the_client() -> None:
    given: dict[str, Any] = {
        "reasoning": {"effort": "ultra", "summary": "loud"},
        "text": {"verbosity": "verbose"},
        "service_tier": "turbo",
        "truncation": "middle",
        "prompt_cache_retention": "7d",
    }
    response = json.loads(translator.encode_json(asked(**given).response))
    for name, value in given.items():
        wanted = {"format": {"type": "text"}, **value} if name == "text" else value
        assert response[name] == wanted
    check_response_types(response)


def test_words_in_a_configuration_update_count_alike() -> None:
    update = {
        "type": "configuration_update",
        "reasoning": {"effort": "ultra", "summary": "loud"},
        "text": {"verbosity": "verbose"},
    }
    items = [update, {"role": "user", "content": "hi"}]
    t = exchange(items, dialect="deepseek")
    assert json.loads(t.chat_body)["reasoning_effort"] == "max"
    assert noticed(t) == [
        "input[0].reasoning.effort weakened",
        "input[0].reasoning.summary ignored",
        "input[0].text.verbosity weakened",
    ]
    assert json.loads(exchange(items, dialect="openai").chat_body)["verbosity"] == "high"
    with pytest.raises(InvalidRequest) as refused:
        translation({"model": "m", "input": items}, options=Options(strict=True))
    assert (refused.value.param, refused.value.code) == (
        "input[0].reasoning.effort",
        "invalid_value",
    )


def test_a_compaction_takes_unknown_words() -> None:
    fields = {
        "model": "m",
        "input": "hi",
        "service_tier": "turbo",
        "reasoning": {"effort": "ultra"},
    }
    body = CompactRequest(msgspec.json.encode(fields)).body
    t = translation(body, dialect="deepseek")
    assert json.loads(t.chat_body)["reasoning_effort"] == "max"
    assert noticed(t) == ["reasoning.effort weakened", "service_tier ignored"]


def test_a_notice_quotes_only_the_beginning_of_a_long_word() -> None:
    [notice] = asked(service_tier="t" * 10_000).notices
    assert "t" * MAX_QUOTED_CHARACTERS + "…" in notice.message
    assert len(notice.message) < 100
