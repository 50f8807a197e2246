"""Facts of a dialect in the settings: their effect, and the message for each mistake."""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec
import pytest

from translator import DIALECTS, Dialect
from translator.common.toml import toml_lines
from translator.dialects.table import all_facts
from translator.dialects.think_tags import Tags
from translator.service.config.facts import FACTS, resolve_dialect
from translator.service.config.loading import read_table
from translator.service.config.settings import SettingsError
from translator.service.models.table import ModelTable

from .chat_bodies import COMPLETION
from .wire import Call, ScriptedUpstream

UP: dict[str, Any] = {"base_url": "https://api.fireworks.ai/inference/v1"}


def dialect_of(toml: str, model: str = "m") -> Dialect:
    """The dialect of a model with these lines in the settings."""
    text = '[upstreams.up]\nbase_url = "https://api.fireworks.ai/inference/v1"\n' + toml
    return ModelTable(read_table(tomllib.loads(text), {}), created=0).route(model).dialect


def problems(facts: dict[str, Any], model_facts: dict[str, Any] | None = None) -> tuple[str, ...]:
    table: dict[str, Any] = {"upstreams": {"up": UP | {"facts": facts}}}
    if model_facts is not None:
        table["models"] = {"m": {"upstream": "up", "facts": model_facts}}
    with pytest.raises(SettingsError) as caught:
        read_table(table, {})
    return caught.value.problems


def test_a_fact_stands_in_place_of_the_dialects() -> None:
    dialect = dialect_of(
        """
        [upstreams.up.facts]
        reasoning_field = "reasoning"
        images = false
        efforts.low = { reasoning_effort = "low" }
        refused = ["temperature"]
        think_tags = { pairs = [["<think>", "</think>"], ["<t>", "</t>"]], stray_close = true }
        tool_choices = ["auto", "none"]
        extra = { chat_template_kwargs = { a = [1, 2.5] } }
        """
    )
    assert dialect == msgspec.structs.replace(
        DIALECTS["fireworks"],
        models=(),
        reasoning_field="reasoning",
        images=False,
        efforts={"low": {"reasoning_effort": "low"}},
        refused=frozenset({"temperature"}),
        think_tags=Tags((("<think>", "</think>"), ("<t>", "</t>")), stray_close=True),
        tool_choices=frozenset({"auto", "none"}),
        extra={"chat_template_kwargs": {"a": [1, 2.5]}},
    )
    assert dialect.name == "fireworks"


def test_false_takes_a_fact_away_that_can_be_none() -> None:
    dialect = dialect_of("facts = { think_tags = false, reasoning_field = false }")
    assert (dialect.think_tags, dialect.reasoning_field) == (None, None)
    assert DIALECTS["fireworks"].think_tags is not None


@pytest.mark.parametrize("name", DIALECTS)
def test_all_facts_that_are_printed_can_be_given(name: str) -> None:
    """What `translator dialects NAME` prints makes any dialect into that one."""
    printed = "[upstreams.up.facts]\n" + "\n".join(toml_lines(all_facts(DIALECTS[name])))
    dialect = dialect_of(printed)
    assert all_facts(dialect) == all_facts(DIALECTS[name])
    for fact in FACTS:
        assert type(getattr(dialect, fact)) in {type(getattr(DIALECTS[name], fact)), dict}


def test_the_last_word_is_the_models() -> None:
    """Precedence: dialect, its facts for the model, the upstream's facts, the model's own."""
    known = resolve_dialect("fireworks", "accounts/x/models/gpt-oss-120b")
    assert known.efforts == DIALECTS["fireworks"].for_model("gpt-oss").efforts
    assert known.models == ()
    of_upstream = {"efforts": {"low": {"a": 1}}, "images": False}
    assert resolve_dialect("fireworks", "gpt-oss", of_upstream).efforts == {"low": {"a": 1}}
    toml = """
        facts = { efforts = { low = { a = 1 } }, images = false }
        [models."m"]
        upstream = "up"
        upstream_model = "gpt-oss"
        facts = { images = true }
        [models."other"]
        upstream = "up"
        dialect = "deepseek"
        """
    dialect = dialect_of(toml)
    assert (dialect.images, dialect.efforts) == (True, {"low": {"a": 1}})
    other = dialect_of(toml, "other")
    assert (other.name, other.images, other.reasoning_required) == ("deepseek", False, True)


def test_without_a_table_the_facts_are_those_of_the_model_that_is_asked_for() -> None:
    for model in ("x/gpt-oss-20b", "x/kimi-k2p6"):
        expected = DIALECTS["fireworks"].for_model(model)
        assert dialect_of("", model) == msgspec.structs.replace(expected, models=())
    assert dialect_of("", "x/gpt-oss").efforts != dialect_of("", "x/kimi").efforts


