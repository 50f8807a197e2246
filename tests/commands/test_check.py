"""`translator check`: each fault has its sentence, and no key is shown."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.service.chat_bodies import chunk
from translator.__main__ import main
from translator.check import run as check_run
from translator.check import start
from translator.service.upstreams.base_url import other_urls

from .upstream import MODELS, OK, Answer, Asked, Script, listening, works

KEY = "sk-very-secret-0123456789"

SETTINGS = """
[upstreams.up]
base_url = "URL"
api_key_env = "UP_KEY"

[models.small]
upstream = "up"
upstream_model = "org/small-1"

[models.big]
upstream = "up"
"""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UP_KEY", KEY)


class Checked:
    """The results of one run with --json."""

    def __init__(self, code: int, out: str, err: str) -> None:
        assert KEY not in out + err
        assert err == ""
        self.code = code
        self.json: dict[str, Any] = json.loads(out)
        self.rows: list[dict[str, Any]] = self.json["checks"]

    def row(self, kind: str, name: str) -> dict[str, Any]:
        [row] = [one for one in self.rows if (one["kind"], one["name"]) == (kind, name)]
        return row

    @property
    def statuses(self) -> str:
        return " ".join(row["status"] for row in self.rows)


Check = Callable[..., Checked]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    def run(url: str, *words: str, settings: str = SETTINGS) -> Checked:
        file = tmp_path / "settings.toml"
        file.write_text(settings.replace("URL", url))
        code = main(["check", str(file), "--json", *words])
        return Checked(code, *capsys.readouterr())

    return run


def completions(answer: Answer) -> Script:
    """An upstream that answers all chat requests so, and has a list of models."""
    return lambda asked: answer if asked.path.endswith("/completions") else works(asked)


def test_all_is_fine(check: Check) -> None:
    with listening(works) as (origin, calls):
        found = check(f"{origin}/v1")
    assert (found.code, found.json["ok"]) == (0, True)
    assert found.json["counts"] == {"ok": 3, "warning": 1, "failed": 0, "skipped": 0}
    upstream = found.row("upstream", "up")
    assert upstream["summary"] == (
        f"{origin}/v1: reachable, key accepted, lists 2 models, dialect base"
    )
    # the marks of a server that the settings do not name
    assert upstream["marks"] == {"vllm": ["owner:vllm"]}
    assert upstream["advice"] == (
        'It looks like vllm (owner:vllm): try upstreams.up.dialect = "vllm", or find out with '
        "translator probe."
    )
    model = found.row("model", "small")
    assert model["summary"].startswith(
        "as org/small-1: text “OK”, reasoning, 12 + 34 tokens, first output after "
    )
    assert (model["text"], model["reasoning"], model["upstream_model"]) == (
        "OK",
        True,
        "org/small-1",
    )
    assert model["reasoning_fields"] == ["reasoning_content"]
    assert (model["usage"]["input_tokens"], model["usage"]["output_tokens"]) == (12, 34)
    assert [call.path for call in calls] == ["/v1/models", *["/v1/chat/completions"] * 2]
    assert {call.headers["authorization"] for call in calls} == {f"Bearer {KEY}"}
    assert [call.body["model"] for call in calls[1:]] == ["org/small-1", "big"]


def test_the_request_is_the_one_that_the_service_sends(check: Check) -> None:
    """With the limits and facts of the model; it streams, and asks for little."""
    more = 'max_output_tokens = 50\nfacts = { max_tokens_field = "max_completion_tokens" }\n'
    with listening(works) as (origin, calls):
        assert check(f"{origin}/v1", "--model", "big", settings=SETTINGS + more).code == 0
    [body] = [call.body for call in calls if call.body is not None]
    assert body == {
        "model": "big",
        "messages": [{"role": "user", "content": "Reply with the word OK."}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 50,
    }


LISTED: list[tuple[Answer, str, str]] = [
    (
        Answer(401, {"error": {"message": f"Incorrect API key: {KEY}"}}),
        "it refuses the key (401): Incorrect API key: [removed]",
        "Correct the key in UP_KEY: it is wrong, expired, or not allowed to do this.",
    ),
    (
        Answer(403, {"error": {"message": "Not in your country."}}),
        "it refuses the key (403): Not in your country.",
        "Correct the key in UP_KEY",
    ),
    (
        Answer(402, {"error": {"message": "Insufficient balance"}}),
        "its account has no credit left",
        "Add credit at the upstream.",
    ),
    (
        Answer(429, {"error": {"message": "Slow down."}}),
        "it limits the rate (429): Slow down.",
        "Wait, and check again.",
    ),
    (
        Answer(503, {"error": {"message": "Overloaded."}}),
        "it fails (503): Overloaded.",
        "See the log of the upstream",
    ),
    (
        Answer(200, b"<!DOCTYPE html><title>Hi</title>", {"content-type": "text/html"}),
        "it answers with a web page, not an API",
        "Correct upstreams.up.base_url.",
    ),
    (
        Answer(404, b"<html>nothing here</html>", {"content-type": "text/html"}),
        "it answers with a web page (404), not an API",
        "Correct upstreams.up.base_url.",
    ),
    (
        Answer(301, b"", {"location": "https://api.example.org/v1/models"}),
        "it redirects (301), which is not followed",
        'Perhaps it has moved: upstreams.up.base_url = "https://api.example.org/v1"',
    ),
    (Answer(0), "it closes the connection without an answer", "with https://"),
]


@pytest.mark.parametrize(("answer", "summary", "advice"), LISTED)
def test_an_upstream_that_cannot_be_used_says_why(
    answer: Answer, summary: str, advice: str, check: Check
) -> None:
    """And its models are not asked."""
    with listening(lambda _: answer) as (origin, calls):
        found = check(f"{origin}/v1")
    row = found.row("upstream", "up")
    assert (row["status"], found.code) == ("failed", 1)
    assert row["summary"] == f"{origin}/v1: {summary}"
    assert advice in row["advice"]
    assert row["http_status"] == (answer.status or None)
    assert found.statuses == "ok failed skipped skipped"
    assert not [call for call in calls if call.method == "POST"]


def refused_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def test_an_upstream_that_cannot_be_reached_says_why(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = refused_port()
    row = check(url).row("upstream", "up")
    place = url.removeprefix("http://").removesuffix("/v1")
    assert row["summary"] == f"{url}: cannot be reached: connection refused"
    assert row["advice"] == f"Start the server at {place}, or correct upstreams.up.base_url."
    row = check("http://no.such.host.invalid/v1").row("upstream", "up")
    assert row["summary"].endswith(": the host no.such.host.invalid has no address")
    monkeypatch.setenv("HTTP_PROXY", url)
    row = check("http://api.example.org/v1").row("upstream", "up")
    assert row["summary"].endswith(": the proxy cannot be reached")
    assert row["advice"] == "Correct HTTP_PROXY, or add api.example.org to NO_PROXY."


def test_an_upstream_with_the_wrong_scheme_or_certificate_says_so(
    check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with listening(works) as (origin, _):
        row = check(f"{origin.replace('http', 'https')}/v1").row("upstream", "up")
    assert ": TLS fails at 127.0.0.1:" in row["summary"]
    assert row["advice"] == "If it speaks plain HTTP, begin upstreams.up.base_url with http://."
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with listening(works, context) as (origin, _):
        row = check(f"{origin}/v1").row("upstream", "up")
        assert ": its certificate is not accepted: " in row["summary"]
        assert "SSL_CERT_FILE=FILE" in row["advice"]
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert check(f"{origin}/v1").code == 0
        row = check(f"{origin.replace('localhost', '127.0.0.1')}/v1").row("upstream", "up")
        assert "Correct the host in upstreams.up.base_url" in row["advice"]


def test_a_body_that_cannot_be_read_is_told(check: Check) -> None:
    answer = Answer(200, b"no gzip", {"content-encoding": "gzip"})
    with listening(lambda _: answer) as (origin, _):
        row = check(f"{origin}/v1").row("upstream", "up")
    assert row["status"] == "failed"
    assert "compress" in row["summary"]
    assert row["advice"] == "See the log of the upstream."


def test_a_configured_dialect_is_told_as_seen(check: Check) -> None:
    settings = SETTINGS.replace("api_key_env", 'dialect = "vllm"\napi_key_env')
    with listening(works) as (origin, _):
        row = check(f"{origin}/v1", settings=settings).row("upstream", "up")
    assert row["summary"].endswith(", dialect vllm, as seen (owner:vllm)")
    assert row["status"] == "ok"


def test_a_silent_upstream_is_given_up(check: Check) -> None:
    over = threading.Event()

    def silent(asked: Asked) -> Answer:
        over.wait(60)
        return Answer(0)

    with listening(silent) as (origin, _):
        row = check(f"{origin}/v1", "--timeout", "1").row("upstream", "up")
        over.set()
    assert row["summary"] == f"{origin}/v1: no answer within 1 s"


@pytest.mark.parametrize("path", ["", "/", "/api", "/v1/models"])
def test_the_url_that_is_meant_is_found(path: str, check: Check) -> None:
    with listening(works) as (origin, _):
        found = check(f"{origin}{path}")
    row = found.row("upstream", "up")
    assert found.code == 1
    assert row["advice"] == (f'The API is at another path: upstreams.up.base_url = "{origin}/v1"')


def test_other_urls_are_few() -> None:
    assert [*other_urls("http://u/a/v1")] == ["http://u/v1"]
    assert [*other_urls("http://u/v1")] == []
    assert [*other_urls("http://u/a/chat/models")] == ["http://u/a", "http://u/a/chat/models/v1", "http://u/v1"]  # fmt: skip


MODEL_FAULTS: list[tuple[Answer, str, str, str]] = [
    (
        Answer(404, {"error": {"message": "No model x.", "code": "model_not_found"}}),
        "there is no such model (404): No model x.",
        "Correct upstream_model, or its name; the upstream lists org/small-1 and 1 more.",
        "failed failed",
    ),
    (
        Answer(401, {"error": {"message": "No."}}),
        "it refuses the key (401)",
        "Correct the key in UP_KEY",
        "failed skipped",
    ),
    (
        Answer(402, {"error": {"message": "Insufficient balance"}}),
        "its account has no credit left",
        "Add credit",
        "failed skipped",
    ),
    (
        Answer(429, {"error": {"message": "Slow down."}}),
        "it limits the rate (429): Slow down.",
        "Wait, and check again.",
        "failed skipped",
    ),
    (
        Answer(500, {"error": {"message": "CUDA error"}}),
        "it fails (500): CUDA error",
        "See the log of the upstream",
        "failed failed",
    ),
    (
        Answer(422, {"error": {"message": "Bad messages."}}),
        "it refuses the request (422): Bad messages.",
        "translator probe",
        "failed failed",
    ),
    (
        Answer(200, b"<html>Log in</html>", {"content-type": "text/html"}),
        "it answers with a web page, not an API",
        "Correct upstreams.up.base_url.",
        "failed skipped",
    ),
    (
        Answer(200, b'data: {"error": {"message": "Out of memory"}}\n\n'),
        "its answer fails: Out of memory",
        "See the log of the upstream",
        "failed failed",
    ),
    (
        Answer(200, chunk({"content": "Y"})),
        "its answer fails: The upstream closed the stream before it finished.",
        "See the log of the upstream",
        "failed failed",
    ),
    (
        Answer(200, chunk({"content": "x" * 1000}) * 2500),
        "its answer has no end ",
        "See the log of the upstream",
        "failed failed",
    ),
    (
        Answer(302, b"", {"location": "/login"}),
        "it redirects (302), which is not followed",
        "Correct upstreams.up.base_url.",
        "failed skipped",
    ),
    (Answer(0), "it closes the connection without an answer", "See its log", "failed skipped"),
    (
        Answer(200, chunk({"content": ""}) + chunk({}, "stop")),
        "no text, no usage",
        "translator probe may find its dialect",
        "warning warning",
    ),
    (
        Answer(200, chunk({"content": "<think>Hm"}) + chunk({"content": "</think>OK"}, "stop")),
        "text “<think>Hm</think>OK”, no usage, first output after 0.0 s",
        "Its reasoning arrives as text: translator probe finds the dialect",
        "warning warning",
    ),
    (
        Answer(200, chunk({"content": "Yes"}) + chunk({}, "stop")),
        "text “Yes”, no usage, first output after 0.0 s",
        "Tokens are not counted",
        "warning warning",
    ),
]


@pytest.mark.parametrize(("answer", "summary", "advice", "statuses"), MODEL_FAULTS)
def test_a_model_that_does_not_answer_says_why(
    answer: Answer, summary: str, advice: str, statuses: str, check: Check
) -> None:
    """What concerns all models of an upstream is asked once."""
    settings = SETTINGS.replace("org/small-1", "org/smal")
    with listening(completions(answer)) as (origin, _):
        found = check(f"{origin}/v1", settings=settings)
    row = found.row("model", "small")
    assert row["summary"].partition("after ")[0] == f"as org/smal: {summary.partition('after ')[0]}"
    assert advice in row["advice"]
    assert found.statuses == f"ok ok {statuses}"
    assert found.code == int("failed" in statuses)


def test_a_url_that_leads_nowhere_is_told_by_its_models(check: Check) -> None:
    with listening(lambda _: Answer(404, {"detail": "Not Found"})) as (origin, _):
        found = check(f"{origin}/v1")
    assert found.row("upstream", "up")["summary"].endswith(
        ": neither a list of models nor a model is found there (404)"
    )
    assert found.statuses == "ok failed failed failed"


def test_an_upstream_without_a_list_of_models_is_fine_where_a_model_answers(check: Check) -> None:
    def script(asked: Asked) -> Answer:
        return OK if asked.path.endswith("/completions") else Answer(404, b"")

    with listening(script) as (origin, _):
        found = check(f"{origin}/v1")
    assert (found.statuses, found.code) == ("ok ok ok ok", 0)
    assert "key accepted, has no list of models (404)" in found.row("upstream", "up")["summary"]


def test_a_refused_field_is_left_out_as_the_service_does(check: Check) -> None:
    def script(asked: Asked) -> Answer:
        if asked.body is not None and "max_tokens" in asked.body:
            text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return Answer(400, {"error": {"message": text, "param": "max_tokens"}})
        return works(asked)

    with listening(script) as (origin, calls):
        found = check(f"{origin}/v1", "--model", "big")
    row = found.row("model", "big")
    assert (row["status"], row["attempts"], found.code) == ("warning", 2, 0)
    assert row["summary"].endswith(", 2 attempts")
    assert "max_completion_tokens" in calls[-1].body


def test_each_replica_has_a_row_and_the_first_good_one_is_asked(check: Check) -> None:
    down = refused_port()
    with listening(works) as (origin, calls):
        settings = SETTINGS.replace('"URL"', f'["{down}", "{origin}/v1"]')
        found = check("", settings=settings)
    summaries = [row["summary"] for row in found.rows if row["kind"] == "upstream"]
    assert [one.partition(": ")[0] for one in summaries] == [down, f"{origin}/v1"]
    assert found.statuses == "ok failed warning ok ok"
    assert len(calls) == 3


def test_the_key_of_a_client_is_sent_where_it_would_be_passed_on(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            return Answer(401, {"error": {"message": "No key."}})
        return works(asked)

    settings = SETTINGS.replace('api_key_env = "UP_KEY"', 'dialect = "vllm"')
    with listening(script) as (origin, _):
        found = check(f"{origin}/v1", settings=settings)
        row = found.row("upstream", "up")
        assert row["summary"] == f"{origin}/v1: it needs a key, and none is set (401)"
        assert "upstreams.up.api_key_env" in row["advice"]
        assert "--key-env NAME" in row["advice"]
        assert (found.statuses, found.code) == ("ok warning skipped skipped", 0)
        found = check(f"{origin}/v1", "--key-env", "UP_KEY", settings=settings)
        assert (found.statuses, found.code) == ("ok ok ok ok", 0)
        monkeypatch.setenv("OTHER", "sk-another-secret-123")
        found = check(f"{origin}/v1", "--key-env", "OTHER", settings=settings)
        assert found.row("upstream", "up")["advice"].startswith("Correct the key in OTHER")
        # with [clients], their keys are not for the upstream
        clients = f'[clients.a]\nkeys = ["{stored_key()}"]\n'
        found = check(f"{origin}/v1", settings=settings + clients)
        assert found.row("upstream", "up")["status"] == "failed"


def stored_key() -> str:
    from translator.service.base.keys import new_key, store

    return store(new_key())


def test_a_catch_all_is_tried_by_name(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    settings = SETTINGS + '[models."*"]\nupstream = "up"\n'
    with listening(works) as (origin, calls):
        found = check(f"{origin}/v1", settings=settings)
        row = found.row("model", "*")
        assert (row["status"], found.code) == ("skipped", 0)
        assert row["advice"] == "Try one with --model NAME. It lists org/small-1, big."
        found = check(f"{origin}/v1", "--model", "other", "--model", "big", settings=settings)
    assert [row["name"] for row in found.rows if row["kind"] == "model"] == ["other", "big"]
    assert [call.body["model"] for call in calls if call.body][-2:] == ["other", "big"]


def test_an_unknown_model_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(SETTINGS.replace("URL", "http://127.0.0.1:9/v1"))
    assert main(["check", str(file), "--model", "x"]) == 2
    assert capsys.readouterr().err == (
        "translator: --model: The model 'x' does not exist. Models: small, big.\n"
    )


def test_one_upstream_of_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its only model is tried; where it lists several, one has to be named."""
    one = {"data": MODELS["data"][:1]}
    words = ["check", "--json"]

    def script(asked: Asked) -> Answer:
        return Answer(body=one) if asked.path == "/v1/models" else works(asked)

    with listening(script) as (origin, _):
        monkeypatch.setenv("TRANSLATOR_UPSTREAM", f"{origin}/v1")
        monkeypatch.setenv("TRANSLATOR_API_KEY_ENV", "UP_KEY")
        found = Checked(main(words), *capsys.readouterr())
        assert found.row("model", "org/small-1")["status"] == "ok"
        assert found.row("upstream", "upstream")["advice"].startswith(
            "It looks like vllm (owner:vllm): try --dialect vllm, or "
        )
    with listening(works) as (origin, _):
        found = Checked(main([*words, "--upstream", f"{origin}/v1"]), *capsys.readouterr()[:1], "")
        assert found.row("model", "*")["status"] == "skipped"
        found = Checked(
            main([*words, "--upstream", f"{origin}/v1", "--model", "big"]),
            *capsys.readouterr()[:1],
            "",
        )
        assert found.row("model", "big")["status"] == "ok"


