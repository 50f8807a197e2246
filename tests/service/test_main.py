"""The command line: its output, its usage errors and its exit codes."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from translator.__main__ import main
from translator.dialects import DIALECTS
from translator.dialects.table import markdown
from translator.program.invocation import install_hint

from .chat_bodies import COMPLETION, HELLO
from .processes import served
from .wire import BOUND_S

REQUEST = {
    "model": "m",
    "input": "Grüße",
    "tools": [{"type": "function", "name": "ls", "parameters": {"type": "object"}}],
}


class Stdin(io.TextIOWrapper):
    """Standard input that holds these bytes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="ascii")


def given(monkeypatch: pytest.MonkeyPatch, content: bytes | dict[str, Any]) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    monkeypatch.setattr(sys, "stdin", Stdin(body))


def test_convert_prints_the_chat_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, REQUEST)
    assert main(["convert"]) == 0
    out, err = capsys.readouterr()
    chat = json.loads(out)
    assert chat["messages"] == [{"role": "user", "content": "Grüße"}]
    assert chat["tools"][0]["function"]["name"] == "ls"
    assert '\n  "model": "m"' in out  # for people to read
    assert "Grüße" in out
    assert err == ""


def test_convert_prints_what_is_lost_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, REQUEST | {"tools": [{"type": "web_search"}]})
    assert main(["convert", "--dialect", "fireworks"]) == 0
    out, err = capsys.readouterr()
    assert "web_search" not in out
    lines = err.splitlines()
    assert len(lines) >= 1
    for line in lines:
        assert line.startswith("notice: ")
        assert line.endswith("]")
    assert "notice: tools[0]" in err


