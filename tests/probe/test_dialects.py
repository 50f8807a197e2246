"""`translator probe`: an unknown upstream is recognised by how it behaves."""

from __future__ import annotations

import json

import pytest

from translator.dialects import DIALECTS
from translator.dialects.table import own_facts
from translator.probe.findings import FactValue, SetMember, contradicted
from translator.probe.report import TAKEN, Report
from translator.probe.verdict import ranked
from translator.service.models.table import ModelTable

from . import scripted, upstreams
from .probing import HOST, run_probe, settings_of
from .scripted import JSON

KNOWN: list[tuple[type[scripted.Upstream], str, JSON]] = [
    (upstreams.Fireworks, "fireworks", {}),
    (upstreams.FireworksQwen, "fireworks", {}),
    (upstreams.FireworksGptOss, "fireworks", {"images": False}),
    (upstreams.DeepSeek, "deepseek", {}),
    (upstreams.Vllm, "vllm", {"images": False, "response_format_with_tools": True}),
    (
        upstreams.VllmWithoutParallel,
        "vllm",
        {"images": False, "parallel_tool_calls": False, "response_format_with_tools": True},
    ),
    (upstreams.Ollama, "ollama", {}),
    (upstreams.OpenAI, "openai", {}),
    (upstreams.Mistral, "mistral", {}),
    (upstreams.LmStudio, "lm_studio", {"images": False, "response_format_with_tools": True}),
    (upstreams.MiniMax, "minimax", {}),
    (upstreams.DashScope, "dashscope", {"thinks_by_default": True}),
    (upstreams.OpenRouter, "openrouter", {}),
    (upstreams.Gemini, "gemini", {"developer_role": True}),
    (
        upstreams.LlamaCpp,
        "llama_cpp",
        {"images": False, "system_messages": "demote_later", "response_format_with_tools": True},
    ),
]


@pytest.mark.parametrize(("upstream", "dialect", "overrides"), KNOWN)
def test_an_upstream_is_recognised_by_how_it_behaves(
    upstream: type[scripted.Upstream], dialect: str, overrides: JSON
) -> None:
    """At an unknown host, with exactly the facts that differ as corrections."""
    report = run_probe(upstream())
    assert report.best.name == dialect
    assert report.best.overrides == overrides
    assert report.agent_turn == TAKEN


@pytest.mark.parametrize("upstream", [case[0] for case in KNOWN])
def test_the_printed_settings_say_exactly_what_was_found(upstream: type[scripted.Upstream]) -> None:
    """They load, and give the model the corrected dialect, which agrees with all findings."""
    report = run_probe(upstream())
    route = ModelTable(settings_of(report), created=0).route(report.model)
    assert route.dialect == report.best.corrected
    assert contradicted(route.dialect, report.findings) == []


@pytest.mark.parametrize("upstream", [case[0] for case in KNOWN])
def test_any_dialect_can_be_corrected_to_what_was_found(upstream: type[scripted.Upstream]) -> None:
    """Even a very different one; and its printed settings load as the corrected dialect."""
    report = run_probe(upstream())
    for name in DIALECTS:
        [fit] = ranked(report.findings, model=report.model, base_url=report.base_url, only=name)
        assert contradicted(fit.corrected, report.findings) == [], name
        one = Report(
            model=report.model,
            base_url=report.base_url,
            fits=[fit],
            findings=report.findings,
            notes=[],
            unknown={},
            marks=[],
            agent_turn="",
            requests=0,
        )
        route = ModelTable(settings_of(one), created=0).route(report.model)
        assert route.dialect == fit.corrected, name


@pytest.mark.parametrize("upstream", [case[0] for case in KNOWN])
def test_the_requests_are_few_small_and_limited(upstream: type[scripted.Upstream]) -> None:
    behind = upstream()
    report = run_probe(behind)
    assert len(behind.bodies) < report.requests <= 36
    for body in behind.bodies:
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        assert limit is not None
        assert limit <= 1024
        assert len(json.dumps(body)) < 4000


def test_of_equals_the_dialect_of_the_host_comes_first() -> None:
    assert run_probe(upstreams.OpenAI()).equals == ["azure"]
    report = run_probe(upstreams.OpenAI(), host="https://mine.openai.azure.com")
    assert (report.best.name, report.equals) == ("azure", ["openai"])


def test_of_equals_the_dialect_whose_marks_were_seen_comes_first() -> None:
    """A server that behaves like vLLM, with the marks of SGLang."""

    class Sglang(upstreams.Vllm):
        owner = "sglang"

        def chunk(self, delta: JSON, finish: str | None = None) -> JSON:
            chunk = super().chunk(delta, finish)
            chunk["choices"][0].pop("stop_reason", None)
            chunk["choices"][0]["matched_stop"] = 151645 if finish else None
            return chunk

    assert run_probe(upstreams.Vllm()).best.name == "vllm"
    report = run_probe(Sglang())
    assert report.best.name == "sglang"
    assert "choice.matched_stop" in report.marks


def test_of_equals_the_dialect_with_fewer_facts_to_correct_comes_first() -> None:
    """Mistral has two members of one fact to correct, TGI two facts."""
    findings = [
        SetMember(name="response_formats", member="json_schema", present=False, evidence=""),
        SetMember(name="response_formats", member="json_object", present=False, evidence=""),
        FactValue(name="stream_usage", values=(False,), evidence=""),
        FactValue(name="system_messages", values=("merge_leading",), evidence=""),
    ]
    fits = {fit.name: fit for fit in ranked(findings, model="m", base_url=HOST)}
    assert fits["mistral"].distance == fits["tgi"].distance == 2
    assert len(own_facts(DIALECTS["mistral"])) > len(own_facts(DIALECTS["tgi"]))
    assert list(fits).index("mistral") < list(fits).index("tgi")


def test_a_dialect_that_is_given_is_corrected_and_not_chosen() -> None:
    report = run_probe(upstreams.Vllm(), only="base")
    assert [fit.name for fit in report.fits] == ["base"]
    assert report.best.overrides["efforts"]["none"] == {
        "chat_template_kwargs": {"enable_thinking": False, "thinking": False}
    }
    assert settings_of(report).upstreams["up"].dialect == "base"


def test_a_tolerant_upstream_of_which_nothing_is_known_needs_no_corrections() -> None:
    class Plain(scripted.Upstream):
        always_thinks = False
        usage_unasked = True

    report = run_probe(Plain())
    assert report.best.name == "base"
    assert report.best.overrides == {"developer_role": True}


def test_dialects_that_are_known_by_reports_alone_are_found_only_at_their_hosts() -> None:
    """Facts from reports fit many upstreams: they are no evidence for one."""
    report = run_probe(upstreams.Fireworks())
    urls = {"nvidia": "https://integrate.api.nvidia.com/v1", "fireworks": "https://proxy.test/v1"}
    for name, url in urls.items():
        fits = ranked([], model="m", base_url=url)
        assert [fit.name for fit in fits[:1]] == ([name] if name == "nvidia" else ["base"])
        assert {fit.name for fit in fits} == set(DIALECTS)
    [first, *_] = ranked(report.findings, model=report.model, base_url=urls["nvidia"])
    assert first.name == "nvidia", "a host that is known counts more than what was found"