def test_offline_sends_nothing(check: Check) -> None:
    with listening(works) as (origin, calls):
        found = check(f"{origin}/v1", "--offline")
    assert (found.statuses, found.code, calls) == ("ok skipped skipped skipped", 0, [])
    assert found.row("model", "small")["summary"] == (
        "up, as org/small-1, dialect base: not asked (--offline)"
    )


def test_mistakes_in_the_settings_are_all_shown(check: Check) -> None:
    settings = (
        '[server]\nprot = 1\n[upstreams.up]\nbase_url = "x"\napi_key_env = "NO_SUCH"\n'
        '[models.a]\nupstream = "upp"\n'
    )
    found = check("", settings=settings)
    assert found.code == 1
    assert [(row["name"], row["summary"]) for row in found.rows] == [
        ("server.prot", "there is no such setting; did you mean port?"),
        ("upstreams.up.base_url", '"x" is not a URL that starts with http:// or https://'),
        ("upstreams.up.api_key_env", "the environment variable NO_SUCH is not set"),
        ('models."a".upstream', 'there is no upstream "upp"; known: up'),
        ("*", "not asked until the settings are right"),
    ]
    found = check("", settings="[server\n")
    assert found.code == 1
    assert found.rows[0]["name"].endswith("settings.toml")
    assert found.rows[0]["summary"].startswith("is not TOML: ")


