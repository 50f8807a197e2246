"""The command `translator probe`."""

from __future__ import annotations

import json
import threading
import tomllib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from translator.__main__ import main
from translator.dialects import DIALECTS
from translator.probe import run as service
from translator.probe.report import Report, as_json
from translator.probe.state import ProbeFailed
from translator.service.config.loading import read_table

from . import scripted, upstreams
from .probing import run_probe


@contextmanager
def listening(upstream: scripted.Upstream) -> Generator[str]:
    """A scripted upstream behind a real socket; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def handle(self) -> None:
            with suppress(ConnectionError):  # the probe hangs up once it knows enough
                super().handle()

        def handle_one(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {k: v for k, v in self.headers.items() if k.lower() == "authorization"}
            asked = httpx.Request(
                self.command, f"http://up{self.path}", content=content, headers=headers
            )
            answer = upstream(asked)
            body = b"".join(answer.stream)  # type: ignore[arg-type]
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers["content-type"])
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = handle_one  # noqa: N815 - the names that the base class looks for

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{upstream.path}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_command_prints_settings_that_the_service_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a real socket: settings on stdout, progress on stderr, the key nowhere."""
    monkeypatch.setenv("UP_KEY", "sk-very-secret")
    upstream = upstreams.VllmWithoutParallel()
    with listening(upstream) as url:
        words = ["probe", "--upstream", url, "--model", upstream.model, "--name", "mine"]
        assert main([*words, "--api-key-env", "UP_KEY"]) == 0
    out, err = capsys.readouterr()
    assert set(upstream.authorizations) == {"Bearer sk-very-secret"}
    assert "sk-very-secret" not in out + err
    table = tomllib.loads(out)
    assert table == {
        "upstreams": {
            "mine": {
                "base_url": url,
                "api_key_env": "UP_KEY",
                "dialect": "vllm",
                "facts": {
                    "parallel_tool_calls": False,
                    "images": False,
                    "response_format_with_tools": True,
                },
            }
        }
    }
    assert read_table(table, {"UP_KEY": "x"}).upstreams["mine"].dialect == "vllm"
    assert "# closest dialect: vllm (" in out
    assert "it was rejected: “Unknown parameter: 'parallel_tool_calls'”" in out
    assert "   2 first answer: accepted" in err
    file = tmp_path / "settings.toml"
    file.write_text(out)
    with listening(upstream) as url:  # now with these settings
        assert main(["probe", "--config", str(file), "--model", "nothing", "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("translator: The upstream could not be reached.")


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    upstream = upstreams.DeepSeek()
    with listening(upstream) as url:
        words = ["probe", "--upstream", url, "--model", upstream.model, "--json", "--quiet"]
        assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)
    assert (told["dialect"], told["overrides"], told["check"]) == ("deepseek", {}, "taken")
    assert {"fact", "seen", "evidence", "agrees"} == told["findings"][0].keys()
    assert all(finding["agrees"] for finding in told["findings"])
    assert told["facts"]["reasoning_required"] is True
    assert len(told["dialects"]) == len(DIALECTS)
    assert tomllib.loads("\n".join(told["settings"]))["upstreams"]["upstream"]["base_url"] == url
    assert told["requests"] == len(upstream.bodies) + 1


def test_the_command_takes_an_upstream_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its headers, and a model by its id for clients."""
    upstream = upstreams.Ollama()
    file = tmp_path / "settings.toml"
    with listening(upstream) as url:
        file.write_text(
            f'[upstreams.a]\nbase_url = "{url}"\nheaders = {{ authorization = "Basic c2VjcmV0" }}\n'
            '[upstreams.b]\nbase_url = "http://127.0.0.1:9/v1"\n'
            f'[models.small]\nupstream = "a"\nupstream_model = "{upstream.model}"\n'
        )
        words = ["probe", "--config", str(file), "--quiet", "--model"]
        assert main([*words, "small"]) == 0
        out, _ = capsys.readouterr()
        assert tomllib.loads(out)["upstreams"]["a"]["dialect"] == "ollama"
        assert f"# key and headers: as in {file}\n" in out
        assert upstream.authorizations[-1] == "Basic c2VjcmV0"
        assert "c2VjcmV0" not in out
        assert main([*words, "large"]) == 2
    assert 'there is no "large" in the --config file; known: small' in capsys.readouterr().err


def test_the_command_reports_a_failure_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream = upstreams.Vllm()
    with listening(upstream) as url:
        assert main(["probe", "--upstream", url, "--model", "Qwen", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "translator: The upstream has no model Qwen; the models that it lists include Qwen/Qwen3-32B.\n"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: --model"),
        (["--model", "m"], "probe needs --upstream URL or --config FILE"),
        (["--model", "m", "--upstream", "x"], '--upstream: "x" is not a URL that starts with'),
        (["--model", "m", "--max-requests", "0"], "'0' is not a whole number above 0"),
        (["--model", "m", "--name", "a b"], "'a b' is not a name of letters, digits, - and _"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", *words]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_help_tells_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["probe", "--help"])
    told = capsys.readouterr().out.split("\n  --")[1:]
    for text in (" ".join(text.split()) for text in told):
        optional = "(default: " in text or text.startswith("upstream URL")
        assert optional or (text.startswith("model ID the model") and "(required)" in text), text


def test_json_says_what_the_settings_say() -> None:
    report = run_probe(upstreams.VllmWithoutParallel())
    told = as_json(report, name="up", api_key_env="UP_KEY")
    assert told["overrides"] == {
        "images": False,
        "parallel_tool_calls": False,
        "response_format_with_tools": True,
    }
    disagreeing = {finding["fact"] for finding in told["findings"] if not finding["agrees"]}
    assert disagreeing == told["overrides"].keys()


def test_the_bounds_are_those_that_the_help_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    async def fake(*_words: object, **bounds: Any) -> Report:
        given.append(bounds)
        raise ProbeFailed("enough")

    monkeypatch.setattr(service, "probe", fake)
    assert main(["probe", "--upstream", "http://127.0.0.1:9", "--model", "m"]) == 1
    assert given[0]["max_requests"] == service.MAX_REQUESTS
    assert given[0]["max_seconds"] == service.MAX_SECONDS
    assert given[0]["only"] is None


@pytest.mark.parametrize("json_wanted", [False, True])
def test_the_settings_of_a_file_keep_what_the_upstream_needs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    json_wanted: bool,
) -> None:
    """Its key, its replicas, and its headers but for secrets: they can be served as they are."""
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    upstream = upstreams.Ollama()
    file = tmp_path / "settings.toml"
    with listening(upstream) as url:
        file.write_text(
            f'[upstreams."my own"]\nbase_url = ["{url}", "http://127.0.0.1:9/v1"]\n'
            'api_key_env = "MY_KEY"\n'
            'headers = { "X-Org" = "acme \\"1\\"", "x-api-token" = "c2VjcmV0" }\n'
        )
        words = ["probe", "--config", str(file), "--quiet", "--model", upstream.model]
        assert main([*words, "--json"] if json_wanted else words) == 0
    out, _ = capsys.readouterr()
    assert upstream.authorizations[-1] == "Bearer sk-very-secret"
    assert "secret" not in out
    assert "c2VjcmV0" not in out
    text = "\n".join(json.loads(out)["settings"]) if json_wanted else out
    assert "#   not printed: x-api-token" in text
    section = tomllib.loads(text)["upstreams"]["my own"]
    assert section["base_url"] == [url, "http://127.0.0.1:9/v1"]
    assert section["api_key_env"] == "MY_KEY"
    assert section["headers"] == {"X-Org": 'acme "1"'}
    assert section["dialect"] == "ollama"
    found = read_table(tomllib.loads(text), {"MY_KEY": "x"}).upstreams["my own"]
    assert (found.api_key, len(found.urls)) == ("x", 2)
