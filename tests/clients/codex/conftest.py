"""Codex on each dialect in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.conftest import Stage, serving, settings_file
from tests.clients.recorder import Recorder
from tests.clients.upstream import ScriptedUpstream

from .session import Session


@pytest.fixture
def codex(codex_binary: str, tmp_path: Path, stage: Stage) -> Iterator[Session]:
    """Codex on the stage of one dialect."""
    with Recorder(stage.base_url) as recorder:
        yield Session(codex_binary, tmp_path, recorder, stage.model)


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
            file = settings_file(tmp_path, upstream, server=server, model=model or {})
            base_url = stack.enter_context(serving(None, "--config", str(file)))
            recorder = stack.enter_context(Recorder(base_url))
            return Session(codex_binary, tmp_path, recorder, upstream.spoken.model)

        yield start
