"""Parameters of a request: what goes upstream, what is repeated, noticed or refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

import translator
from tests.replaying import translation
from translator import InvalidRequest, Options, Target
from translator.dialects import BASE, DIALECTS, known_host, nearest_effort
from translator.wire import responses

FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def chat(
    dialect: str = "base",
    target: Target | None = None,
    options: Options | None = None,
    **fields: Any,
) -> dict[str, Any]:
    request = {"model": "m", "input": "Hello", **fields}
    body = translation(request, dialect=dialect, target=target, options=options).chat_body
    parsed: dict[str, Any] = json.loads(body)
    return parsed


def codes(dialect: str = "base", options: Options | None = None, **fields: Any) -> dict[str, str]:
    t = translation({"model": "m", "input": "Hello", **fields}, dialect=dialect, options=options)
    return {notice.path: notice.code for notice in t.notices}


def refusal(**fields: Any) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as refused:
        translation({"model": "m", "input": "Hello", **fields})
    assert refused.value.status_hint == 400
    return refused.value.param, refused.value.code


# --- every field ----------------------------------------------------------------------------------

EXAMPLES: dict[str, Any] = {
    "model": "other",
    "input": "Bye",
    "instructions": "Be brief.",
    "tools": [FUNCTION],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "max_output_tokens": 9,
    "max_tool_calls": 3,
    "temperature": 0.5,
    "top_p": 0.5,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "top_logprobs": 2,
    "text": {"format": {"type": "json_object"}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["file_search_call.results"],
    "metadata": {"k": "v"},
    "store": True,
    "stream": True,
    "stream_options": {"include_obfuscation": True},
    "service_tier": "flex",
    "truncation": "auto",
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "implicit"},
    "previous_response_id": "resp_1",
    "conversation": "conv_1",
    "background": True,
    "background_options": {"completion_window": "soonest"},
    "context_management": [{"type": "compaction"}],
    "moderation": {"model": "m"},
    "prompt": {"id": "p"},
    "access_programs": {},
    "image": {},
    "client_metadata": {"a": "b"},
    "generate": False,
    "n": 2,
}


@pytest.mark.parametrize("field", responses.Request.__struct_fields__)
def test_no_field_is_lost_in_silence(field: str) -> None:
    """A field of the request changes the chat request or the response, or it is noticed or refused."""
    plain: dict[str, Any] = {"model": "m", "input": "Hello"}
    with_field = {**plain, field: EXAMPLES[field]}
    if field in ("tool_choice", "parallel_tool_calls"):
        plain["tools"] = with_field["tools"] = [FUNCTION]
    before = translation(plain)
    try:
        after = translation(with_field)
    except InvalidRequest as refused:
        assert refused.param == field
        return
    goes_upstream = after.chat_body != before.chat_body
    is_repeated = translator.encode_json(after.response) != translator.encode_json(before.response)
    assert goes_upstream or is_repeated or after.notices or not after.wants_answer


def test_the_examples_cover_the_request_type() -> None:
    assert EXAMPLES.keys() == set(responses.Request.__struct_fields__)


# --- groups ---------------------------------------------------------------------------------------


def test_messages_in_place_of_input_are_told_where_they_belong() -> None:
    asked = {"model": "m", "input": [], "messages": [{"role": "user", "content": "Hello"}]}
    with pytest.raises(InvalidRequest, match="send them as 'input', or this request to /v1/chat"):
        translation(asked)
    with pytest.raises(InvalidRequest, match=r"'input'\.$"):
        translation({"model": "m"})


def test_the_smallest_request() -> None:
    assert chat() == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": False,
    }


def test_a_stream_asks_for_usage() -> None:
    assert chat(stream=True)["stream_options"] == {"include_usage": True}
    silent = translator.dialects.Dialect(name="silent", stream_usage=False)
    body = translation({"model": "m", "input": "x", "stream": True}, dialect=silent).chat_body
    assert "stream_options" not in json.loads(body)


def test_the_target_names_the_model_and_clamps_the_output() -> None:
    target = Target(model="accounts/x", max_output_tokens=100)
    assert chat(target=target)["model"] == "accounts/x"
    assert "max_tokens" not in chat(target=target)
    assert chat(target=target, max_output_tokens=100)["max_tokens"] == 100
    t = translation({"model": "m", "input": "x", "max_output_tokens": 101}, target=target)
    assert json.loads(t.chat_body)["max_tokens"] == 100
    assert [(n.path, n.code) for n in t.notices] == [("max_output_tokens", "clamped")]
    assert t.response.max_output_tokens == 100, "the response repeats the limit that holds"
    assert t.response.model == "m", "the response names the model that was asked for"


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (Target(), 32768),
        (Target(context_window=262144), 32768),
        (Target(context_window=8000), 2000),
        (Target(context_window=3), 1),
        (Target(max_output_tokens=4096), 4096),
        (Target(context_window=8000, max_output_tokens=4096), 2000),
    ],
)
def test_a_limit_is_sent_where_the_upstreams_own_is_too_low(target: Target, sent: int) -> None:
    t = translation({"model": "@cf/m", "input": "x"}, dialect="cloudflare", target=target)
    assert json.loads(t.chat_body)["max_tokens"] == sent
    assert t.notices == ()
    assert t.response.max_output_tokens is None, "the response repeats what was asked"
    asked = {"model": "@cf/m", "input": "x", "max_output_tokens": 100000}
    t = translation(asked, dialect="cloudflare", target=Target(context_window=8000))
    assert json.loads(t.chat_body)["max_tokens"] == 100000, "the client's own is not the default"


@pytest.mark.parametrize(
    ("effort", "limit", "budget"),
    [
        ("high", None, 16384),
        ("max", None, 24576),
        ("high", 16385, 16384),
        ("high", 16384, 8192),
        ("medium", 1500, 1024),
        ("low", 1025, 1024),
        ("low", 1024, None),
        ("minimal", 16, None),
    ],
)
def test_a_thinking_budget_is_below_the_limit(
    effort: str, limit: int | None, budget: int | None
) -> None:
    fields = {"model": "databricks-claude-sonnet-4-5", "reasoning": {"effort": effort}}
    body = chat("databricks", **fields, max_output_tokens=limit)
    thinking = body.get("thinking")
    assert thinking == (None if budget is None else {"type": "enabled", "budget_tokens": budget})
    assert budget is None or budget < body["max_tokens"]
    noticed = codes("databricks", **fields, max_output_tokens=limit)
    assert noticed == ({"reasoning.effort": "ignored"} if budget is None else {})


def test_limits_have_the_name_that_the_dialect_knows() -> None:
    assert chat("openai", max_output_tokens=9)["max_completion_tokens"] == 9


def test_sampling_goes_where_it_is_taken() -> None:
    fields = {"temperature": 0.2, "top_p": 0.9, "presence_penalty": 1, "frequency_penalty": -1}
    assert fields.items() <= chat(**fields).items()
    assert not fields.keys() & chat("moonshot", **fields).keys()
    assert codes("moonshot", **fields) == dict.fromkeys(fields, "ignored")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True, "top_logprobs": 0}),
        ({"top_logprobs": 0}, {}),
    ],
)
def test_log_probabilities(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    body = chat(**fields)
    assert {key: body[key] for key in ("logprobs", "top_logprobs") if key in body} == expected


def test_log_probabilities_where_there_are_none() -> None:
    odd = translator.dialects.Dialect(name="odd", refused=frozenset({"logprobs"}))
    t = translation({"model": "m", "input": "x", "top_logprobs": 3}, dialect=odd)
    assert b"logprobs" not in t.chat_body
    assert [notice.code for notice in t.notices] == ["ignored"]


SCHEMA = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True, "description": "d"}  # fmt: skip


def test_structured_output_is_nested_as_chat_wants_it() -> None:
    inner = {key: value for key, value in SCHEMA.items() if key != "type"}
    assert chat(text={"format": SCHEMA})["response_format"] == {
        "type": "json_schema",
        "json_schema": inner,
    }
    bare = {"type": "json_schema", "name": "n", "schema": {}}
    assert chat(text={"format": bare})["response_format"]["json_schema"] == {
        "name": "n",
        "schema": {},
    }
    assert chat(text={"format": {"type": "json_object"}})["response_format"] == {
        "type": "json_object"
    }
    assert "response_format" not in chat(text={"format": {"type": "text"}})


def test_a_format_that_the_upstream_lacks_is_told_the_model() -> None:
    """In words, after the instructions: they stay the beginning of every prompt."""
    sent = chat("deepseek", instructions="Be brief.", text={"format": SCHEMA})
    assert sent["response_format"] == {"type": "json_object"}
    told = sent["messages"][0]["content"]
    assert told.startswith("Be brief.\n\nYour answer is one JSON object")
    assert told.endswith('schema:\n{"type":"object"}')
    assert codes("deepseek", text={"format": SCHEMA}) == {"text.format": "weakened"}

    beside_tools = chat("fireworks", text={"format": SCHEMA}, tools=[FUNCTION])
    assert "response_format" not in beside_tools
    assert beside_tools["messages"][0]["content"].endswith('{"type":"object"}')
    assert codes("fireworks", text={"format": SCHEMA}, tools=[FUNCTION]) == {
        "text.format": "weakened"
    }


def test_any_json_object_is_told_only_where_nothing_asks_for_one() -> None:
    """Where the field does, the client's own prompt says so: OpenAI demands that, too."""
    wanted = {"format": {"type": "json_object"}}
    assert chat("deepseek", text=wanted)["messages"] == chat("deepseek")["messages"]
    assert codes("deepseek", text=wanted) == {}
    sent = chat("tgi", text=wanted)
    assert "response_format" not in sent
    assert "one JSON object" in sent["messages"][0]["content"]
    assert codes("tgi", text=wanted) == {"text.format": "weakened"}


