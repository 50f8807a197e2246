"""What refusals teach is kept for each model of an upstream, within bounds."""

from __future__ import annotations

from translator.common.schemas import SchemaRules
from translator.reader.rejected_fields import RejectedField
from translator.service.turns.learned import (
    MAX_FIELDS,
    MAX_MODELS,
    NOTHING_LEARNED,
    Learned,
    LearnedFacts,
)


def new_memory() -> LearnedFacts:
    return LearnedFacts(60.0, lambda: 0.0)


def test_the_memory_is_bounded_and_forgets_what_is_least_used() -> None:
    memory = new_memory()
    seed = Learned((RejectedField("seed"),))
    for number in range(MAX_MODELS):
        memory.keep("up", str(number), seed)
    assert memory.recall("up", "0") == seed
    memory.keep("up", "new", seed)
    assert memory.recall("up", "0") == seed  # it was used meanwhile
    assert memory.recall("up", "1") == NOTHING_LEARNED
    assert memory.recall("other", "0") == NOTHING_LEARNED


def test_findings_add_up_within_their_bound() -> None:
    memory = new_memory()
    for number in range(MAX_FIELDS + 1):
        memory.keep("up", "m", Learned((RejectedField("temperature", str(number).encode()),)))
        memory.keep("up", "m", Learned(facts={"alternating_roles": True}))
    found = memory.recall("up", "m")
    assert len(found.refused) == MAX_FIELDS
    assert found.refused[-1] == RejectedField("temperature", str(MAX_FIELDS).encode())
    assert found.facts == {"alternating_roles": True}


def test_opposite_lessons_do_not_change_to_and_fro() -> None:
    """As of two servers behind one address: the second lesson stays."""
    memory = new_memory()
    for replay in ("as_it_came", "drop", "as_it_came", "drop", "as_it_came"):
        memory.keep("up", "m", Learned(facts={"reasoning_replay": replay}))
    assert memory.recall("up", "m").facts == {"reasoning_replay": "drop"}


def test_rules_for_schemas_add_up() -> None:
    memory = new_memory()
    for rules in (
        SchemaRules(type_lists="any_of"),
        SchemaRules(dropped=frozenset({"pattern"}), max_bound=2000),
        SchemaRules(dropped=frozenset({"format"}), max_bound=3000),
    ):
        memory.keep("up", "m", Learned(facts={"schema_rules": rules}))
    assert memory.recall("up", "m").facts["schema_rules"] == SchemaRules(
        dropped=frozenset({"pattern", "format"}), type_lists="any_of", max_bound=2000
    )
