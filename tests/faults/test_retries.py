"""What an upstream did not take is sent again, here or elsewhere, while the client has nothing."""

from __future__ import annotations

import asyncio
import email.utils
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.service.chat_bodies import HELLO
from tests.service.responses_api import ASK, PATH, events
from tests.service.wire import (
    BOUND_S,
    Call,
    ScriptedUpstream,
    bounded,
    client_of,
    make_settings,
    say_hello,
    serving,
)
from translator.service.config.settings import SettingsError
from translator.service.observe.observer import (
    ObservedEvent,
    RequestEnded,
    RetryScheduled,
    UpstreamCalled,
)
from translator.service.observe.record import Record
from translator.service.upstreams import retries, transport
from translator.service.upstreams.replicas import HUNG_AFTER_S, Replicas
from translator.service.upstreams.retries import BUDGET_RESERVE, Budget, retry_after_s

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {"model": "m", "messages": [], "stream": True}


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_backoff", lambda _attempts: 0.0)


def first_then_hello(times: int, fails: Callable[[Call], Any]) -> Callable[[Call], Any]:
    """A script that fails so often, and then answers."""
    count = 0

    async def script(call: Call) -> None:
        nonlocal count
        count += 1
        await (fails(call) if count <= times else say_hello(call))

    return script


def answers(status: int, **headers: str) -> Callable[[Call], Any]:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda call: call.answer({"error": {"message": "busy"}}, status, headers=lines)


async def asked(upstream: ScriptedUpstream, ask: dict[str, Any] = ASK, **settings: Any) -> str:
    """How the answer to one request ended, and after how many calls upstream."""
    async with client_of(make_settings(upstream.url, **settings)) as client:
        answer = await bounded(client.post(PATH, json=ask))
    end = str(answer.status_code)
    if end == "200":
        end = events(answer.content)[-1]["type"] if ask["stream"] else answer.json()["status"]
    return f"{end} after {len(upstream.calls)}"


# --- what is sent again ---------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_a_connection_that_is_refused_is_tried_again(stream: bool) -> None:
    tries = 0

    def network(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, stream=httpx.ByteStream(b"".join(HELLO)))

    transport = httpx.MockTransport(network)
    async with client_of(make_settings("http://up.test/v1"), transport=transport) as client:
        answer = await client.post(PATH, json=ASK | {"stream": stream})
    assert (answer.status_code, tries) == (200, 3)
    assert b"Hello world" in answer.content


@pytest.mark.parametrize(("path", "ask"), [(PATH, ASK), ("/v1/chat/completions", CHAT)])
async def test_an_idle_connection_that_was_closed_costs_nothing(
    upstream: ScriptedUpstream, path: str, ask: dict[str, Any]
) -> None:
    """Upstreams close idle connections when they like, also just as a request comes."""

    async def script(call: Call) -> None:
        if len(upstream.calls) == 2:
            call.drop()
        else:
            await say_hello(call)

    upstream.script = script
    async with client_of(make_settings(upstream.url)) as client:
        for _ in range(2):
            answer = await bounded(client.post(path, json=ask))
            assert answer.status_code == 200
            assert b"[DONE]" in answer.content
    assert [call.path for call in upstream.calls] == ["/v1/chat/completions"] * 3
    assert upstream.calls[1].body == upstream.calls[2].body
    assert upstream.connections == 2


