"""`translator up`: a service for one client, from the checks before it to the report after it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from translator.__main__ import main
from translator.launch import session
from translator.launch.clients import Kind, start_of, target_of
from translator.launch.service_process import Reply, _LogFile
from translator.launch.session import Asked, CannotLaunch, _check_reachable, _upstreams
from translator.service.config.loading import read_options, read_table
from translator.setup.client import Setup, setup

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 90.0
MODEL = "org/small-model"
KEY = "sk-the-key-of-the-operator"


class Upstream:
    """A chat upstream that answers everything alike; each field may be changed by a test."""

    def __init__(self) -> None:
        self.models: list[dict[str, Any]] = [{"id": MODEL, "max_model_len": 4321}]
        self.list_status = 200
        self.chat_status = 200
        self.needs_key = False
        self.keys: list[str | None] = []
        self.requests: list[dict[str, Any]] = []

    def answer(self, path: str, key: str | None, body: bytes) -> tuple[int, object]:
        if self.needs_key and key != f"Bearer {KEY}":
            return 401, {"error": {"message": "no such key", "code": "invalid_api_key"}}
        if path == "/v1/models":
            return self.list_status, {"object": "list", "data": self.models}
        if path == "/v1/chat/completions":
            self.keys.append(key)
            self.requests.append(json.loads(body))
            message = {"role": "assistant", "content": "Hello."}
            return self.chat_status, {"choices": [{"message": message, "finish_reason": "stop"}]}
        return 404, {"error": {"message": f"there is no {path}"}}


@contextmanager
def served(upstream: Upstream) -> Iterator[str]:
    """An upstream on a free port; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, value = upstream.answer(self.path, self.headers["authorization"], body)
            encoded = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_POST = do_GET  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def url(upstream: Upstream) -> Iterator[str]:
    with served(upstream) as url:
        yield url