@pytest.mark.parametrize(
    ("dialect", "model", "effort", "expected"),
    [
        ("base", "m", "high", {}),
        ("fireworks", "accounts/fireworks/models/kimi-k2p6", "none", {"reasoning_effort": "none"}),
        ("fireworks", "accounts/fireworks/models/kimi-k2p6", "xhigh", {"reasoning_effort": "high"}),
        ("fireworks", "accounts/fireworks/models/gpt-oss-120b", "none", {"reasoning_effort": "low"}),
        ("fireworks", "accounts/fireworks/models/deepseek-v4-pro", "medium", {"reasoning_effort": "high"}),
        ("deepseek", "deepseek-v4-pro", "none", {"thinking": {"type": "disabled"}}),
        ("deepseek", "deepseek-v4-pro", "xhigh", {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}),
        ("moonshot", "kimi-k2.5", "low", {"thinking": {"type": "enabled"}}),
        ("moonshot", "kimi-k2.6", "low", {"thinking": {"type": "enabled", "keep": "all"}}),
        ("moonshot", "kimi-k2.6", "none", {"thinking": {"type": "disabled"}}),
        ("moonshot", "kimi-k2.7-code", "none", {"thinking": {"type": "enabled", "keep": "all"}}),
        ("moonshot", "kimi-k3", "medium", {"reasoning_effort": "high"}),
        ("moonshot", "k3", "minimal", {"reasoning_effort": "low"}),
        ("moonshot", "k3-256k", "none", {"reasoning_effort": "low"}),
        ("moonshot", "k3", "xhigh", {"reasoning_effort": "max"}),
        ("xai", "grok-4.5-fast", "medium", {"reasoning_effort": "medium"}),
        ("xai", "grok-4.5", "xhigh", {"reasoning_effort": "high"}),
        ("xai", "grok-4.6", "max", {"reasoning_effort": "xhigh"}),
        ("xai", "grok-4.3", "medium", {"reasoning_effort": "high"}),
        ("mistral", "mistral-large-2512", "high", {}),
        ("mistral", "codestral-2508", "high", {}),
        ("mistral", "mistral-small-2603", "high", {"reasoning_effort": "high"}),
        ("mistral", "mistral-medium-3.5", "none", {"reasoning_effort": "none"}),
        ("azure", "grok-4", "minimal", {"reasoning_effort": "low"}),
        ("azure", "gpt-5", "xhigh", {"reasoning_effort": "xhigh"}),
        ("cerebras", "zai-glm-4.7", "xhigh", {"reasoning_effort": "high"}),
        ("volcengine", "doubao-seed-2-0-pro", "none", {"reasoning_effort": "minimal"}),
        ("volcengine", "doubao-seed-2-0-mini-260428", "max", {"reasoning_effort": "max"}),
        ("volcengine", "doubao-character-260628", "low", {"reasoning_effort": "minimal"}),
        ("cloudflare", "@cf/openai/gpt-oss-120b", "none", {"reasoning_effort": "low"}),
        ("cloudflare", "@cf/google/gemma-4-26b", "low", {"reasoning_effort": "high"}),
        ("databricks", "databricks-claude-opus-4-8", "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("databricks", "databricks-claude-opus-5-5", "none", {"thinking": {"type": "adaptive"}}),
        ("databricks", "databricks-gemini-4-pro", "none", {"reasoning_effort": "low"}),
        ("vllm", "Qwen/Qwen3.8-27B", "max", {"reasoning_effort": "xhigh"}),
        ("vllm", "Qwen/Qwen3.8-27B", "none", {}),
        ("vllm", "Qwen/Qwen3-8B", "high", {"reasoning_effort": "high"}),
        ("openai", "gpt", "max", {"reasoning_effort": "xhigh"}),
        ("openrouter", "x", "max", {"reasoning": {"effort": "xhigh"}}),
    ],
)  # fmt: skip
def test_effort_in_the_upstreams_words(
    dialect: str, model: str, effort: str, expected: dict[str, Any]
) -> None:
    body = chat(dialect, Target(model=model), reasoning={"effort": effort})
    sent = {k: body[k] for k in ("reasoning_effort", "thinking", "reasoning") if k in body}
    assert sent == expected


def test_effort_that_changes_is_noticed_and_the_original_repeated() -> None:
    t = translation({"model": "m", "input": "x", "reasoning": {"effort": "minimal"}}, dialect="deepseek")  # fmt: skip
    assert [(n.path, n.code) for n in t.notices] == [("reasoning.effort", "weakened")]
    assert t.response.reasoning.effort == "minimal"
    assert codes(reasoning={"effort": "high"}) == {"reasoning.effort": "ignored"}


def test_identity_goes_only_where_it_is_known() -> None:
    fields = {
        "user": "u",
        "prompt_cache_key": "k",
        "service_tier": "flex",
        "safety_identifier": "s",
    }
    assert not fields.keys() & chat(**fields).keys()
    assert fields.items() <= chat("openai", **fields).items()
    assert chat("openai", text={"verbosity": "low"})["verbosity"] == "low"
    assert "verbosity" not in chat(text={"verbosity": "low"})


def test_unknown_fields_go_upstream_when_they_are_listed() -> None:
    assert chat(seed=7, stop=["x"], frob=1).items() >= {"seed": 7, "stop": ["x"]}.items()
    assert "frob" not in chat(frob=1)
    assert codes(frob=1) == {"frob": "ignored"}
    assert chat(frob=1, options=Options(forward=("frob",)))["frob"] == 1


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"foo": 1.0}, {"enable_thinking": False, "foo": 1.0}),
        ({"enable_thinking": True}, {"enable_thinking": True}),
        ({}, {"enable_thinking": False}),
        (None, {"enable_thinking": False}),
        ("x", "x"),
    ],
)
def test_an_object_of_the_client_is_merged_with_ours(given: Any, sent: Any) -> None:
    """The effort stays where it stands beside the client's own settings of the chat template."""
    fields = {"chat_template_kwargs": given, "reasoning": {"effort": "none"}}
    assert chat("llama_cpp", **fields)["chat_template_kwargs"] == sent
    assert chat("base", **fields)["chat_template_kwargs"] == given


