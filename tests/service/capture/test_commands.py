"""`translator replay` and `translator fixture`, on captured exchanges."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from tests import fixture_cases
from tests.fixture_cases import Case
from tests.fixture_cases import run as run_case
from tests.service.responses_api import ASK, PATH
from tests.service.wire import Call, ScriptedUpstream, make_settings
from translator.__main__ import main
from translator.dialects import DIALECTS
from translator.dialects.table import own_facts

from .captured import assert_replays, kept, tracing

pytestmark = pytest.mark.anyio


async def test_replay_shows_the_differences(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        await client.post(PATH, json=ASK)
    [folder] = kept(tmp_path / "t")
    sent = (folder / "events.jsonl").read_text("utf-8")
    (folder / "events.jsonl").write_text(sent.replace('"delta":" world"', '"delta":" moon"'))
    assert main(["replay", str(folder)]) == 1
    out, _ = capsys.readouterr()
    assert "chat.json      the same" in out
    assert "events.jsonl   not the same" in out
    changed = [line.strip() for line in out.splitlines() if line.lstrip()[:2] in ("-{", "+{")]
    assert len(changed) == 2
    assert '"delta": " moon"' in changed[0]
    assert '"delta": " world"' in changed[1]

    (folder / "events.jsonl").write_text(sent)
    assert main(["replay", "--json", str(folder)]) == 0
    out, err = capsys.readouterr()
    now = [json.loads(line) for line in out.splitlines()]
    assert [one["type"] for one in now] == [json.loads(one)["type"] for one in sent.splitlines()]
    assert "the same" in err

    chat = json.loads((folder / "chat.json").read_bytes())
    (folder / "chat.json").write_text(json.dumps(chat | {"seed": 1}))
    assert main(["replay", str(folder)]) == 1
    assert '-  "seed": 1' in capsys.readouterr().out.replace("    -", "-")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["replay", "{t}"], "{t} cannot be replayed: there is no exchange.toml in it"),
        (["fixture", "{t}"], "{t} cannot become a fixture: there is no exchange.toml in it"),
        (["replay", "{t}/bad"], "{t}/bad cannot be replayed: exchange.toml: "),
        (
            ["replay", "{t}", "--dialect", "zai"],
            "replay FOLDER takes no --dialect: it is in the folder",
        ),
        (["replay", "{t}/empty"], "{t}/empty cannot be replayed: request.json is not in it"),
        (
            ["replay", "{t}/odd"],
            "{t}/odd cannot be replayed: exchange.toml: options: Expected `bool`",
        ),
        (
            ["fixture", "{t}/listed"],
            "{t}/listed cannot become a fixture: the client's request is not",
        ),
        (["fixture", "{t}/asked", "--name", "x", "--to", "{t}"], "--name: 'x' is not of the form"),
        (["fixture", "{t}/asked", "--name", "up/x", "--to", "{t}"], "{t}/up/x exists already"),
        (["fixture", "{t}/asked", "--to", "{t}/empty/exchange.toml"], "cannot be written: Not a d"),
        (["tail", "{t}"], "no service is running with --trace {t}"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = 'translator="1"\nid="r"\nat="2026-01-01"\nmethod="POST"\npath="/"\n'
    odd = about + '[options]\nstrict = "yes"\n'
    texts = {"bad": "x = ", "empty": about, "asked": about, "listed": about, "odd": odd}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "exchange.toml").write_text(text)
    for name in ("asked", "odd"):
        (tmp_path / name / "request.json").write_text('{"model":"m","input":[]}')
    (tmp_path / "listed/request.json").write_text("[1]")
    (tmp_path / "up/x").mkdir(parents=True)
    assert main([word.format(t=tmp_path) for word in words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"translator: {sentence.format(t=tmp_path)}") or sentence in err
    assert err.count("\n") == 1


async def test_a_fixture_has_a_name_of_its_own(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings(
        upstream.url, trace_folder=str(tmp_path / "t"), upstream={"dialect": "fireworks"}
    )
    async with tracing(settings) as client:
        await client.post(PATH, json=ASK | {"model": "accounts/x/models/kimi-k2p6"})
    [folder] = kept(tmp_path / "t")
    monkeypatch.chdir(tmp_path)
    assert main(["fixture", str(folder), "--title", "A case"]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {path.name for path in written} == {
        "request.json", "chat.json", "events.jsonl", "upstream.sse", "source.toml"
    }  # fmt: skip
    place = written[0].parent
    assert place.parts[:2] == ("fixtures", "fireworks")
    assert place.name.endswith("accounts_x_models_kimi_k2p6")
    source = tomllib.loads((place / "source.toml").read_text("utf-8"))
    assert (source["plan"], source["title"]) == ([], "A case")
    assert "dialect_fields" not in source


SAMPLE = [
    case
    for case in fixture_cases.all_cases().values()
    if case.request is not None and (case.body is not None or case.http_error is not None)
][::8]


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
async def test_a_fixture_that_passes_through_the_service_is_the_same_fixture(
    case: Case,
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Captured, replayed, and made a fixture again, with the same facts, options and target."""

    async def script(call: Call) -> None:
        if case.http_error is not None:
            error = case.http_error
            await call.answer(error.body, error.status, headers=error.headers)
            return
        await call.head()
        await call.send(*([case.body] if case.body else []))
        await call.end()

    upstream.script = script
    source = case.source
    facts = own_facts(case.dialect, DIALECTS[source.dialect])
    toml_facts = {name: False if fact is None else fact for name, fact in facts.items()}
    target = {
        "upstream_model" if name == "model" else name: fact for name, fact in source.target.items()
    }
    assert case.request is not None
    model = case.request.get("model", "m")
    settings = make_settings(
        upstream.url,
        trace_folder=str(tmp_path / "t"),
        retries=0,
        retry_refused=False,
        upstream={"dialect": source.dialect},
        models={model: {"upstream": "up", "facts": toml_facts, **target, **source.options}},
    )
    async with tracing(settings) as client:
        await client.post(PATH, json=case.request)
    [folder] = kept(tmp_path / "t")
    assert_replays(folder, capsys)
    assert main(["fixture", str(folder), "--to", str(tmp_path), "--name", case.name]) == 0
    monkeypatch.setattr(fixture_cases, "ROOT", tmp_path)
    again = Case(tmp_path / case.name)
    outcome = run_case(again)
    assert fixture_cases.disagreements(again, outcome) == []
    assert outcome.files() == again.expected()
    for name in ("events.jsonl", "response.json"):
        assert again.expected().get(name) == case.expected().get(name)
    told_of = ("items", "cut", "citations", "status", "usage", "http", "code", "param")
    assert [getattr(again.source, name) for name in told_of] == [
        getattr(source, name) for name in told_of
    ]
