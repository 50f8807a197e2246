"""Codex on each dialect in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.conftest import Stage, serving
from tests.clients.upstream import ScriptedUpstream

from .recorder import Recorder
from .session import Session


@pytest.fixture
def codex(codex_binary: str, tmp_path: Path, stage: Stage) -> Iterator[Session]:
    """Codex on the stage of one dialect."""
    with Recorder(stage.base_url) as recorder:
        yield Session(codex_binary, tmp_path, recorder, stage.model)


Settings = Mapping[str, Mapping[str, object]]


@pytest.fixture
def codex_with(codex_binary: str, tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Codex on a translator with settings of its own: `codex_with(upstream, model={…})`.

    `server` and `model` are what stands in those sections of the settings.
    """
    with ExitStack() as stack:

        def start(
            upstream: ScriptedUpstream,
            *,
            server: Mapping[str, object] | None = None,
            model: Mapping[str, object] | None = None,
        ) -> Session:
            stack.enter_context(upstream)
            name = upstream.spoken.model
            sections = {
                "server": server or {},
                "upstreams.scripted": {
                    "base_url": upstream.base_url,
                    "dialect": upstream.spoken.name,
                },
                f"models.{json.dumps(name)}": {"upstream": "scripted", **(model or {})},
            }
            file = tmp_path / "settings.toml"
            file.write_text(_toml(sections))
            base_url = stack.enter_context(serving(None, "--config", str(file)))
            recorder = stack.enter_context(Recorder(base_url))
            return Session(codex_binary, tmp_path, recorder, name)

        yield start


def _toml(sections: Settings) -> str:
    return "\n".join(
        line
        for name, section in sections.items()
        for line in (f"[{name}]", *(f"{key} = {json.dumps(v)}" for key, v in section.items()))
    )
