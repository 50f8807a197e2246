"""The known dialects as people and programs see them: the pages, the command line, the settings."""

from __future__ import annotations

import ast
import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dialects_page import PAGE, page
from tests.dialects_readme import COMMAND, SNAPSHOT, TABLE, block, snapshot
from tests.fixture_cases import all_cases
from translator.common.schemas import SchemaRules
from translator.common.toml import toml_lines
from translator.dialects import BASE, DIALECTS, clouds, servers, vendors
from translator.dialects import table as dialect_table
from translator.dialects.dialect import Dialect, ModelFacts, named_efforts
from translator.dialects.table import all_facts, details, listing, markdown, own_facts
from translator.dialects.templates import template_facts
from translator.dialects.think_tags import Tags

OLD = f"is not what the code says; run `{COMMAND}` and read what changed"


def test_the_page_shows_the_dialects_that_are_known() -> None:
    shown = block(TABLE.read_text("utf-8"))
    assert shown is not None, (
        "docs/dialects.md lacks the lines <!-- dialects --> and <!-- /dialects -->"
    )
    assert shown == markdown(), f"the table of dialects in docs/dialects.md {OLD}"


def test_the_page_of_dialects_has_each_fact_and_its_source() -> None:
    """What the comments of the code say is what operators read."""
    shown = page()
    assert PAGE.read_text("utf-8") == shown, f"docs/facts.md {OLD}"
    for dialect in list(DIALECTS.values())[1:]:
        section = shown.split(f"\n### {dialect.name}\n")[1].split("\n### ")[0]
        of_templates = {known.pattern for known in template_facts()}
        for host in dialect.hosts:
            assert f"`{host}`" in section
        for fact in own_facts(dialect):
            assert re.search(rf"`{fact}[ .]", section), f"{dialect.name}: {fact}"
        for known in dialect.models:
            assert f"| `{known.pattern}` |" in section or known.pattern in of_templates
        rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
        assert rows and all(re.search(r"20\d\d", row[-1]) for row in rows)


def test_facts_of_templates_keep_the_rules_of_the_server() -> None:
    rules = SchemaRules(dropped=frozenset({"pattern"}), max_bound=5)
    plain = {known.pattern: known.facts for known in template_facts()}
    for known in template_facts(rules):
        of_server = known.facts.get("schema_rules")
        of_template = plain[known.pattern].get("schema_rules")
        assert (of_server is None) == (of_template is None)
        if of_server is not None and of_template is not None:
            assert of_server.dropped == {"pattern"} and of_server.max_bound == 5
            assert of_server.type_lists == of_template.type_lists
            assert of_server.types_required == of_template.types_required


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        ("Mistral-Small-3.2-24B-Instruct-2506-Q4_K_M.gguf", {"alternating_roles", "call_ids", "answer_between_tool_and_user"}),
        ("mistralai/Ministral-3-14B-Reasoning-2512", {"alternating_roles", "call_ids"}),
        ("unsloth/Magistral-Small-2509-GGUF", {"alternating_roles"}),
        ("bartowski/Mixtral-8x7B", {"alternating_roles"}),
        ("google/gemma-2-9b-it", {"alternating_roles", "user_message_required"}),
        ("gemma3:27b", {"alternating_roles"}),
        ("google/gemma-4-31B-it", {"schema_rules"}),
        ("meta-llama/Llama-3.3-70B-Instruct", {"one_call_per_message", "user_message_required"}),
        ("llama3.1:8b", {"one_call_per_message"}),
        ("NousResearch/Hermes-3-Llama-3.1-8B", {"schema_rules"}),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", set()),
        ("Qwen/Qwen3.5-4B", {"system_messages", "user_message_required"}),
        ("qwen3-8b", {"system_messages"}),
        ("ByteDance-Seed/Seed-OSS-36B-Instruct", {"schema_rules"}),
        ("nvidia/Nemotron-3-Nano-30B", set()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["vllm", "llama_cpp"])