async def test_a_reused_connection_that_breaks_later_is_told(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not closed as the request came: the upstream has worked on that, and may have died."""
    monkeypatch.setattr(transport, "LOST_S", 0.2)

    async def script(call: Call) -> None:
        if len(upstream.calls) == 2:
            await asyncio.sleep(0.3)
            call.drop()
        else:
            await say_hello(call)

    upstream.script = script
    async with client_of(make_settings(upstream.url)) as client:
        answers = [await bounded(client.post(PATH, json=ASK)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 502]
    assert (len(upstream.calls), upstream.connections) == (2, 1)


async def test_a_fresh_connection_that_breaks_is_told(upstream: ScriptedUpstream) -> None:
    """The upstream may have worked on the request: whether to pay twice is the client's affair."""

    async def script(call: Call) -> None:
        call.drop()

    upstream.script = script
    assert await asked(upstream) == "502 after 1"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_upstream_that_asks_for_a_later_try_gets_it(
    upstream: ScriptedUpstream, status: int, stream: bool
) -> None:
    upstream.script = first_then_hello(2, answers(status, retry_after="0"))
    end = "response.completed" if stream else "completed"
    assert await asked(upstream, ASK | {"stream": stream}) == f"{end} after 3"


@pytest.mark.parametrize("fails", [
    answers(503), answers(429, retry_after="60"), answers(429, retry_after="soon"),
    answers(500, retry_after="0"), answers(400, retry_after="0"),
    answers(503, retry_after="0", x_should_retry="false"), answers(429, retry_after="-1"),
])  # fmt: skip
async def test_all_else_is_told_the_client(upstream: ScriptedUpstream, fails: Any) -> None:
    upstream.script = first_then_hello(1, fails)
    assert (await asked(upstream)).endswith(" after 1")


async def test_the_last_answer_stands(upstream: ScriptedUpstream) -> None:
    upstream.script = answers(429, retry_after="0")
    async with client_of(make_settings(upstream.url, retries=3)) as client:
        answer = await bounded(client.post(PATH, json=ASK))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "0")
    assert "busy" in answer.json()["error"]["message"]
    assert len(upstream.calls) == 4


async def test_a_setting_turns_it_off(upstream: ScriptedUpstream) -> None:
    upstream.script = first_then_hello(1, answers(503, retry_after="0"))
    assert await asked(upstream, retries=0) == "503 after 1"


async def test_a_setting_bounds_how_long_is_waited(upstream: ScriptedUpstream) -> None:
    upstream.script = first_then_hello(1, answers(503, retry_after="0.2"))
    assert await asked(upstream, max_retry_after_s=0.1) == "503 after 1"


