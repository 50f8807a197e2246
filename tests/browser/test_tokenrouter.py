"""The gateway of examples/tokenrouter as its customer meets it: from the page, word for word.

One command sets it up. Then a key is made on the page, and everything that the page says is done as
it says: each set-up is pasted unchanged, each parameter sent, each trouble had and cured.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.clients.conftest import NO_NETWORK, find_program, needed
from tests.clients.node_programs import workshop
from tests.clients.opencode import environment as opencode_environment

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
TRY_IT = ROOT / "examples" / "tokenrouter" / "try_it.py"
PASSWORD = "correct horse battery"
KEY_ENV = "TRANSLATOR_API_KEY"
START_S = 90
RUN_S = 90
"""Upper bound of one run of a client, in seconds."""

MODEL = "gpt-oss-120b"
ANSWER = f"Hello from {MODEL}."


@dataclass
class Described:
    """What the page says, and the gateway that it says it of."""

    url: str
    folder: Path
    key: str = ""
    base_url: str = ""
    snippets: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    """The files of Codex's profiles, by name."""

    parameters: list[list[str]] = field(default_factory=list)
    response: str = ""
    troubles: list[list[str]] = field(default_factory=list)
    offered: list[str] = field(default_factory=list)
    """The models of "Available channels"."""

    def translator(self, *words: str) -> str:
        """What an operator's command prints."""
        command = [sys.executable, "-m", "translator", *words]
        done = subprocess.run(
            [*command, "--config", str(self.folder / "settings.toml")],
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=True,
        )
        return done.stdout


