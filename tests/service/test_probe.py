"""`translator probe`: an unknown upstream is recognised by how it behaves."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import tomllib
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from translator.__main__ import main
from translator.deltas import Usage
from translator.dialect import Dialect
from translator.dialect_table import own_facts
from translator.dialects import BASE, DIALECTS
from translator.service.catalog.models import ModelTable
from translator.service.probe import report as service
from translator.service.probe.findings import (
    Carries,
    Choice,
    Finding,
    Is,
    Member,
    NoEffortField,
    NotSent,
    Replays,
    Schemas,
    Switched,
    Tagged,
    Thinks,
    contradicted,
    corrected,
)
from translator.service.probe.notebook import CouldNotAsk
from translator.service.probe.replies import ReplyReader
from translator.service.probe.report import Report, as_json, as_settings, probe
from translator.service.probe.verdict import marked, ranked
from translator.service.settings import Upstream, read_table
from translator.think_tags import Tags

from . import probed
from .probed import JSON, Said, openai_error

HOST = "https://unknown.example"


class Waits:
    """A clock that stands still unless somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def ask(
    behind: Callable[[httpx.Request], httpx.Response],
    *,
    model: str | None = None,
    host: str = HOST,
    key: str | None = None,
    headers: dict[str, str] | None = None,
    waits: Waits | None = None,
    **more: Any,
) -> Report:
    """The report on a scripted upstream, which is reached without a network."""
    waits = waits or Waits()
    upstream = Upstream(
        name="up",
        base_url=host + getattr(behind, "path", "/v1"),
        dialect="base",
        api_key=key,
        headers=headers or {},
    )
    return asyncio.run(
        probe(
            upstream,
            model or getattr(behind, "model", "m"),
            transport=httpx.MockTransport(behind),
            now=waits.now,
            sleep=waits.sleep,
            **more,
        )
    )


def settings_of(report: Report) -> Any:
    """The printed settings, as the service reads them."""
    text = as_settings(report, name="up", api_key_env=None)
    return read_table(tomllib.loads(text), {})


# --- which dialect it is --------------------------------------------------------------------------

KNOWN: list[tuple[type[probed.Upstream], str, JSON]] = [
    (probed.Fireworks, "fireworks", {}),
    (probed.FireworksQwen, "fireworks", {}),
    (probed.FireworksGptOss, "fireworks", {"images": False}),
    (probed.DeepSeek, "deepseek", {}),
    (probed.Vllm, "vllm", {"images": False}),
    (probed.VllmWithoutParallel, "vllm", {"images": False, "parallel_tool_calls": False}),
    (probed.Ollama, "ollama", {}),
    (probed.OpenAI, "openai", {}),
    (probed.Mistral, "mistral", {}),
    (probed.LmStudio, "lm_studio", {"images": False}),
    (probed.MiniMax, "minimax", {}),
    (probed.DashScope, "dashscope", {"thinks_by_default": True}),
    (probed.OpenRouter, "openrouter", {}),
    (probed.Gemini, "gemini", {"developer_role": True}),
    (probed.LlamaCpp, "llama_cpp", {"images": False, "system_messages": "demote_later"}),
]


@pytest.mark.parametrize(("upstream", "dialect", "overrides"), KNOWN)
def test_an_upstream_is_recognised_by_how_it_behaves(
    upstream: type[probed.Upstream], dialect: str, overrides: JSON
) -> None:
    """At a host that nobody knows, with exactly the facts to correct that are different."""
    report = ask(upstream())
    assert report.best.name == dialect
    assert report.best.overrides == overrides
    assert report.check == "taken"  # an agent's turn, as the service would write it


@pytest.mark.parametrize("upstream", [case[0] for case in KNOWN])
def test_the_printed_settings_say_exactly_what_was_found(upstream: type[probed.Upstream]) -> None:
    """They load, and the dialect of the model is the corrected one, with which all findings agree."""
    report = ask(upstream())
    route = ModelTable(settings_of(report), created=0).route(report.model)
    assert route.dialect == report.best.right
    assert contradicted(route.dialect, report.findings) == []


@pytest.mark.parametrize("upstream", [case[0] for case in KNOWN])
def test_any_dialect_can_be_corrected_to_what_was_found(upstream: type[probed.Upstream]) -> None:
    """Also one that is far off; and what is printed for it loads as that."""
    report = ask(upstream())
    for name in DIALECTS:
        [fit] = ranked(report.findings, model=report.model, base_url=report.base_url, only=name)
        assert contradicted(fit.right, report.findings) == [], name
        one = Report(
            model=report.model,
            base_url=report.base_url,
            fits=[fit],
            findings=report.findings,
            notes=[],
            unknown={},
            marks=[],
            check="",
            requests=0,
        )
        route = ModelTable(settings_of(one), created=0).route(report.model)
        assert route.dialect == fit.right, name


