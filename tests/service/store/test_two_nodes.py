"""examples/two-nodes: two nodes of one PostgreSQL database, behind nginx where that is here.

The settings and nginx's configuration are those of the example; only addresses differ.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from bench.targets import nginx_binary
from tests.faults.processes import PROCESS_S
from tests.service.responses_api import PATH
from tests.service.test_metrics import free_port
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, say_hello
from translator.__main__ import main
from translator.service.config.loading import read_file
from translator.service.config.store import Location

from .storing import ask, messages

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "two-nodes"
SETTINGS = EXAMPLE / "translator.toml"
NODE = re.compile(r"node-[12]:8080")


class Node:
    """A process of the service at a port that it keeps when it is restarted."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.port = free_port()
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "translator", "serve", "--config", str(SETTINGS)),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            cwd=ROOT,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PROCESS_S)
        assert line.startswith(b"translator listens on ")

    async def stop(self) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), PROCESS_S)
        except TimeoutError:
            self._process.kill()
            raise
        self._process = None

    def client(self) -> httpx.AsyncClient:
        return client_at(self.port)


def client_at(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=BOUND_S, trust_env=False)


def nginx_of_this_machine() -> str | None:
    """The program, where it is installed, or the benchmark has fetched it."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    fetched = ROOT / ".bench" / "nginx" / "unpacked" / "usr" / "sbin" / "nginx"
    if found is None and fetched.exists():
        found = nginx_binary()
    return found


@asynccontextmanager
async def nginx(program: str, nodes: list[Node], folder: Path) -> AsyncGenerator[int]:
    """An nginx with the configuration of the example; yields its port."""
    port = free_port()
    text = (EXAMPLE / "nginx.conf").read_text("utf-8")
    text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};").replace("/tmp/", f"{folder}/")
    for n, node in enumerate(nodes, 1):
        text = text.replace(f"node-{n}:8080", f"127.0.0.1:{node.port}")
    assert not NODE.search(text)
    conf = folder / "nginx.conf"
    conf.write_text(text, "utf-8")
    words = [program, "-c", str(conf), "-p", str(folder), "-e", str(folder / "log")]
    process = await asyncio.create_subprocess_exec(
        *words, "-g", "daemon off; master_process off;", stderr=subprocess.DEVNULL
    )
    try:
        async with client_at(port) as client, asyncio.timeout(PROCESS_S):
            while True:
                with suppress(httpx.ConnectError):
                    await client.get("/healthz")
                    break
                await asyncio.sleep(0.02)
        yield port
    finally:
        process.send_signal(signal.SIGQUIT)
        await asyncio.wait_for(process.wait(), PROCESS_S)


async def engine(call: Call) -> None:
    """The engine of the example, as a proxy finds it."""
    if call.method == "GET":  # for /readyz
        await call.answer({})
        return
    assert call.path == "http://host.docker.internal:8000/v1/chat/completions"
    await say_hello(call)


async def test_two_nodes(
    upstream: ScriptedUpstream, postgres_location: Location, tmp_path: Path
) -> None:
    """Each continues what the other has stored, also while that one is restarted."""
    upstream.script = engine
    proxy = upstream.url.removesuffix("/v1")
    environ = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    } | {"STORE_URL": postgres_location.target, "http_proxy": proxy}
    nodes = [Node(environ), Node(environ)]
    async with AsyncExitStack() as stack:
        for node in nodes:
            stack.push_async_callback(node.stop)
        await asyncio.gather(*(node.start() for node in nodes))
        one, two = [await stack.enter_async_context(node.client()) for node in nodes]
        program = nginx_of_this_machine()
        any_of_both = two
        if program is not None:
            port = await stack.enter_async_context(nginx(program, nodes, tmp_path))
            any_of_both = await stack.enter_async_context(client_at(port))
            assert (await any_of_both.get("/readyz")).status_code == 404
        for client in (one, two):
            assert (await client.get("/readyz")).json()["store"] == "reachable"

        first = await ask(one, stream=True, store=True)
        second = await ask(two, stream=True, previous_response_id=first["id"])
        assert len(messages(upstream.calls[-1])) == 3
        for client in (one, two):
            for response in (first, second):
                answer = await client.get(f"{PATH}/{response['id']}")
                assert answer.json() == response

        last = second
        restarting = asyncio.ensure_future(restart(nodes[0]))
        turns = 0
        while turns < 8 or not restarting.done():
            last = await ask(any_of_both, previous_response_id=last["id"])
            turns += 1
            await asyncio.sleep(0.05)  # leaves the processor to the start
        await restarting
        assert len(messages(upstream.calls[-1])) == 2 * turns + 3
        async with nodes[0].client() as again:
            assert (await again.get(f"{PATH}/{last['id']}")).json() == last
            assert (await again.delete(f"{PATH}/{first['id']}")).status_code == 200
            for client in (again, two):
                assert (await client.get(f"{PATH}/{first['id']}")).status_code == 404
                assert (await client.delete(f"{PATH}/{first['id']}")).status_code == 404


async def restart(node: Node) -> None:
    await node.stop()
    await node.start()


# --- the files --------------------------------------------------------------------------------


def test_the_settings_are_read() -> None:
    store = read_file(SETTINGS, {"STORE_URL": "postgresql://u:secret@postgres/translator"}).store
    assert store is not None
    assert store.location.kind == "postgresql"
    assert store.limits.required


def test_compose_runs_what_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes with the same settings, after the tables have been made."""
    compose: dict[str, Any] = yaml.safe_load((EXAMPLE / "compose.yaml").read_text("utf-8"))
    services = compose["services"]
    nodes = {name: one for name, one in services.items() if name.startswith("node-")}
    conf = (EXAMPLE / "nginx.conf").read_text("utf-8")
    assert {f"{name}:8080" for name in nodes} == set(NODE.findall(conf))
    assert nodes["node-1"] == nodes["node-2"]
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (EXAMPLE / source).exists()
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        assert "latest" not in service["image"]
        for needed in service.get("depends_on", ()):
            assert needed in services
        if name != "postgres":
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
    node = nodes["node-1"]
    assert (EXAMPLE / node["build"]["context"] / node["build"]["dockerfile"]).exists()
    [name] = node["environment"]
    assert f'url_env = "{name}"' in SETTINGS.read_text("utf-8")
    monkeypatch.setenv(name, "postgresql://127.0.0.1:9/name")
    words = [str(SETTINGS) if "/" in word else word for word in services["migrate"]["command"]]
    assert main(words) == 2
    assert "refused" in capsys.readouterr().err  # it is understood; nothing listens there


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    program = nginx_of_this_machine()
    if program is None:
        pytest.skip("nginx is not there")
    text = (EXAMPLE / "nginx.conf").read_text("utf-8")
    conf = tmp_path / "nginx.conf"
    conf.write_text(NODE.sub("127.0.0.1:9", text).replace("/tmp/", f"{tmp_path}/"), "utf-8")
    words = [program, "-t", "-q", "-c", str(conf), "-p", str(tmp_path), "-e", "stderr"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
