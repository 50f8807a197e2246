"""The library as programs see it: what it exports and explains, and examples/library.py."""

from __future__ import annotations

import asyncio
import json
import pydoc
import re
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

import translator

from .service.chat_bodies import COMPLETION, HELLO, chunk
from .service.responses_api import events
from .service.wire import Call, ScriptedUpstream, bounded

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
DOC = str(translator.__doc__)
ASK = {"model": "large", "input": "Hi"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream().running() as running:
        yield running


# --- what is exported ---------------------------------------------------------------------------


def test_help_explains_all_that_is_exported() -> None:
    words = set(re.findall(r"\w+", DOC))
    assert set(translator.__all__) - {"__version__", "dialects"} <= words
    assert DOC.splitlines()[0] in pydoc.render_doc(translator)


def test_every_error_can_be_caught_by_its_name() -> None:
    from translator.wire import errors

    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined <= set(translator.__all__)


def test_the_version_is_that_of_the_package() -> None:
    """The package takes it from the source, so there is no second one."""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|(a|b|rc)\d+)?", translator.__version__)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'dynamic = ["version"]' in project
    assert '[tool.hatch.version]\npath = "translator/__init__.py"' in project


def test_the_program_in_help_works(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = DOC.partition("    import secrets")[2].partition("\n\n`examples/library.py`")[0]
    names: dict[str, Any] = {"URL": "http://up.test/v1/chat/completions", "HEADERS": {}}
    exec(textwrap.dedent("    import secrets" + lines), names)
    answers = [httpx.Response(200, content=b"".join(HELLO)), httpx.Response(429, content=b"slow")]
    transport = httpx.MockTransport(lambda request: answers.pop(0))
    monkeypatch.setattr(httpx, "stream", httpx.Client(transport=transport).stream)
    body = json.dumps(ASK | {"stream": True}).encode()
    found = events(b"".join(names["respond"](body)))
    assert found[-1]["type"] == "response.completed"
    assert text_of(found[-1]["response"]) == "Hello world"
    with pytest.raises(translator.UpstreamError) as caught:
        next(names["respond"](body))
    assert caught.value.status_hint == 429


# --- examples/library.py ------------------------------------------------------------------------


class Done(NamedTuple):
    status: int
    output: bytes
    errors: str


async def run_example(
    upstream: ScriptedUpstream, request: object, environ: Mapping[str, str] | None = None
) -> Done:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(ROOT / "examples" / "library.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            "PYTHONPATH": str(ROOT),
            "UPSTREAM": upstream.url,
            "NO_PROXY": "127.0.0.1",
            **(environ or {}),
        },
    )
    given = request if isinstance(request, bytes) else json.dumps(request).encode()
    output, errors = await bounded(process.communicate(given))
    assert process.returncode is not None
    assert "Traceback" not in errors.decode()
    return Done(process.returncode, output, errors.decode())


def text_of(response: dict[str, Any]) -> str:
    [message] = response["output"]
    text: str = message["content"][0]["text"]
    return text


async def test_a_streamed_response(upstream: ScriptedUpstream) -> None:
    done = await run_example(upstream, ASK | {"stream": True}, {"API_KEY": "secret"})
    assert done.status == 0
    found = events(done.output)
    assert [found[0]["type"], found[-1]["type"]] == ["response.created", "response.completed"]
    assert text_of(found[-1]["response"]) == "Hello world"
    assert upstream.calls[0].path == "/v1/chat/completions"
    assert upstream.calls[0].headers["authorization"] == "Bearer secret"


async def test_a_whole_response(upstream: ScriptedUpstream) -> None:
    done = await run_example(upstream, ASK)
    assert done.status == 0
    response = json.loads(done.output)
    assert (response["status"], response["model"]) == ("completed", "large")
    assert text_of(response) == "Hello world"