@pytest.mark.parametrize("upstream", [case[0] for case in KNOWN])
def test_the_questions_are_few_small_and_bounded(upstream: type[probed.Upstream]) -> None:
    behind = upstream()
    report = ask(behind)
    assert len(behind.bodies) < report.requests <= 36
    for body in behind.bodies:
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        assert limit is not None
        assert limit <= 1024
        assert len(json.dumps(body)) < 4000


def test_of_equals_the_dialect_of_the_host_comes_first() -> None:
    assert ask(probed.OpenAI()).equals == ["azure"]
    report = ask(probed.OpenAI(), host="https://mine.openai.azure.com")
    assert (report.best.name, report.equals) == ("azure", ["openai"])


def test_of_equals_the_dialect_whose_marks_were_seen_comes_first() -> None:
    """A server that gives and takes the same as vLLM says of itself that it is SGLang."""

    class Sglang(probed.Vllm):
        owner = "sglang"

        def chunk(self, delta: JSON, finish: str | None = None) -> JSON:
            chunk = super().chunk(delta, finish)
            chunk["choices"][0].pop("stop_reason", None)
            chunk["choices"][0]["matched_stop"] = 151645 if finish else None
            return chunk

    assert ask(probed.Vllm()).best.name == "vllm"
    report = ask(Sglang())
    assert report.best.name == "sglang"
    assert "choice.matched_stop" in report.marks


def test_of_equals_the_dialect_with_fewer_facts_to_correct_comes_first() -> None:
    """Mistral's has two kinds of one fact to correct, TGI's two facts."""
    findings = [
        Member(name="response_formats", member="json_schema", there=False, evidence=""),
        Member(name="response_formats", member="json_object", there=False, evidence=""),
        Is(name="stream_usage", values=(False,), evidence=""),
        Is(name="system_messages", values=("merge_leading",), evidence=""),
    ]
    fits = {fit.name: fit for fit in ranked(findings, model="m", base_url=HOST)}
    assert fits["mistral"].distance == fits["tgi"].distance == 2
    assert len(own_facts(DIALECTS["mistral"])) > len(own_facts(DIALECTS["tgi"]))
    assert list(fits).index("mistral") < list(fits).index("tgi")


def test_a_dialect_that_is_given_is_corrected_and_not_chosen() -> None:
    report = ask(probed.Vllm(), only="base")
    assert [fit.name for fit in report.fits] == ["base"]
    assert report.best.overrides["efforts"]["none"] == {
        "chat_template_kwargs": {"enable_thinking": False, "thinking": False}
    }
    assert settings_of(report).upstreams["up"].dialect == "base"


def test_a_tolerant_upstream_of_which_nothing_is_known_needs_no_corrections() -> None:
    class Plain(probed.Upstream):
        always_thinks = False
        usage_unasked = True

    report = ask(Plain())
    assert report.best.name == "base"
    assert report.best.overrides == {"developer_role": True}


# --- what counts as a fact ------------------------------------------------------------------------


def facts_about(report: Report, *names: str) -> list[str]:
    return [finding.seen for finding in report.findings if finding.fact in names]


class Interrupting(probed.Vllm):
    """Answers one question with an error that has nothing to do with it."""

    def __init__(self, wanted: Callable[[JSON], bool], refusal: probed.Refusal) -> None:
        super().__init__()
        self.wanted = wanted
        self.refusal = refusal

    def check(self, body: JSON) -> None:
        if self.wanted(body):
            raise self.refusal
        super().check(body)


def about_schemas(body: JSON) -> bool:
    return body.get("response_format", {}).get("type") == "json_schema"


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (openai_error(429, "Too many requests"), "rate limited"),
        (openai_error(503, "Service overloaded"), "the upstream failed (503)"),
        (openai_error(500, "CUDA error: out of memory"), "the upstream failed (500)"),
        (openai_error(400, "Content was filtered", code="content_filter"), "for another reason"),
        (
            openai_error(
                400,
                "Could not finish the message because max_tokens or model output "
                "limit was reached.",
            ),
            "for another reason",
        ),
        (openai_error(408, "Request timed out"), "the upstream failed"),
    ],
)
def test_an_error_that_says_nothing_of_the_question_is_no_fact(
    refusal: probed.Refusal, reason: str
) -> None:
    report = ask(Interrupting(about_schemas, refusal))
    assert reason in report.unknown["json_schema"]
    assert "response_formats: not json_schema" not in facts_about(report, "response_formats")
    assert "response_formats: json_schema" not in facts_about(report, "response_formats")
    assert report.best.name == "vllm"


def test_a_refusal_in_words_is_a_fact_with_its_words_as_evidence() -> None:
    refusal = openai_error(400, "guided decoding is not compiled in")
    report = ask(Interrupting(about_schemas, refusal))
    assert "response_formats: not json_schema" in facts_about(report, "response_formats")
    assert report.best.overrides["response_formats"] == ["json_object"]
    text = as_settings(report, name="up", api_key_env=None)
    assert "# json_schema was refused: “guided decoding is not compiled in”\n" in text