def test_strict_mode_turns_notices_into_errors() -> None:
    with pytest.raises(InvalidRequest) as refused:
        translation({"model": "m", "input": "x", "frob": 1}, options=Options(strict=True))
    assert refused.value.param == "frob"


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": []}, "input", "missing_required_parameter"),
        ({"input": ""}, "input", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"input": 5}, "input", "invalid_type"),
        ({"temperature": 3}, "temperature", "integer_above_max_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
        ({"metadata": {"k": "v" * 513}}, "metadata", "string_above_max_length"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "string_above_max_length"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata", "object_above_max_properties"),
        ({"metadata": {"k": 5}}, "metadata", "invalid_type"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name", "missing_required_parameter"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "missing_required_parameter"),
        ({"text": {"format": {"type": "json_schema", "name": "", "schema": {}}}}, "text.format.name", "string_below_min_length"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": []}}}, "text.format.schema", "invalid_type"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type", "invalid_value"),
        ({"previous_response_id": "r"}, "previous_response_id", "previous_response_not_found"),
        ({"previous_response_id": "r", "conversation": "c"}, "previous_response_id", "invalid_value"),
        ({"conversation": "c"}, "conversation", "unsupported_parameter"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"moderation": {"model": "m", "policy": {"input": {"mode": "block"}}}}, "moderation", "unsupported_parameter"),
    ],
)  # fmt: skip
def test_refusals_name_the_field(fields: dict[str, Any], param: str, code: str) -> None:
    assert refusal(**fields) == (param, code)


