"""Conversations that go on in another process: resumed, reviewed, or broken off in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from tests.clients.conftest import Stage
from tests.clients.upstream import Call, Turn

from .chat_requests import reasoning, results, roles, run
from .session import Session, end

THOUGHT = "  First I look.\nThen I “leap”.\n"
SIGNALS = [signal.SIGKILL, signal.SIGINT]
PATIENCE_S = 60


def test_a_resumed_session_has_its_reasoning(codex: Session, stage: Stage) -> None:
    """Another process goes on: earlier messages return byte for byte, with what was thought."""
    stage.play(
        Turn(reasoning=THOUGHT, text="I write.", calls=[run("echo first > made.txt", "a")]),
        Turn(reasoning="Now I answer.", text="Written."),
        Turn(text="As I said: written."),
    )
    first = codex.exec("write")
    second = codex.exec("and?", "resume", "--last")

    assert (first.code, first.last_message) == (0, "Written."), first.log
    assert (second.code, second.last_message) == (0, "As I said: written."), second.log
    assert (codex.folder / "made.txt").read_text() == "first\n"
    before, after = (request["messages"] for request in stage.requests[1:])
    assert after[: len(before)] == before
    assert after[-1] == {"role": "user", "content": "and?"}
    assert (after[-2]["role"], after[-2]["content"]) == ("assistant", "Written.")
    if stage.upstream.spoken.returned:
        thoughts = [reasoning(message) for message in after if message["role"] == "assistant"]
        assert thoughts == [THOUGHT, "Now I answer."]


@pytest.mark.parametrize("command", [("exec", "review", "--skip-git-repo-check"), ("review",)])
@pytest.mark.parametrize("dialect", ["fireworks", "deepseek", "vllm"])
def test_a_review(codex: Session, stage: Stage, command: tuple[str, ...]) -> None:
    """The findings are JSON in the text of the answer; Codex prints them as a report."""
    (codex.folder / "notes.txt").write_text("one\n")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "One")):
        author = ("-c", "user.name=Author", "-c", "user.email=author@example.org")
        subprocess.run(["git", *author, *arguments], cwd=codex.folder, check=True)
    (codex.folder / "notes.txt").write_text("two\n")
    place = {
        "absolute_file_path": str(codex.folder / "notes.txt"),
        "line_range": {"start": 1, "end": 1},
    }
    finding = {
        "title": "[P1] Keep the one",
        "body": "Nobody counts from two.",
        "confidence_score": 0.9,
        "priority": 1,
        "code_location": place,
    }
    findings = {
        "findings": [finding],
        "overall_correctness": "patch is incorrect",
        "overall_explanation": "It begins in the middle.",
        "overall_confidence_score": 0.8,
    }
    stage.play(
        Turn(reasoning=THOUGHT, calls=[run("git diff", "a")]),
        Turn(reasoning="I judge.", text=json.dumps(findings)),
    )
    outcome = codex.run(*command, "--uncommitted")

    assert outcome.code == 0, outcome.log
    assert "It begins in the middle." in outcome.printed
    assert "[P1] Keep the one" in outcome.printed
    assert "Nobody counts from two." in outcome.printed
    assert "# Review guidelines" in stage.requests[0]["messages"][0]["content"]
    assert "-one\n+two" in results(stage.requests[1])["a"]


def wait_for(codex: Session, name: str) -> None:
    """Until a file is there that a command of the model makes."""
    deadline = time.monotonic() + PATIENCE_S
    while not (codex.folder / name).exists():
        assert time.monotonic() < deadline, f"{name} was not made"
        time.sleep(0.02)


@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
def test_a_turn_that_was_broken_off_in_its_calls(
    codex: Session, stage: Stage, how: signal.Signals
) -> None:
    """Killed or interrupted while commands run: the next process continues a legal history.

    The turn is still one message with its reasoning and all its calls, and each has a result.
    """
    patch = "*** Begin Patch\n*** Add File: late.txt\n+late\n*** End Patch\n"
    stage.play(
        Turn(
            reasoning=THOUGHT,
            text="I run.",
            calls=[
                run("touch started; sleep 10", "a"),
                Call("b", "apply_patch", {"input": patch}),
                run("echo three-$((3))", "c"),
            ],
        ),
        Turn(reasoning="So it was.", text="I go on."),
        Turn(text="And on."),
    )
    with codex.exec_in_background("run") as process:
        wait_for(codex, "started")
        end(process, how)
    resumed = codex.exec("what now?", "resume", "--last")
    again = codex.exec("and now?", "resume", "--last")

    assert process.returncode != 0
    assert (resumed.code, resumed.last_message) == (0, "I go on."), resumed.log
    assert (again.code, again.last_message) == (0, "And on."), again.log
    asked, second, third = (request["messages"] for request in stage.requests)
    turn = second[len(asked)]
    assert second[: len(asked)] == asked
    assert turn["content"] == "I run."
    assert [call["id"] for call in turn["tool_calls"]] == ["a", "b", "c"]
    if stage.upstream.spoken.returned:
        assert reasoning(turn) == THOUGHT
    assert sorted(results(stage.requests[1])) == ["a", "b", "c"]
    assert "aborted" in results(stage.requests[1])["a"]
    assert roles(stage.requests[1])[-1] == "user"
    assert third[: len(second)] == second


@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
@pytest.mark.parametrize("dialect", ["fireworks", "deepseek", "vllm"])
def test_a_turn_that_was_broken_off_in_its_answer(
    codex: Session, stage: Stage, how: signal.Signals
) -> None:
    """The upstream is told at once that nobody listens; the half answer is no part of the thread."""
    stage.play(
        Turn(reasoning=THOUGHT, calls=[run("touch started", "a")]),
        Turn(reasoning="Long.", text="and so on " * 500, gap_s=0.02),
        Turn(text="I go on."),
    )
    with codex.exec_in_background("run") as process:
        wait_for(codex, "started")
        deadline = time.monotonic() + PATIENCE_S
        while len(stage.requests) < 2:
            assert time.monotonic() < deadline, "the second turn did not begin"
            time.sleep(0.02)
        end(process, how)
    while stage.upstream.departures < 1:
        assert time.monotonic() < deadline, "the upstream's answer was not broken off"
        time.sleep(0.02)
    resumed = codex.exec("what now?", "resume", "--last")

    assert (resumed.code, resumed.last_message) == (0, "I go on."), resumed.log
    before, after = (request["messages"] for request in stage.requests[1:])
    assert after[: len(before)] == before
    assert "and so on" not in json.dumps(after)