async def test_what_has_begun_is_never_repeated(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.cut(HELLO[2])

    upstream.script = script
    assert await asked(upstream) == "response.failed after 1"


async def test_a_waiting_client_hears_that_work_goes_on(upstream: ScriptedUpstream) -> None:
    """The grace time ends while the upstream is waited for: the stream begins all the same."""
    upstream.script = first_then_hello(1, answers(503, retry_after="0.3"))
    settings = make_settings(upstream.url, headers_grace_s=0.05, heartbeat_s=0.05)
    async with client_of(settings) as client:
        found = events((await bounded(client.post(PATH, json=ASK))).content)
    types = [event["type"] for event in found]
    assert types[:3] == ["response.created", "response.in_progress", "response.in_progress"]
    assert types[-1] == "response.completed"
    assert len(upstream.calls) == 2


async def test_a_client_that_leaves_in_between_ends_it(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.script = answers(503, retry_after="100")
    async with serving(make_settings(upstream.url, max_retry_after_s=1000)) as url:
        async with httpx.AsyncClient(timeout=BOUND_S) as client:
            asking = asyncio.create_task(client.post(url + PATH, json=ASK))
            async with asyncio.timeout(BOUND_S):
                while "Retry in" not in caplog.text:
                    await asyncio.sleep(0.01)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        async with httpx.AsyncClient(timeout=BOUND_S) as client:
            upstream.script = say_hello
            assert (await client.post(url + PATH, json=ASK)).status_code == 200
    assert len(upstream.calls) == 2


# --- how much of it there is ----------------------------------------------------------------------


def test_a_budget_is_a_share_of_all_requests() -> None:
    budget = Budget(percent=20)
    assert sum(budget.take() for _ in range(100)) == BUDGET_RESERVE
    for _ in range(25):
        budget.request()
    assert sum(budget.take() for _ in range(100)) in (4, 5)  # a fifth is no binary number
    for _ in range(10_000):
        budget.request()
    assert sum(budget.take() for _ in range(100)) == BUDGET_RESERVE


def test_a_budget_of_nothing_has_no_reserve() -> None:
    budget = Budget(percent=0)
    budget.request()
    assert not budget.take()


async def test_all_requests_of_an_upstream_share_its_budget(upstream: ScriptedUpstream) -> None:
    upstream.script = answers(503, retry_after="0")
    async with client_of(make_settings(upstream.url, retry_budget_percent=1)) as client:
        for _ in range(20):
            await bounded(client.post(PATH, json=ASK))
    assert len(upstream.calls) == 20 + BUDGET_RESERVE


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "3"}, 3),
        ({"retry-after": email.utils.formatdate(NOW + 9, usegmt=True)}, 9),
        ({"retry-after": email.utils.formatdate(NOW - 9, usegmt=True)}, 0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after": "tomorrow"}, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


# --- seen -----------------------------------------------------------------------------------------


async def test_each_repetition_is_seen(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="translator")
    upstream.script = first_then_hello(2, answers(503, retry_after="0"))
    seen: list[str] = []

    class Notebook:
        wants = frozenset({UpstreamCalled, RetryScheduled, RequestEnded})

        def __init__(self, record: Record) -> None:
            self.record = record

        def on(self, event: ObservedEvent) -> None:
            match event:
                case UpstreamCalled():
                    seen.append("called")
                case RetryScheduled(error):
                    seen.append(f"again: {error.message}")
                case RequestEnded():
                    seen.append(f"ended: {self.record.retries}")
                case _:
                    pass

    async with client_of(make_settings(upstream.url), observe=Notebook) as client:
        await bounded(client.post(PATH, json=ASK))
    again = "again: The upstream answered HTTP 503."
    assert seen == ["called", again, "called", again, "called", "ended: 2"]
    lines = [record.getMessage() for record in caplog.records if "translator" in record.name]
    told = "upstream up: The upstream answered HTTP 503. Retry in 0.00s."
    assert lines[:2] == [told, told]
    assert " retries=2 " in lines[-1]


# --- several addresses ----------------------------------------------------------------------------


async def two(
    first: ScriptedUpstream, second: ScriptedUpstream, count: int, **server: Any
) -> list[int]:
    """How often each address was asked for so many requests, all of which are answered."""
    settings = make_settings("", upstream={"base_url": [first.url, second.url]}, **server)
    async with client_of(settings) as client:
        for _ in range(count):
            answer = await bounded(client.post(PATH, json=ASK))
            assert events(answer.content)[-1]["type"] == "response.completed"
    return [len(first.calls), len(second.calls)]


async def test_the_first_address_is_asked_while_it_is_well(upstream: ScriptedUpstream) -> None:
    async with ScriptedUpstream().running() as second:
        assert await two(upstream, second, 3) == [3, 0]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_another_address_is_asked_at_once(upstream: ScriptedUpstream, status: int) -> None:
    """Also without Retry-After, or with a long one: it is not the same address."""
    upstream.script = answers(status, retry_after="60")
    async with ScriptedUpstream().running() as second:
        assert await two(upstream, second, 1) == [1, 1]
        assert upstream.calls[0].body == second.calls[0].body


async def test_an_address_that_refuses_is_passed_by(upstream: ScriptedUpstream) -> None:
    nobody = ScriptedUpstream()
    nobody.url = "http://127.0.0.1:9/other/prefix"
    assert await two(nobody, upstream, 3) == [0, 3]


async def test_an_address_that_keeps_failing_is_left_out(upstream: ScriptedUpstream) -> None:
    upstream.script = answers(503)
    async with ScriptedUpstream().running() as second:
        assert await two(upstream, second, 8, breaker_failures=3, breaker_s=1000) == [3, 8]


async def test_a_refusal_is_no_reason_to_ask_elsewhere(upstream: ScriptedUpstream) -> None:
    upstream.script = answers(400)
    async with ScriptedUpstream().running() as second:
        settings = make_settings("", upstream={"base_url": [upstream.url, second.url]})
        async with client_of(settings) as client:
            assert (await client.post(PATH, json=ASK)).status_code == 400
        assert second.calls == []


@pytest.mark.parametrize(
    ("urls", "problem"),
    [
        ([], "is an empty list"),
        (["http://a/v1", "a"], '"a" is not a URL that starts with http:// or https://'),
        (
            ["https://api.fireworks.ai/inference/v1", "https://api.deepseek.com"],
            "speaks several dialects: fireworks, deepseek",
        ),
        (["http://a/v1", 3], "expected str, got int"),
    ],
)
def test_a_list_of_addresses_is_checked(urls: list[Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_settings("", upstream={"base_url": urls})
    [found] = caught.value.problems
    assert found.startswith("upstreams.up.base_url")
    assert found.endswith(f": {problem}")


def test_a_list_of_addresses_is_one_upstream() -> None:
    upstream = make_settings("", upstream={"base_url": ["http://a/v1/", "http://b/v1"]})
    assert upstream.upstreams["up"].urls == ("http://a/v1", "http://b/v1")
    assert upstream.upstreams["up"].dialect == "base"


def replicas(count: int) -> tuple[Replicas, list[float]]:
    """Addresses "0", "1", … under a time that the test decides: out after 2 failures, for 10 s."""
    time = [0.0]
    urls = [str(number) for number in range(count)]
    return Replicas(urls, failures=2, open_s=10, now=lambda: time[0]), time


def fail(found: Replicas) -> str:
    one = found.choose([])
    one.begin().failed()
    return one.url


def test_one_request_tries_an_address_after_its_time() -> None:
    found, time = replicas(2)
    assert [fail(found), fail(found)] == ["0", "0"]
    assert found.choose([]).url == "1"
    time[0] = 10.0
    trying = found.choose([])
    call = trying.begin()
    assert trying.url == "0"
    assert found.choose([]).url == "1"  # all others go on elsewhere
    call.answered(200)
    assert found.choose([]).url == "0"


def test_an_address_that_fails_again_is_out_again() -> None:
    found, time = replicas(2)
    fail(found), fail(found)
    time[0] = 10.0
    assert fail(found) == "0"
    time[0] = 19.0
    assert found.choose([]).url == "1"
    time[0] = 20.0
    assert found.choose([]).url == "0"


def test_a_try_that_nobody_waits_for_makes_room_for_another() -> None:
    found, time = replicas(2)
    fail(found), fail(found)
    time[0] = 10.0
    found.choose([]).begin().abandoned()
    assert found.choose([]).url == "0"


def test_only_the_try_itself_makes_room_for_another() -> None:
    """What was asked before the address was left out may end while another request tries it."""
    found, time = replicas(2)
    older = [found.choose([]).begin() for _ in range(3)]
    fail(found), fail(found)
    time[0] = 10.0
    trying = found.choose([]).begin()
    older[0].abandoned()
    older[1].failed()
    time[0] = 25.0
    assert found.choose([]).url == "1"
    trying.abandoned()
    assert found.choose([]).url == "0"
    older[2].answered(200)
    assert fail(found) == "0"
    assert found.choose([]).url == "0"


def test_an_address_that_hangs_until_its_clients_give_up_is_left_out() -> None:
    found, time = replicas(2)
    calls = [found.choose([]).begin() for _ in range(4)]
    time[0] = HUNG_AFTER_S
    calls[0].abandoned(), calls[1].abandoned()  # not for so long that it would tell something
    assert found.choose([]).url == "0"
    time[0] += 0.1
    calls[2].abandoned(), calls[3].abandoned()
    assert found.choose([]).url == "1"


def test_an_answer_in_between_starts_the_count_anew() -> None:
    found, _ = replicas(2)
    for _ in range(5):
        fail(found)
        found.choose([]).begin().answered(429)  # it lives
    assert found.choose([]).url == "0"


def test_the_last_address_is_never_left_out() -> None:
    found, time = replicas(2)
    assert [fail(found) for _ in range(4)] == ["0", "0", "1", "1"]
    time[0] = 5.0
    assert found.choose([]).url == "0"
    alone, _ = replicas(1)
    assert {fail(alone) for _ in range(9)} == {"0"}


def test_what_was_tried_comes_last() -> None:
    found, _ = replicas(3)
    tried = []
    for _ in range(4):
        tried.append(found.choose(tried))
    assert [one.url for one in tried] == ["0", "1", "2", "0"]
    assert not found.has_untried(tried)