@pytest.mark.parametrize(
    "fields",
    [
        {"conversation": None},
        {"prompt": None},
        {"n": 1},
        {"background": False},
        {"store": False},
        {"truncation": "disabled"},
        {"metadata": None},
        {"include": ["reasoning.encrypted_content"]},
    ],
)
def test_defaults_that_clients_send_are_no_loss(fields: dict[str, Any]) -> None:
    assert codes(**fields) == {}


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'"x"'])
def test_a_body_that_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        translation(body)
    assert refused.value.param is None


def test_moderation_that_only_scores_is_ignored_with_a_notice() -> None:
    fields = {"moderation": {"model": "m", "policy": {"input": {"mode": "score"}}}}
    assert codes(**fields) == {"moderation": "ignored"}


# --- dialects -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.fireworks.ai", "fireworks"),
        ("API.DeepSeek.com", "deepseek"),
        ("eu.api.openai.com", "openai"),
        ("notapi.openai.com", "base"),
        ("token-plan-cn.xiaomimimo.com", "mimo"),
        ("gateway.ai.cloudflare.com", "cloudflare"),
        ("ark.cn-beijing.volces.com", "volcengine"),
        ("ark.ap-southeast.bytepluses.com", "volcengine"),
        ("integrate.api.nvidia.com", "nvidia"),
        ("dbc-1.cloud.databricks.com", "databricks"),
        ("adb-1.2.azuredatabricks.net", "databricks"),
        ("1.2.gcp.databricks.com", "databricks"),
        ("org-acct.snowflakecomputing.com", "snowflake"),
        ("opencode.ai", "opencode"),
        ("bedrock-mantle.us-east-1.api.aws", "bedrock_mantle"),
        ("res.cognitiveservices.azure.com", "azure"),
        ("aiplatform.googleapis.com", "gemini"),
        ("europe-west4-aiplatform.googleapis.com", "gemini"),
        ("myaiplatform.googleapis.com", "base"),
        ("127.0.0.1", "base"),
    ],
)
def test_hosts_tell_the_dialect(host: str, name: str) -> None:
    assert known_host(host) == name


