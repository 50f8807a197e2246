"""What a start loads, and what it leaves for later: seen in processes of their own."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.faults.processes import PROCESS_S
from translator.__main__ import COMMANDS, main
from translator.program.invocation import install_hint
from translator.service.server import graceful_shutdown, run
from translator.service.server.warm_up import WARM_UP_AFTER_S, warm_up_later

from .responses_api import ASK, ASK_WHOLE, events
from .wire import ScriptedUpstream

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]

PROGRAM = """
import atexit, gc, json, os, sys, threading
from pathlib import Path

timers = []
threading.Timer.start = lambda timer: timers.append((timer.name, timer.interval))
folder, *words = sys.argv[1:]

def report():
    found = {"modules": list(sys.modules), "timers": timers, "frozen": gc.get_freeze_count()}
    if "aiohttp" in sys.modules:
        from aiohttp import connector
        found["certificates"] = connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"]
    Path(folder, str(os.getpid())).write_text(json.dumps(found))

atexit.register(report)
from translator.__main__ import main
sys.exit(main(words))
"""
"""A command that writes, at its end, what it has imported; but for what a timer would import."""

OF_OTHERS = [f"translator.commands.{name}" for name in COMMANDS] + [
    "translator.captures",
    "translator.demo",
    "translator.probe",
    "translator.setup",
    "tomlkit",  # for configurations of clients
]
LATER = {
    "websockets": "the protocol of WebSockets is loaded by the warm-up, or the first of them",
    "translator.service.server.websocket_protocol": "the same",
    "translator.service.capture": "only --trace writes captures",
    "translator.service.live": "only --watch and --trace show progress",
    "translator.service.telemetry.otel": "only `traces` sends spans",
    "opentelemetry": "the same",
    "translator.service.server.workers": "only a parent has workers",
    "translator.service.access.shared_limits": "only workers share limits",
    "translator.service.config.store": "only a [store] section has a store",
    "translator.service.database": "the same",
    "translator.service.store": "the same",
    "translator.service.http.stores": "the same",
    "translator.service.turns.keeping": "the same; it has types alone",
    "translator.request.store_context": "the same",
    "sqlite3": "the same",
    "sqlalchemy": "the same",
    "psycopg": "the same",
    "translator.service.page": "the page is made when it is asked for",
    "translator.service.http.page": "the same",
    "translator.service.http.openapi": "the description is made when it is asked for",
    "translator.service.http.openapi_parts": "… and its parts",
    "aiohttp.web": "aiohttp's server is not used",
    "starlette.applications": "the application is plain ASGI",
    "starlette.middleware.errors": "the same",
    "importlib.metadata": "versions of packages are read by nobody",
}
"""What a process that serves has not imported when it has answered, and why not."""

OF_THE_SERVICE = (
    *("aiohttp", "httpx", "httptools", "starlette", "uvicorn", "uvloop", "prometheus_client"),
    *("translator.service.http", "translator.service.upstreams", "translator.service.turns"),
)
"""What the parent of workers leaves to them: each worker starts Python anew."""


def within(modules: list[str], names: Any) -> list[str]:
    """The names of packages or modules of which something is imported."""
    found = set(modules) | {name.rpartition(".")[0] for name in modules}
    return [name for name in names if name in found]


async def served(
    folder: Path, upstream: ScriptedUpstream, *words: str, env: Mapping[str, str] | None = None
) -> list[Any]:
    """What each process of `translator serve` reports, a parent first, after three answers."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(folder), "serve", "--port", "0"),
        *("--upstream", upstream.url, *words),
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PROCESS_S):
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            url = line.partition(" and ")[0].removeprefix("translator listens on ")
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(url)).status_code == 404
                assert (await client.post(f"{url}/responses", json=ASK_WHOLE)).status_code == 200
                answer = await client.post(f"{url}/responses", json=ASK)
                assert events(answer.content)[-1]["type"] == "response.completed"
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
    return reports(folder, process.pid)


def reports(folder: Path, first: int) -> list[Any]:
    """The report of a process, and those of its children."""
    found = {path.name: json.loads(path.read_text()) for path in folder.iterdir()}
    return [found.pop(str(first)), *found.values()]


async def test_a_process_that_serves_imports_only_what_its_answers_need(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    [found] = await served(tmp_path, upstream)
    others = [name for name in OF_OTHERS if name != "translator.commands.serve"]
    assert within(found["modules"], [*LATER, *others]) == []
    assert "translator.service.http.app" in found["modules"]
    assert found["timers"] == [["warm-up", WARM_UP_AFTER_S]]
    assert found["frozen"] > 10_000
    assert found["certificates"] == 0


async def test_the_parent_of_workers_imports_nothing_of_what_they_do(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    parent, *workers = await served(tmp_path, upstream, "--workers", "2")
    assert within(parent["modules"], [*OF_THE_SERVICE, "websockets"]) == []
    assert len(workers) == 2
    for worker in workers:
        assert within(worker["modules"], OF_THE_SERVICE) == [*OF_THE_SERVICE]
        assert "translator.service.server.workers" not in worker["modules"]


@pytest.mark.parametrize(
    ("words", "used"),
    [
        (["--help"], COMMANDS),
        (["convert"], ["convert"]),
        (["key", "--help"], ["key"]),
        (["serve", "--help"], ["serve"]),
        (["nonsense"], COMMANDS),
    ],
)
def test_a_command_imports_no_other_one(tmp_path: Path, words: list[str], used: list[str]) -> None:
    """Only the help of all, and an error, need all; none of these needs a network."""
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), *words],
        cwd=ROOT,
        input=json.dumps(ASK_WHOLE).encode(),
        capture_output=True,
        timeout=PROCESS_S,
    )
    [report] = tmp_path.iterdir()
    modules = json.loads(report.read_text())["modules"]
    commands = [f"translator.commands.{name}" for name in COMMANDS]
    assert within(modules, commands) == [f"translator.commands.{name}" for name in used]
    assert within(modules, ["asyncio", "ssl", "logging", "translator.service"]) == []