def test_a_model_that_does_not_do_as_it_is_told_is_not_seen_rather_than_false() -> None:
    """It calls nothing, follows no schema, and overlooks the picture, and refuses none of it."""

    class Unwilling(probed.Upstream):
        reads_formats = frozenset()
        sees = False

        def obey(self, body: JSON) -> Said:
            return super().obey({k: v for k, v in body.items() if k != "tools"})

    report = ask(Unwilling())
    assert facts_about(report, "tool_choices", "parallel_tool_calls", "images") == [
        # A choice that does not exist was taken too: so the field is not read.
        "tool_choices: not required",
        "tool_choices: not named",
    ]
    assert facts_about(report, "response_formats", "response_format_with_tools") == []
    for topic in ("tool calls", "parallel_tool_calls", "tool_choice none", "images", "json_schema"):
        assert report.unknown[topic].startswith("not seen: "), topic


def test_an_answer_that_was_cut_tells_nothing() -> None:
    """A model that needs more tokens for its thoughts than it is given."""

    class Endless(probed.Vllm):
        def say(self, body: JSON) -> Said:
            return Said(reasoning=probed.THOUGHT * 200, finish="length")

    report = ask(Endless())
    told = {finding.fact for finding in report.findings}
    assert told <= {
        "thinks_by_default",
        "stream_usage",
        "thinks_only_streaming",
        "call_ids",
        "images",
        "answer_between_tool_and_user",
        "reasoning_required",
        "reasoning_replay",
    }


def test_an_empty_answer_does_not_show_that_thinking_is_off() -> None:
    class Empty(probed.Vllm):
        def say(self, body: JSON) -> Said:
            return Said(finish="length") if "enable_thinking" in body else super().say(body)

    [switched] = [f for f in ask(Empty()).findings if isinstance(f, Switched)]
    assert [next(iter(fields)) for fields in switched.works] == ["chat_template_kwargs"]


def test_a_short_answer_does_not_show_that_a_limit_is_ignored() -> None:
    class Terse(probed.Vllm):
        reads_limits = frozenset({"max_tokens"})

        def obey(self, body: JSON) -> Said:
            said = super().obey(body)
            return Said(text="One.") if said.text == probed.NUMBERS else said

    class Ignoring(probed.Vllm):
        reads_limits = frozenset({"max_tokens"})

    assert facts_about(ask(Terse()), "max_tokens_field") == []
    assert facts_about(ask(Ignoring()), "max_tokens_field") == ['max_tokens_field = "max_tokens"']


def test_it_hangs_up_where_the_beginning_of_an_answer_is_enough() -> None:
    """An answer that would never end is read as long as it takes to see that one came."""
    read: list[int] = []

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for number in range(10_000):
                read.append(number)
                yield b'data: {"choices":[{"delta":{"content":"more"}}]}\n\n'

    class Talking(probed.Vllm):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            response = super().__call__(request)
            if self.bodies and len(probed.asked(self.bodies[-1], "system")) > 1:
                return httpx.Response(200, stream=Endless())
            return response

    report = ask(Talking())
    assert "System messages are taken in every place." in report.notes
    assert 0 < len(read) < 10


def test_a_forced_call_that_was_cut_off_is_not_taken_for_none() -> None:
    class Cut(probed.Ollama):
        def say(self, body: JSON) -> Said:
            said = super().say(body)
            return Said(said.reasoning, "", [], "length") if "tool_choice" in body else said

    report = ask(Cut())
    assert "tool_choices: not required" not in facts_about(report, "tool_choices")
    assert report.unknown["tool_choice required"] == (
        "not seen: the answer was cut at the token limit"
    )


def test_thinking_that_comes_and_goes_tells_no_way_to_switch_it_off() -> None:
    class Moody(probed.Vllm):
        def thinks(self, body: JSON) -> bool:
            return not (
                body.keys()
                & {
                    "reasoning_effort",
                    "thinking",
                    "enable_thinking",
                    "reasoning",
                    "chat_template_kwargs",
                }
            )

    report = ask(Moody())
    assert facts_about(report, "efforts") == []
    assert any("at times only" in note for note in report.notes)


def test_a_call_in_spite_of_none_shows_that_the_choice_is_not_read() -> None:
    assert "tool_choices: not none" in facts_about(ask(probed.Ollama()), "tool_choices")
    assert "tool_choices: none" in facts_about(ask(probed.Vllm()), "tool_choices")


def test_a_choice_that_is_refused_while_it_thinks_is_asked_again_without() -> None:
    assert facts_about(ask(probed.DeepSeek()), "tool_choices", "tool_choices_thinking") == [
        "tool_choices_thinking: not required",
        "tool_choices: required",
        "tool_choices_thinking: not named",
        "tool_choices: named",
        "tool_choices: none",
    ]
    assert "tool_choices: not required" in facts_about(ask(probed.DashScope()), "tool_choices")


