"""Libraries rename what they do not document: the service then does without, and says so once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from translator.service.base.internals import missing_attributes, warn_once
from translator.service.server import graceful_shutdown, http1, websocket_protocol
from translator.service.upstreams import connection, direct

ROOT = Path(__file__).parents[2]


def test_nothing_is_missing_of_what_is_installed() -> None:
    for module in (connection, direct, http1, websocket_protocol, graceful_shutdown):
        assert module.MISSING == ()


class Base:
    def __init__(self) -> None:
        self._set_by_base = 1


class Library(Base):
    __slots__ = ("_slot",)
    method = None

    def start(self) -> None:
        self._set_later = 1


def test_an_attribute_is_there_if_the_class_has_or_uses_it() -> None:
    names = "_slot method start _set_by_base _set_later"
    assert missing_attributes({Library: names}) == ()
    assert missing_attributes({Library: "start gone", Base: "_set_later"}) == (
        "Library.gone",
        "Base._set_later",
    )


def test_a_warning_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        warn_once("library", ("Library.gone",), "it costs")
    assert [record.getMessage() for record in caplog.records] == [
        "this version of library has no Library.gone: it costs"
    ]


# With an attribute renamed in the source of a library, all else as it is: what is answered over
# HTTP, streamed and not, and over a WebSocket, and what is logged.
PROGRAM = r"""
import asyncio, importlib.machinery, json, logging, re, sys

module, old, new = sys.argv[1:]
loader = importlib.machinery.SourceFileLoader
get_code = loader.get_code

def renamed(self, name):
    if name != module:
        return get_code(self, name)
    text = self.get_source(name)
    assert re.search(rf"\b{old}\b", text)
    return compile(re.sub(rf"\b{old}\b", new, text), self.path, "exec")

loader.get_code = renamed

import httpx
from websockets.asyncio.client import connect
from tests.service.responses_api import events
from tests.service.wire import ScriptedUpstream, bounded, make_settings
from translator.service.base.drain import Drain
from translator.service.http.app import create_app
from translator.service.server.graceful_shutdown import GracefulServer
from translator.service.server.protocols import protocols
import socket, uvicorn

warnings = []
class Warnings(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())
logging.getLogger().addHandler(Warnings(logging.WARNING))

async def main():
    upstream = ScriptedUpstream()
    async with upstream.running():
        settings = make_settings(upstream.url)
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"127.0.0.1:{listener.getsockname()[1]}"
        drain = Drain()
        config = uvicorn.Config(
            create_app(settings, drain=drain), log_config=None, access_log=False, lifespan="on",
            **protocols(settings.server),
        )
        server = GracefulServer(config, drain, 5.0)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        found = []
        async with httpx.AsyncClient(timeout=20) as client:
            for stream in (True, False, True, False):
                ask = {"model": "m", "input": "Hi", "stream": stream}
                answer = await client.post(f"http://{url}/v1/responses", json=ask)
                end = events(answer.content)[-1]["response"] if stream else answer.json()
                found.append(end["output"][0]["content"][0]["text"])
            chat = {"model": "m", "messages": [], "stream": True}
            passed = await client.post(f"http://{url}/v1/chat/completions", json=chat)
            found.append(passed.content.endswith(b"[DONE]\n\n"))
        async with connect(f"ws://{url}/v1/responses") as client:
            await client.send(json.dumps({"type": "response.create", "model": "m", "input": "Hi"}))
            while (event := json.loads(await bounded(client.recv())))["type"] != "response.completed":
                pass
            found.append(event["type"])
        server.should_exit = True
        await bounded(running)
    print(json.dumps({"found": found, "warnings": warnings, "drained": drain.begun.is_set()}))

asyncio.run(main())
"""

RENAMED = {
    "connector": ("aiohttp.connector", "_factory", "aiohttp", "TCPConnector._factory"),
    "pool": ("aiohttp.connector", "_get", "aiohttp", "TCPConnector._get"),
    "direct": ("aiohttp.client_reqrep", "request_info", "aiohttp", "ClientRequest.request_info"),
    "flow": (
        "uvicorn.protocols.http.httptools_impl",
        "flow",
        "uvicorn",
        "HttpToolsProtocol.flow, RequestResponseCycle.flow",
    ),
    "writable": (
        "uvicorn.protocols.websockets.websockets_sansio_impl",
        "writable",
        "uvicorn",
        "WebSocketsSansIOProtocol.writable",
    ),
    "servers": ("uvicorn.server", "servers", "uvicorn", "Server.servers"),
}


@pytest.mark.parametrize(("module", "name", "library", "missing"), RENAMED.values(), ids=RENAMED)
def test_requests_are_answered_without_an_attribute(
    module: str, name: str, library: str, missing: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, name, f"{name}_renamed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["found"] == ["Hello world"] * 4 + [True, "response.completed"]
    assert result["drained"]
    [warning] = result["warnings"]
    assert warning.startswith(f"this version of {library} has no {missing}: ")
