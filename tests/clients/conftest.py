"""The real programs that these tests start: the translator as users run it, and its clients.

What a test needs of them:

    stage       an upstream in one dialect with a translator in front, shared by the whole run;
                `stage.play(Turn(…), …)` gives it a script, `stage.base_url` is for the client
    serving     a translator of one's own, with options of one's own; `settings_file` is for --config
    needed      a client that is there, or else the sentence that says how to get it
    snippets    the blocks of code under a heading of docs/clients.md: a test's set-up is that one

A test of a cell of the matrix says so: `@pytest.mark.cell(client="openai Python", case="text")`.
With `@pytest.mark.heartbeats`, the translator on its stage tells a client of each moment in which
nothing comes, and the test fails where it did not.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from .matrix import (
    pytest_collection_modifyitems,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from .recorder import Recorder
from .spoken import SPOKEN
from .upstream import ScriptedUpstream, Step

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_runtest_logreport",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
]

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 30
HEARTBEATS = {"headers_grace_s": 0.1, "heartbeat_s": 0.1}
CODEX_TIMEOUT_S = 120
OLDER_CODEX = "codex-0.169"
KEY = "sk-the-upstreams-key"
DOCUMENTED_URL = "http://127.0.0.1:8080/v1"

SKIPPED = pytest.StashKey[bool]()

T = TypeVar("T")

# Codex looks for updates, plugins and statistics on the network: it finds a closed door.
NO_NETWORK = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}


# --- what has to be there ----------------------------------------------------------------------


def needed(what: str, found: T | None) -> T:
    """`found`; where there is nothing, the test is skipped, or fails where clients are required."""
    if found is not None:
        return found
    sentence = f"{what} is not here: `make clients` installs it and runs these tests"
    if os.environ.get("TRANSLATOR_REQUIRE_CLIENTS", "") not in ("", "0"):
        pytest.fail(sentence)
    pytest.skip(sentence)


def clients_folder() -> Path:
    """Where the Node clients are: what the environment names, else what `make clients` installs."""
    return Path(os.environ.get("TRANSLATOR_CLIENTS") or ROOT / ".clients")


def find_program(name: str) -> str | None:
    """A program: the environment's (TRANSLATOR_CODEX for codex), else the installed, else PATH's."""
    if named := os.environ.get(f"TRANSLATOR_{name.upper()}"):
        return named
    modules = clients_folder() / "node_modules"
    # Two versions of Codex are installed, of which npm links either as `codex`.
    packages = {"codex": "@openai/codex", OLDER_CODEX: OLDER_CODEX}
    script = f"{packages[name]}/bin/codex.js" if name in packages else f".bin/{name}"
    installed = modules / script
    return str(installed) if installed.exists() else shutil.which(name)


def find_package(name: str) -> Path | None:
    """The folder of an installed Node package, as "@ai-sdk/openai"."""
    folder = clients_folder() / "node_modules" / name
    return folder if (folder / "package.json").exists() else None


def needed_module(name: str, package: str) -> Any:
    """A Python module of a client's package."""
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        found = None
    return needed(package, found)


# --- the translator ----------------------------------------------------------------------------


@contextmanager
def serving(upstream: str | None, *options: str) -> Iterator[str]:
    """`translator serve` on a free port; yields the base URL that clients use.

    `upstream` is its base URL; None where the options have a --config.
    """
    command = [sys.executable, "-m", "translator", "serve", "--port", "0", *options]
    if upstream is not None:
        command += ["--upstream", upstream]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            for line in process.stdout or ():
                lines.put(line)
            lines.put(None)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield _listening(lines)
        finally:
            process.terminate()
            try:
                process.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join()


def _listening(lines: queue.Queue[str | None]) -> str:
    """The base URL in the start-up line."""
    seen = ""
    while (line := lines.get(timeout=START_TIMEOUT_S)) is not None:
        seen += line
        if address := re.search(r"listens on (http://\S+)", line):
            return address[1]
    pytest.fail(f"the translator did not start:\n{seen}")