def test_what_would_stop_a_start_is_shown(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "find_spec", lambda _name: None)
    (tmp_path / "file").touch()
    server = (
        f'[server]\nwatch = true\nworkers = 2\nhost = "no.such.invalid"\ntraces = true\n'
        f'trace_folder = "{tmp_path}/file/traces"\n'
    )
    found = check("http://127.0.0.1:9/v1", "--offline", settings=server + SETTINGS)
    assert found.code == 1
    assert [(row["name"], row["summary"]) for row in found.rows if row["status"] == "failed"] == [
        ("server.watch", "shows one process, not several workers"),
        ("server.host", "there is no address for 'no.such.invalid'"),
        ("server.traces", "needs pip install 'translator[otel]'"),
        ("server.trace_folder", f"{tmp_path}/file is no folder"),
    ]
    server = f'[server]\ntrace_folder = "{tmp_path}/new/traces"\n'
    assert check("http://127.0.0.1:9/v1", "--offline", settings=server + SETTINGS).code == 0
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "check needs --upstream URL or --config FILE"),
        (["/no/such.toml"], "/no/such.toml cannot be read: No such file or directory"),
        (["/"], "/ cannot be read: Is a directory"),
        (["a.toml", "--config", "b.toml"], "check takes FILE or --config FILE, not both"),
        (["--upstream", "x"], '--upstream: "x" is not a URL that starts with http:// or https://'),
        (["--upstream", "http://u", "--key-env", "NO_SUCH"], "--key-env: the environment variable"),
        (["--upstream", "http://u", "--timeout", "0"], "argument --timeout: '0' is not a whole"),
    ],
)
def test_a_usage_error_is_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"translator: {sentence}")


