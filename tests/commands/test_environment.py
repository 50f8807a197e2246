"""Options of `serve` as environment variables, as settings, and which of them wins."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.service.processes import served
from tests.service.wire import BOUND_S
from translator.__main__ import main
from translator.commands.environment import NAMES
from translator.service.config.settings import Settings
from translator.service.server import run, workers

UP = "http://127.0.0.1:9/v1"


class Started(NamedTuple):
    """What `serve` would have run with."""

    settings: Settings
    log_level: str
    watch: bool
    workers: bool


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    """The services that `serve` starts, none of which runs."""
    found: list[Started] = []

    def one(settings: Settings, *, log_level: str, watch: bool = False, **_: Any) -> int:
        found.append(Started(settings, log_level, watch, workers=False))
        return 0

    def several(settings: Settings, *, log_level: str, **_: Any) -> int:
        found.append(Started(settings, log_level, watch=False, workers=True))
        return 0

    monkeypatch.setattr(run, "run", one)
    monkeypatch.setattr(workers, "run", several)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(f'[server]\nport = 1\nlog_level = "error"\n[upstreams.a]\nbase_url = "{UP}"\n')
    return path


def set_all(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"TRANSLATOR_{name}", value)


VALUES = [
    ("HOST", "0.0.0.0", "host", "0.0.0.0"),
    ("PORT", "9000", "port", 9000),
    ("LOG_LEVEL", "debug", "log_level", "debug"),
    ("LOG_FORMAT", "json", "log_format", "json"),
    ("REASONING_EVENTS", "both", "reasoning_events", "both"),
    ("RETRIES", "0", "retries", 0),
    ("WATCH", "1", "watch", True),
    ("TRACE", "traces", "trace_folder", "traces"),
    ("WORKERS", "3", "workers", 3),
]


@pytest.mark.parametrize(("name", "text", "setting", "value"), VALUES)
def test_an_option_of_serve_is_a_variable_and_a_setting(
    name: str,
    text: str,
    setting: str,
    value: object,
    started: list[Started],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_all(monkeypatch, UPSTREAM=UP, **{name: text})
    assert main(["serve"]) == 0
    monkeypatch.delenv("TRANSLATOR_UPSTREAM")
    monkeypatch.delenv(f"TRANSLATOR_{name}")
    written = f'"{value}"' if isinstance(value, str) else str(value).lower()
    file = tmp_path / "settings.toml"
    file.write_text(f'[server]\n{setting} = {written}\n[upstreams.a]\nbase_url = "{UP}"\n')
    assert main(["serve", "--config", str(file)]) == 0
    for one in started:
        assert getattr(one.settings.server, setting) == value
        assert one.workers == (name == "WORKERS")
        assert one.watch == (name == "WATCH")
        level = {"WATCH": "warning", "LOG_LEVEL": "debug"}.get(name, "info")
        assert one.log_level == level
    assert len(started) == 2


def test_the_variables_of_an_upstream(
    started: list[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, UPSTREAM=UP, DIALECT="vllm", API_KEY_ENV="UP_KEY")
    monkeypatch.setenv("UP_KEY", "key-of-the-upstream")
    assert main(["serve"]) == 0
    [upstream] = started[0].settings.upstreams.values()
    assert (upstream.base_url, upstream.dialect) == (UP, "vllm")
    assert upstream.api_key == "key-of-the-upstream"


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    started: list[Started],
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["serve", "--config", str(config)]
    assert main(words) == 0
    set_all(monkeypatch, PORT="2", LOG_LEVEL="debug", WATCH="yes")
    assert main(words) == 0
    assert main([*words, "--port", "3", "--log-level", "info", "--no-watch"]) == 0
    seen = [(one.settings.server.port, one.log_level, one.watch) for one in started]
    assert seen == [(1, "error", False), (2, "debug", True), (3, "info", False)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1", True), ("0", False), ("true", True), ("False", False), ("YES", True)),
        *(("no", False), ("on", True), ("off", False), ("", False), (" ", False)),
    ],
)
def test_a_switch_takes_words(
    text: str, value: bool, started: list[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, UPSTREAM=UP, WATCH=text)
    assert main(["serve"]) == 0
    assert started[0].watch is value


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PORT": "x"}, "TRANSLATOR_PORT: 'x' is not a port number, 0 to 65535"),
        ({"PORT": "tcp://10.0.0.1:80"}, "TRANSLATOR_PORT: 'tcp://10.0.0.1:80' is not a port"),
        ({"WORKERS": "0"}, "TRANSLATOR_WORKERS: '0' is not a number of processes, 1 or more"),
        ({"RETRIES": "-1"}, "TRANSLATOR_RETRIES: '-1' is not a number of retries, 0 or more"),
        (
            {"LOG_LEVEL": "loud"},
            "TRANSLATOR_LOG_LEVEL: 'loud' is not one of debug, info, warning, error",
        ),
        ({"LOG_FORMAT": "xml"}, "TRANSLATOR_LOG_FORMAT: 'xml' is not one of text, json"),
        ({"REASONING_EVENTS": "all"}, "TRANSLATOR_REASONING_EVENTS: 'all' is not one of summary"),
        ({"WATCH": "maybe"}, "TRANSLATOR_WATCH: 'maybe' is neither 1, true, yes nor 0, false, no"),
        ({"UPSTREAM": "x"}, 'TRANSLATOR_UPSTREAM: "x" is not a URL that starts with http://'),
        ({"DIALECT": "x"}, 'TRANSLATOR_DIALECT: there is no dialect "x"; known: auto, '),
        ({"API_KEY_ENV": "NO_SUCH"}, "TRANSLATOR_API_KEY_ENV: the environment variable NO_SUCH"),
        ({"WATCH": "1", "WORKERS": "2"}, "TRANSLATOR_WATCH shows one process, not several"),
        ({"HOST": "no.such.invalid"}, "TRANSLATOR_HOST: there is no address for"),
        (
            {"CONFIG": "/no/such.toml", "UPSTREAM": ""},
            "TRANSLATOR_CONFIG: /no/such.toml cannot be read: No such file or directory",
        ),
        ({"TRACE": "false"}, "TRANSLATOR_TRACE: 'false' is no folder but a switch; name one"),
    ],
)
def test_a_bad_value_names_its_variable(
    variables: dict[str, str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_all(monkeypatch, **{"UPSTREAM": UP, **variables})
    assert main(["serve"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"translator: {sentence}")


OTHER = "http://127.0.0.1:8/v1"

CONFLICTS: list[tuple[list[str], dict[str, str], str | None, list[str]]] = [
    # typed --config: the variables of an upstream are ignored
    (
        ["--config", "FILE"],
        {"UPSTREAM": OTHER, "API_KEY_ENV": "KEY"},
        UP,
        [
            "TRANSLATOR_UPSTREAM is ignored: --config names the settings",
            "TRANSLATOR_API_KEY_ENV is ignored: --config names the settings",
        ],
    ),
    (["--config", "FILE"], {"CONFIG": "/no/such.toml"}, UP, []),
    # typed --upstream: the file is ignored
    (
        ["--upstream", UP],
        {"CONFIG": "/no/such.toml"},
        UP,
        ["TRANSLATOR_CONFIG is ignored: --upstream names the upstream"],
    ),
    # a key is for the upstream beside it
    (
        ["--upstream", UP],
        {"UPSTREAM": OTHER, "API_KEY_ENV": "NO_SUCH", "DIALECT": "x"},
        UP,
        [
            "TRANSLATOR_DIALECT is ignored: it belongs to TRANSLATOR_UPSTREAM, and --upstream "
            "names another one",
            "TRANSLATOR_API_KEY_ENV is ignored: it belongs to TRANSLATOR_UPSTREAM, and --upstream "
            "names another one",
        ],
    ),
    (["--upstream", UP], {"UPSTREAM": UP, "DIALECT": "vllm"}, UP, []),
    (["--upstream", UP], {"DIALECT": "vllm"}, UP, []),
    (["--dialect", "base"], {"UPSTREAM": UP, "DIALECT": "x"}, UP, []),
    # two of the same rank
    (
        [],
        {"UPSTREAM": OTHER, "CONFIG": "FILE"},
        None,
        ["TRANSLATOR_UPSTREAM cannot be used with TRANSLATOR_CONFIG: unset one of them"],
    ),
    (
        ["--dialect", "vllm"],
        {"CONFIG": "FILE"},
        None,
        ["--dialect cannot be used with TRANSLATOR_CONFIG: set it in the file"],
    ),
    (
        ["--config", "FILE", "--dialect", "vllm"],
        {"UPSTREAM": OTHER},
        None,
        ["--dialect cannot be used with --config: set it in the file"],
    ),
]


@pytest.mark.parametrize(("words", "variables", "url", "said"), CONFLICTS)
def test_where_two_sources_are_named_the_nearer_one_wins_and_it_is_said(
    words: list[str],
    variables: dict[str, str],
    url: str | None,
    said: list[str],
    started: list[Started],
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def named(text: str) -> str:
        return str(config) if text == "FILE" else text

    set_all(monkeypatch, **{name: named(text) for name, text in variables.items()})
    code = main(["serve", *map(named, words)])
    assert code == (2 if url is None else 0)
    prefix = "translator: " if url is None else "translator: note: "
    assert capsys.readouterr().err.splitlines() == [prefix + line for line in said]
    assert [one.settings.upstreams.popitem()[1].base_url for one in started] == [url] * (not code)


def test_a_misspelt_variable_is_noticed_and_others_are_not(
    started: list[Started], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others = {"API_KEY": "k", "KEY": "k", "REQUIRE_CLIENTS": "1", "ENGINE": "vllm", "CODEX": "x"}
    kubernetes = {
        "PORT": "tcp://10.3.4.5:8080",
        "SERVICE_HOST": "10.3.4.5",
        "SERVICE_PORT": "8080",
        "PORT_8080_TCP": "tcp://10.3.4.5:8080",
        "PORT_8080_TCP_PORT": "8080",
    }
    set_all(monkeypatch, UPSTREAM=UP, **others, **kubernetes)
    assert main(["serve"]) == 0
    assert started[0].settings.server.port == 8080  # the default: the other is a Service's
    assert capsys.readouterr().err == ""
    set_all(monkeypatch, PROT="1", LOGLEVEL="debug", CONFG="x")
    assert main(["serve"]) == 0
    said = sorted(capsys.readouterr().err.splitlines())
    assert said == [
        f"translator: note: TRANSLATOR_{typed} is not read; did you mean TRANSLATOR_{meant}?"
        for typed, meant in (("CONFG", "CONFIG"), ("LOGLEVEL", "LOG_LEVEL"), ("PROT", "PORT"))
    ]


def test_the_help_names_the_variable_of_each_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    options = told.partition(" options: ")[2].split(" --")[1:]
    named = [one.partition("[env: ")[2].partition("]")[0] for one in options if "[env: " in one]
    assert named == [f"TRANSLATOR_{name}" for name in NAMES]
    for command in ("probe", "codex", "opencode"):  # they read which upstreams there are
        with pytest.raises(SystemExit):
            main([command, "--help"])
        told = " ".join(capsys.readouterr().out.split())
        assert told.count("[env: ") == 4
        assert "[env: TRANSLATOR_CONFIG]" in told


@pytest.mark.skipif(os.name == "nt", reason="workers need file descriptors that are passed on")
def test_workers_read_the_same_environment(config: Path) -> None:
    """And say nothing that their parent has said."""
    variables = {
        "TRANSLATOR_CONFIG": str(config),
        "TRANSLATOR_DIALECT": "",
        "TRANSLATOR_LOG_LEVEL": "info",
        "TRANSLATOR_LOG_FORMAT": "json",
        "TRANSLATOR_WORKERS": "2",
        "TRANSLATOR_RETRIES": "0",
        "TRANSLATOR_PROT": "1",
    }
    with served(env=variables) as (line, process):
        begin, _, rest = line.partition(" and ")
        assert rest == f"forwards to {UP} (dialect base)\n"
        url = begin.removeprefix("translator listens on ")
        answer = httpx.post(f"{url}/responses", json={"model": "m", "input": "x"}, timeout=BOUND_S)
        assert answer.status_code == 502
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 0
    assert err.count("did you mean TRANSLATOR_PORT?") == 1
    assert '"status":502' in err.replace(" ", "")


@pytest.mark.parametrize("command", ["codex", "opencode"])
def test_clients_are_set_up_for_the_port_that_serve_listens_on(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    set_all(monkeypatch, UPSTREAM=UP, PORT="9000")
    assert main([command, "--model", "m", "--context-window", "1000"]) == 0
    out, err = capsys.readouterr()
    assert "http://127.0.0.1:9000/v1" in out
    assert f"translator serve --upstream {UP}" in err