def test_the_nearest_level_stands_in() -> None:
    efforts = {level: {} for level in ("none", "low", "high")}
    asked = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    nearest = [nearest_effort(efforts, level) for level in asked]
    assert nearest == ["none", "low", "low", "high", "high", "high", "high"]
    assert nearest_effort({"none": {}}, "high") == "none"


def test_every_dialect_is_base_with_facts_replaced() -> None:
    assert DIALECTS["base"] is BASE
    for name, dialect in DIALECTS.items():
        assert dialect.name == name
        assert dialect.for_model("no-such-model").name == name


def test_facts_of_a_model_are_put_in() -> None:
    facts = DIALECTS["fireworks"].for_model("accounts/fireworks/models/MiniMax-M2p7")
    assert facts.system_messages == "demote_later"
    assert facts.models == ()


def test_a_dialect_must_be_known() -> None:
    with pytest.raises(KeyError):
        translation(dialect="klingon")


def test_facts_have_the_types_of_their_fields() -> None:
    for dialect in DIALECTS.values():
        for facts in [dialect, *(dialect.for_model(f.pattern.replace("*", "x")) for f in dialect.models)]:  # fmt: skip
            msgspec.convert(msgspec.to_builtins(facts), translator.Dialect)


def test_fields_have_the_upstreams_own_names() -> None:
    assert chat("mistral", seed=7)["random_seed"] == 7
    assert chat("mistral", tools=[FUNCTION], tool_choice="required")["tool_choice"] == "any"