def test_several_upstreams_are_asked_at_once_within_bounds(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never more than MAX_AT_ONCE."""
    most, now, lock = 0, 0, threading.Lock()
    together = threading.Barrier(2)

    def script(asked: Asked) -> Answer:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        if asked.method == "GET":
            together.wait(60)  # two at a time
        with lock:
            now -= 1
        return works(asked)

    monkeypatch.setattr(check_run, "MAX_AT_ONCE", 2)
    with listening(script) as (origin, _):
        sections = "".join(f'[upstreams.u{i}]\nbase_url = "{origin}/v1"\n' for i in range(4))
        found = check(
            "",
            settings=sections + '[models.m]\nupstream = "u0"\n',
        )
        unused = [row for row in found.rows if "no model uses it" in row["summary"]]
    assert most == 2
    assert len(unused) == 3


def test_the_time_limit_skips_the_models_that_are_left(tmp_path: Path) -> None:
    from translator.check.causes import Names
    from translator.check.run import Plan
    from translator.service.config.loading import read_table

    with listening(works) as (origin, calls):
        models = {name: {"upstream": "up"} for name in ("a", "b", "c")}
        settings = read_table(
            {"upstreams": {"up": {"base_url": f"{origin}/v1"}}, "models": models}, {}
        )
        names = Names(url="u", key="k", dialect="d", credential="c")
        times = iter([0.0, 1.0, 99.0, 99.0])
        plan = Plan(settings=settings, source="s", names={"up": names}, max_s=10.0)
        report = asyncio.run(check_run.check(plan, now=lambda: next(times)))
    rows = [row for row in report.rows if row.kind == "model"]
    assert [row.status for row in rows] == ["ok", "skipped", "skipped"]
    assert rows[1].summary == "the time limit of 10 s is reached"
    assert len(calls) == 2


def test_an_open_service_without_keys_is_warned_of(check: Check) -> None:
    settings = '[server]\nhost = "0.0.0.0"\n' + SETTINGS
    row = check("http://127.0.0.1:9/v1", "--offline", settings=settings).rows[0]
    assert row["status"] == "warning"
    assert row["advice"].startswith("Anyone who can reach 0.0.0.0 may use it")


def test_an_upstream_cannot_write_to_the_terminal(check: Check) -> None:
    answer = Answer(500, {"error": {"message": "\x1b[2J\x07bad\nworse " + "x" * 5000}})
    with listening(completions(answer)) as (origin, _):
        summary = check(f"{origin}/v1").row("model", "big")["summary"]
    assert summary.startswith("it fails (500): [2Jbad worse xxx")
    assert len(summary) <= 400


FALLBACKS = """
[upstreams.up]
base_url = "URL"

[upstreams.other]
base_url = "URL"

[models.small]
upstream = ["up", "other"]
fallbacks = ["big"]

[models.big]
upstream = "other"
"""


def test_the_order_of_fallbacks_is_shown_and_each_is_asked(check: Check) -> None:
    with listening(works) as (origin, calls):
        found = check(f"{origin}/v1", settings=FALLBACKS)
    models = [row for row in found.rows if row["kind"] == "model"]
    assert [(row["name"], row["upstream"]) for row in models] == [
        ("small", "up"),
        ("small", "other"),
        ("big", "other"),
    ]
    assert models[0]["summary"].endswith("then the same on other, big on other")
    assert models[0]["fallbacks"] == ["small@other", "big@other"]
    assert models[1]["fallbacks"] == []
    asked = [call.body["model"] for call in calls if call.body is not None]
    assert sorted(asked) == ["big", "small", "small"]


def test_an_upstream_without_a_list_beside_another_api(check: Check) -> None:
    """Its model answers, so its URL is right, whatever else its host has at `/v1`."""

    def beside(asked: Asked) -> Answer:
        if asked.path == "/here/models":
            return Answer(404, {"error": {"message": "No such path."}})
        return works(asked._replace(path=asked.path.replace("/here/", "/v1/")))

    with listening(beside) as (origin, _):
        found = check(f"{origin}/here")
    assert found.code == 0, found.rows
    assert "has no list of models (404)" in found.row("upstream", "up")["summary"]
    assert found.row("model", "small")["status"] == "ok"
