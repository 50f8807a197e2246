"""The log: one line per request, as text or as JSON."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from datetime import UTC, datetime

import httpx
import pytest

from tests.conftest import restored_logging
from translator.service.base.ids import REQUEST_ID
from translator.service.config.settings import LogFormat
from translator.service.telemetry.logs import FORMATTERS, start_logging

from .chat_bodies import COMPLETION, HELLO, chunk, frame
from .log import Log
from .processes import served
from .responses_api import ASK_SMALL, PATH
from .websocket.client import ask, socket_to
from .wire import BOUND_S, MODELS, Call, ScriptedUpstream, bounded

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def say_hello_with_usage(call: Call) -> None:
    usage = {
        "prompt_tokens": 30,
        "completion_tokens": 12,
        "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    await call.head()
    await call.send(*HELLO[:-1], frame({"choices": [], "usage": usage}), HELLO[-1])
    await call.end()


async def test_a_json_line_has_the_facts_of_a_request(upstream: ScriptedUpstream, log: Log) -> None:
    upstream.script = say_hello_with_usage
    headers = {"x-request-id": "mine-1", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    async with upstream.client(models=MODELS) as client:
        await client.post(
            PATH, json=ASK_SMALL | {"store": True, "truncation": "auto"}, headers=headers
        )
    [line] = log.objects
    assert 0 <= line.pop("first_token_ms") <= line.pop("duration_ms") < BOUND_S * 1000
    moment = datetime.fromisoformat(line.pop("time"))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 2 * BOUND_S
    message = line.pop("message")
    assert message.startswith(f"POST {PATH} 200 ")
    assert message.endswith(
        "tokens=30+12 model=small dialect=base notes='2; ignored' outcome=completed id=mine-1"
    )
    assert line == {
        "level": "info",
        "logger": "translator.service.observe.context",
        "id": "mine-1",
        "method": "POST",
        "path": PATH,
        "status": 200,
        "model": "small",
        "dialect": "base",
        "upstream": "up",
        "attempts": 1,
        "outcome": "completed",
        "notices": {"ignored": 2},
        "trace_id": TRACE,
        "input_tokens": 30,
        "cached_tokens": 20,
        "output_tokens": 12,
        "reasoning_tokens": 5,
    }


@pytest.mark.parametrize("log", ["text"], indirect=True)
async def test_a_text_record_is_one_line(upstream: ScriptedUpstream, log: Log) -> None:
    upstream.script = say_hello_with_usage
    async with upstream.client(models=MODELS) as client:
        await client.post(PATH, json=ASK_SMALL)
        await client.post(PATH, json=ASK_SMALL | {"input": [{"role": "user", "content": 3}]})
    good, bad = log.lines
    assert f" INFO POST {PATH} 200 " in good
    assert "ms first=" in good
    assert " tokens=30+12 model=small dialect=base outcome=completed id=req_" in good
    assert f" INFO POST {PATH} 400 " in bad
    assert " outcome=invalid_type param=input[0].content id=req_" in bad
    assert "first=" not in bad
    assert "tokens=" not in bad


async def test_a_failure_is_logged_with_its_reason(upstream: ScriptedUpstream, log: Log) -> None:
    async def script(call: Call) -> None:
        if "temperature" in call.json:
            await call.answer({"error": {"message": "Unknown parameter: 'temperature'."}}, 400)
        else:
            error = {"message": "secret", "code": "c" * 999, "param": "top_p"}
            await call.answer({"error": error}, 400)

    upstream.script = script
    async with upstream.client(models=MODELS) as client:
        await client.post(PATH, json=ASK_SMALL | {"temperature": 0.5})
    line = log.request
    assert line["status"] == 400
    assert line["attempts"] == 2
    assert line["error"] == {"type": "invalid_request_error", "code": "c" * 200}
    assert " attempts=2 " in line["message"]
    assert "secret" not in "".join(log.lines)


async def test_a_stream_that_fails_is_logged_with_its_reason(
    upstream: ScriptedUpstream, log: Log
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk({"content": "x"}))
        call.drop()

    upstream.script = script
    async with upstream.client(models=MODELS) as client:
        await client.post(PATH, json=ASK_SMALL)
    line = log.request
    assert line["status"] == 200
    assert line["outcome"] == "failed upstream_error"
    assert line["error"] == {"type": "server_error", "code": "upstream_error"}


async def test_probes_are_logged_at_debug_level(upstream: ScriptedUpstream, log: Log) -> None:
    async with upstream.client() as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200
        assert log.lines == []
        logging.getLogger("translator").setLevel(logging.DEBUG)
        await client.get("/healthz")
    assert log.request["path"] == "/healthz"


async def test_a_client_cannot_write_into_the_log(upstream: ScriptedUpstream, log: Log) -> None:
    """Neither a second line nor another field."""
    async with upstream.client() as client:
        model = 'x\n{"level":"error"}", "status": 200'
        await client.post(PATH, json=ASK_SMALL | {"model": model})
        await client.get("/v1/a%0Ab%22")
    first, second = log.objects
    assert first["status"] == 200
    assert first["level"] == "info"
    assert first["model"] == model
    assert second["path"] == '/v1/a\nb"'


@pytest.mark.parametrize("letter", ["m", "é"])
async def test_a_long_model_name_is_cut(upstream: ScriptedUpstream, log: Log, letter: str) -> None:
    async with upstream.client() as client:
        await client.post(PATH, json=ASK_SMALL | {"model": letter * 5000})
    assert log.request["model"] == letter * 200
    assert f" model={letter if letter.isascii() else ascii(letter)[:-1]}" in log.request["message"]
    assert len(log.request["message"]) < 1000


async def test_an_exception_is_a_field(log: Log) -> None:
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        logging.getLogger("translator").exception("It failed: %s", "why")
    [line] = log.objects
    assert line["level"] == "error"
    assert line["message"] == "It failed: why"
    assert line["exception"].endswith("ValueError: one\ntwo")


HOSTILE = "a\nb\r\x1b[1m\x00\x85\u2028\u2029\ud800"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_record_is_one_line_whatever_it_quotes(form: LogFormat) -> None:
    """Its traceback, too, has no control characters and no line that could be another record."""
    record = logging.LogRecord("translator", logging.ERROR, "", 0, "It said %s", (HOSTILE,), None)
    line = FORMATTERS[form]().format(record)
    assert line.isprintable()
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record.exc_info = sys.exc_info()
    first, *others = FORMATTERS[form]().format(record).split("\n")
    assert first.isprintable()
    assert all(line.startswith("  ") and line.isprintable() for line in others)
    line.encode()


def test_a_text_record_has_the_time_as_logging_gives_it() -> None:
    """Though the text of a second is made once."""
    record = logging.LogRecord("translator", logging.INFO, "", 0, "Hello.", (), None)
    ours, plain = FORMATTERS["text"](), logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    for second, thousandth in ((10**9, 0), (10**9, 7), (10**9 + 1, 999), (10**9, 42)):
        record.created, record.msecs = second + thousandth / 1000, float(thousandth)
        assert ours.format(record) == plain.format(record)


@pytest.mark.parametrize("log", ["text"], indirect=True)
async def test_the_line_of_a_request_does_not_look_for_who_logs_it(
    upstream: ScriptedUpstream, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line tells it, and to walk up the stack costs as much as to write the line."""

    def look(*_: object) -> None:
        raise AssertionError("who logs it was looked for")

    monkeypatch.setattr(logging.Logger, "findCaller", look)
    async with upstream.client(models=MODELS) as client:
        await client.post(PATH, json=ASK_SMALL)
    assert f" INFO POST {PATH} 200 " in "\n".join(log.lines)