def test_templates_are_known_by_the_names_of_models(name: str, model: str, facts: set[str]) -> None:
    known = DIALECTS[name]
    own = own_facts(known.for_model(model), known)
    assert facts <= own.keys()
    if not facts:
        assert not own.keys() & {"alternating_roles", "one_call_per_message", "schema_rules"}


def test_no_fact_changes_by_accident() -> None:
    """A change of a default, or of a shared value, shows in every dialect that it reaches."""
    kept = SNAPSHOT.read_text("utf-8") if SNAPSHOT.exists() else ""
    assert kept == snapshot(), f"{SNAPSHOT.name} {OLD}"


def test_the_snapshot_is_whole() -> None:
    found = json.loads(snapshot())
    assert list(found) == list(DIALECTS)
    for facts in found.values():
        assert set(facts) == set(Dialect.__struct_fields__)


def test_every_fact_says_where_it_comes_from() -> None:
    """A comment speaks for the facts below it, and tells when that was read."""
    names: list[str] = []
    for family in (vendors, clouds, servers):
        source = Path(family.__file__).read_text("utf-8")
        calls = [
            node
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "derived"
        ]
        names += [ast.literal_eval(call.args[0]) for call in calls]
        for call in calls:
            _check_sources(call, source.splitlines())
    assert names == list(DIALECTS)[1:]


def _check_sources(call: ast.Call, lines: list[str]) -> None:
    first = min(keyword.value.lineno for keyword in call.keywords)
    assert lines[first - 2].strip().startswith("# "), f"line {first}: says no source"
    inside = lines[call.lineno : call.end_lineno]
    comments = [
        " ".join(line.strip("# ") for line in block)
        for is_comment, block in itertools.groupby(inside, lambda line: "# " in line[:30])
        if is_comment
    ]
    for comment in comments:
        assert re.search(r"20\d\d", comment), f"no date in: {comment}"


def test_every_dialect_has_fixtures() -> None:
    """What it sends, and what is sent to it."""
    for name in DIALECTS:
        cases = [case for case in all_cases().values() if case.source.dialect == name]
        assert any(case.body is not None for case in cases), name
        assert any(case.request is not None for case in cases), name


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_facts_are_written_as_toml(dialect: Dialect) -> None:
    """What is printed reads back as what it was; None is false there."""

    def false_for_none(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: false_for_none(one) for key, one in value.items()}
        return False if value is None else value

    read = tomllib.loads("\n".join(toml_lines(all_facts(dialect))))
    assert read == false_for_none(all_facts(dialect))


def odd() -> Dialect:
    return msgspec.structs.replace(
        BASE,
        name="odd",
        hosts=("odd.test", ".odd.test"),
        extra={"a b": {}, "x": {"y": [1.5, None]}},
        think_tags=Tags(pairs=(("<a|b>", "</a|b>"),)),
        efforts=named_efforts(none="off", minimal="a", low="a", medium="a", xhigh="b", max="b"),
        refused=frozenset(f"a_long_name_of_a_field_{number}" for number in range(9)),
        models=(ModelFacts("a*", {"images": False, "efforts": {}}),),
    )


def test_what_differs_from_the_base_is_shown_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialect_table, "DIALECTS", {"base": BASE, "odd": odd()})
    lines = listing(60).splitlines()
    start = lines.index("odd  (odd.test, .odd.test)")
    assert "  images = true" in lines[:start]
    shown = lines[start:]
    assert "  images = true" not in shown
    assert '  extra."a b" = {}' in shown
    assert "  extra.x = { y = [1.5, false] }" in shown
    assert shown[-3:] == ["  # models a*:", "    images = false", "    efforts = {}"]
    assert max(map(len, lines)) <= 60
    wrapped = [line for line in shown if line.startswith("      ")]
    assert wrapped and all('"a_long_name_of_a_field_' in line for line in wrapped)