def test_the_collector_rests_while_the_service_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And works when it serves; what it then searches has grown since the start."""
    seen: list[tuple[str, bool]] = []
    create_app = run.create_app

    def create(*args: Any, **named: Any) -> Any:
        seen.append(("create", gc.isenabled()))
        return create_app(*args, **named)

    monkeypatch.setattr(run, "create_app", create)
    monkeypatch.setattr(gc, "freeze", lambda: seen.append(("freeze", gc.isenabled())))
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(
        graceful_shutdown.GracefulServer,
        "run",
        lambda *_, **__: seen.append(("run", gc.isenabled())),
    )
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["serve", "--port", "0", "--upstream", "http://127.0.0.1:1/v1"]) == 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert seen == [("create", False), ("freeze", False), ("run", True)]
    assert main(["serve"]) == 2  # no upstream is named
    assert gc.isenabled()


@pytest.mark.parametrize("package", ["aiohttp", "httptools", "websockets"])
def test_a_package_that_is_imported_later_is_missed_at_the_start(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for more in ((), ("--workers", "2")):
        assert main(["serve", "--upstream", "http://u", *more]) == 2
        assert capsys.readouterr().err == (
            f"translator: serve needs {package}: install it with {install_hint('service')}\n"
        )


@pytest.mark.parametrize("websocket", [True, False])
def test_the_warm_up_loads_the_rest(websocket: bool) -> None:
    program = (
        "import sys, translator.service.turns.adaptive\n"
        "from translator.common.lazy_pattern import _pending\n"
        "from translator.service.server.warm_up import warm_up\n"
        "before = len(_pending)\n"
        f"warm_up(websocket={websocket})\n"
        "print(before, len(_pending), 'translator.service.server.websocket_protocol' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    before, after, loaded = done.stdout.split()
    assert int(before) > 50
    assert (after, loaded) == ("0", str(websocket))


def test_the_warm_up_is_a_thread_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(
        "translator.service.server.warm_up.compile_lazy_patterns", lambda: compiled.append("all")
    )
    monkeypatch.setattr("translator.service.server.warm_up.WARM_UP_AFTER_S", 0.0)
    timer = warm_up_later(websocket=False)
    assert timer.daemon
    timer.join(PROCESS_S)
    assert compiled == ["all"]
    monkeypatch.setattr("translator.service.server.warm_up.WARM_UP_AFTER_S", PROCESS_S)
    timer = warm_up_later(websocket=False)
    timer.cancel()
    timer.join(PROCESS_S)
    assert compiled == ["all"]


CERTIFICATES = """
import os, ssl, sys
from translator.service.upstreams.unread_certificates import unread_certificates

before = os.environ.get("SSL_CERT_FILE")
with unread_certificates():
    import aiohttp
assert os.environ.get("SSL_CERT_FILE") == before

from aiohttp import connector
from translator.service.config.settings import Server
from translator.service.upstreams.client import Upstreams

Upstreams(Server())  # makes the context of the service
theirs = [connector._SSL_CONTEXT_VERIFIED, connector._SSL_CONTEXT_UNVERIFIED]
print(sum(one.cert_store_stats()["x509"] for one in theirs))
print(connector._SSL_CONTEXT_VERIFIED.verify_mode == ssl.CERT_REQUIRED)
print(ssl.create_default_context().cert_store_stats()["x509"])
"""


@pytest.mark.parametrize("set_before", [True, False])
def test_aiohttp_is_imported_without_certificates(set_before: bool, tmp_path: Path) -> None:
    """Its own contexts then trust nobody; those that are made later read what there is."""
    authority = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    environ = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    if set_before:
        environ["SSL_CERT_FILE"] = str(authority)
    done = subprocess.run(
        [sys.executable, "-c", CERTIFICATES],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    theirs, verifies, later = done.stdout.split()
    assert (theirs, verifies) == ("0", "True")
    if set_before:
        assert later == "1"


async def test_an_upstream_behind_tls_is_trusted_by_its_authority(tmp_path: Path) -> None:
    """In a process of its own, whose certificates are those of the environment, as before."""
    upstream, authority, folder = ScriptedUpstream(), trustme.CA(), tmp_path / "reports"
    folder.mkdir()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = await asyncio.start_server(upstream._connected, "127.0.0.1", 0, ssl=context)
    upstream.url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
    try:
        await served(folder, upstream, env={"SSL_CERT_FILE": str(tmp_path / "authority.pem")})
    finally:
        server.close()
    assert len(upstream.calls) == 2