async def test_a_request_id_is_returned_and_sent_upstream(
    upstream: ScriptedUpstream, log: Log
) -> None:
    async with upstream.client() as client:
        given = await client.post(PATH, json=ASK_SMALL, headers={"x-request-id": "mine-1"})
        made = await client.post("/v1/chat/completions", json={"model": "m", "messages": []})
    assert given.headers["x-request-id"] == "mine-1"
    assert made.headers["x-request-id"].startswith("req_")
    assert [call.headers["x-request-id"] for call in upstream.calls] == [
        given.headers["x-request-id"],
        made.headers["x-request-id"],
    ]
    assert [line["id"] for line in log.objects] == [
        call.headers["x-request-id"] for call in upstream.calls
    ]


@pytest.mark.parametrize(
    ("parent", "state", "carried"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", "a=1,b=2", True),
        (f"00-{TRACE}-00f067aa0ba902b7-00", None, True),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None, False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None, False),
        (f"00-{TRACE}-{'0' * 16}-01", None, False),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None, False),
        (f"00-{TRACE}-00f067aa0ba902b7-01-secret", None, False),
        ("secret", None, False),
        (f"00-{TRACE}-00f067aa0ba902b7-01", "x=" + "y" * 511, "parent"),
    ],
)
async def test_the_trace_context_of_a_client_is_sent_upstream(
    parent: str, state: str | None, carried: bool | str, upstream: ScriptedUpstream
) -> None:
    """Without OpenTelemetry, too; an invalid one is dropped."""
    headers = {"traceparent": parent} | ({} if state is None else {"tracestate": state})
    async with upstream.client() as client:
        await client.post(PATH, json=ASK_SMALL, headers=headers)
    [call] = upstream.calls
    assert call.headers.get("traceparent") == (parent if carried else None)
    assert call.headers.get("tracestate") == (state if carried is True else None)


