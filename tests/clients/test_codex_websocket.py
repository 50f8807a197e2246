"""The real Codex CLI over a WebSocket, in front of a model that speaks only Chat Completions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .conftest import KEY, Codex, serving, with_older_codex
from .talks import Talk, overheard
from .upstream import Call, ScriptedUpstream, Trouble, Turn

THOUGHT = "  The file does not exist yet.\nSo I write it — “naïvely” — with `printf`.\n"


@pytest.fixture
def codex_talking(
    codex_binary: str, tmp_path: Path
) -> Iterator[Callable[[ScriptedUpstream], tuple[Codex, list[Talk]]]]:
    """Codex on an upstream, over a WebSocket to a translator of its own."""
    with ExitStack() as stack:

        def start(upstream: ScriptedUpstream) -> tuple[Codex, list[Talk]]:
            stack.enter_context(upstream)
            dialect = ("--dialect", upstream.spoken.name)
            base_url = stack.enter_context(serving(upstream.base_url, *dialect))
            heard_url, talks = stack.enter_context(overheard(base_url))
            codex = Codex(codex_binary, tmp_path, heard_url)
            config = codex.home / "config.toml"
            wire = 'wire_api = "responses"\n'
            text = config.read_text()
            assert wire in text
            config.write_text(text.replace(wire, wire + "supports_websockets = true\n"))
            return codex, talks

        yield start


CodexTalking = Callable[[ScriptedUpstream], tuple[Codex, list[Talk]]]


def run(cmd: str, call_id: str) -> Call:
    return Call(call_id, "exec_command", {"cmd": cmd})


@with_older_codex
def test_a_session_on_one_socket(codex_talking: CodexTalking) -> None:
    """Prepared without the model, then three turns; each sends only what is new, the model gets all."""
    upstream = ScriptedUpstream(
        Turn(reasoning=THOUGHT, text="I write the file.", calls=[run("echo one > made.txt", "a")]),
        Turn(reasoning="Once more.", calls=[run("echo two-$((1+1)) >> made.txt; cat made.txt", "b")]),
        Turn(reasoning="It worked.", text="Two lines are there."),
    )  # fmt: skip
    codex, talks = codex_talking(upstream)
    outcome = codex.exec("make a file")

    assert upstream.refusals == []
    assert (outcome.code, outcome.last_message) == (0, "Two lines are there."), outcome.log
    assert (codex.folder / "made.txt").read_text() == "one\ntwo-2\n"
    [talk] = talks
    assert talk.headers["authorization"] == f"Bearer {KEY}"
    prepared, first, second, third = talk.requests

    # what travelled
    assert prepared["generate"] is False
    assert [one.get("previous_response_id") for one in talk.requests] == [None, *talk.ids[:3]]
    assert {one["store"] for one in talk.requests} == {False}
    kinds = [[item["type"] for item in one["input"]] for one in (second, third)]
    assert kinds == [["function_call_output"], ["function_call_output"]]
    assert "make a file" in json.dumps(first["input"])
    assert "make a file" not in json.dumps([prepared["input"], second["input"], third["input"]])

    # what the model got: nothing for the preparation, then the whole conversation each time
    one, two, three = (request["messages"] for request in upstream.requests)
    assert one[-1] == {"role": "user", "content": "make a file"}
    instructions = prepared["input"][0]["content"][0]["text"]
    assert one[0]["role"] == "system"
    assert one[0]["content"].startswith(instructions)
    assert two[: len(one)] == one
    assert three[: len(two)] == two
    assert [message["role"] for message in three[len(one) :]] == [
        "assistant", "tool", "assistant", "tool",
    ]  # fmt: skip
    assert two[len(one)]["reasoning_content"] == THOUGHT
    assert "two-2" in three[-1]["content"]
    assert upstream.keys == [f"Bearer {KEY}"] * 3


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(500, "a bad moment"),
        Trouble(503, "overloaded"),
        Turn(text="This sentence has no", cut=True),
    ],
    ids=["500", "503", "cut"],
)
def test_a_turn_that_fails_is_asked_for_again(
    codex_talking: CodexTalking, trouble: Turn | Trouble
) -> None:
    """In the middle of a session; nothing of the conversation is lost or doubled."""
    upstream = ScriptedUpstream(
        Turn(reasoning=THOUGHT, calls=[run("echo once >> made.txt", "a")]),
        trouble,
        Turn(text="Now it works."),
    )
    codex, talks = codex_talking(upstream)
    outcome = codex.exec("make a file")

    assert upstream.refusals == []
    assert (outcome.code, outcome.last_message) == (0, "Now it works."), outcome.log
    assert (codex.folder / "made.txt").read_text() == "once\n"
    assert upstream.left == 0
    _, failed, again = (request["messages"] for request in upstream.requests)
    assert again == failed
    assert talks[0].requests[0]["generate"] is False


def test_a_resumed_session(codex_talking: CodexTalking) -> None:
    """Another process opens a socket of its own, which remembers nothing: it sends everything."""
    upstream = ScriptedUpstream(
        Turn(reasoning=THOUGHT, calls=[run("echo first > made.txt", "a")]),
        Turn(reasoning="Now I answer.", text="Written."),
        Turn(text="As I said: written."),
    )
    codex, talks = codex_talking(upstream)
    first = codex.exec("write")
    second = codex.exec("and?", "resume", "--last")

    assert upstream.refusals == []
    assert (first.code, first.last_message) == (0, "Written."), first.log
    assert (second.code, second.last_message) == (0, "As I said: written."), second.log
    assert len(talks) == 2
    before, after = upstream.requests[1]["messages"], upstream.requests[2]["messages"]
    assert after[: len(before)] == before
    assert after[-1] == {"role": "user", "content": "and?"}


def test_a_context_that_is_too_long_is_said_so(codex_talking: CodexTalking) -> None:
    trouble = Trouble(400, "The prompt is too long: 365407, model maximum context length: 262143")
    codex, _ = codex_talking(ScriptedUpstream(trouble))
    outcome = codex.exec("say hello")

    assert outcome.code != 0
    assert "context window" in outcome.log