async def test_aliases_and_limits_reach_the_upstream(upstream: ScriptedUpstream) -> None:
    await run_example(upstream, ASK | {"max_output_tokens": 100_000})
    await run_example(upstream, ASK | {"max_output_tokens": 10})
    await run_example(upstream, ASK | {"model": "small", "max_output_tokens": 100_000})
    assert [(call.json["model"], call.json["max_tokens"]) for call in upstream.calls] == [
        ("accounts/fireworks/models/kimi-k2p6", 8192),
        ("accounts/fireworks/models/kimi-k2p6", 10),
        ("accounts/fireworks/models/gpt-oss-20b", 100_000),
    ]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_of_the_upstream_is_an_http_error(
    upstream: ScriptedUpstream, stream: bool
) -> None:
    async def script(call: Call) -> None:
        body = {"error": {"message": "Too many requests."}}
        await call.answer(body, 429, headers={"retry-after": "7"})

    upstream.script = script
    done = await run_example(upstream, ASK | {"stream": stream})
    assert done.status == 1
    status, headers = done.errors.strip().removeprefix("HTTP ").split(" ", 1)
    assert (status, json.loads(headers)["retry-after"]) == ("429", "7")
    error = json.loads(done.output)["error"]
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")


async def test_a_refused_key_is_the_fault_of_the_program(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "Invalid key"}}, 401)

    upstream.script = script
    done = await run_example(upstream, ASK)
    assert (done.status, done.errors.split()[:2]) == (1, ["HTTP", "502"])


async def test_a_connection_that_breaks_in_mid_stream_fails_the_response(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.cut(chunk({"content": " world"}))

    upstream.script = script
    done = await run_example(upstream, ASK | {"stream": True})
    assert done.status == 0
    found = events(done.output)
    assert [event["type"] for event in found[-2:]] == ["error", "response.failed"]
    assert [event["delta"] for event in found if "delta" in event] == ["Hello"]


@pytest.mark.parametrize("begun", [True, False])
async def test_a_connection_that_breaks_before_the_response_is_an_http_error(
    upstream: ScriptedUpstream, begun: bool
) -> None:
    async def script(call: Call) -> None:
        if begun:
            await call.head(content_type="application/json")
            await call.cut(json.dumps(COMPLETION).encode())
        call.drop()

    upstream.script = script
    done = await run_example(upstream, ASK)
    assert (done.status, done.errors.splitlines()[-1].split()[:2]) == (1, ["HTTP", "502"])
    assert json.loads(done.output)["error"]["code"] == "upstream_error"


@pytest.mark.parametrize(
    ("request_", "status", "param"),
    [
        (ASK | {"model": "huge"}, "404", "model"),
        (ASK | {"temperature": "hot"}, "400", "temperature"),
        ({"input": "Hi"}, "400", "model"),
        ({"model": ["large"], "input": "Hi"}, "400", "model"),
        (b"[" * 100_000, "400", None),
        (b"{", "400", None),
        (b'{"model":"huge","input":"Hi","z":%b}' % (b"1" * 5000), "404", "model"),
    ],
)
async def test_a_wrong_request_goes_nowhere(
    upstream: ScriptedUpstream, request_: object, status: str, param: str | None
) -> None:
    done = await run_example(upstream, request_)
    assert (done.status, done.errors.split()[:2]) == (1, ["HTTP", status])
    assert json.loads(done.output)["error"]["param"] == param
    assert upstream.calls == []


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_request_that_wants_no_answer_is_not_sent(
    upstream: ScriptedUpstream, streamed: bool
) -> None:
    done = await run_example(upstream, ASK | {"generate": False, "stream": streamed})
    assert done.status == 0
    last = events(done.output)[-1]["response"] if streamed else json.loads(done.output)
    assert (last["status"], last["output"]) == ("completed", [])
    assert upstream.calls == []


async def test_a_redirect_is_an_error(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer({}, 302, headers={"location": "http://127.0.0.1:9/"})

    upstream.script = script
    done = await run_example(upstream, ASK | {"stream": True})
    assert (done.status, done.errors.split()[:2]) == (1, ["HTTP", "502"])


async def test_a_loss_is_noticed(upstream: ScriptedUpstream) -> None:
    done = await run_example(upstream, ASK | {"tools": [{"type": "web_search"}]})
    assert done.status == 0
    assert done.errors.startswith("tools[0]: ")