async def test_the_operators_headers_come_before_the_clients(upstream: ScriptedUpstream) -> None:
    async with upstream.client(upstream={"headers": {"X-Request-Id": "fixed"}}) as client:
        await client.post(PATH, json=ASK_SMALL, headers={"x-request-id": "mine-1"})
    assert upstream.calls[0].headers["x-request-id"] == "fixed"


async def test_serve_logs_json_when_asked(upstream: ScriptedUpstream) -> None:
    words = ("--upstream", upstream.url, "--log-format", "json", "--log-level", "debug")
    with served(*words) as (line, process):
        base = line.partition("/v1 and ")[0].removeprefix("translator listens on ")
        async with httpx.AsyncClient(timeout=BOUND_S) as client:
            await client.post(base + PATH, json=ASK_SMALL)
        process.terminate()
        _, err = await bounded(asyncio.to_thread(process.communicate, timeout=BOUND_S))
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["outcome"] for line in lines if "duration_ms" in line] == ["completed"]


def test_the_log_can_have_another_stream() -> None:
    """The live view writes it above its rows."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        root.handlers = []
        start_logging("info", "json", stream)
        logging.getLogger("translator").info("Hello")
        logging.getLogger("other").info("not shown")
    finally:
        root.handlers, level = before
        root.setLevel(level)
        logging.getLogger("translator").setLevel(logging.NOTSET)
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["Hello"]


def test_a_test_leaves_no_trace_in_logging() -> None:
    """Handlers, levels and filters are as before, whatever a test does with them."""
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn.error")
    before = [*root.handlers], root.level, [*uvicorn.filters]
    with restored_logging():
        start_logging("debug", stream=io.StringIO())
        assert root.handlers != before[0]
        assert uvicorn.filters != before[2]
    assert ([*root.handlers], root.level, [*uvicorn.filters]) == before


REDIRECT = "upstream up answered with a redirect (302): its base_url is wrong"


async def redirect(call: Call) -> None:
    await call.answer(b"", 302, headers={"location": "/elsewhere"})


@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions", "/v1/models"])
async def test_each_line_of_a_request_has_its_id(
    upstream: ScriptedUpstream, log: Log, path: str
) -> None:
    upstream.script = redirect
    headers = {"x-request-id": "mine-1"}
    async with upstream.client() as client:
        if path == "/v1/models":
            await client.get(path, headers=headers)
        else:
            await client.post(path, json={"model": "m", "input": "Hi"}, headers=headers)
    assert log.objects[0]["message"] == REDIRECT
    assert [line["id"] for line in log.objects] == ["mine-1", "mine-1"]


@pytest.mark.parametrize("log", ["text"], indirect=True)
async def test_a_line_of_text_ends_in_the_id(upstream: ScriptedUpstream, log: Log) -> None:
    upstream.script = redirect
    async with upstream.client() as client:
        for name in ("up", "mine-2"):
            await client.post(PATH, json=ASK_SMALL, headers={"x-request-id": name})
    assert [line.rpartition(" ")[2] for line in log.lines] == [
        *("id=up", "id=up"),
        *("id=mine-2", "id=mine-2"),
    ]


async def test_each_line_of_a_turn_has_the_id_of_the_turn(
    upstream: ScriptedUpstream, log: Log
) -> None:
    upstream.script = redirect
    async with socket_to(upstream) as socket:
        for lane in ("one", "two"):
            await ask(socket, stream_id=lane)
    lines = [line for line in log.objects if line["message"] == REDIRECT]
    turns = [line for line in log.objects if line.get("method") == "WS"]
    assert [line["id"] for line in lines] == [turn["id"] for turn in turns]
    assert len({turn["id"] for turn in turns}) == 2


@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions"])
async def test_what_a_connection_logs_belongs_to_the_request_that_it_answers_now(
    upstream: ScriptedUpstream, log: Log, path: str
) -> None:
    """And not to the one for which it was opened."""
    no_credit = {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        if len(upstream.calls) == 2:
            await bounded(seen.wait())
            await call.send(frame(no_credit))
        else:
            await call.send(*HELLO[2:])
        await call.end()

    upstream.script = script
    seen = asyncio.Event()
    asked = {**ASK_SMALL, "messages": []}
    async with upstream.socket_client(key="operator-key") as client:
        for name in ("first", "second"):
            headers = {"x-request-id": name}
            async with client.stream("POST", path, json=asked, headers=headers) as answer:
                async for _ in answer.aiter_raw():
                    seen.set()
    assert upstream.connections == 1
    [line] = [line for line in log.objects if line["level"] == "error"]
    assert "has no credit left" in line["message"]
    assert line["id"] == "second"


async def test_work_in_slices_logs_for_its_request(upstream: ScriptedUpstream, log: Log) -> None:
    """A large request is translated in a thread."""

    async def script(call: Call) -> None:
        if "temperature" in call.json:
            await call.answer({"error": {"message": "Unknown parameter: 'temperature'."}}, 400)
        else:
            await call.answer(COMPLETION)

    upstream.script = script
    asked = {"model": "m", "input": "x" * 300_000, "temperature": 0.5}
    async with upstream.client() as client:
        await client.post(PATH, json=asked, headers={"x-request-id": "large"})
    warning, request = log.objects
    assert warning["message"].endswith("it rejects temperature; remembered")
    assert (warning["id"], request["id"]) == ("large", "large")


def test_a_record_of_another_library_has_no_id() -> None:
    """It may be about a connection, which other requests have used before."""
    token = REQUEST_ID.set("req_1")
    try:
        for name, found in (("asyncio", None), ("uvicorn.error", "req_1"), ("translator", "req_1")):
            record = logging.LogRecord(name, logging.ERROR, "", 0, "It failed", (), None)
            assert json.loads(FORMATTERS["json"]().format(record)).get("id") == found
    finally:
        REQUEST_ID.reset(token)