@contextmanager
def _running(folder: Path) -> Iterator[str]:
    """The gateway, by its one command; yields its URL."""
    command = [sys.executable, str(TRY_IT), "--port", "0", "--folder", str(folder)]
    with subprocess.Popen(
        command,
        env=os.environ | {"GATEWAY_PASSWORD": PASSWORD},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            for line in process.stdout or ():
                lines.put(line)
            lines.put(None)

        reader = threading.Thread(target=read)
        reader.start()
        seen = ""
        try:
            while (line := lines.get(timeout=START_S)) is not None:
                seen += line
                if found := re.search(r"listens on (http://\S+)/v1", line):
                    yield found[1]
                    break
            else:
                pytest.fail(f"the gateway did not start:\n{seen}")
        finally:
            process.terminate()
            process.wait(START_S)
            reader.join(START_S)
            assert not reader.is_alive(), "the service outlives the command that started it"


async def sign_in(page: Page, url: str) -> None:
    await page.goto(f"{url}/account")
    await page.get_by_label("Name").fill("anna")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Sign out").wait_for()


async def rows_of(page: Page, table: str) -> list[list[str]]:
    """The texts of a table's cells."""
    rows = page.locator(f"#{table} tbody tr")
    found: list[list[str]] = []
    for number in range(await rows.count()):
        texts = await rows.nth(number).locator("td").all_text_contents()
        found.append([text.strip() for text in texts])
    return found


@pytest.fixture(scope="module")
async def described(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Described]:
    """A key is made on the page, and the page is read."""
    folder = tmp_path_factory.mktemp("tokenrouter")
    with _running(folder) as url:
        found = Described(url, folder)
        context = await browser.new_context(java_script_enabled=False)
        page = await context.new_page()
        await sign_in(page, url)
        assert "10.00" in (await page.locator("#balance").text_content() or "")
        await page.get_by_role("link", name="API keys").click()
        await page.locator("#name").fill("laptop")
        await page.get_by_role("button", name="Make a key").click()
        found.key = (await page.locator("#new-key").text_content() or "").strip()
        await page.get_by_role("link", name="Available channels").click()
        found.offered = await page.locator("tbody td:first-child > code").all_text_contents()
        await page.goto(f"{url}/account/acct_1/connect?key=key_1&model={MODEL}")
        found.base_url = await page.locator("#base-url").text_content() or ""
        for name in ("key", "curl", "python", "node", "codex", "opencode"):
            text = await page.locator(f"#snippet-{name}").text_content()
            found.snippets[name] = text or ""
        profiles = page.locator("pre.profile")
        for number in range(await profiles.count()):
            file = await profiles.nth(number).get_attribute("data-file") or ""
            found.profiles[file] = await profiles.nth(number).text_content() or ""
        found.parameters = await rows_of(page, "parameters")
        found.response = await page.locator("#response-format").text_content() or ""
        found.troubles = await rows_of(page, "troubleshooting")
        await context.close()
        yield found


@pytest.fixture
async def client(described: Described) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the key that the page made, and the base URL that it names."""
    headers = {"authorization": f"Bearer {described.key}"}
    async with httpx.AsyncClient(
        base_url=described.base_url, headers=headers, timeout=RUN_S
    ) as found:
        yield found


def run(
    described: Described, home: Path, *command: str, folder: Path | None = None, **environ: str
) -> str:
    """What a command prints, with the key in the variable that the page names."""
    named = {"PATH": os.environ["PATH"], "HOME": str(home), KEY_ENV: described.key}
    done = subprocess.run(
        command,
        cwd=folder or home,
        env=NO_NETWORK | named | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the set-ups --------------------------------------------------------------------------------


async def test_the_page_shows_what_the_key_may_use(
    described: Described, client: httpx.AsyncClient
) -> None:
    assert described.snippets["key"].startswith(f"export {KEY_ENV}=")
    assert described.base_url == f"{described.url}/v1"
    listed = (await client.get("/models")).json()["data"]
    assert [one["id"] for one in listed] == described.offered
    assert len(described.offered) == 8


async def test_curl(described: Described, tmp_path: Path) -> None:
    needed("curl", shutil.which("curl"))
    snippet = described.snippets["curl"]
    printed = await asyncio.to_thread(run, described, tmp_path, "sh", "-ec", snippet)
    assert ANSWER in printed


async def test_python(described: Described, tmp_path: Path) -> None:
    program = tmp_path / "snippet.py"
    program.write_text(described.snippets["python"])
    printed = await asyncio.to_thread(run, described, tmp_path, sys.executable, str(program))
    assert printed.startswith(ANSWER)


async def test_node(described: Described, tmp_path: Path) -> None:
    program = workshop(tmp_path, "openai") / "snippet.mjs"
    program.write_text(described.snippets["node"])
    printed = await asyncio.to_thread(run, described, tmp_path, "node", str(program))
    assert printed.startswith(ANSWER)


async def test_codex_and_its_profiles(described: Described, tmp_path: Path) -> None:
    codex = needed("Codex", find_program("codex"))
    (tmp_path / "config.toml").write_text(described.snippets["codex"])
    for name, text in described.profiles.items():
        (tmp_path / name).write_text(text)
    assert len(described.profiles) == len(described.offered)
    words = ("exec", "--skip-git-repo-check", "Hello")

    def asked(*options: str) -> str:
        return run(described, tmp_path, codex, *options, *words, CODEX_HOME=str(tmp_path))

    assert ANSWER in await asyncio.to_thread(asked)
    for model in ("kimi-k2p6", "minimax-m2p7"):
        assert f"{model}.config.toml" in described.profiles
        assert f"Hello from {model}." in await asyncio.to_thread(asked, "--profile", model)


async def test_opencode(described: Described, tmp_path: Path) -> None:
    opencode = needed("OpenCode", find_program("opencode"))
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    (project / "opencode.json").write_text(described.snippets["opencode"])
    environ = opencode_environment(home) | {KEY_ENV: described.key}
    words = (opencode, "run", "--title", "a test", "Hello")
    printed = await asyncio.to_thread(run, described, home, *words, folder=project, **environ)
    assert ANSWER in printed


async def test_the_balance_in_the_header_falls_by_the_bill(
    described: Described, client: httpx.AsyncClient, browser: Browser
) -> None:
    context = await browser.new_context(java_script_enabled=False)
    try:
        page = await context.new_page()
        await sign_in(page, described.url)
        exact = page.locator("#balance strong .amount")
        before = Decimal(await exact.get_attribute("title") or "")
        answer = await client.post("/responses", json={"model": MODEL, "input": "Hello"})
        async with asyncio.timeout(RUN_S):
            while (found := await client.get(f"/usage/{answer.json()['id']}")).status_code == 404:
                await asyncio.sleep(0.02)
        cost = Decimal(found.json()["amount"])
        assert cost > 0
        await page.reload()
        assert before - Decimal(await exact.get_attribute("title") or "") == cost
    finally:
        await context.close()


# --- the parameters -----------------------------------------------------------------------------

TOOL = {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}}
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
FORMAT = {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}
VALUES: dict[str, list[dict[str, Any]]] = {
    "model": [{"model": "kimi-k2p6"}],
    "input": [{"input": "Hi"}, {"input": [{"role": "user", "content": "Hi"}]}],
    "instructions": [{"instructions": "Be brief."}],
    "stream": [{"stream": True}, {"stream": False}],
    "max_output_tokens": [{"max_output_tokens": 500}],
    "tools": [{"tools": [TOOL]}],
    "tool_choice": [
        {"tools": [TOOL], "tool_choice": one}
        for one in ("auto", "none", "required", {"type": "function", "name": "now"})
    ],
    "parallel_tool_calls": [{"tools": [TOOL], "parallel_tool_calls": one} for one in (True, False)],
    "reasoning": [{"reasoning": {"effort": one}} for one in ("low", "medium", "high")],
    "text": [{"text": {"format": one}} for one in ({"type": "text"}, FORMAT)],
    "temperature": [{"temperature": 0.2}],
    "top_p": [{"top_p": 0.9}],
    "store": [{"store": False}],
}


async def test_every_parameter_is_taken(described: Described, client: httpx.AsyncClient) -> None:
    names = [name for row in described.parameters for name in row[0].split(", ")]
    assert set(names) == set(VALUES)
    for name in names:
        for fields in VALUES[name]:
            asked = {"model": MODEL, "input": "Hi"} | fields
            answer = await client.post("/responses", json=asked)
            assert answer.status_code == 200, (fields, answer.text)
            assert "x-translator-notices" not in answer.headers, fields
            if fields.get("stream"):
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert "event: response.completed" in answer.text
            else:
                assert answer.json()["status"] == "completed"
    for missing in ("model", "input"):
        fields = {"model": MODEL, "input": "Hi"}
        del fields[missing]
        answer = await client.post("/responses", json=fields)
        required = [row for row in described.parameters if row[0] == missing]
        assert "required" in required[0][1]
        assert answer.status_code == 400, missing


def shape(value: Any, whole: Any) -> None:
    """All that the example shows is in a response, of the same kind."""
    assert type(value) is type(whole)
    if isinstance(value, dict):
        for name, inner in value.items():
            shape(inner, whole[name])
    elif isinstance(value, list):
        for inner, other in zip(value, whole, strict=False):
            shape(inner, other)


async def test_a_response_is_as_the_page_shows_it(
    described: Described, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/responses", json={"model": MODEL, "input": "Hello"})
    shape(json.loads(described.response), answer.json())
    assert json.loads(described.response)["model"] == answer.json()["model"] == MODEL


async def test_some_chunks_of_a_chat_stream_carry_only_metadata(
    client: httpx.AsyncClient,
) -> None:
    """The chunk with the usage has no choices: clients must not take the first of none."""
    messages = [{"role": "user", "content": "Hi"}]
    asked = {"model": MODEL, "messages": messages, "stream": True}
    answer = await client.post("/chat/completions", json=asked)
    frames = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    chunks = [json.loads(frame) for frame in frames[:-1]]
    assert frames[-1] == "[DONE]"
    assert [one["choices"] for one in chunks].count([]) == 1


# --- the troubles -------------------------------------------------------------------------------


class Operator:
    """A program of the operator, on the JSON API."""

    def __init__(self, described: Described) -> None:
        key = described.translator("account", "operator-key", "new", "walk").strip()
        self._client = httpx.AsyncClient(
            base_url=f"{described.url}/account/api",
            headers={"authorization": f"Bearer {key}"},
            timeout=RUN_S,
        )

    async def __aenter__(self) -> Operator:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.aclose()

    async def change(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._client.request(method, path, json=body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def account(self, name: str, amount: str = "", **limits: Any) -> tuple[str, str]:
        """A new account, and a key of it."""
        account = (await self.change("POST", "/accounts", {"name": name}))["id"]
        if amount:
            await self.top_up(account, amount)
        body = {"account": account, "name": "key", **limits}
        key: str = (await self.change("POST", "/keys", body))["key"]
        return account, key

    async def top_up(self, account: str, amount: str) -> None:
        body = {"account": account, "amount": amount, "ref": f"for {account}"}
        await self.change("POST", "/topups", body)


class Walk:
    """A customer who gets into trouble, and does what the page says."""

    def __init__(self, client: httpx.AsyncClient, operator: Operator) -> None:
        self._client = client
        self._operator = operator

    async def ask(self, key: str = "", **fields: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        asked = {"model": MODEL, "input": "Hello"} | fields
        return await self._client.post("/responses", json=asked, headers=headers)

    async def invalid_api_key(self) -> httpx.Response:
        assert (await self.ask()).status_code == 200
        for key in ("wrong", f"trk_{'0' * 16}_{'x' * 43}"):
            assert (await self.ask(key)).status_code == 401
        return await self.ask("wrong")

    async def account_deactivated(self) -> httpx.Response:
        account, key = await self._operator.account("suspended", "1")
        assert (await self.ask(key)).status_code == 200
        await self._operator.change("PATCH", f"/accounts/{account}", {"suspended": True})
        refused = await self.ask(key)
        await self._operator.change("PATCH", f"/accounts/{account}", {"suspended": False})
        async with asyncio.timeout(RUN_S):
            while (await self.ask(key)).status_code != 200:
                await asyncio.sleep(0.1)
        return refused

    async def model_not_found(self) -> httpx.Response:
        _, key = await self._operator.account("few models", "1", channels=["fast"])
        assert (await self.ask(key, model="kimi-k2p6")).status_code == 404
        assert (await self.ask(key)).status_code == 200
        return await self.ask(model="kimi-k9")

    async def context_length_exceeded(self) -> httpx.Response:
        return await self.ask(input="please be too long")

    async def insufficient_quota(self) -> httpx.Response:
        account, key = await self._operator.account("empty")
        refused = await self.ask(key)
        assert refused.headers["x-should-retry"] == "false"
        await self._operator.top_up(account, "0.01")
        assert (await self.ask(key, max_output_tokens=1000)).status_code == 200
        return refused

    async def rate_limit_exceeded(self) -> httpx.Response:
        _, key = await self._operator.account("hurried", "1", requests_per_minute=1)
        assert (await self.ask(key)).status_code == 200
        refused = await self.ask(key)
        assert 0 < int(refused.headers["retry-after"]) <= 60
        return refused

    async def upstream_error(self) -> httpx.Response:
        broken = await self.ask(input="please vanish")
        assert (broken.status_code, broken.json()["error"]["code"]) == (502, "upstream_error")
        return await self.ask(input="please break")

    async def server_is_overloaded(self) -> httpx.Response:
        return await self.ask(input="please be busy")

    async def upstream_timeout(self) -> httpx.Response:
        return await self.ask(input="please be late")


async def test_every_trouble_is_as_the_page_says(
    described: Described, client: httpx.AsyncClient
) -> None:
    async with Operator(described) as operator:
        walk = Walk(client, operator)
        assert len(described.troubles) >= 9
        for status, code, means, remedy in described.troubles:
            get_into: Callable[[], Awaitable[httpx.Response]] = getattr(walk, code)
            answer = await get_into()
            assert answer.json()["error"]["code"] == code
            assert str(answer.status_code) in status.split(", ")
            assert means
            assert remedy
