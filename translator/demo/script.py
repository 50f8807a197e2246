"""What is said in the demo: a question, and the two answers of a model that reasons and calls.

The request is shaped like those of Codex. The answers come in the chunks of a reasoning model:
reasoning, a sentence, a call whose arguments are cut anywhere, the usage after the finish reason.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

THOUGHTS = ("Which test", " is slow?", " Pytest knows:", " --durations=1.")
REASONING = "".join(THOUGHTS)
WORDS = ("Let me", " measure", " that.")
SAID = "".join(WORDS)
CALL_ID = "functions.exec_command:0"
PIECES = ('{"cmd":', ' "pytest -q --dura', 'tions=1"}')
ARGUMENTS = "".join(PIECES)
RESULT = "1.42s call  tests/test_stream.py::test_any_cut\n212 passed in 9.80s\n"
ANSWERED = ("The slowest is", " test_any_cut,", " with 1.42 seconds.")
ANSWER = "".join(ANSWERED)

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
    """Reasoning, a sentence, and a call whose arguments come in pieces."""
    return [
        _chunk({"role": "assistant", "content": ""}),
        *(_chunk({"reasoning_content": piece}) for piece in THOUGHTS),
        *(_chunk({"content": piece}) for piece in WORDS),
        _call_chunk({"name": "exec_command", "arguments": ""}, id=CALL_ID, type="function"),
        *(_call_chunk({"arguments": piece}) for piece in PIECES),
        _chunk({}, finish_reason="tool_calls"),
        _usage_chunk(prompt=212, reasoning=21, completion=58),
    ]


def second_answer() -> list[JSON]:
    """A sentence about the result."""
    return [
        _chunk({"role": "assistant", "content": ""}),
        *(_chunk({"content": piece}) for piece in ANSWERED),
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