def test_a_correction_is_given_its_evidence_once() -> None:
    """Also where one finding corrects two facts."""
    report = ask(probed.Mistral(), only="vllm")
    assert {"tool_choices", "call_ids", "reasoning_replay"} & report.best.overrides.keys()
    _, _, section = as_settings(report, name="up", api_key_env=None).partition("[upstreams.up]")
    comments = [line for line in section.splitlines() if line.startswith("#")]
    assert sorted(comments) == sorted(f"# {f.evidence}" for f in report.best.contradicted)

    report = ask(probed.Vllm(), only="mistral")
    assert {"reasoning_replay", "reasoning_field"} <= report.best.overrides.keys()
    text = as_settings(report, name="up", api_key_env=None)
    assert text.count("reasoning made the prompt") == 2  # among what was seen, and beside the fact


def test_a_refusal_that_names_nothing_is_traced_by_asking_for_each_thing_alone() -> None:
    class Vague(probed.OpenAI):
        def check(self, body: JSON) -> None:
            super().check(body)
            roles = [message["role"] for message in body["messages"]]
            if ("tool", "user") in itertools.pairwise(roles):
                raise openai_error(400, "Bad request")

    report = ask(Vague())
    assert report.best.right.answer_between_tool_and_user
    assert facts_about(report, "call_ids", "content_beside_calls", "extra_content_required") == [
        'call_ids = "as_is"'
    ]
    assert facts_about(report, "reasoning_required") == ["reasoning_required = false"]
    assert report.check == "taken"


def test_required_may_have_another_name() -> None:
    class OwnWord(probed.Upstream):
        def check(self, body: JSON) -> None:
            super().check(body)
            if body.get("tool_choice") == "required":
                raise openai_error(422, "tool_choice: Input should be 'auto', 'none' or 'any'")

    report = ask(OwnWord())
    assert facts_about(report, "required_word") == ['required_word = "any"']
    assert report.best.right.required_word == "any"
    assert "required" in report.best.right.tool_choices


def test_a_schema_that_makes_calls_impossible_cannot_stand_beside_tools() -> None:
    report = ask(probed.Fireworks())
    assert facts_about(report, "response_format_with_tools") == [
        "response_format_with_tools = false"
    ]
    assert facts_about(ask(probed.Vllm()), "response_format_with_tools") == [
        "response_format_with_tools = true"
    ]


def test_what_only_the_agents_turn_shows_is_learned_from_its_refusal() -> None:
    """Effort by one name is refused for some levels: the corrected dialect is tried once more."""

    class NoMedium(probed.Fireworks):
        def check(self, body: JSON) -> None:
            super().check(body)
            if body.get("reasoning_effort") not in (None, "none", "high"):
                raise self.invalid(f"Invalid reasoning effort: {body['reasoning_effort']}")

    behind = NoMedium()
    report = ask(behind)
    assert report.best.name == "fireworks"
    assert report.check == "taken"
    assert "medium" not in report.best.right.efforts
    assert behind.bodies[-1]["reasoning_effort"] == "high"


def test_a_field_of_effort_that_is_not_known_is_sent_at_no_level() -> None:
    class NoEffort(probed.Vllm):
        def check(self, body: JSON) -> None:
            super().check(body)
            if "reasoning_effort" in body:
                raise self.bad(400, "Unknown parameter: 'reasoning_effort'")

    report = ask(NoEffort(), only="vllm")
    assert report.check == "taken"
    by_template = {"enable_thinking": True, "thinking": True}
    assert report.best.overrides["efforts"] == {
        "none": {"chat_template_kwargs": dict.fromkeys(by_template, False)},
        "high": {"chat_template_kwargs": by_template},
    }

    class NotThinking(NoEffort):
        always_thinks = False

        def thinks(self, body: JSON) -> bool:
            return False

    report = ask(NotThinking(), only="vllm")
    assert report.check == "taken"
    assert facts_about(report, "efforts")[-1] == "efforts: no reasoning_effort"
    assert report.best.right.efforts["medium"] == {"chat_template_kwargs": by_template}


def test_a_fact_of_the_model_tells_no_dialects_apart() -> None:
    """A model without eyes is no other upstream, and its thinking matters only where it is asked."""
    blind = Is(name="images", values=(False,), evidence="", weak=True)
    fits = ranked([blind], model="m", base_url=HOST)
    assert (fits[0].name, fits[0].distance) == ("base", 0)
    assert fits[0].overrides == {"images": False}
    thinks = Thinks(by_default=True, evidence="")
    assert thinks.holds(DIALECTS["vllm"])
    assert not thinks.holds(Dialect(name="x", reasoning_required=True))


# --- findings -------------------------------------------------------------------------------------

