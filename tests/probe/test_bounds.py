"""Limits and failures of the probe: rate limits, number of requests, time, secrets."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from translator.probe.report import as_json, as_settings
from translator.probe.state import ProbeFailed

from . import scripted, upstreams
from .probing import FakeClock, about_schemas, facts_about, run_probe
from .scripted import JSON, ModelOutput

# --- limits and rate limits -----------------------------------------------------------------------


class Busy(upstreams.Vllm):
    """Rate-limits the first requests."""

    def __init__(self, times: int, **headers: str) -> None:
        super().__init__()
        self.left = times
        self.headers = headers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/chat/completions") and self.left:
            self.left -= 1
            return scripted.answer(429, {"error": {"message": "Slow down."}}, **self.headers)
        return super().__call__(request)


def test_it_waits_as_long_as_the_upstream_asks() -> None:
    clock = FakeClock()
    report = run_probe(Busy(2, **{"retry-after": "7"}), clock=clock)
    assert clock.slept == [7, 7]
    assert report.best.name == "vllm"


def test_without_a_stated_delay_it_waits_longer_each_time() -> None:
    clock = FakeClock()
    run_probe(Busy(3), clock=clock)
    assert clock.slept == [2, 5, 10]


def test_it_does_not_wait_for_ever() -> None:
    clock = FakeClock()
    with pytest.raises(ProbeFailed, match="rate limited for 3600 s, which is too long to wait"):
        run_probe(Busy(1, **{"retry-after": "3600"}), clock=clock)
    assert clock.slept == []
    busy = Busy(99)
    with pytest.raises(ProbeFailed, match="rate limited"):
        run_probe(busy)
    assert busy.left == 95  # four attempts at one question


def test_the_number_of_requests_is_bounded() -> None:
    behind = upstreams.Vllm()
    report = run_probe(behind, max_requests=9)
    assert report.requests == 9
    assert len(behind.bodies) == 8
    assert facts_about(report, "thinks_by_default") == ["thinks_by_default = true"]
    assert report.unknown["images"] == "not sent: the limit of 9 requests is reached"
    assert report.agent_turn == "not sent: the limit of 9 requests is reached"
    text = as_settings(report, name="up", api_key_env=None)
    assert (
        text.count("not sent: the limit of 9 requests is reached") == 2
    )  # by reason, and the check


def test_the_time_is_bounded() -> None:
    clock = FakeClock()

    class Slow(upstreams.Vllm):
        def check(self, body: JSON) -> None:
            clock.time += 10
            super().check(body)

    behind = Slow()
    report = run_probe(behind, clock=clock, max_seconds=45)
    assert len(behind.bodies) == 5
    assert report.unknown["images"] == "not sent: the time limit is reached"


def test_one_request_at_a_time_and_the_model_list_first() -> None:
    lines: list[str] = []
    report = run_probe(upstreams.Vllm(), progress=lines.append)
    assert lines[0] == "   1 models: 1 listed"
    assert [int(line[:4]) for line in lines] == list(range(1, report.requests + 1))


# --- failures -------------------------------------------------------------------------


def unreachable(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to 10.1.2.3")


def locked(_request: httpx.Request) -> httpx.Response:
    return scripted.answer(401, {"error": {"message": "Incorrect API key provided: sk-secret-key"}})


def a_page(_request: httpx.Request) -> httpx.Response:
    return scripted.answer(200, b"<html><title>Welcome</title></html>", "text/html")


def moved(_request: httpx.Request) -> httpx.Response:
    return scripted.answer(307, b"", location="https://elsewhere.example/v1")


@pytest.mark.parametrize("key", [None, "sk-secret-key"])
@pytest.mark.parametrize(
    ("behind", "sentence"),
    [
        (unreachable, "The upstream could not be reached."),
        (
            locked,
            "The upstream rejected the key (401); --api-key-env names the environment variable",
        ),
        (a_page, "the response is not an answer: “Welcome”"),
        (moved, "The upstream answered with a redirect, which is not followed."),
    ],
)
def test_a_failure_is_a_sentence(
    behind: Callable[[httpx.Request], httpx.Response], sentence: str, key: str | None
) -> None:
    with pytest.raises(ProbeFailed) as caught:
        run_probe(behind, key=key)
    assert sentence in str(caught.value)
    assert "sk-secret-key" not in str(caught.value)


def test_an_unknown_model_is_reported_with_the_known_ones() -> None:
    with pytest.raises(ProbeFailed) as caught:
        run_probe(upstreams.Vllm(), model="qwen3-32b")
    assert str(caught.value) == (
        "The upstream has no model qwen3-32b; the models that it lists include Qwen/Qwen3-32B."
    )


def test_a_key_that_expires_stops_the_requests() -> None:
    class Expiring(upstreams.Vllm):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if len(self.bodies) >= 5:
                self.refused = getattr(self, "refused", 0) + 1
                return scripted.answer(401, {"error": {"message": "expired"}})
            return super().__call__(request)

    behind = Expiring()
    report = run_probe(behind)
    assert behind.refused == 1
    assert report.unknown["images"] == "the key was rejected (401)"


def test_no_secret_gets_into_what_is_printed() -> None:
    """Some upstreams repeat the key, or a header, in a rejection and in an answer."""
    key, token = "sk-very-secret", "other-secret-value"

    class Echoing(upstreams.Vllm):
        def check(self, body: JSON) -> None:
            super().check(body)
            if about_schemas(body):
                raise self.bad(400, f"no response_format for {key} and {token}")

        def obey(self, body: JSON) -> ModelOutput:
            output = super().obey(body)
            return ModelOutput(
                text=output.text.replace("Paris", key), calls=output.calls, finish=output.finish
            )

    lines: list[str] = []
    behind = Echoing()
    report = run_probe(behind, key=key, headers={"x-token": token}, progress=lines.append)
    assert behind.authorizations[0] == f"Bearer {key}"
    evidence = [finding.evidence for finding in report.findings]
    assert "json_schema was rejected: “no response_format for [removed] and [removed]”" in evidence
    assert 'with json_object the answer was “{"greeting": "[removed]"}”' in evidence
    printed = as_settings(report, name="up", api_key_env="UP_KEY")
    report_json = json.dumps(as_json(report, name="up", api_key_env="UP_KEY"), ensure_ascii=False)
    for secret in (key, token):
        assert secret not in "\n".join(lines) + printed + report_json


def test_no_secret_gets_out_of_an_agent_turn() -> None:
    """Not even in pieces, in the name of a server, or in a call in the text."""
    key = "sk-very-secret"

    class Echoing(upstreams.Vllm):
        server = f"vllm behind {key}"

        def obey(self, body: JSON) -> ModelOutput:
            output = super().obey(body)
            if "You answer briefly." in str(body["messages"]) and "tools" in body:
                return ModelOutput(text=f"I was sent {key}.")
            return output

    lines: list[str] = []
    report = run_probe(Echoing(), key=key, progress=lines.append)
    printed = as_settings(report, name="up", api_key_env="UP_KEY")
    assert "I was sent [removed]." in printed
    assert "server:vllm behind [removed]" in printed
    told = json.dumps(as_json(report, name="up", api_key_env="UP_KEY"), ensure_ascii=False)
    assert key not in "\n".join(lines) + printed + told