def test_one_dialect_is_shown_with_all_its_facts() -> None:
    lines = details(odd(), 1000).splitlines()
    assert lines[0] == "odd  (odd.test, .odd.test)"
    names = {line.strip().partition(" =")[0].partition(".")[0] for line in lines[2:-3]}
    assert names == set(Dialect.__struct_fields__) - {"name", "hosts", "models"}
    assert details(BASE, 1).startswith("base\n  # all facts:\n  think_tags = false\n")


def test_values_for_programs_are_plain_and_sorted() -> None:
    value = dialect_table.as_value(odd())
    assert json.loads(json.dumps(value)) == value
    assert value["refused"] == sorted(value["refused"])
    assert value["think_tags"]["pairs"] == [["<a|b>", "</a|b>"]]
    assert value["models"] == {"a*": {"images": False, "efforts": {}}}
    assert "images" not in own_facts(odd())


CELLS: list[tuple[dict[str, Any], str, str]] = [
    # facts, heading, cell
    ({}, "reasoning effort", "–"),
    ({"efforts": named_efforts(none="off", minimal="a", low="a", medium="a", xhigh="b", max="b")}, "reasoning effort", "`reasoning_effort`: none / minimal … medium / xhigh, max"),
    ({"efforts": named_efforts(low="a", medium="a", max="a")}, "reasoning effort", "`reasoning_effort`: low, medium, max"),
    ({"efforts": {"none": {"x": 1}, "max": {"y": 1, "x": 2}}}, "reasoning effort", "`x`, `y`: none / max"),
    ({"models": (ModelFacts("k*", {"efforts": {"max": {"x": 1}}}),)}, "reasoning effort", "by model"),
    ({"models": (ModelFacts("k*", {"images": False}),)}, "reasoning effort", "–"),
    ({"models": (ModelFacts("k*", {"images": False}), ModelFacts("l*", {}))}, "remarks", "more for `k*`, `l*`"),
    ({}, "reasoning goes back", "as it came"),
    ({"reasoning_field": "reasoning"}, "reasoning goes back", "`reasoning`"),
    ({"reasoning_required": True}, "reasoning goes back", "as it came, required"),
    ({"reasoning_replay": "drop", "reasoning_field": "reasoning"}, "reasoning goes back", "dropped"),
    ({}, "developer role", "as `system`"),
    ({"developer_role": True}, "developer role", "yes"),
    ({}, "system messages", "as they are"),
    ({"system_messages": "merge_leading"}, "system messages", "leading ones merged"),
    ({"system_messages": "demote_later"}, "system messages", "one, first; later ones as user"),
    ({}, "tool_choice", "auto, none, required, named"),
    ({"tool_choices": frozenset()}, "tool_choice", "–"),
    ({"required_word": "any", "tool_choices_thinking": frozenset({"none", "auto"})}, "tool_choice", "auto, none, any, named; thinking: auto, none"),
    ({}, "structured output", "schema, object"),
    ({"response_formats": frozenset({"json_object"})}, "structured output", "object"),
    ({"response_format_with_tools": False}, "structured output", "schema, object, not beside tools"),
    ({"response_formats": frozenset(), "response_format_with_tools": False}, "structured output", "–"),
    ({"max_tokens_field": "max_completion_tokens"}, "token limit", "`max_completion_tokens`"),
    ({"hosts": ("a.test", ".b.test")}, "hosts", "`a.test`, `.b.test`"),
    ({}, "hosts", "–"),
    ({}, "remarks", ""),
    ({"images": False, "required_word": "any"}, "remarks", "`images = false`"),
    ({"extra": {"a|b": 1}}, "remarks", '`extra = { "a\\|b" = 1 }`'),
    ({"refused": frozenset({"x" * 80})}, "remarks", "`refused`"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "heading", "cell"), CELLS)
def test_a_cell_of_the_table(
    facts: dict[str, Any], heading: str, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = msgspec.structs.replace(BASE, name="odd", **facts)
    monkeypatch.setattr(dialect_table, "DIALECTS", {"odd": dialect})
    headings, _, row = markdown().splitlines()
    column = headings.strip("| ").split(" | ").index(heading)
    assert row.removeprefix("| ").removesuffix(" |").split(" | ")[column] == cell
