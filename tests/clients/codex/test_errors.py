"""What goes wrong upstream, and what Codex makes of it: waits, tries again, or says why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients.conftest import Stage
from tests.clients.upstream import SLOW, ScriptedUpstream, Trouble, Turn

from .chat_requests import run
from .session import PROVIDER, Session

THREE = ["fireworks", "deepseek", "vllm"]


@pytest.mark.cell(client="Codex CLI", case="error")
def test_a_wrong_key_is_said_so(codex: Session, stage: Stage) -> None:
    """Status and words of the upstream reach the user. Codex asks again, as often as it may."""
    codex.config[f"{PROVIDER}.stream_max_retries"] = 1
    refused = Trouble(401, "Your key is not the key")
    stage.play(refused, refused)
    outcome = codex.exec("say hello")

    assert (outcome.code, outcome.last_message) == (1, "")
    assert "unexpected status 401 Unauthorized: Your key is not the key" in outcome.log
    assert b'"code":"invalid_api_key"' in codex.wire.exchanges[0].body
    assert stage.upstream.left == 0


@pytest.mark.cell(client="Codex CLI", case="error")
def test_a_model_that_is_not_there_is_said_so(codex: Session, stage: Stage) -> None:
    """By its code Codex knows that asking again is in vain."""
    stage.play(Trouble(404, "Model not found, inaccessible, and/or not deployed"))
    outcome = codex.exec("say hello")

    assert (outcome.code, outcome.last_message) == (1, "")
    assert "ERROR: Model not found, inaccessible, and/or not deployed" in outcome.log
    assert codex.wire.exchanges[0].status == 404
    assert b'"code":"model_not_found"' in codex.wire.exchanges[0].body
    assert len(codex.requests) == 1


def test_a_model_that_is_not_served(codex_with: Callable[..., Session]) -> None:
    """The table of models does not have it: Codex says which there are, and no upstream is asked."""
    upstream = ScriptedUpstream()
    codex = codex_with(upstream)
    codex.config["model"] = codex.catalog["slug"] = "kimi-k9"
    outcome = codex.exec("say hello")

    assert outcome.code == 1
    assert [exchange.status for exchange in codex.wire.exchanges] == [404]
    assert f"The model 'kimi-k9' does not exist. Models: {upstream.spoken.model}." in outcome.log
    assert upstream.requests == []


@pytest.mark.parametrize("dialect", THREE)
def test_a_limit_of_requests_is_waited_for(codex: Session, stage: Stage) -> None:
    """429 with Retry-After: Codex waits as long as it is told to, and has its answer."""
    stage.play(Trouble(429, "Too many requests.", {"Retry-After": "1"}), Turn(text="Now it works."))
    outcome = codex.exec("say hello")

    assert (outcome.code, outcome.last_message) == (0, "Now it works."), outcome.log
    limited = codex.wire.exchanges[0]
    assert limited.status == 429
    assert limited.headers["retry-after"] == "1"
    assert b'"code":"rate_limit_exceeded"' in limited.body
    assert b"try again in 1s" in limited.body
    assert len(stage.requests) == 2


@pytest.mark.parametrize("dialect", THREE)
def test_an_empty_account_is_no_limit_of_requests(codex: Session, stage: Stage) -> None:
    """Waiting does not fill it: Codex asks once and says so."""
    stage.play(Trouble(402, "Insufficient Balance"))
    outcome = codex.exec("say hello")

    assert outcome.code == 1
    assert "Quota exceeded" in outcome.log
    assert len(stage.requests) == 1


@pytest.mark.parametrize("dialect", THREE)
@pytest.mark.parametrize("status", [500, 503])
def test_a_refused_request_is_sent_again(codex: Session, stage: Stage, status: int) -> None:
    """Codex takes the upstream's bad moment for what it is."""
    stage.play(Trouble(status, "a bad moment"), Turn(text="Now it works."))
    outcome = codex.exec("say hello")

    assert (outcome.code, outcome.last_message) == (0, "Now it works."), outcome.log
    assert codex.wire.exchanges[0].status == status
    assert codex.requests[0]["input"] == codex.requests[1]["input"]
    assert stage.requests[0] == stage.requests[1]