def settings_file(
    folder: Path,
    upstream: ScriptedUpstream,
    *,
    server: Mapping[str, object] | None = None,
    model: Mapping[str, object] | None = None,
) -> Path:
    """Settings for one upstream; `server` and `model` stand in those sections.

    Without `model` there is no table of models, and any will do.
    """
    sections: dict[str, Mapping[str, object]] = {
        "server": server or {},
        "upstreams.scripted": {"base_url": upstream.base_url, "dialect": upstream.spoken.name},
    }
    if model is not None:
        sections[f"models.{json.dumps(upstream.spoken.model)}"] = {"upstream": "scripted", **model}
    file = folder / "settings.toml"
    file.write_text(
        "\n".join(
            line
            for name, section in sections.items()
            for line in (f"[{name}]", *(f"{key} = {json.dumps(v)}" for key, v in section.items()))
        )
    )
    return file


@dataclass(frozen=True)
class Stage:
    """A scripted upstream and a translator in front of it."""

    upstream: ScriptedUpstream
    base_url: str
    recorder: Recorder | None = None
    """What passes between a client and a translator that sends heartbeats."""

    @property
    def dialect(self) -> str:
        return self.upstream.spoken.name

    @property
    def model(self) -> str:
        return self.upstream.spoken.model

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The chat requests that the upstream got since the script began."""
        return self.upstream.requests

    def play(self, *script: Step) -> None:
        self.upstream.play(*script)


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Stage]]:
    """The stage of each dialect, set up when it is first asked for and kept to the end."""
    known: dict[tuple[str, bool], Stage] = {}
    with ExitStack() as stack:

        def set_up(dialect: str, heartbeats: bool) -> Stage:
            upstream = stack.enter_context(ScriptedUpstream(speaks=dialect))
            if not heartbeats:
                # What a client does about a refusal is the client's here, not the service's.
                options = ("--dialect", dialect, "--retries", "0")
                return Stage(upstream, stack.enter_context(serving(upstream.base_url, *options)))
            file = settings_file(tmp_path_factory.mktemp(dialect), upstream, server=HEARTBEATS)
            base_url = stack.enter_context(serving(None, "--config", str(file)))
            recorder = stack.enter_context(Recorder(base_url))
            return Stage(upstream, recorder.base_url, recorder)

        def stage(dialect: str, *, heartbeats: bool = False) -> Stage:
            if (dialect, heartbeats) not in known:
                known[dialect, heartbeats] = set_up(dialect, heartbeats)
            return known[dialect, heartbeats]

        yield stage


@pytest.fixture(params=SPOKEN)
def dialect(request: pytest.FixtureRequest) -> str:
    """Each dialect in turn. A test that is slow may name fewer: parametrize("dialect", […])."""
    name: str = request.param
    return name


@pytest.fixture
def stage(
    dialect: str, stages: Callable[..., Stage], request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """The stage of one dialect, empty. Whatever the test does, the upstream may refuse nothing."""
    heartbeats = request.node.get_closest_marker("heartbeats") is not None
    stage = stages(dialect, heartbeats=heartbeats)
    stage.play()
    if stage.recorder is not None:
        stage.recorder.exchanges.clear()
    yield stage
    if request.node.stash.get(SKIPPED, False):
        return  # nothing was asked, so there is nothing to look at
    assert stage.upstream.refusals == []
    assert stage.upstream.left == 0, "turns of the script were not asked for"
    if stage.recorder is not None:
        _check_heartbeats(stage.recorder)


@pytest.fixture
def patient_stage(dialect: str, stages: Callable[..., Stage]) -> Iterator[Stage]:
    """The stage of one dialect with many heartbeats, for a WebSocket: nothing records what passes.

    The test looks itself, with `check_heartbeats`.
    """
    stage = stages(dialect, heartbeats=True)
    assert stage.recorder is not None
    stage.play()
    yield Stage(stage.upstream, f"http://{stage.recorder.address}/v1")
    assert stage.upstream.refusals == []


def check_heartbeats(types: Sequence[str]) -> None:
    """Among the types of all events there are heartbeats before the answer, and within it."""
    first = types.index("response.output_item.added")
    assert types[:first].count("response.in_progress") > 1
    assert types[first:].count("response.in_progress") > 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a test was skipped, by itself or a fixture: the other fixtures still end."""
    report = yield
    if report.skipped:
        item.stash[SKIPPED] = True
    return report


