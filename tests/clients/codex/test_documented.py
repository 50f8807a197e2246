"""The documented configuration is enough: Codex works on a model that speaks chat only."""

from __future__ import annotations

from collections.abc import Callable

from tests.clients.conftest import KEY, Codex, with_older_codex
from tests.clients.upstream import ScriptedUpstream, Turn

from .chat_requests import functions, results, run

THOUGHT = "  The file does not exist yet.\nSo I write it — “naïvely” — with `printf`.\n"


@with_older_codex
def test_an_agent_turn(codex_on: Callable[..., Codex]) -> None:
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
    assert first["model"] == "accounts/fireworks/models/kimi-k2p6"
    assert first["messages"][-1] == {"role": "user", "content": "make a file"}
    assert "exec_command" in functions(first)
    assert second["messages"][: len(first["messages"])] == first["messages"]
    turn, result = second["messages"][len(first["messages"]) :]
    assert turn["reasoning_content"] == THOUGHT
    assert turn["content"] == "I write the file."
    assert [call["id"] for call in turn["tool_calls"]] == ["functions.exec_command:0"]
    assert result["tool_call_id"] == "functions.exec_command:0"
    assert "done-42" in results(second)["functions.exec_command:0"]
    assert upstream.keys == [f"Bearer {KEY}"] * 2