@pytest.mark.parametrize(
    ("dialect", "words"),
    [
        ("fireworks", "The prompt is too long: 365407, model maximum context length: 262143"),
        (
            "deepseek",
            "This model's maximum context length is 1048565 tokens. However, you requested 1250025"
            " tokens (1250025 in the messages, 0 in the completion). Please reduce the length of"
            " the messages or completion.",
        ),
        (
            "vllm",
            "This model's maximum context length is 32768 tokens. However, your request has 40001"
            " input tokens. Please reduce the length of the input messages.",
        ),
    ],
)
def test_a_context_that_is_too_long_is_said_so(codex: Session, stage: Stage, words: str) -> None:
    """Whatever words the upstream has for it, Codex knows that its context is full."""
    stage.play(Turn(calls=[run("echo much")]), Trouble(400, words))
    outcome = codex.exec("say hello")

    assert outcome.code == 1
    assert "ran out of room in the model's context window" in outcome.log
    assert b'"code":"context_length_exceeded"' in codex.wire.exchanges[1].body
    assert len(stage.requests) == 2


@pytest.mark.parametrize("step", ["text", "reasoning", "calls"])
def test_an_answer_without_end_is_not_asked_for_again(
    codex_with: Callable[..., Session], step: str
) -> None:
    """It would be paid for again: Codex sends one request, and says why it stops."""
    upstream = ScriptedUpstream()
    long = "word " * 10_000
    upstream.play(Turn(calls=[run(long)]) if step == "calls" else Turn(**{step: long}))
    codex = codex_with(upstream, server={"max_answer_bytes": 10_000})
    outcome = codex.exec("say everything")

    assert outcome.code == 1
    assert "The upstream's answer is over 10000 bytes." in outcome.log
    assert len(upstream.requests) == 1
    assert b'"code":"invalid_prompt"' in codex.wire.exchanges[0].body


@pytest.mark.parametrize("dialect", THREE)
def test_an_answer_that_breaks_off_is_asked_for_again(codex: Session, stage: Stage) -> None:
    """Half an answer is no answer, and half a call is not made: Codex retries, and succeeds."""
    stage.play(
        Turn(text="This sentence has no", cut=True),
        Turn(reasoning="I write.", calls=[run("touch made-by-half-an-answer")], cut=True),
        Turn(text="This one has an end."),
    )
    outcome = codex.exec("say something")

    assert (outcome.code, outcome.last_message) == (0, "This one has an end."), outcome.log
    assert stage.requests[0] == stage.requests[1] == stage.requests[2]
    assert list(codex.folder.iterdir()) == []
    assert all(b"response.failed" in exchange.body for exchange in codex.wire.exchanges[:2])


@pytest.mark.cell(client="Codex CLI", case="waiting")
@pytest.mark.heartbeats
@pytest.mark.parametrize("dialect", THREE)
def test_a_slow_model_is_waited_for(codex: Session, stage: Stage) -> None:
    stage.play(SLOW)
    outcome = codex.exec("say hello")

    assert (outcome.code, outcome.last_message) == (0, SLOW.text), outcome.log
    assert len(stage.requests) == 1


def impatient(codex: Session) -> Session:
    """Codex leaves a stream that says nothing for two seconds; comments say nothing to it."""
    codex.config[f"{PROVIDER}.stream_idle_timeout_ms"] = 2000
    codex.config[f"{PROVIDER}.stream_max_retries"] = 0
    return codex


LATE = Turn(text="I had to think.", pause_s=3)


def test_heartbeats_keep_codex_patient(codex_with: Callable[..., Session]) -> None:
    """An upstream that is silent for long does not lose Codex: events say that work goes on."""
    upstream = ScriptedUpstream(LATE)
    often = {"heartbeat_s": 0.25, "headers_grace_s": 0.25}
    codex = impatient(codex_with(upstream, server=often))
    outcome = codex.exec("say hello")

    assert (outcome.code, outcome.last_message) == (0, "I had to think."), outcome.log
    assert len(upstream.requests) == 1


def test_without_heartbeats_codex_leaves(codex_with: Callable[..., Session]) -> None:
    """What the heartbeats are for."""
    upstream = ScriptedUpstream(LATE)
    seldom = {"heartbeat_s": 60, "headers_grace_s": 0.25}
    codex = impatient(codex_with(upstream, server=seldom))
    outcome = codex.exec("say hello")

    assert outcome.code == 1
    assert "idle timeout" in outcome.log
