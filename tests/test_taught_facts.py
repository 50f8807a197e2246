"""What the error texts of chat templates and validators teach of a dialect."""

from __future__ import annotations

from typing import Any

import pytest

from translator import Dialect
from translator.common.schemas import SchemaRules
from translator.reader.taught_facts import (
    _LESSONS,
    BOUNDS,
    REASONING_REFUSED,
    REASONING_REQUIRED,
    merged_fact,
    taught_facts,
)

DEEPSEEK = "The `reasoning_content` in the thinking mode must be passed back to the API."

WANTED = [
    DEEPSEEK,
    DEEPSEEK.replace("`", ""),
    "The `reasoning_text` in the thinking mode must be passed back to the API.",
    "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
    "Missing `reasoning_content` field in the assistant message at message index 4.",
    "messages[1]: assistant message with tool_calls must include reasoning_content. Received Model Group=deepseek-v4-pro",
    "assistant messages with tool calls need reasoning_content",
    "The model requires `reasoning_content` in each assistant message",
    "messages.2.reasoning_content: Field required",
    "1 validation error\nmessages.2.reasoning_content\n  Field required [type=missing]",
    "reasoning_content is required in assistant messages when thinking is enabled",
    "'reasoning_content' should be provided for tool call messages",
    "reasoning content must not be empty in the assistant message",
    "message 3 lacks the field reasoning_content",
    "Invalid request: reasoning_content is not set",
    "expected the previous reasoning_content, got none",
    "assistant message without reasoning_content",
    "Assistant message without reasoning_content is not allowed in thinking mode",
    "thinking mode: each assistant message should carry reasoning_content",
    "Please pass back the reasoning_content",
    "you must send reasoning_content back",
    "reasoning_content was dropped; it must be echoed back",
]  # fmt: skip


@pytest.mark.parametrize("text", WANTED)
def test_reasoning_that_is_missing(text: str) -> None:
    assert taught_facts(text, {}) == REASONING_REQUIRED