def up(
    *words: str, environ: Mapping[str, str] | None = None, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """`translator up` to its end, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "translator", "up", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def python(program: str) -> list[str]:
    return ["--", sys.executable, "-c", program]


CLIENT = f"""
import json, os, sys, urllib.error, urllib.request
base = os.environ["OPENAI_BASE_URL"]
def ask(key):
    body = json.dumps(dict(model="{MODEL}", input="hi")).encode()
    headers = dict([("content-type", "application/json"), ("authorization", "Bearer " + key)])
    try:
        with urllib.request.urlopen(urllib.request.Request(base + "/responses", body, headers)) as a:
            return json.load(a)["output"][0]["content"][0]["text"]
    except urllib.error.HTTPError as error:
        return error.code
print(ask(os.environ["OPENAI_API_KEY"]), base)
"""
WITH_ANOTHER_KEY = "print(ask('another'))\n"


NEVER = python("print('the client has started')")


# --- a client that runs ------------------------------------------------------------------------


def test_a_program_gets_the_service_and_the_service_ends_with_it(
    upstream: Upstream, url: str
) -> None:
    """With the operator's key upstream, and one of this run alone for the client."""
    upstream.needs_key = True
    options = ["--upstream", url, "--api-key-env", "THE_KEY"]
    done = up(*options, *python(CLIENT + "sys.exit(7)"), environ={"THE_KEY": KEY})
    assert done.returncode == 7
    assert done.stderr == ""
    text, base = done.stdout.split()
    assert text == "Hello."
    assert upstream.keys == [f"Bearer {KEY}"]
    host, port = base.removeprefix("http://").removesuffix("/v1").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_a_settings_file_keeps_what_does_not_concern_others(url: str, tmp_path: Path) -> None:
    """Its clients, its ports and its workers are those of another service."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = tmp_path / "settings.toml"
        file.write_text(f"""
[server]
host = "0.0.0.0"
port = {port}
metrics_port = {port}
workers = 2
allowed_hosts = ["llm.example.org"]
log_format = "json"

[upstreams.one]
base_url = "{url}"

[models."{MODEL}"]
upstream = "one"

[clients.ann]
keys = ["sha256:{"0" * 16}:{"0" * 64}"]
""")
        done = up("--config", str(file), *python(CLIENT + WITH_ANOTHER_KEY))
    assert (done.returncode, done.stderr) == (0, "")
    text, base, other = done.stdout.split()
    assert (text, other) == ("Hello.", "401")
    assert base.startswith("http://127.0.0.1:")


def test_a_service_that_dies_is_told_of_at_the_end(url: str) -> None:
    program = """
import os, signal
me = os.getpid()
children = open(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read().split()
[service] = [int(one) for one in children if int(one) != me]
os.kill(service, signal.SIGKILL)
"""
    if not Path("/proc/self/task").exists():
        pytest.skip("there is no /proc")
    done = up("--upstream", url, *python(program))
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert first == "translator: the service ended before the client, with status 137"
    log = Path(second.removeprefix("translator: log of the service: "))
    assert "a client needs a key here" in log.read_text()
    log.unlink()


def test_the_service_ends_where_we_are_killed(url: str, tmp_path: Path) -> None:
    program = "import os; print(os.environ['OPENAI_BASE_URL'], flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-m", "translator", "up", "--upstream", url, *python(program)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # what a killed process leaves there stays
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        base = process.stdout.readline().strip()
        port = int(base.removesuffix("/v1").rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port)).close()
        process.kill()
        process.wait()
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)


FAKE_CODEX = f"""\
#!{sys.executable}
import json, sys
options = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
models = json.load(open(json.loads(options["model_catalog_json"])))["models"]
print(json.dumps([json.loads(options["model"]), [[m["slug"], m.get("context_window")] for m in models]]))
"""


def test_codex_gets_the_models_that_the_upstream_lists(
    upstream: Upstream, url: str, tmp_path: Path
) -> None:
    """The first that can write comes first; windows are the upstream's, else the option's."""
    upstream.models = [
        {"id": "nomic-embed-text"},
        {"id": "b", "context_length": 1000},
        {"id": "c"},
        {"id": "b"},
    ]
    codex = tmp_path / "codex"
    codex.write_text(FAKE_CODEX)
    codex.chmod(0o755)
    options = ["--upstream", url, "--context-window", "77"]
    done = up(*options, "--", "codex", environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["b", [["b", 1000], ["c", 77]]]
    assert done.stderr == (
        "translator: the model is b, the first of b, c; --model NAME chooses another\n"
    )


def test_failed_requests_of_a_client_that_fails_are_told_with_the_log(
    upstream: Upstream, url: str, tmp_path: Path
) -> None:
    """The log is kept; with --log it is where the user wants it."""
    upstream.chat_status = 400
    log = tmp_path / "service.log"
    options = ["--upstream", url, "--log", str(log)]
    done = up(*options, *python(CLIENT + "sys.exit(1)"))
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("translator: a request failed: ")
    assert " POST /v1/responses 40" in first
    assert second == f"translator: log of the service: {log}"
    assert "POST /v1/responses 40" in log.read_text()


def test_sigterm_before_the_client_starts_leaves_nothing(tmp_path: Path) -> None:
    """The service waits for an upstream that never lists its models."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with subprocess.Popen(
            [sys.executable, "-m", "translator", "up", "--upstream", url, *NEVER],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            silent.accept()[0].close()  # the check that somebody listens
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(10) == b"GET /v1/mo"
                process.terminate()
                assert process.wait(TIMEOUT_S) == 143
                assert process.stderr is not None
                assert process.stderr.read() == b""
                deadline = time.monotonic() + TIMEOUT_S
                while connection.recv(4096):  # the service's end of it
                    assert time.monotonic() < deadline
    assert list(tmp_path.iterdir()) == []


def test_the_log_has_a_bound(tmp_path: Path) -> None:
    file = tmp_path / "log"
    log = _LogFile(file, maxBytes=1000, backupCount=1, encoding="utf-8")
    for number in range(500):
        log.write(f"line {number} {'x' * 50}")
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    assert "line 499 " in file.read_text()


# --- mistakes before the client starts ---------------------------------------------------------


@pytest.fixture
def sentence(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """The sentence of a run in which no client starts."""
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-m", "translator"])
    monkeypatch.setattr(sys, "argv", ["translator"])

    def run(*words: str) -> str:
        assert main(["up", *words]) == 2
        shown = capfd.readouterr()
        assert shown.out == ""
        [line] = shown.err.splitlines()
        return line.removeprefix("translator: ")

    return run


def test_an_upstream_without_the_key_it_wants(
    upstream: Upstream,
    url: str,
    sentence: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream.needs_key = True
    assert sentence("--upstream", url, *NEVER) == (
        f"the upstream {url} wants a key: put it into an environment variable and name that with"
        " --api-key-env NAME"
    )
    monkeypatch.setenv("THE_KEY", "wrong-key")
    assert sentence("--upstream", url, "--api-key-env", "THE_KEY", *NEVER) == (
        f"the upstream {url} refuses the key in THE_KEY"
    )


def test_an_upstream_without_its_path(url: str, sentence: Callable[..., str]) -> None:
    """The service finds out where the models are."""
    bare = url.removesuffix("/v1")
    assert sentence("--upstream", bare, *NEVER) == (
        f"the upstream {bare} has no list of models there: its base_url may have to end in /v1"
    )


def test_only_the_upstream_of_the_model_has_to_be_there(url: str) -> None:
    table = {
        "upstreams": {"up": {"base_url": url}, "down": {"base_url": "http://127.0.0.1:9/v1"}},
        "models": {"a": {"upstream": "down"}, "b": {"upstream": "up"}},
    }
    settings = read_table(table, {})

    def check(model: str | None, kind: Kind) -> None:
        _check_reachable(_upstreams(settings, model, kind), {})

    check("b", "codex")
    check("b", "other")
    check(None, "other")
    for model in (None, "a"):
        with pytest.raises(CannotLaunch, match="nothing listens"):
            check(model, "codex")


class _Hangs:
    """A service whose upstream does not answer for its list of models."""

    def get(self, path: str, seconds: float) -> Reply:
        raise TimeoutError


@pytest.mark.parametrize("model", [None, MODEL])
def test_an_upstream_whose_list_does_not_come(model: str | None) -> None:
    """It is named, with what to do; a model that is given needs no list."""
    settings = read_options(upstream="http://up.test/v1", environ={})
    asked = Asked(command=["codex"], options=[], model=model)
    if model is not None:
        assert session._list_of(cast("Any", _Hangs()), settings, asked).value is None
        return
    with pytest.raises(CannotLaunch, match=r"http://up.test/v1 has not listed .* --model NAME"):
        session._list_of(cast("Any", _Hangs()), settings, asked)


def test_an_upstream_that_lists_no_models(
    upstream: Upstream, url: str, tmp_path: Path, sentence: Callable[..., str]
) -> None:
    """Codex needs one that writes."""
    upstream.models = [{"id": "text-embedding-3"}]
    codex = tmp_path / "codex"
    codex.write_text("#!/bin/sh\necho started")
    codex.chmod(0o755)
    assert sentence("--upstream", url, "--", str(codex)) == (
        "the upstream lists no models: name yours with --model NAME"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--upstream", "http://127.0.0.1:9/v1"],
            "up needs a command to run, as in: translator up --upstream URL -- codex",
        ),
        (["--", "codex"], "up needs --upstream URL or --config FILE"),
        (
            ["--upstream", "http://127.0.0.1:9/v1", "--", "no-such-program"],
            "there is no program no-such-program in PATH",
        ),
        (
            ["--upstream", "http://127.0.0.1:9/v1", "--", "/no/such/program"],
            "there is no program /no/such/program",
        ),
        (
            ["--upstream", "http://127.0.0.1:9/v1", *NEVER],
            "the upstream http://127.0.0.1:9/v1 cannot be reached: nothing listens at 127.0.0.1:9:"
            " is it running?",
        ),
        (
            ["--upstream", "http://no-host.invalid/v1", *NEVER],
            "the upstream http://no-host.invalid/v1 cannot be reached: there is no host"
            " no-host.invalid",
        ),
        (
            ["--upstream", "http://127.0.0.1:9/v1", "--api-key-env", "NOT_SET_HERE", *NEVER],
            "--api-key-env: the environment variable NOT_SET_HERE is not set",
        ),
        (
            ["--upstream", "http://127.0.0.1:9/v1", "--log", "/no/such/folder/log", *NEVER],
            "--log: /no/such/folder/log cannot be written: No such file or directory",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], expected: str, sentence: Callable[..., str]
) -> None:
    assert sentence(*words) == expected


# --- what each client is started with ----------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "kind", "options_at"),
    [
        ("codex exec hi", "codex", 1),
        ("/opt/bin/codex.js exec", "codex", 1),
        ("C:\\npm\\codex.cmd", "codex", 1),
        ("npx -y @openai/codex@0.171.0 exec", "codex", 3),
        ("env A=1 codex", "codex", 3),
        ("opencode run codex", "opencode", 1),
        ("bunx opencode-ai@latest", "opencode", 2),
        ("python agent.py codex", "other", 1),
        ("npx -y something", "other", 1),
    ],
)
def test_a_client_is_known_by_its_program(command: str, kind: str, options_at: int) -> None:
    target = target_of(command.split())
    assert (target.kind, target.options_at) == (kind, options_at)


@pytest.fixture
def known() -> Setup:
    settings = read_options(upstream="http://127.0.0.1:9/v1", environ={})
    return setup(
        settings, models=[MODEL, "b"], base_url="http://here/v1", key_env="TRANSLATOR_API_KEY"
    )


Started = Callable[..., tuple[list[str], dict[str, str]]]


@pytest.fixture
def started(known: Setup, tmp_path: Path) -> Started:
    def start(command: str, environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        words = command.split()
        found = start_of(
            words,
            target_of(words),
            known,
            base_url=known.base_url,
            key="trk_1",
            environ=environ,
            folder=tmp_path,
        )
        return found.command, found.environ

    return start


def test_codex_gets_options_before_its_own(started: Started, tmp_path: Path) -> None:
    command, environ = started("npx codex -c model=x exec", {"A": "1"})
    catalog = tmp_path / "model_catalog.json"
    assert command == [
        *("npx", "codex"),
        *("-c", f'model="{MODEL}"'),
        *("-c", 'model_provider="translator"'),
        *("-c", f'model_catalog_json="{catalog}"'),
        "-c",
        'model_providers.translator={ name = "translator", base_url = "http://here/v1", '
        'wire_api = "responses", env_key = "TRANSLATOR_API_KEY", supports_websockets = true }',
        *("-c", "model=x", "exec"),
    ]
    assert environ == {"A": "1", "TRANSLATOR_API_KEY": "trk_1"}
    slugs = [entry["slug"] for entry in json.loads(catalog.read_text())["models"]]
    assert slugs == [MODEL, "b"]


def test_opencode_gets_a_configuration_over_the_one_that_is_there(started: Started) -> None:
    given = {"theme": "dark", "model": "openai/x", "provider": {"mine": {"npm": "n"}}}
    command, environ = started("opencode run hi", {"OPENCODE_CONFIG_CONTENT": json.dumps(given)})
    assert command == ["opencode", "run", "hi"]
    config = json.loads(environ["OPENCODE_CONFIG_CONTENT"])
    assert config["theme"] == "dark"
    assert config["model"] == config["small_model"] == f"translator/{MODEL}"
    assert set(config["provider"]) == {"mine", "translator"}
    assert list(config["provider"]["translator"]["models"]) == [MODEL, "b"]


@pytest.mark.parametrize(
    ("given", "no_proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:1"}, "127.0.0.1"),
        ({"http_proxy": "http://p:1", "NO_PROXY": "a.test"}, "a.test,127.0.0.1"),
    ],
)
def test_no_proxy_stands_between_a_client_and_the_service(
    started: Started, given: dict[str, str], no_proxy: str | None
) -> None:
    _, environ = started("agent", given)
    assert environ["OPENAI_API_KEY"] == "trk_1"
    assert environ["OPENAI_BASE_URL"] == "http://here/v1"
    assert environ.get("NO_PROXY") == environ.get("no_proxy") == no_proxy
