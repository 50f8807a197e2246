"""A service that captures exchanges, and the folders that it writes."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import fixture_cases
from tests.fixture_cases import Case
from tests.fixture_cases import run as run_case
from tests.service.chat_bodies import chunk
from tests.service.wire import Call, client_of, serving
from translator.__main__ import main
from translator.service.config.settings import Settings
from translator.service.server.observers import observing

OWN_KEY = "sk-of-the-operator/+1"
CLIENT_KEY = "sk-of-the-client/+2"
END = "response.completed"
THINKING = [
    chunk({"role": "assistant", "reasoning_content": "Hm. "}),
    chunk({"content": "Yes."}),
    chunk({}, "stop"),
    b"data: [DONE]\n\n",
]


@asynccontextmanager
async def tracing(settings: Settings) -> AsyncGenerator[httpx.AsyncClient]:
    """An HTTP client of a service that captures exchanges; all are written on exit."""
    with observing(settings, None) as observe:
        async with client_of(settings, observe=observe) as client:
            yield client


@asynccontextmanager
async def tracing_server(settings: Settings) -> AsyncGenerator[str]:
    """The same on a real socket; its base URL."""
    with observing(settings, None) as observe:
        async with serving(settings, observe=observe) as base:
            yield base


def kept(folder: Path) -> list[Path]:
    """The captured exchanges in a folder, the oldest first."""
    return sorted(path for path in folder.iterdir() if path.is_dir())


def exchange_toml(folder: Path) -> dict[str, Any]:
    """The content of `exchange.toml`."""
    return tomllib.loads((folder / "exchange.toml").read_text("utf-8"))


def files(folder: Path) -> set[str]:
    """The paths of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def assert_replays(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """`translator replay` finds no difference in the folder; its output."""
    capsys.readouterr()
    code = main(["replay", str(folder)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, ""), out + err
    assert "not the same" not in out
    return out


def assert_fixture(
    folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch, name: str = "up/a_case"
) -> Case:
    """The fixture that `translator fixture` makes of the folder passes as a test case."""
    assert main(["fixture", str(folder), "--to", str(place), "--name", name]) == 0
    monkeypatch.setattr(fixture_cases, "ROOT", place)
    case = Case(place / name)
    outcome = run_case(case)
    assert fixture_cases.disagreements(case, outcome) == []
    assert outcome.files() == case.expected()
    assert "events.jsonl" in case.expected() or not (case.request or {}).get("stream")
    return case


def answering(*chunks: bytes, status: int = 200) -> Callable[[Call], Any]:
    """A script that sends these chunks."""

    async def script(call: Call) -> None:
        await call.head(status)
        await call.send(*chunks)
        await call.end()

    return script
