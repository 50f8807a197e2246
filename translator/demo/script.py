"""The script of the demo: a request, and the chunks of two answers of a reasoning model.

The request has the shape of Codex's requests. The first answer holds reasoning, a sentence, a tool
call whose arguments are cut anywhere, and the usage after the finish reason.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

REASONING_CHUNKS = ("Which test", " is slow?", " Pytest knows:", " --durations=1.")
REASONING = "".join(REASONING_CHUNKS)
TEXT_CHUNKS = ("Let me", " measure", " that.")
TEXT = "".join(TEXT_CHUNKS)
CALL_ID = "functions.exec_command:0"
ARGUMENT_CHUNKS = ('{"cmd":', ' "pytest -q --dura', 'tions=1"}')
ARGUMENTS = "".join(ARGUMENT_CHUNKS)
RESULT = "1.42s call  tests/test_stream.py::test_any_cut\n212 passed in 9.80s\n"
ANSWER_CHUNKS = ("The slowest is", " test_any_cut,", " with 1.42 seconds.")
ANSWER = "".join(ANSWER_CHUNKS)

EXEC_COMMAND: JSON = {
    "type": "function",
    "name": "exec_command",
    "description": "Runs a shell command and returns its output.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"cmd": {"type": "string"}},
        "required": ["cmd"],
        "additionalProperties": False,
    },
}
REQUEST: JSON = {
    "model": "a-chat-model",
    "instructions": "You are a coding agent.",
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Which of our tests is the slowest?"}],
        }
    ],
    "tools": [EXEC_COMMAND],
    "reasoning": {"effort": "high", "summary": "auto"},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "stream": True,
}


def first_answer() -> list[JSON]:
    """Reasoning, a sentence, and a call whose arguments span several chunks."""
    return [
        _chunk({"role": "assistant", "content": ""}),
        *(_chunk({"reasoning_content": text}) for text in REASONING_CHUNKS),
        *(_chunk({"content": text}) for text in TEXT_CHUNKS),
        _call_chunk({"name": "exec_command", "arguments": ""}, id=CALL_ID, type="function"),
        *(_call_chunk({"arguments": text}) for text in ARGUMENT_CHUNKS),
        _chunk({}, finish_reason="tool_calls"),
        _usage_chunk(prompt=212, reasoning=21, completion=58),
    ]


def second_answer() -> list[JSON]:
    """A sentence about the result."""
    return [
        _chunk({"role": "assistant", "content": ""}),
        *(_chunk({"content": text}) for text in ANSWER_CHUNKS),
        _chunk({}, finish_reason="stop"),
        _usage_chunk(prompt=301, reasoning=0, completion=14),
    ]


def _chunk(delta: JSON, finish_reason: str | None = None) -> JSON:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _envelope([choice])


def _call_chunk(function: JSON, **head: str) -> JSON:
    return _chunk({"tool_calls": [{"index": 0, **head, "function": function}]})


def _usage_chunk(*, prompt: int, reasoning: int, completion: int) -> JSON:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    return _envelope([]) | {"usage": usage}


def _envelope(choices: list[JSON]) -> JSON:
    head = {"id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": 1}
    return head | {"model": "a-chat-model", "choices": choices}
