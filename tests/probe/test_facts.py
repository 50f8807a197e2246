"""Findings of the probe: what counts as one, and which dialects it contradicts."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from translator.dialects import DIALECTS, Dialect
from translator.dialects.think_tags import Tags
from translator.probe.findings import (
    EffortFieldRejected,
    EffortRejected,
    ExtraFieldRejected,
    ExtraFields,
    FactValue,
    Finding,
    ReasoningReplay,
    SchemaLimit,
    SetMember,
    ThinkingSwitch,
    ThinksByDefault,
    ThinkTags,
    ToolChoice,
    contradicted,
    corrected,
)
from translator.probe.report import TAKEN, as_settings
from translator.probe.verdict import ranked

from . import scripted, upstreams
from .probing import HOST, about_schemas, facts_about, run_probe
from .scripted import JSON, ModelOutput, openai_error

# --- what counts as a finding ------------------------------------------------------------------------


class Interrupting(upstreams.Vllm):
    """Answers one request with an unrelated error."""

    def __init__(self, wanted: Callable[[JSON], bool], refusal: scripted.Refusal) -> None:
        super().__init__()
        self.wanted = wanted
        self.refusal = refusal

    def check(self, body: JSON) -> None:
        if self.wanted(body):
            raise self.refusal
        super().check(body)


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
def test_an_unrelated_error_is_no_finding(refusal: scripted.Refusal, reason: str) -> None:
    report = run_probe(Interrupting(about_schemas, refusal))
    assert reason in report.unknown["json_schema"]
    assert "response_formats: not json_schema" not in facts_about(report, "response_formats")
    assert "response_formats: json_schema" not in facts_about(report, "response_formats")
    assert report.best.name == "vllm"


def test_a_rejection_is_a_finding_with_its_message_as_evidence() -> None:
    refusal = openai_error(400, "guided decoding is not compiled in")
    report = run_probe(Interrupting(about_schemas, refusal))
    assert "response_formats: not json_schema" in facts_about(report, "response_formats")
    assert report.best.overrides["response_formats"] == ["json_object"]
    text = as_settings(report, name="up", api_key_env=None)
    assert "# json_schema was rejected: “guided decoding is not compiled in”\n" in text


def test_an_effect_that_is_not_seen_proves_nothing() -> None:
    """It makes no call, follows no schema and ignores the image, but rejects nothing."""

    class Unwilling(scripted.Upstream):
        reads_formats = frozenset()
        sees = False

        def obey(self, body: JSON) -> ModelOutput:
            return super().obey({k: v for k, v in body.items() if k != "tools"})

    report = run_probe(Unwilling())
    assert facts_about(report, "tool_choices", "parallel_tool_calls", "images") == [
        # A choice that does not exist was taken too: so the field is not read.
        "tool_choices: not required",
        "tool_choices: not named",
    ]
    assert facts_about(report, "response_formats", "response_format_with_tools") == []
    for topic in ("tool calls", "parallel_tool_calls", "tool_choice none", "images", "json_schema"):
        assert report.unknown[topic].startswith("not seen: "), topic


def test_a_truncated_answer_proves_nothing() -> None:
    """A model that needs more tokens for its reasoning than the limit allows."""

    class Endless(upstreams.Vllm):
        def say(self, body: JSON) -> ModelOutput:
            return ModelOutput(reasoning=scripted.THOUGHT * 200, finish="length")

    report = run_probe(Endless())
    facts = {finding.fact for finding in report.findings}
    assert facts <= {
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
    class Empty(upstreams.Vllm):
        def say(self, body: JSON) -> ModelOutput:
            return ModelOutput(finish="length") if "enable_thinking" in body else super().say(body)

    [switched] = [f for f in run_probe(Empty()).findings if isinstance(f, ThinkingSwitch)]
    assert [next(iter(fields)) for fields in switched.works] == ["chat_template_kwargs"]


def test_a_short_answer_does_not_show_that_a_limit_is_ignored() -> None:
    class Terse(upstreams.Vllm):
        reads_limits = frozenset({"max_tokens"})

        def obey(self, body: JSON) -> ModelOutput:
            output = super().obey(body)
            return ModelOutput(text="One.") if output.text == scripted.NUMBERS else output

    class Ignoring(upstreams.Vllm):
        reads_limits = frozenset({"max_tokens"})

    assert facts_about(run_probe(Terse()), "max_tokens_field") == []
    assert facts_about(run_probe(Ignoring()), "max_tokens_field") == [
        'max_tokens_field = "max_tokens"'
    ]


def test_it_hangs_up_where_the_beginning_of_an_answer_is_enough() -> None:
    """An endless answer is read only until its first output."""
    read: list[int] = []

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for number in range(10_000):
                read.append(number)
                yield b'data: {"choices":[{"delta":{"content":"more"}}]}\n\n'

    class Talking(upstreams.Vllm):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            response = super().__call__(request)
            if self.bodies and len(scripted.asked(self.bodies[-1], "system")) > 1:
                return httpx.Response(200, stream=Endless())
            return response

    report = run_probe(Talking())
    assert "System messages are accepted anywhere." in report.notes
    assert 0 < len(read) < 10


def test_a_forced_call_that_was_cut_off_is_not_taken_for_none() -> None:
    class Cut(upstreams.Ollama):
        def say(self, body: JSON) -> ModelOutput:
            output = super().say(body)
            return (
                ModelOutput(output.reasoning, "", [], "length") if "tool_choice" in body else output
            )

    report = run_probe(Cut())
    assert "tool_choices: not required" not in facts_about(report, "tool_choices")
    assert report.unknown["tool_choice required"] == (
        "not seen: the answer was cut at the token limit"
    )


def test_occasional_thinking_shows_no_way_to_switch_it_off() -> None:
    class Moody(upstreams.Vllm):
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

    report = run_probe(Moody())
    assert facts_about(report, "efforts") == []
    assert any("only sometimes" in note for note in report.notes)


def test_a_call_in_spite_of_none_shows_that_the_choice_is_not_read() -> None:
    assert "tool_choices: not none" in facts_about(run_probe(upstreams.Ollama()), "tool_choices")
    assert "tool_choices: none" in facts_about(run_probe(upstreams.Vllm()), "tool_choices")


def test_a_choice_rejected_while_thinking_is_sent_again_without() -> None:
    assert facts_about(
        run_probe(upstreams.DeepSeek()), "tool_choices", "tool_choices_thinking"
    ) == [
        "tool_choices_thinking: not required",
        "tool_choices: required",
        "tool_choices_thinking: not named",
        "tool_choices: named",
        "tool_choices: none",
    ]
    assert "tool_choices: not required" in facts_about(
        run_probe(upstreams.DashScope()), "tool_choices"
    )


def test_a_correction_is_given_its_evidence_once() -> None:
    """Also where one finding corrects two facts."""
    report = run_probe(upstreams.Mistral(), only="vllm")
    assert {"tool_choices", "call_ids", "reasoning_replay"} & report.best.overrides.keys()
    _, _, section = as_settings(report, name="up", api_key_env=None).partition("[upstreams.up]")
    comments = [line for line in section.splitlines() if line.startswith("#")]
    assert sorted(comments) == sorted(f"# {f.evidence}" for f in report.best.contradicted)

    report = run_probe(upstreams.Vllm(), only="mistral")
    assert {"reasoning_replay", "reasoning_field"} <= report.best.overrides.keys()
    text = as_settings(report, name="up", api_key_env=None)
    assert text.count("reasoning made the prompt") == 2  # among what was seen, and beside the fact


def test_after_a_rejection_that_names_nothing_each_feature_is_sent_alone() -> None:
    class Vague(upstreams.OpenAI):
        def check(self, body: JSON) -> None:
            super().check(body)
            roles = [message["role"] for message in body["messages"]]
            if ("tool", "user") in itertools.pairwise(roles):
                raise openai_error(400, "Bad request")

    report = run_probe(Vague())
    assert report.best.corrected.answer_between_tool_and_user
    assert facts_about(report, "call_ids", "content_beside_calls", "extra_content_required") == [
        'call_ids = "as_is"'
    ]
    assert facts_about(report, "reasoning_required") == ["reasoning_required = false"]
    assert report.agent_turn == TAKEN


def test_what_is_rejected_in_any_form_shows_nothing_of_its_features() -> None:
    """A template without system messages, and without calls in the history."""

    class Neither(upstreams.Vllm):
        def check(self, body: JSON) -> None:
            super().check(body)
            if {"system", "tool"} & {message["role"] for message in body["messages"]}:
                raise self.bad(400, "the template has no place for this message")

    report = run_probe(Neither())
    assert facts_about(report, "system_messages", "call_ids", "content_beside_calls") == []
    assert facts_about(report, "reasoning_required", "extra_content_required") == []
    for topic in ("system messages", "calls in the history"):
        assert report.unknown[topic].startswith("rejected without any of it, too: rejected: ")
    assert not report.works


def test_required_may_have_another_name() -> None:
    class OwnWord(scripted.Upstream):
        def check(self, body: JSON) -> None:
            super().check(body)
            if body.get("tool_choice") == "required":
                raise openai_error(422, "tool_choice: Input should be 'auto', 'none' or 'any'")

    report = run_probe(OwnWord())
    assert facts_about(report, "required_word") == ['required_word = "any"']
    assert report.best.corrected.required_word == "any"
    assert "required" in report.best.corrected.tool_choices


def test_a_schema_that_makes_calls_impossible_cannot_stand_beside_tools() -> None:
    report = run_probe(upstreams.Fireworks())
    assert facts_about(report, "response_format_with_tools") == [
        "response_format_with_tools = false"
    ]
    assert facts_about(run_probe(upstreams.Vllm()), "response_format_with_tools") == [
        "response_format_with_tools = true"
    ]


def test_a_rejected_agent_turn_adds_findings() -> None:
    """Some levels of effort are rejected: the corrected dialect is sent once more."""

    class NoMedium(upstreams.Fireworks):
        def check(self, body: JSON) -> None:
            super().check(body)
            if body.get("reasoning_effort") not in (None, "none", "high"):
                raise self.invalid(f"Invalid reasoning effort: {body['reasoning_effort']}")

    behind = NoMedium()
    report = run_probe(behind)
    assert report.best.name == "fireworks"
    assert report.agent_turn == TAKEN
    assert "medium" not in report.best.corrected.efforts
    assert behind.bodies[-1]["reasoning_effort"] == "high"


def test_a_field_of_effort_that_is_not_known_is_sent_at_no_level() -> None:
    class NoEffort(upstreams.Vllm):
        def check(self, body: JSON) -> None:
            super().check(body)
            if "reasoning_effort" in body:
                raise self.bad(400, "Unknown parameter: 'reasoning_effort'")

    report = run_probe(NoEffort(), only="vllm")
    assert report.agent_turn == TAKEN
    by_template = {"enable_thinking": True, "thinking": True}
    assert report.best.overrides["efforts"] == {
        "none": {"chat_template_kwargs": dict.fromkeys(by_template, False)},
        "high": {"chat_template_kwargs": by_template},
    }

    class NotThinking(NoEffort):
        always_thinks = False

        def thinks(self, body: JSON) -> bool:
            return False

    report = run_probe(NotThinking(), only="vllm")
    assert report.agent_turn == TAKEN
    assert facts_about(report, "efforts")[-1] == "efforts: no reasoning_effort"
    assert report.best.corrected.efforts["medium"] == {"chat_template_kwargs": by_template}


def test_a_fact_of_the_model_does_not_rank_dialects() -> None:
    """A model without vision is no other dialect; its thinking counts only where a fact depends on it."""
    blind = FactValue(name="images", values=(False,), evidence="", weak=True)
    fits = ranked([blind], model="m", base_url=HOST)
    assert (fits[0].name, fits[0].distance) == ("base", 0)
    assert fits[0].overrides == {"images": False}
    thinks = ThinksByDefault(by_default=True, evidence="")
    assert thinks.agrees(DIALECTS["vllm"])
    assert not thinks.agrees(Dialect(name="x", reasoning_required=True))


# --- findings -------------------------------------------------------------------------------------

OFF = {"thinking": {"type": "disabled"}}
NONE = {"reasoning_effort": "none"}
THINK = ("<think>", "</think>")
LATE = Dialect(name="late", think_tags=Tags(opened_by_template=True))
FINDINGS: list[tuple[Finding, Dialect | str, Dialect | str]] = [
    # the finding, a dialect that agrees, a dialect that does not
    (FactValue(name="images", values=(False,), evidence=""), "deepseek", "base"),
    (
        FactValue(name="system_messages", values=("merge_leading", "demote_later"), evidence=""),
        "vllm",
        "base",
    ),
    (
        FactValue(name="system_messages", values=("merge_leading", "demote_later"), evidence=""),
        "tgi",
        "base",
    ),
    (
        ThinksByDefault(by_default=True, evidence=""),
        "deepseek",
        Dialect(name="x", reasoning_required=True),
    ),
    (ThinksByDefault(by_default=True, evidence=""), "vllm", "dashscope"),
    (
        SetMember(name="refused", member="temperature", present=True, evidence=""),
        "moonshot",
        "base",
    ),
    (SetMember(name="refused", member="logprobs", present=False, evidence=""), "base", "groq"),
    (ToolChoice(kind="required", accepted=False, when="thinking", evidence=""), "deepseek", "base"),
    (ToolChoice(kind="required", accepted=False, when="always", evidence=""), "zai", "deepseek"),
    (ToolChoice(kind="required", accepted=True, when="always", evidence=""), "base", "deepseek"),
    (ToolChoice(kind="named", accepted=True, when="not thinking", evidence=""), "deepseek", "zai"),
    (ThinkTags(pair=THINK, evidence=""), "together", "base"),
    (ThinkTags(pair=THINK, evidence=""), "together", LATE),
    (ThinkTags(pair=("<thought>", "</thought>"), evidence=""), "gemini", "together"),
    (ThinkTags(pair=THINK, opened_by_template=True, evidence=""), LATE, "together"),
    (ThinkTags(pair=THINK, stray_close=True, evidence=""), "minimax", "together"),
    (
        ThinkingSwitch(level="none", works=[OFF], instead={"none": OFF}, evidence=""),
        "deepseek",
        "fireworks",
    ),
    (
        ThinkingSwitch(level="none", works=[OFF, NONE], instead={"none": OFF}, evidence=""),
        "ollama",
        "together",
    ),
    (EffortRejected(level="none", ways=[NONE, OFF], evidence=""), "together", "fireworks"),
    (EffortFieldRejected(name="reasoning_effort", evidence=""), "together", "fireworks"),
    (ReasoningReplay(fields={"reasoning_content": "read"}, evidence=""), "fireworks", "mistral"),
    (ReasoningReplay(fields={"reasoning_content": "read"}, evidence=""), "base", "ollama"),
    (
        ReasoningReplay(
            fields={"reasoning": "read", "reasoning_content": "ignored"},
            source_field="reasoning",
            evidence="",
        ),
        "vllm",
        "deepseek",
    ),
    (
        ReasoningReplay(fields={"reasoning_content": "taken", "reasoning": "refused"}, evidence=""),
        "fireworks",
        "base",
    ),
    (
        ReasoningReplay(
            fields={"reasoning_content": "refused", "reasoning": "refused"}, evidence=""
        ),
        "mistral",
        "ollama",
    ),
    (
        ReasoningReplay(fields={"reasoning_content": "read", "reasoning": "unknown"}, evidence=""),
        "ollama",
        "mistral",
    ),
    (
        ThinkingSwitch(
            level="none", works=[OFF], unknown=[NONE], instead={"none": OFF}, evidence=""
        ),
        "fireworks",
        "together",
    ),
    (ExtraFieldRejected(name="reasoning_split", evidence=""), "base", "minimax"),
    (ExtraFields(fields={"reasoning_split": True}, evidence=""), "minimax", "base"),
    (SchemaLimit(evidence=""), "moonshot", "mistral"),
    (SchemaLimit(keyword="$schema", evidence=""), "mistral", "lm_studio"),
    (SchemaLimit(keyword="$schema", evidence=""), "gemini", "base"),
]


@pytest.mark.parametrize(("finding", "agrees", "differs"), FINDINGS)
def test_a_finding_knows_which_dialects_it_contradicts(
    finding: Finding, agrees: Dialect | str, differs: Dialect | str
) -> None:
    """And corrects only those."""
    right = DIALECTS[agrees] if isinstance(agrees, str) else agrees
    wrong = DIALECTS[differs] if isinstance(differs, str) else differs
    assert contradicted(right, [finding]) == []
    assert corrected(right, [finding]) == right
    assert contradicted(wrong, [finding]) == [finding]
    better = corrected(wrong, [finding])
    assert contradicted(better, [finding]) == []
    changed = {f for f in Dialect.__struct_fields__ if getattr(better, f) != getattr(wrong, f)}
    assert changed <= set(finding.facts)
