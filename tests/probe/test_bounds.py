"""How much `translator probe` asks, and what it cannot ask."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from translator.probe.report import as_json, as_settings
from translator.probe.state import ProbeFailed

from . import scripted, upstreams
from .probing import Waits, about_schemas, ask, facts_about
from .scripted import JSON, Said

# --- bounds, and politeness -----------------------------------------------------------------------


class Busy(upstreams.Vllm):
    """Refuses its first answers for too many requests."""

    def __init__(self, times: int, **headers: str) -> None:
        super().__init__()
        self.left = times
        self.headers = headers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/chat/completions") and self.left:
            self.left -= 1
            return scripted.answer(429, {"error": {"message": "Slow down."}}, **self.headers)
        return super().__call__(request)


def test_it_waits_as_long_as_it_is_told() -> None:
    waits = Waits()
    report = ask(Busy(2, **{"retry-after": "7"}), waits=waits)
    assert waits.slept == [7, 7]
    assert report.best.name == "vllm"


def test_it_waits_longer_each_time_where_it_is_not_told() -> None:
    waits = Waits()
    ask(Busy(3), waits=waits)
    assert waits.slept == [2, 5, 10]


def test_it_does_not_wait_for_ever() -> None:
    waits = Waits()
    with pytest.raises(ProbeFailed, match="rate limited for 3600 s, which is too long to wait"):
        ask(Busy(1, **{"retry-after": "3600"}), waits=waits)
    assert waits.slept == []
    busy = Busy(99)
    with pytest.raises(ProbeFailed, match="rate limited"):
        ask(busy)
    assert busy.left == 95  # four attempts at one question


def test_the_number_of_requests_is_bounded() -> None:
    behind = upstreams.Vllm()
    report = ask(behind, max_requests=9)
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
    waits = Waits()

    class Slow(upstreams.Vllm):
        def check(self, body: JSON) -> None:
            waits.time += 10
            super().check(body)

    behind = Slow()
    report = ask(behind, waits=waits, max_seconds=45)
    assert len(behind.bodies) == 5
    assert report.unknown["images"] == "not sent: the time limit is reached"


def test_one_question_at_a_time_and_a_model_list_first() -> None:
    lines: list[str] = []
    report = ask(upstreams.Vllm(), progress=lines.append)
    assert lines[0] == "   1 models: 1 listed"
    assert [int(line[:4]) for line in lines] == list(range(1, report.requests + 1))


# --- what cannot be asked -------------------------------------------------------------------------


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
def test_what_cannot_be_asked_is_a_sentence(
    behind: Callable[[httpx.Request], httpx.Response], sentence: str, key: str | None
) -> None:
    with pytest.raises(ProbeFailed) as caught:
        ask(behind, key=key)
    assert sentence in str(caught.value)
    assert "sk-secret-key" not in str(caught.value)


def test_a_model_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ProbeFailed) as caught:
        ask(upstreams.Vllm(), model="qwen3-32b")
    assert str(caught.value) == ("The upstream has no model qwen3-32b; it lists Qwen/Qwen3-32B.")


def test_a_key_that_expires_on_the_way_stops_the_questions() -> None:
    class Expiring(upstreams.Vllm):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if len(self.bodies) >= 5:
                self.refused = getattr(self, "refused", 0) + 1
                return scripted.answer(401, {"error": {"message": "expired"}})
            return super().__call__(request)

    behind = Expiring()
    report = ask(behind)
    assert behind.refused == 1
    assert report.unknown["images"] == "the key was rejected (401)"


def test_no_secret_gets_into_what_is_printed() -> None:
    """Some upstreams repeat the key, or a header, in a refusal and in an answer."""
    key, token = "sk-very-secret", "other-secret-value"

    class Echoing(upstreams.Vllm):
        def check(self, body: JSON) -> None:
            super().check(body)
            if about_schemas(body):
                raise self.bad(400, f"no response_format for {key} and {token}")

        def obey(self, body: JSON) -> Said:
            said = super().obey(body)
            return Said(text=said.text.replace("Paris", key), calls=said.calls, finish=said.finish)

    lines: list[str] = []
    behind = Echoing()
    report = ask(behind, key=key, headers={"x-token": token}, progress=lines.append)
    assert behind.authorizations[0] == f"Bearer {key}"
    evidence = [finding.evidence for finding in report.findings]
    assert "json_schema was rejected: “no response_format for … and …”" in evidence
    assert 'with json_object the answer was “{"greeting": "…"}”' in evidence
    printed = as_settings(report, name="up", api_key_env="UP_KEY")
    told = json.dumps(as_json(report, name="up", api_key_env="UP_KEY"), ensure_ascii=False)
    for secret in (key, token):
        assert secret not in "\n".join(lines) + printed + told
