"""Facts of chat templates, for the servers that run a model's own template.

A template refuses a conversation by raising an exception; the server answers 400 or 500. Patterns
are over the model's name, so they hold for the names under which models are published. A comment
gives the source of the facts below it: the templates that llama.cpp ships (release b11434, read in
2026-11), unless it says otherwise. `tests/engines` runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from translator.common.schemas import SchemaRules

from .dialect import ModelFacts

_DEMOTED: Mapping[str, Any] = {"system_messages": "demote_later"}
_ALTERNATING: Mapping[str, Any] = {
    **_DEMOTED,
    "alternating_roles": True,
    "user_message_required": True,
}

_TEMPLATES = (
    # No user query found in messages. / System message must be at the beginning. (Qwen3.5, 2026-11)
    ModelFacts("*qwen3.[5-9]*", {**_DEMOTED, "user_message_required": True}),
    # System message must be at the beginning. (Qwen's own template, 2026-09)
    ModelFacts("*qwen*", {**_DEMOTED}),
    # Gemma 4 takes roles in any order; llama.cpp cannot run what it does with a list of types in an
    # array (template, 2026-11).
    ModelFacts("*gemma-4*", {"schema_rules": SchemaRules(type_lists="any_of")}),
    ModelFacts("*gemma4*", {"schema_rules": SchemaRules(type_lists="any_of")}),
    # Conversation roles must alternate user/assistant/user/assistant/... (Gemma 2, 2026-11)
    ModelFacts("*gemma*", {**_ALTERNATING}),
    # After the optional system message, conversation roles must alternate / Tool call IDs should be
    # alphanumeric strings with length 9! / got system (Mistral Small 3.2, Nemo, Ministral 3,
    # 2026-11). The pattern stands for Mistral, Ministral, Mixtral, Magistral, Devstral, Codestral,
    # Pixtral and Voxtral; a template of another publisher (Devstral) takes this form, too.
    ModelFacts(
        "*[sx]tral*",
        {
            **_ALTERNATING,
            "answer_between_tool_and_user": True,
            "call_ids": "nine_alphanumerics",
        },
    ),
    # They look up the type of each property in a table, or in a list, so a list of types is an
    # error (Hermes 2 Pro and 3, Command R+, GigaChat 3, 2026-11).
    ModelFacts("*hermes-[23]*", {"schema_rules": SchemaRules(type_lists="any_of")}),
    ModelFacts("*command-r-plus*", {"schema_rules": SchemaRules(type_lists="any_of")}),
    ModelFacts("*gigachat*", {"schema_rules": SchemaRules(type_lists="any_of")}),
    # It compares the type of each property with single names, and needs one (Seed-OSS, 2026-11).
    ModelFacts(
        "*seed-oss*", {"schema_rules": SchemaRules(type_lists="first", types_required=True)}
    ),
    # Invalid message role: a system message must come first (Apertus, 2026-11).
    ModelFacts("*apertus*", {**_DEMOTED}),
    # Distilled models have the template of DeepSeek (2026-11).
    ModelFacts("*deepseek*llama*", {}),
    # This model only supports single tool-calls at once! / Cannot put tools in the first user
    # message when there's no first user message! (Llama 3.1, 3.2, 3.3, 2026-11)
    ModelFacts("*llama-3*", {"one_call_per_message": True, "user_message_required": True}),
    ModelFacts("*llama3*", {"one_call_per_message": True, "user_message_required": True}),
)


def template_facts(rules: SchemaRules | None = None) -> tuple[ModelFacts, ...]:
    """The facts of templates, for a server whose own schemas have `rules`, which stay in force."""
    if rules is None:
        return _TEMPLATES
    return tuple(
        replace(known, facts={**known.facts, "schema_rules": _both(of_template, rules)})
        if (of_template := known.facts.get("schema_rules")) is not None
        else known
        for known in _TEMPLATES
    )


def _both(of_template: SchemaRules, of_server: SchemaRules) -> SchemaRules:
    return replace(
        of_server,
        type_lists=of_template.type_lists,
        types_required=of_template.types_required or of_server.types_required,
    )