OFF = {"thinking": {"type": "disabled"}}
NONE = {"reasoning_effort": "none"}
THINK = ("<think>", "</think>")
LATE = Dialect(name="late", think_tags=Tags(opened_by_template=True))
FINDINGS: list[tuple[Finding, Dialect | str, Dialect | str]] = [
    # the finding, a dialect that agrees, a dialect that does not
    (Is(name="images", values=(False,), evidence=""), "deepseek", "base"),
    (
        Is(name="system_messages", values=("merge_leading", "demote_later"), evidence=""),
        "vllm",
        "base",
    ),
    (
        Is(name="system_messages", values=("merge_leading", "demote_later"), evidence=""),
        "tgi",
        "base",
    ),
    (Thinks(by_default=True, evidence=""), "deepseek", Dialect(name="x", reasoning_required=True)),
    (Thinks(by_default=True, evidence=""), "vllm", "dashscope"),
    (Member(name="refused", member="temperature", there=True, evidence=""), "moonshot", "base"),
    (Member(name="refused", member="logprobs", there=False, evidence=""), "base", "groq"),
    (Choice(kind="required", taken=False, when="thinking", evidence=""), "deepseek", "base"),
    (Choice(kind="required", taken=False, when="always", evidence=""), "zai", "deepseek"),
    (Choice(kind="required", taken=True, when="always", evidence=""), "base", "deepseek"),
    (Choice(kind="named", taken=True, when="not thinking", evidence=""), "deepseek", "zai"),
    (Tagged(pair=THINK, evidence=""), "together", "base"),
    (Tagged(pair=THINK, evidence=""), "together", LATE),
    (Tagged(pair=("<thought>", "</thought>"), evidence=""), "gemini", "together"),
    (Tagged(pair=THINK, opened_by_template=True, evidence=""), LATE, "together"),
    (Tagged(pair=THINK, stray_close=True, evidence=""), "minimax", "together"),
    (
        Switched(level="none", works=[OFF], instead={"none": OFF}, evidence=""),
        "deepseek",
        "fireworks",
    ),
    (
        Switched(level="none", works=[OFF, NONE], instead={"none": OFF}, evidence=""),
        "ollama",
        "together",
    ),
    (NotSent(level="none", ways=[NONE, OFF], evidence=""), "together", "fireworks"),
    (NoEffortField(name="reasoning_effort", evidence=""), "together", "fireworks"),
    (Replays(fields={"reasoning_content": "read"}, evidence=""), "fireworks", "mistral"),
    (Replays(fields={"reasoning_content": "read"}, evidence=""), "base", "ollama"),
    (
        Replays(
            fields={"reasoning": "read", "reasoning_content": "ignored"},
            came_in="reasoning",
            evidence="",
        ),
        "vllm",
        "deepseek",
    ),
    (
        Replays(fields={"reasoning_content": "taken", "reasoning": "refused"}, evidence=""),
        "fireworks",
        "base",
    ),
    (
        Replays(fields={"reasoning_content": "refused", "reasoning": "refused"}, evidence=""),
        "mistral",
        "ollama",
    ),
    (Carries(fields={"reasoning_split": True}, evidence=""), "minimax", "base"),
    (Schemas(evidence=""), "moonshot", "mistral"),
    (Schemas(keyword="$schema", evidence=""), "mistral", "lm_studio"),
    (Schemas(keyword="$schema", evidence=""), "gemini", "base"),
]


@pytest.mark.parametrize(("finding", "agrees", "differs"), FINDINGS)
def test_a_finding_knows_which_dialects_it_contradicts(
    finding: Finding, agrees: Dialect | str, differs: Dialect | str
) -> None:
    """And corrects those, and no others."""
    right = DIALECTS[agrees] if isinstance(agrees, str) else agrees
    wrong = DIALECTS[differs] if isinstance(differs, str) else differs
    assert contradicted(right, [finding]) == []
    assert corrected(right, [finding]) == right
    assert contradicted(wrong, [finding]) == [finding]
    better = corrected(wrong, [finding])
    assert contradicted(better, [finding]) == []
    changed = {f for f in Dialect.__struct_fields__ if getattr(better, f) != getattr(wrong, f)}
    assert changed <= set(finding.facts)


# --- bounds, and politeness -----------------------------------------------------------------------


class Busy(probed.Vllm):
    """Refuses its first answers for too many requests."""

    def __init__(self, times: int, **headers: str) -> None:
        super().__init__()
        self.left = times
        self.headers = headers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/chat/completions") and self.left:
            self.left -= 1
            return probed.answer(429, {"error": {"message": "Slow down."}}, **self.headers)
        return super().__call__(request)


def test_it_waits_as_long_as_it_is_told() -> None:
    waits = Waits()
    report = ask(Busy(2, **{"retry-after": "7"}), waits=waits)
    assert waits.slept == [7, 7]
    assert report.best.name == "vllm"


def test_it_waits_longer_each_time_where_it_is_not_told() -> None:
    waits = Waits()
    ask(Busy(3), waits=waits)
    assert waits.slept == [2, 5, 10]


def test_it_does_not_wait_for_ever() -> None:
    waits = Waits()
    with pytest.raises(CouldNotAsk, match="rate limited for 3600 s, which is too long to wait"):
        ask(Busy(1, **{"retry-after": "3600"}), waits=waits)
    assert waits.slept == []
    busy = Busy(99)
    with pytest.raises(CouldNotAsk, match="rate limited"):
        ask(busy)
    assert busy.left == 95  # four attempts at one question


