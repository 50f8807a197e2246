"""The real Codex CLI works on a model that speaks only Chat Completions.

The upstream is a script and refuses whatever a strict one refuses; the configuration is the
documented one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .conftest import KEY, Codex
from .upstream import Call, ScriptedUpstream, Trouble, Turn

CodexOn = Callable[[ScriptedUpstream], Codex]

THOUGHT = "  The file does not exist yet.\nSo I write it — “naïvely” — with `printf`.\n"


def run(cmd: str, call_id: str = "functions.exec_command:0") -> Call:
    return Call(call_id, "exec_command", {"cmd": cmd})


def roles(request: dict[str, Any]) -> list[str]:
    return [message["role"] for message in request["messages"]]


def results(request: dict[str, Any]) -> dict[str, str]:
    """What each call came back with."""
    tools = [message for message in request["messages"] if message["role"] == "tool"]
    return {message["tool_call_id"]: message["content"] for message in tools}


def test_a_plain_turn(codex_on: CodexOn) -> None:
    """A question is answered with text; the prompt and the key arrive upstream."""
    upstream = ScriptedUpstream(Turn(reasoning="A greeting.", text="Hello from a chat model."))
    outcome = codex_on(upstream).exec("say hello")

    assert upstream.refusals == []
    assert (outcome.code, outcome.last_message) == (0, "Hello from a chat model."), outcome.log
    assert outcome.printed.strip() == "Hello from a chat model."
    [request] = upstream.requests
    assert request["model"] == "accounts/fireworks/models/kimi-k2p6"
    assert request["messages"][-1] == {"role": "user", "content": "say hello"}
    assert "exec_command" in [tool["function"]["name"] for tool in request["tools"]]
    assert upstream.keys == [f"Bearer {KEY}"]


def test_an_agent_turn(codex_on: CodexOn) -> None:
    """Codex runs the model's command; the model sees the output and its own reasoning again."""
    command = "printf 'made by a model' > made.txt && echo done-$((40 + 2))"
    upstream = ScriptedUpstream(
        Turn(reasoning=THOUGHT, text="I write the file.", calls=[run(command)]),
        Turn(reasoning="It worked.", text="The file is there."),
    )
    codex = codex_on(upstream)
    outcome = codex.exec("make a file")

    assert upstream.refusals == []
    assert (outcome.code, outcome.last_message) == (0, "The file is there."), outcome.log
    assert (codex.folder / "made.txt").read_text() == "made by a model"
    first, second = upstream.requests
    assert second["messages"][: len(first["messages"])] == first["messages"]
    turn, result = second["messages"][len(first["messages"]) :]
    assert turn["reasoning_content"] == THOUGHT
    assert turn["content"] == "I write the file."
    assert [call["id"] for call in turn["tool_calls"]] == ["functions.exec_command:0"]
    assert result["tool_call_id"] == "functions.exec_command:0"
    assert "done-42" in result["content"]


def test_parallel_calls(codex_on: CodexOn) -> None:
    """Two calls of one turn come back as one assistant message and two results."""
    upstream = ScriptedUpstream(
        Turn(reasoning=THOUGHT, calls=[run("echo one-$((1))", "a"), run("echo two-$((2))", "b")]),
        Turn(text="Both ran."),
    )
    outcome = codex_on(upstream).exec("run two commands")

    assert upstream.refusals == []
    assert (outcome.code, outcome.last_message) == (0, "Both ran."), outcome.log
    assert roles(upstream.requests[1])[-3:] == ["assistant", "tool", "tool"]
    assert "one-1" in results(upstream.requests[1])["a"]
    assert "two-2" in results(upstream.requests[1])["b"]


def test_a_resumed_session(codex_on: CodexOn) -> None:
    """Another process goes on with the conversation; earlier messages return byte for byte."""
    upstream = ScriptedUpstream(
        Turn(reasoning=THOUGHT, calls=[run("echo first > made.txt")]),
        Turn(reasoning="Now I answer.", text="Written."),
        Turn(text="As I said: written."),
    )
    codex = codex_on(upstream)
    first = codex.exec("write")
    second = codex.exec("and?", "resume", "--last")

    assert upstream.refusals == []
    assert (first.code, first.last_message) == (0, "Written."), first.log
    assert (second.code, second.last_message) == (0, "As I said: written."), second.log
    assert upstream.left == 0
    before, after = upstream.requests[1]["messages"], upstream.requests[2]["messages"]
    assert after[: len(before)] == before
    assert after[-1] == {"role": "user", "content": "and?"}


def test_a_refused_request_is_sent_again(codex_on: CodexOn) -> None:
    """Codex takes the upstream's 500 for what it is and tries again."""
    upstream = ScriptedUpstream(Trouble(500, "a bad moment"), Turn(text="Now it works."))
    outcome = codex_on(upstream).exec("say hello")

    assert upstream.refusals == []
    assert (outcome.code, outcome.last_message) == (0, "Now it works."), outcome.log
    assert len(upstream.requests) == 2


def test_an_answer_that_breaks_off_is_asked_for_again(codex_on: CodexOn) -> None:
    """Half an answer is no answer: Codex gets a failure that it retries."""
    upstream = ScriptedUpstream(
        Turn(text="This sentence has no", cut=True), Turn(text="This one has an end.")
    )
    outcome = codex_on(upstream).exec("say something")

    assert upstream.refusals == []
    assert (outcome.code, outcome.last_message) == (0, "This one has an end."), outcome.log
    assert len(upstream.requests) == 2


def test_a_context_that_is_too_long_is_said_so(codex_on: CodexOn) -> None:
    """Whatever words the upstream has for it, Codex knows that its context is full."""
    trouble = Trouble(400, "The prompt is too long: 365407, model maximum context length: 262143")
    upstream = ScriptedUpstream(trouble)
    outcome = codex_on(upstream).exec("say hello")

    assert outcome.code != 0
    assert "context window" in outcome.log