def test_a_choice_that_is_never_taken_is_left_out() -> None:
    assert "tool_choice" not in chat("ollama", tools=[FUNCTION], tool_choice="auto")
    assert codes("ollama", tools=[FUNCTION], tool_choice="auto") == {}
    assert "tool_choice" not in chat("ollama", tools=[FUNCTION], tool_choice="required")
    assert codes("ollama", tools=[FUNCTION], tool_choice="required") == {"tool_choice": "weakened"}


def test_an_upstream_that_thinks_only_in_a_stream() -> None:
    asked = {"reasoning": {"effort": "high"}}
    assert chat("dashscope", **asked)["enable_thinking"] is False
    assert codes("dashscope", **asked) == {"reasoning.effort": "weakened"}
    assert codes("dashscope", reasoning={"effort": "none"}) == {}
    body = chat("dashscope", stream=True, **asked)
    assert (body["enable_thinking"], body["thinking_budget"]) == (True, 32768)
    assert "enable_thinking" not in chat("dashscope", stream=True)


def test_schemas_are_rewritten_where_they_would_be_refused() -> None:
    schema = {"$schema": "x", "type": "object", "properties": {}}
    tool = {"type": "function", "name": "f", "parameters": schema}
    (sent,) = chat("mistral", tools=[tool])["tools"]
    assert sent["function"]["parameters"] == {"type": "object", "properties": {}}
    text = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    sent = chat("mistral", text=text)["response_format"]["json_schema"]["schema"]
    assert sent == {"type": "object", "properties": {}}
    assert chat(tools=[tool])["tools"][0]["function"]["parameters"] == schema


def test_every_request_carries_what_the_dialect_adds() -> None:
    assert chat("minimax")["reasoning_split"] is True


@pytest.mark.parametrize(
    "said", [[{"role": "assistant", "content": None}], [{"role": "assistant", "content": []}]]
)
def test_a_conversation_in_which_nothing_is_said_is_refused(said: list[Any]) -> None:
    """No upstream takes a request without messages."""
    body = json.dumps({"model": "m", "input": said}).encode()
    with pytest.raises(InvalidRequest, match="contains no message") as refused:
        translation(body)
    assert refused.value.param == "input"
    assert translation(json.dumps({"model": "m", "input": said, "instructions": "Go."}).encode())