def test_convert_names_the_field_of_a_bad_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, {"model": "m", "input": [{"role": "user", "content": 3}]})
    assert main(["convert"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("input[0].content: ")
    assert err.count("\n") == 1


def test_convert_reads_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(REQUEST))
    assert main(["convert", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "m"


def test_replay_prints_frames(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs: list[str] = []
    for _ in range(2):
        given(monkeypatch, b"".join(HELLO))
        assert main(["replay"]) == 0
        runs.append(capsys.readouterr().out)
    assert runs[0] == runs[1]
    assert runs[0].startswith("event: response.created\ndata: {")
    assert '"delta":"Hello"' in runs[0]
    assert runs[0].endswith("\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("body", [b"".join(HELLO), json.dumps(COMPLETION).encode()])
def test_replay_prints_one_event_per_line(
    body: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "upstream.sse"
    file.write_bytes(body)
    assert main(["replay", "--json", "--dialect", "fireworks", str(file)]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Hello world"


def test_replay_takes_the_request_that_was_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(REQUEST | {"model": "asked"}))
    given(monkeypatch, b"".join(HELLO))
    assert main(["replay", "--json", "--request", str(file), "-"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["response"]["model"] == "asked"
    assert last["response"]["tools"][0]["name"] == "ls"
    file.write_text("{}")
    given(monkeypatch, b"".join(HELLO))
    assert main(["replay", "--request", str(file)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"{file}: ")


def test_dialects_prints_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dialects"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    heads = [line.partition(" ")[0] for line in out.splitlines() if line[:1] not in ("", " ")]
    assert heads == list(DIALECTS)
    assert "fireworks  (api.fireworks.ai)" in out
    assert max(map(len, out.splitlines())) <= 100


def test_dialects_prints_one_with_all_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dialects", "deepseek"]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("deepseek  (api.deepseek.com)\n")
    assert "\n  reasoning_required = true\n" in out
    assert "\n  cumulative = false\n" in out


def test_dialects_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dialects", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in found] == list(DIALECTS)
    assert main(["dialects", "deepseek", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one in found
    assert one["hosts"] == ["api.deepseek.com"]


def test_dialects_prints_the_table_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dialects", "--markdown"]) == 0
    assert capsys.readouterr().out == markdown()


MISTAKES: list[tuple[list[str], str]] = [
    (["sevre"], "invalid choice: 'sevre'"),
    (["--verison"], "unrecognized arguments: --verison (see translator --help)"),
    (["completion", "tcsh"], "argument shell: invalid choice: 'tcsh'"),
    (["serve"], "serve needs --upstream URL or --config FILE"),
    (["serve", "--port", "x"], "argument --port: 'x' is not a port number, 0 to 65535"),
    (["serve", "--port", "65536"], "argument --port: '65536' is not a port number, 0 to 65535"),
    (
        ["serve", "--upstream", "x"],
        '--upstream: "x" is not a URL that starts with http:// or https://',
    ),
    (
        ["serve", "--upstream", "my.toml"],
        "--upstream takes a URL; for a settings file use --config my.toml",
    ),
    (
        ["serve", "--config", "http://u/v1"],
        "--config takes a settings file; for a URL use --upstream http://u/v1",
    ),
    (
        ["serve", "--upstream", "http://u", "--dialect", "opena"],
        '--dialect: there is no dialect "opena"; did you mean openai? known: auto, base, ',
    ),
    (
        ["serve", "--upstream", "http://u", "--dialect", "x"],
        '--dialect: there is no dialect "x"; known: auto, base, ',
    ),
    (
        ["serve", "--upstream", "http://u", "--api-key-env", "NO_SUCH"],
        "--api-key-env: the environment variable NO_SUCH is not set",
    ),
    (
        ["serve", "--upstream", "http://u", "--host", "no.such.invalid"],
        "--host: there is no address for 'no.such.invalid'",
    ),
    (
        ["serve", "--config", "/no/such.toml"],
        "/no/such.toml cannot be read: No such file or directory",
    ),
    (
        ["serve", "--config", "x", "--upstream", "http://u"],
        "--upstream cannot be used with --config: set it in the file",
    ),
    (["serve", "--log-level", "loud"], "argument --log-level: invalid choice: 'loud'"),
    (["serve", "--reasoning-events", "all"], "argument --reasoning-events: invalid choice: 'all'"),
    (["convert", "--dialect", "x"], 'argument --dialect: there is no dialect "x"; known: base, '),
    (["convert", "/no/such.json"], "/no/such.json cannot be read: No such file or directory"),
    (["replay", "/no/such.sse"], "/no/such.sse cannot be read: No such file or directory"),
    (["replay", "--request", "/", "-"], "/ cannot be read: Is a directory"),
    (["convert", "--jsn"], "unrecognized arguments: --jsn"),
    (["dialects", "x"], 'argument NAME: there is no dialect "x"; known: base, '),
    (
        ["dialects", "base", "--markdown"],
        "dialects --markdown prints all dialects, and takes no NAME",
    ),
    (["dialects", "--json", "--markdown"], "not allowed with argument --json"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    words: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given(monkeypatch, b"")
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("translator: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_file_with_several_mistakes_shows_them_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[server]\nport = "x"\n[upstreams.a]\n')
    assert main(["serve", "--config", str(file)]) == 2
    assert capsys.readouterr().err == (
        "translator: 2 errors in the settings:\n"
        "  server.port: expected int, got str\n"
        "  upstreams.a.base_url: is missing\n"
    )


def test_a_taken_port_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--upstream", "http://u", "--port", str(port)]) == 2
    err = capsys.readouterr().err
    assert err == (
        f"translator: cannot listen on 127.0.0.1:{port}: address already in use; end the program"
        " that listens there, or choose another port with --port NUMBER\n"
    )


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "httpx"])
def test_serve_without_its_packages_says_how_to_get_them(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == package or name.startswith("translator.service"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["serve", "--upstream", "http://u"]) == 2
    assert capsys.readouterr().err == (
        f"translator: serve needs {package}: install it with {install_hint('service')}\n"
    )


def test_convert_replay_and_dialects_need_only_the_core() -> None:
    """In a process of its own, where the service's packages cannot be imported."""
    program = (
        "import sys\n"
        "for name in ('starlette', 'uvicorn', 'httpx', 'asyncio'): sys.modules[name] = None\n"
        "from translator.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    cases = [
        ("convert", json.dumps(REQUEST).encode()),
        ("replay", b"".join(HELLO)),
        ("dialects", b""),
    ]
    for command, body in cases:
        run = subprocess.run(
            [sys.executable, "-c", program, command], input=body, capture_output=True, timeout=60
        )
        assert (run.returncode, run.stderr) == (0, b"")
        assert run.stdout


def test_a_reader_that_has_enough_is_not_a_fault() -> None:
    run = subprocess.run(
        f"{sys.executable} -m translator replay | true",
        shell=True,
        input=b"".join([HELLO[1]] * 20_000),
        capture_output=True,
        timeout=60,
    )
    assert run.stderr == b""


def test_the_options_of_the_demo_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from translator.demo import conversation as demo

    given_words: list[list[str]] = []

    def run(words: list[str]) -> int:
        given_words.append(words)
        return 7

    monkeypatch.setattr(demo, "run", run)
    assert main(["demo", "--plain", "-x"]) == 7
    assert given_words == [["--plain", "-x"]]


@pytest.mark.parametrize("command", ["serve", "convert", "replay", "fixture", "tail", "dialects"])
def test_help_tells_every_option_with_its_default(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out.split("\n  --")[1:]
    assert told
    for text in (" ".join(text.split()) for text in told):
        assert "(default: " in text or text.startswith("upstream URL"), text


def test_serve_says_where_it_listens_and_stops_when_told() -> None:
    url = "http://127.0.0.1:9/v1"
    with served("--upstream", url) as (line, process):
        begin, _, rest = line.partition(" and ")
        address = begin.removeprefix("translator listens on ")
        assert rest == f"forwards to {url} (dialect base)\n"
        assert httpx.get(address.removesuffix("/v1") + "/healthz", timeout=BOUND_S).json() == {
            "status": "ok"
        }
        answer = httpx.post(
            f"{address}/responses", json={"model": "m", "input": "x"}, timeout=BOUND_S
        )
        assert answer.status_code == 502
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 130
    assert "POST /v1/responses 502 " in err
    assert "model=m dialect=base outcome=upstream_error" in err
    assert "Traceback" not in err


def test_serve_stops_with_open_websockets(tmp_path: Path) -> None:
    """One idle, one in the middle of a turn, which fails: both are told of the restart (1012)."""
    file = tmp_path / "settings.toml"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        file.write_text(f'[server]\ndrain_s = 0.5\n[upstreams.up]\nbase_url = "{url}"\n')
        with served("--config", str(file)) as (line, process):
            address = line.partition(" and ")[0].removeprefix("translator listens on http://")
            with (
                connect(f"ws://{address}/responses", open_timeout=BOUND_S) as idle,
                connect(f"ws://{address}/responses", open_timeout=BOUND_S) as busy,
            ):
                busy.send(json.dumps({"type": "response.create", "model": "m", "input": "x"}))
                silent.settimeout(BOUND_S)
                upstream, _ = silent.accept()
                with upstream:
                    upstream.settimeout(BOUND_S)
                    while upstream.recv(65536)[-1:] != b"}":
                        pass  # the request is there, and gets no answer
                    process.terminate()
                    failed = json.loads(busy.recv(timeout=BOUND_S))
                    assert (failed["type"], failed["status"]) == ("error", 503)
                    for one in (idle, busy):
                        with pytest.raises(ConnectionClosed) as closed:
                            one.recv(timeout=BOUND_S)
                        assert closed.value.rcvd is not None
                        assert closed.value.rcvd.code == 1012
                    assert upstream.recv(1) == b""  # the turn's call upstream has ended
            _, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 0
    assert "WS /v1/responses 503 " in err
    assert "Traceback" not in err


def test_serve_with_a_file_names_all_upstreams_and_no_key(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        '[server]\nhost = "0.0.0.0"\nport = 1\n'
        '[upstreams.a]\nbase_url = "https://api.fireworks.ai/inference/v1"\napi_key_env = "A_KEY"\n'
        '[upstreams.b]\nbase_url = "http://127.0.0.1:9/v1/"\n'
        '[models."m"]\nupstream = "a"\n'
    )
    with served("--config", str(file), env={"A_KEY": "key-secret"}) as (line, process):
        process.terminate()
        _, err = process.communicate(timeout=BOUND_S)
    assert line.endswith(
        "/v1 and forwards to https://api.fireworks.ai/inference/v1 (dialect fireworks), "
        "http://127.0.0.1:9/v1 (dialect base)\n"
    )
    assert line.startswith("translator listens on http://0.0.0.0:")
    assert "http://0.0.0.0:1/" not in line  # the option wins over the file
    assert "anyone who can reach 0.0.0.0 uses the upstream key" in err
    assert "key-secret" not in line + err