def _check_heartbeats(recorder: Recorder) -> None:
    """There were some before the answer, and some within it; chat completions know none."""
    assert recorder.exchanges
    for exchange in recorder.exchanges:
        if exchange.path.endswith("/responses"):
            before, _, within = exchange.body.partition(b"event: response.output_item.added")
            assert before.count(b"event: response.in_progress") > 1
            assert within.count(b"event: response.in_progress") > 0


# --- the documentation -------------------------------------------------------------------------


def snippets(heading: str, language: str) -> Sequence[str]:
    """The blocks of code in one language under a heading of docs/clients.md, up to the next one."""
    text = (ROOT / "docs" / "clients.md").read_text("utf-8")
    _, found, rest = text.partition(f"\n## {heading}\n")
    assert found, f"docs/clients.md has no heading {heading}"
    section = re.split(r"^#{2,3} ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert blocks, f"docs/clients.md has no {language} block under {heading}"
    return blocks


def at(base_url: str, text: str) -> str:
    """A documented set-up with the base URL of this run put in."""
    assert DOCUMENTED_URL in text, f"the documented base URL is not in:\n{text}"
    return text.replace(DOCUMENTED_URL, base_url)


# --- Codex -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What one run of Codex left behind."""

    code: int
    printed: str  # stdout: the last message
    log: str  # stderr: the session as it went
    last_message: str


class Codex:
    """The Codex CLI with a home and a folder of its own."""

    def __init__(self, binary: str, scratch: Path, base_url: str) -> None:
        self._binary = binary
        self.home = scratch / "home"
        self.folder = scratch / "folder"
        self.home.mkdir()
        self.folder.mkdir()
        [config] = snippets("Codex CLI", "toml")
        (self.home / "config.toml").write_text(at(base_url, config))

    def exec(self, prompt: str, *arguments: str) -> Outcome:
        """`codex exec`, to its end; the model may do what it likes in the scratch folder."""
        answer = self.home / "last-message.txt"
        answer.unlink(missing_ok=True)
        command = [self._binary, "exec", *arguments]
        command += ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        command += ["--output-last-message", str(answer), prompt]
        environment = NO_NETWORK | {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CODEX_HOME": str(self.home),
            "FIREWORKS_API_KEY": KEY,
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CODEX_TIMEOUT_S,
            check=False,
        )
        last_message = answer.read_text() if answer.exists() else ""
        return Outcome(done.returncode, done.stdout, done.stderr, last_message)


@pytest.fixture(scope="session")
def codex_binary(request: pytest.FixtureRequest) -> str:
    """The newest Codex CLI; `with_older_codex` runs a test with an older one, too."""
    name = getattr(request, "param", "codex")
    return needed(f"the Codex CLI ({name})", find_program(name))


with_older_codex = pytest.mark.parametrize(
    "codex_binary", ["codex", OLDER_CODEX], indirect=True, ids=["newest", OLDER_CODEX]
)


@pytest.fixture
def codex_on(codex_binary: str, tmp_path: Path) -> Iterator[Callable[..., Codex]]:
    """Codex on an upstream, with a translator of its own between them: `codex_on(upstream)`.

    Further arguments are options of `translator serve`.
    """
    with ExitStack() as stack:

        def start(upstream: ScriptedUpstream, *options: str) -> Codex:
            stack.enter_context(upstream)
            dialect = ("--dialect", upstream.spoken.name)
            base_url = stack.enter_context(serving(upstream.base_url, *dialect, *options))
            return Codex(codex_binary, tmp_path, base_url)

        yield start