def test_the_number_of_requests_is_bounded() -> None:
    behind = probed.Vllm()
    report = ask(behind, max_requests=9)
    assert report.requests == 9
    assert len(behind.bodies) == 8
    assert facts_about(report, "thinks_by_default") == ["thinks_by_default = true"]
    assert report.unknown["images"] == "not asked: 9 requests are the limit"
    assert report.check == "not asked: 9 requests are the limit"
    text = as_settings(report, name="up", api_key_env=None)
    assert text.count("not asked: 9 requests are the limit") == 2  # by reason, and the check


def test_the_time_is_bounded() -> None:
    waits = Waits()

    class Slow(probed.Vllm):
        def check(self, body: JSON) -> None:
            waits.time += 10
            super().check(body)

    behind = Slow()
    report = ask(behind, waits=waits, max_seconds=45)
    assert len(behind.bodies) == 5
    assert report.unknown["images"] == "not asked: the time is up"


def test_one_question_at_a_time_and_a_model_list_first() -> None:
    lines: list[str] = []
    report = ask(probed.Vllm(), progress=lines.append)
    assert lines[0] == "   1 models: 1 listed"
    assert [int(line[:4]) for line in lines] == list(range(1, report.requests + 1))


# --- what cannot be asked -------------------------------------------------------------------------