REFUSED = [
    "property 'reasoning_content' is unsupported, did you mean 'reasoning'?",
    "messages.1.assistant.reasoning_content: property 'messages.1.assistant.reasoning_content' is unsupported",
    "[{'type': 'extra_forbidden', 'loc': ('body', 'messages', 1, 'ChatCompletionAssistantMessageParam', 'reasoning_content'), 'msg': 'Extra inputs are not permitted', 'input': 'think'}]",
    "Error from provider: Extra inputs are not permitted, field: 'messages[1].reasoning_content', value: 'think'",
    "Extra inputs are not permitted, field: 'messages[1].reasoning'",
    "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property 'reasoning_content' is unsupported)]",
    "'messages.2' : for 'role:assistant' the following must be satisfied[('messages.2' : property 'reasoning' is unsupported, did you mean 'role'?)]",
    "body.messages.1.assistant.reasoning_content: Extra inputs are not permitted",
    "messages.1.reasoning: Extra inputs are not permitted",
    "Unknown parameter: 'messages[1].reasoning_content'.",
    "Unrecognized request argument supplied: messages[1].reasoning_details",
    "Validation error at #/messages/1/reasoning_content: Extra inputs are not permitted",
    "Failed to deserialize: messages[1]: unknown field `reasoning_content`, expected one of `role`, `content`",
    "Invalid JSON payload received. Unknown name \"reasoning_content\" at 'messages[1]': Cannot find field.",
    "Invalid JSON payload received. Unknown name \"reasoning\" at 'messages[1]': Cannot find field.",
    "Additional properties are not allowed ('reasoning_content' was unexpected)",
    "reasoning_content is not supported in assistant messages",
    "Reasoning content is not allowed in the input messages",
    "The field reasoning_content must not be included in the messages",
    "assistant messages cannot contain reasoning_content",
    "Please remove the field `reasoning_content` from the messages.",
    "messages[1] contains unsupported field 'reasoning_content'",
    "This model does not accept reasoning_details",
    "messages/1/reasoning_content is not permitted",
    "Unrecognized key(s) in object: 'reasoning_content'",
    "Invalid field: reasoning_content",
    "Malformed input request: #/messages/1: extraneous key [reasoning_content] is not permitted, please reformat your input and try again.",
    "1 validation error for Request\nbody -> messages -> 1 -> reasoning_content\n  extra fields not permitted (type=value_error.extra)",
    "body/messages/1 must NOT have additional properties",
    "Invalid 'messages[1]': unknown field 'reasoning'",
    "messages[1].reasoning_content: field not allowed",
    "unsupported message key reasoning_content",
    "This model doesn't support reasoning_content in messages",
    "reasoning_content should not be sent back",
    "messages[2]: 'reasoning_content' is an invalid key",
    "reasoning_content: Object contains extra property",
    "assistant message with 'reasoning' is not supported",
    "Unexpected reasoning_content",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_reasoning_that_is_refused_in_messages(text: str) -> None:
    assert taught_facts(text, {}) == REASONING_REFUSED


ANY_OF = SchemaRules(type_lists="any_of")
GRAMMAR = SchemaRules(dropped=frozenset({"pattern", "format"}), max_bound=2000)
ALTERNATING = {
    "alternating_roles": True,
    "answer_between_tool_and_user": True,
    "user_message_required": True,
    "system_messages": "demote_later",
}
FACTS: list[tuple[str, dict[str, Any]]] = [
    ("Conversation roles must alternate user/assistant/user/assistant/...", ALTERNATING),
    ("Jinja Exception: After the optional system message, conversation roles must alternate user and assistant roles except for tool calls and results.", ALTERNATING),
    ("Two consecutive user messages are not supported", ALTERNATING),
    ("System message must be at the beginning.", {"system_messages": "demote_later"}),
    ("Only user and assistant roles are supported here, got system.", {"system_messages": "demote_later"}),
    ("System messages can only appear at the start of the conversation", {"system_messages": "demote_later"}),
    ("Unexpected role 'system' after role 'user'", {"system_messages": "demote_later"}),
    ("Only one system message is allowed", {"system_messages": "demote_later"}),
    ("Tool call IDs should be alphanumeric strings with length 9!", {"call_ids": "nine_alphanumerics"}),
    ("Tool call id was call_abc but must be a-z, A-Z, 0-9, with a length of 9.", {"call_ids": "nine_alphanumerics"}),
    ("This model only supports single tool-calls at once!", {"one_call_per_message": True}),
    ("Multiple tool calls in one message are not supported", {"one_call_per_message": True}),
    ("No user query found in messages.", {"user_message_required": True}),
    ("messages must contain at least one user message", {"user_message_required": True}),
    ("Object key of unhashable type: Array", {"schema_rules": ANY_OF}),
    ("unhashable type: 'list'", {"schema_rules": ANY_OF}),
    ("Error in iterating prediction stream: ValueError: 'type' must be a string", {"schema_rules": ANY_OF}),
    ("Cannot pass both content and thinking in an assistant message with tool calls!", {"reasoning_not_beside_text_and_calls": True}),
    ("Unexpected role 'user' after role 'tool'", {"answer_between_tool_and_user": True}),
    ("messages[0].role: unknown variant `developer`, expected one of `system`, `user`", {"developer_role": False}),
    ("Unsupported value: 'messages[0].role' does not support 'developer' with this model.", {"developer_role": False}),
    ("developer is not one of ['system', 'assistant', 'user', 'tool', 'function'] - 'messages.[0].role'", {"developer_role": False}),
    ("Failed to initialize samplers: failed to parse grammar", {"schema_rules": GRAMMAR}),
    ("error parsing grammar: number of repetitions exceeds sane defaults, please reduce the number of repetitions", {"schema_rules": GRAMMAR}),
    ("JSON schema conversion failed:\nUnrecognized schema: {}", {"schema_rules": GRAMMAR}),
    ("Unable to generate parser for this template. Automatic parser generation failed: JSON schema error", {"schema_rules": GRAMMAR}),
    ("Grammar error: the grammar is too complex", {"schema_rules": GRAMMAR}),
    ("messages must alternate between user and assistant", ALTERNATING),
    ("The first message may be of the system, further system messages are not allowed", {"system_messages": "demote_later"}),
    ("tool_call_id must have length 9", {"call_ids": "nine_alphanumerics"}),
    ("only one tool call is supported at once", {"one_call_per_message": True}),
    ("A user message is required", {"user_message_required": True}),
    ("Failed to compile grammar", {"schema_rules": GRAMMAR}),
    ("JSON schema conversion failed", {"schema_rules": GRAMMAR}),
    ("schema uses unsupported keyword 'pattern'", {"schema_rules": GRAMMAR}),
    ("xgrammar does not support pattern", {"schema_rules": GRAMMAR}),
    ("The provided JSON schema contains features not supported by xgrammar.", {"schema_rules": GRAMMAR}),
    ("json mode cannot be combined with tool/function calling", {"response_format_with_tools": False}),
    ("Function calling with a response mime type: 'application/json' is unsupported", {"response_format_with_tools": False}),
    ("response_format is not supported together with tools", {"response_format_with_tools": False}),
    ("This response_format type is unavailable now", {"response_formats": frozenset({"json_object"})}),
    ("response_format json_schema is not supported by this model", {"response_formats": frozenset({"json_object"})}),
    ("Unsupported response_format type json_schema", {"response_formats": frozenset({"json_object"})}),
    ("messages[1].tool_calls[0].extra_content: Extra inputs are not permitted", {"extra_content": False}),
    ("tools[0].function.strict: Extra inputs are not permitted", {"strict_functions": False}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "facts"), FACTS)
def test_what_a_text_teaches(text: str, facts: dict[str, Any]) -> None:
    assert taught_facts(text, {}) == facts


NOTHING = [
    "This model's maximum context length is 8192 tokens.",
    "Function call is missing a thought_signature in functionCall parts.",
    "messages must not be empty",
    "`text` is not set",
    "messages: at least one message is required",
    "text content is empty",
    "property 'reasoning' is unsupported",  # perhaps a field of the request
    "reasoning_effort is not supported",
    "messages[1].strict: Extra inputs are not permitted",
    "Invalid value for extra_content: must be one of 'a'",
    "The reasoning of the model is unsupported by facts",
    "Invalid 'messages[3]'. Content blocks are expected to be either text or image_url type.",
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.",
    "invalid params, tool result's tool id(call_1) not found (2013)",
    "Tool call ids must be unique",
    "function name is invalid, must start with a letter and can contain letters",
    "The user is not permitted to use this model.",
    "Unknown parameter: 'strict'.",
    "You must provide a model parameter",
    "The response format must be a JSON schema",
    "Invalid request: response_format.json_schema is not a valid moonshot flavored json schema, details: <At path 'properties.pair.items': items must be an object>",
    "Invalid schema for response_format 'x': additionalProperties is required",
    "'response_format' is not supported",
    "image input is not supported",
    "Rate limit reached",
    "the model does not exist",
    "content filter: system prompt leaked",
    "role 'tool' must be a response to a preceding message with 'tool_calls'",
]


@pytest.mark.parametrize("text", NOTHING)
def test_any_other_text_teaches_nothing(text: str) -> None:
    assert taught_facts(text, {}) == {}


def test_the_facts_are_facts() -> None:
    names = {name for lesson in _LESSONS for name in lesson.facts}
    names |= {*REASONING_REQUIRED, *REASONING_REFUSED}
    assert names <= set(Dialect.__struct_fields__)


def test_a_grammar_that_is_refused_again_loses_all_bounds() -> None:
    text = "failed to parse grammar"
    first = taught_facts(text, {})
    assert first == {"schema_rules": GRAMMAR}
    second = taught_facts(text, first)["schema_rules"]
    assert second.dropped == GRAMMAR.dropped | BOUNDS
    assert taught_facts("unhashable type", first) == {"schema_rules": ANY_OF}
    one_type = SchemaRules(type_lists="first", types_required=True)
    assert taught_facts("unhashable type", {"schema_rules": ANY_OF}) == {"schema_rules": one_type}


def test_rules_add_up_and_other_facts_replace() -> None:
    own = SchemaRules(
        dropped=frozenset({"$id"}), type_lists="nullable", bare_refs=True, max_bound=9
    )
    assert merged_fact(own, GRAMMAR) == SchemaRules(
        dropped=frozenset({"$id", "pattern", "format"}),
        type_lists="nullable",
        bare_refs=True,
        max_bound=9,
    )
    assert merged_fact(own, ANY_OF) == SchemaRules(
        dropped=frozenset({"$id"}), type_lists="any_of", bare_refs=True, max_bound=9
    )
    assert merged_fact(None, GRAMMAR) == GRAMMAR
    assert merged_fact("keep", "demote_later") == "demote_later"
