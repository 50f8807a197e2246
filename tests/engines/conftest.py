"""The engines, started once per session, and translator in front of them.

engine          the engine that TRANSLATOR_ENGINE names: llama.cpp (if not given) or vllm
client          a client of `translator serve` in front of it
llama_server    starts another llama.cpp: `llama_server(template=Path(…), n_ctx=4096)`
only_llama_cpp  skips a test for other engines
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import serving

from . import comparison
from .engine import VLLM, Client, Engine, llama_cpp, vllm

ENGINE = os.environ.get("TRANSLATOR_ENGINE") or "llama.cpp"

pytest_sessionfinish = comparison.pytest_sessionfinish
pytest_terminal_summary = comparison.pytest_terminal_summary


def needed(there: bool, what: str) -> None:
    """Skip the test where something is not there, or fail where engines are required."""
    if there:
        return
    sentence = f"{what} is not here: `make engines` installs it and runs these tests"
    if os.environ.get("TRANSLATOR_REQUIRE_ENGINES", "") not in ("", "0"):
        pytest.fail(sentence)
    pytest.skip(sentence)


def _needed_modules(*names: str) -> None:
    for name in names:
        needed(importlib.util.find_spec(name) is not None, f"the package {name}")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model for llama.cpp."""
    _needed_modules("gguf", "tokenizers", "numpy")
    from .parrot import write_model

    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def llama_server(
    model_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Engine]]:
    """Starts llama.cpp: with a chat template from a file, and fields of its parameters.

    Whoever ends one by hand gives it a field that no other has.
    """
    _needed_modules("xllamacpp")
    running: dict[str, Engine] = {}
    with ExitStack() as stack:

        def start(*, template: Path | None = None, **fields: Any) -> Engine:
            if template is not None:
                fields["chat_template"] = template.read_text("utf-8")
            key = repr(sorted(fields.items()))
            if key not in running:
                log = tmp_path_factory.mktemp("llama_cpp") / "log"
                running[key] = stack.enter_context(llama_cpp(model_file, log, **fields))
            return running[key]

        yield start


@pytest.fixture(scope="session")
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """The engine under test."""
    if ENGINE == "llama.cpp":
        yield request.getfixturevalue("llama_server")()
        return
    assert ENGINE == "vllm", f"there is no engine {ENGINE}"
    needed(VLLM.exists(), "vLLM")
    _needed_modules("tokenizers", "numpy")
    from .parrot import write_model

    folder = tmp_path_factory.mktemp("vllm")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with vllm(write_model(folder, checkpoint=True), folder / "log", port) as running:
        yield running


@pytest.fixture
def only_llama_cpp(engine: Engine) -> None:
    if engine.name != "llama.cpp":
        pytest.skip(f"not for {engine.name}")


@pytest.fixture(scope="session")
def service_url(engine: Engine) -> Iterator[str]:
    """The base URL of translator in front of the engine."""
    with serving(engine.base_url, "--dialect", engine.dialect) as url:
        yield url


@pytest.fixture(scope="session")
def client(service_url: str) -> Iterator[Client]:
    made = Client(service_url)
    yield made
    made.close()


@pytest.fixture(params=[False, True], ids=["plain", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    asked: bool = request.param
    return asked