def unreachable(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to 10.1.2.3")


def locked(_request: httpx.Request) -> httpx.Response:
    return probed.answer(401, {"error": {"message": "Incorrect API key provided: sk-secret-key"}})


def a_page(_request: httpx.Request) -> httpx.Response:
    return probed.answer(200, b"<html><title>Welcome</title></html>", "text/html")


def moved(_request: httpx.Request) -> httpx.Response:
    return probed.answer(307, b"", location="https://elsewhere.example/v1")


@pytest.mark.parametrize("key", [None, "sk-secret-key"])
@pytest.mark.parametrize(
    ("behind", "sentence"),
    [
        (unreachable, "The upstream could not be reached."),
        (locked, "The upstream did not accept the key (401); --api-key-env names the variable"),
        (a_page, "the answer was none: “Welcome”"),
        (moved, "The upstream answered with a redirect, which is not followed."),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(
    behind: Callable[[httpx.Request], httpx.Response], sentence: str, key: str | None
) -> None:
    with pytest.raises(CouldNotAsk) as caught:
        ask(behind, key=key)
    assert sentence in str(caught.value)
    assert "sk-secret-key" not in str(caught.value)


def test_a_model_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(CouldNotAsk) as caught:
        ask(probed.Vllm(), model="qwen3-32b")
    assert str(caught.value) == (
        "The upstream knows no model qwen3-32b; among those that it lists: Qwen/Qwen3-32B."
    )


def test_a_key_that_expires_on_the_way_stops_the_questions() -> None:
    class Expiring(probed.Vllm):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if len(self.bodies) >= 5:
                self.refused = getattr(self, "refused", 0) + 1
                return probed.answer(401, {"error": {"message": "expired"}})
            return super().__call__(request)

    behind = Expiring()
    report = ask(behind)
    assert behind.refused == 1
    assert report.unknown["images"] == "the key was not accepted (401)"


def test_no_secret_gets_into_what_is_printed() -> None:
    """Some upstreams repeat the key, or a header, in a refusal and in an answer."""
    key, token = "sk-very-secret", "other-secret-value"

    class Echoing(probed.Vllm):
        def check(self, body: JSON) -> None:
            super().check(body)
            if about_schemas(body):
                raise self.bad(400, f"no response_format for {key} and {token}")

        def obey(self, body: JSON) -> Said:
            said = super().obey(body)
            return Said(text=said.text.replace("Paris", key), calls=said.calls, finish=said.finish)

    lines: list[str] = []
    behind = Echoing()
    report = ask(behind, key=key, headers={"x-token": token}, progress=lines.append)
    assert behind.authorizations[0] == f"Bearer {key}"
    evidence = [finding.evidence for finding in report.findings]
    assert "json_schema was refused: “no response_format for … and …”" in evidence
    assert 'with json_object the answer was “{"greeting": "…"}”' in evidence
    printed = as_settings(report, name="up", api_key_env="UP_KEY")
    told = json.dumps(as_json(report, name="up", api_key_env="UP_KEY"), ensure_ascii=False)
    for secret in (key, token):
        assert secret not in "\n".join(lines) + printed + told


# --- reading answers ------------------------------------------------------------------------------


def read(*payloads: Any, tail: bytes = b"") -> Any:
    reader = ReplyReader()
    for payload in payloads:
        text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        reader.feed(b"data: " + text + b"\n\n")
    reader.feed(tail)
    reader.end()
    return reader.reply(whole=True)


def texts(*contents: str) -> list[JSON]:
    return [{"choices": [{"delta": {"content": content}}]} for content in contents]


def test_a_stream_that_repeats_itself_is_told_from_one_that_goes_on() -> None:
    assert read(*texts("a", "ab", "abc")).repeats
    assert not read(*texts("a", "b", "c")).repeats
    assert not read(*texts("a", "ab")).repeats  # once may be chance
    assert not read(*texts("1", "12", "123", "4")).repeats


@pytest.mark.parametrize(
    ("text", "thinks", "tags", "lone"),
    [
        ("<think>\nHm.\n</think>\n\n391", True, ("<think>", "</think>"), None),
        ("<thought>Hm.</thought>391", True, ("<thought>", "</thought>"), None),
        ("<think>\n\n</think>\n\n391", False, ("<think>", "</think>"), None),
        ("Hm.</think>391", True, None, ("<think>", "</think>")),
        ("\n</think>\n\n391", False, None, ("<think>", "</think>")),
        ("Write <think> at first.", False, None, None),
    ],
)
def test_thoughts_in_the_text_are_told_by_their_tags(
    text: str, thinks: bool, tags: Any, lone: Any
) -> None:
    reply = read(*texts(text))
    assert (reply.thinks, reply.tags, reply.lone_close) == (thinks, tags, lone)


class Closing(probed.Vllm):
    """Loses the opening tag, which belongs to its template."""

    def deltas(self, said: Said) -> Any:
        yield {"content": f"{said.reasoning}</think>\n\n" if said.reasoning else ""}
        yield {"content": said.text}
        yield from ({"tool_calls": [call]} for call in self.calls(said))


def test_tags_of_which_only_the_end_is_sent_are_recognised() -> None:
    report = ask(Closing())
    assert report.best.right.think_tags == Tags(opened_by_template=True)
    assert settings_of(report).upstreams["up"].facts["think_tags"] == Tags(opened_by_template=True)


def test_a_stray_closing_tag_is_recognised() -> None:
    class Stray(probed.Vllm):
        def deltas(self, said: Said) -> Any:
            for delta in super().deltas(said):
                yield delta
                if delta.get("reasoning"):
                    yield {"content": ""}
            return

        def say(self, body: JSON) -> Said:
            said = super().say(body)
            if said.reasoning:
                said.text = f"\n</think>\n\n{said.text}"
            return said

    assert ask(Stray()).best.right.think_tags == Tags(stray_close=True)


def test_calls_that_stand_in_the_text_are_recognised() -> None:
    class Unparsed(probed.Vllm):
        def deltas(self, said: Said) -> Any:
            calls = "\n".join(
                f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
                for city in said.calls
            )
            yield {"role": "assistant", "content": calls or said.text}

    report = ask(Unparsed())
    assert report.best.overrides["recover_calls"] is True


def test_an_end_without_a_reason_is_recognised() -> None:
    class Silent(probed.Vllm):
        def chunks(self, body: JSON, said: Said) -> Any:
            for delta in self.deltas(said):
                yield self.chunk(delta)
            if not said.calls:
                yield self.chunk({}, "stop")

    report = ask(Silent())
    assert report.best.overrides["lenient_eof"] is True
    assert "The stream ended without [DONE]." in report.notes


def test_an_answer_in_one_piece_is_read_like_a_stream() -> None:
    """Some gateways overlook `stream`."""
    completion = probed.Upstream().completion({"messages": []}, Said("Hm.", "391"))
    reader = ReplyReader()
    body = json.dumps(completion).encode()
    reader.feed(b"\n" + body[:7])
    reader.feed(body[7:])
    reader.end()
    reply = reader.reply(whole=True)
    assert (reply.text, reply.reasoning, reply.finish) == (
        "391",
        {"reasoning_content": "Hm."},
        "stop",
    )
    assert isinstance(reply.usage, Usage)


def test_marks_are_keys_and_words() -> None:
    reply = read(
        {"system_fingerprint": "fp_ollama", "timings": {}, "choices": [], "usage": {"a": 1}}
    )
    assert {"chunk.timings", "usage.a", "fingerprint:fp_ollama"} <= reply.marks
    assert marked("ollama", reply.marks) == ["fingerprint:fp_ollama"]
    assert marked("vllm", reply.marks) == []
    assert marked(BASE.name, reply.marks) == []


# --- the command ----------------------------------------------------------------------------------


@contextmanager
def listening(upstream: probed.Upstream) -> Generator[str]:
    """A scripted upstream behind a real socket; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def handle(self) -> None:
            with suppress(ConnectionError):  # the probe hangs up once it knows enough
                super().handle()

        def handle_one(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {k: v for k, v in self.headers.items() if k.lower() == "authorization"}
            asked = httpx.Request(
                self.command, f"http://up{self.path}", content=content, headers=headers
            )
            answer = upstream(asked)
            body = b"".join(answer.stream)  # type: ignore[arg-type]
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers["content-type"])
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = handle_one  # noqa: N815 - the names that the base class looks for

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{upstream.path}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_command_prints_settings_that_the_service_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a real socket: settings on stdout, progress on stderr, the key nowhere."""
    monkeypatch.setenv("UP_KEY", "sk-very-secret")
    upstream = probed.VllmWithoutParallel()
    with listening(upstream) as url:
        words = ["probe", "--upstream", url, "--model", upstream.model, "--name", "mine"]
        assert main([*words, "--api-key-env", "UP_KEY"]) == 0
    out, err = capsys.readouterr()
    assert set(upstream.authorizations) == {"Bearer sk-very-secret"}
    assert "sk-very-secret" not in out + err
    table = tomllib.loads(out)
    assert table == {
        "upstreams": {
            "mine": {
                "base_url": url,
                "api_key_env": "UP_KEY",
                "dialect": "vllm",
                "facts": {"parallel_tool_calls": False, "images": False},
            }
        }
    }
    assert read_table(table, {"UP_KEY": "x"}).upstreams["mine"].dialect == "vllm"
    assert "# closest dialect: vllm (" in out
    assert "it was refused: “Unknown parameter: 'parallel_tool_calls'”" in out
    assert "   2 a first answer: taken" in err
    file = tmp_path / "settings.toml"
    file.write_text(out)
    with listening(upstream) as url:  # now with these settings
        assert main(["probe", "--config", str(file), "--model", "nothing", "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("translator: The upstream could not be reached.")


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    upstream = probed.DeepSeek()
    with listening(upstream) as url:
        words = ["probe", "--upstream", url, "--model", upstream.model, "--json", "--quiet"]
        assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)
    assert (told["dialect"], told["overrides"], told["check"]) == ("deepseek", {}, "taken")
    assert {"fact", "seen", "evidence", "agrees"} == told["findings"][0].keys()
    assert all(finding["agrees"] for finding in told["findings"])
    assert told["facts"]["reasoning_required"] is True
    assert len(told["dialects"]) == len(DIALECTS)
    assert tomllib.loads("\n".join(told["settings"]))["upstreams"]["upstream"]["base_url"] == url
    assert told["requests"] == len(upstream.bodies) + 1


def test_the_command_takes_an_upstream_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its own headers, and a model by the id that clients use."""
    upstream = probed.Ollama()
    file = tmp_path / "settings.toml"
    with listening(upstream) as url:
        file.write_text(
            f'[upstreams.a]\nbase_url = "{url}"\nheaders = {{ authorization = "Basic c2VjcmV0" }}\n'
            '[upstreams.b]\nbase_url = "http://127.0.0.1:9/v1"\n'
            f'[models.small]\nupstream = "a"\nupstream_model = "{upstream.model}"\n'
        )
        words = ["probe", "--config", str(file), "--quiet", "--model"]
        assert main([*words, "small"]) == 0
        out, _ = capsys.readouterr()
        assert tomllib.loads(out)["upstreams"]["a"]["dialect"] == "ollama"
        assert f"# its key and headers: as in {file}\n" in out
        assert upstream.authorizations[-1] == "Basic c2VjcmV0"
        assert "c2VjcmV0" not in out
        assert main([*words, "large"]) == 2
    assert 'there is no "large" in the --config file; known: small' in capsys.readouterr().err


def test_the_command_says_in_one_sentence_why_it_could_not_ask(
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream = probed.Vllm()
    with listening(upstream) as url:
        assert main(["probe", "--upstream", url, "--model", "Qwen", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "translator: The upstream knows no model Qwen; among those that it lists: Qwen/Qwen3-32B.\n"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: --model"),
        (["--model", "m"], "probe needs --upstream URL or --config FILE"),
        (["--model", "m", "--upstream", "x"], '--upstream: "x" is not a URL that starts with'),
        (["--model", "m", "--max-requests", "0"], "'0' is not a whole number above 0"),
        (["--model", "m", "--name", "a b"], "'a b' is not a name of letters, digits, - and _"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", *words]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_help_tells_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["probe", "--help"])
    told = capsys.readouterr().out.split("\n  --")[1:]
    for text in (" ".join(text.split()) for text in told):
        assert "(default: " in text or text.startswith("upstream URL"), text


def test_json_says_what_the_settings_say() -> None:
    report = ask(probed.VllmWithoutParallel())
    told = as_json(report, name="up", api_key_env="UP_KEY")
    assert told["overrides"] == {"images": False, "parallel_tool_calls": False}
    disagreeing = {finding["fact"] for finding in told["findings"] if not finding["agrees"]}
    assert disagreeing == told["overrides"].keys()


def test_the_bounds_are_those_that_the_help_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    async def fake(*_words: object, **bounds: Any) -> Report:
        given.append(bounds)
        raise CouldNotAsk("enough")

    monkeypatch.setattr(service, "probe", fake)
    assert main(["probe", "--upstream", "http://127.0.0.1:9", "--model", "m"]) == 1
    assert given[0]["max_requests"] == service.MAX_REQUESTS
    assert given[0]["max_seconds"] == service.MAX_SECONDS
    assert given[0]["only"] is None