def test_every_mistake_is_reported_at_once_with_its_path() -> None:
    found = problems(
        {
            "reasoning_feild": "reasoning",
            "reasoning_field": "reasning",
            "images": "no",
            "name": "mine",
            "efforts": {"lwo": {"reasoning_effort": "low"}, "high": 3, "max": {"x": 1}},
            "tool_choices": ["auto", "any"],
            "refused": "temperature",
            "think_tags": {"pair": [], "pairs": [["<t>"]]},
            "renamed": {"seed": 1},
            "schema_rules": {"type_lists": "split", "bare_refs": 1, "max_bound": 0},
            "default_output_tokens": 0,
            "images_": False,
        },
        {"efforts": [], "think_tags": {"pairs": []}},
    )
    path = "upstreams.up.facts"
    assert found == (
        f"{path}.name: identifies the dialect and cannot be overridden",
        f"{path}.reasoning_feild: there is no such fact; did you mean reasoning_field?",
        f"{path}.reasoning_field: invalid enum value 'reasning'; known: reasoning_content, "
        "reasoning",
        f"{path}.images: expected bool, got str",
        f"{path}.efforts.high: expected table, got int",
        f"{path}.tool_choices[1]: invalid enum value 'any'; known: auto, none, required, named",
        f"{path}.refused: expected array, got str",
        f"{path}.think_tags.pair: there is no such setting; did you mean pairs?",
        f"{path}.think_tags.pairs[0]: expected array of length 2, got 1",
        f"{path}.renamed.seed: expected str, got int",
        f"{path}.schema_rules.type_lists: invalid enum value 'split'; known: keep, nullable, "
        "any_of, first",
        f"{path}.schema_rules.bare_refs: expected bool, got int",
        f"{path}.schema_rules.max_bound: expected int >= 1",
        f"{path}.default_output_tokens: expected int >= 1",
        f"{path}.images_: there is no such fact; did you mean images?",
        f"{path}.efforts.lwo: there is no such level; did you mean low?",
        'models."m".facts.efforts: expected table, got array',
        'models."m".facts.think_tags.pairs: needs a pair of tags, none of them empty',
    )


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        (
            {"efforts": {"lwo": {}}},
            "upstreams.up.facts.efforts.lwo: there is no such level; did you mean low?",
        ),
        (
            {"think_tags": {"pairs": [["", "</t>"]]}},
            "upstreams.up.facts.think_tags.pairs: needs a pair of tags, none of them empty",
        ),
        (
            {"images": None},
            "upstreams.up.facts.images: expected bool, got null",
        ),
    ],
)
def test_what_has_the_right_type_and_would_not_work(facts: dict[str, Any], problem: str) -> None:
    assert problems(facts) == (problem,)


def test_facts_are_a_table() -> None:
    with pytest.raises(SettingsError) as caught:
        read_table({"upstreams": {"up": UP | {"facts": ["images"]}}}, {})
    assert caught.value.problems == ("upstreams.up.facts: expected table, got array",)


@pytest.mark.anyio
async def test_a_given_fact_reaches_the_upstream(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer(COMPLETION)

    upstream.script = script
    facts = {"max_tokens_field": "max_completion_tokens", "refused": ["temperature"]}
    request = {"model": "m", "input": "Hi", "max_output_tokens": 5, "temperature": 1}
    async with upstream.client(upstream={"dialect": "fireworks", "facts": facts}) as client:
        answer = await client.post("/v1/responses", json=request)
    assert answer.headers["x-translator-notices"] == "1; ignored"
    assert upstream.calls[0].json["max_completion_tokens"] == 5
    assert "temperature" not in upstream.calls[0].json


@pytest.mark.anyio
async def test_the_options_of_a_model_are_followed(upstream: ScriptedUpstream) -> None:
    models = {
        "open": {"upstream": "up"},
        "exact": {"upstream": "up", "strict": True, "forward": ["mirostat"]},
    }
    request = {"input": "Hi", "tools": [{"type": "web_search"}], "mirostat": 2}
    async with upstream.client(models=models) as client:
        lossy = await client.post("/v1/responses", json=request | {"model": "open"})
        refused = await client.post("/v1/responses", json=request | {"model": "exact"})
        whole = {"model": "exact", "input": "Hi", "mirostat": 2}
        taken = await client.post("/v1/responses", json=whole)
    assert [answer.status_code for answer in (lossy, refused, taken)] == [200, 400, 200]
    assert refused.json()["error"]["param"] == "tools[0]"
    assert [call.json.get("mirostat") for call in upstream.calls] == [None, 2]
    async with upstream.client(hosted_tools="reject") as client:
        answer = await client.post("/v1/responses", json=request | {"model": "m"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools[0]")
