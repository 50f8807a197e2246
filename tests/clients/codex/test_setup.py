"""Codex from nothing but what `translator codex --write` wrote."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.conftest import (
    CODEX_TIMEOUT_S,
    KEY,
    NO_NETWORK,
    ROOT,
    serving,
    snippets,
    with_older_codex,
)
from tests.clients.upstream import Call, ScriptedUpstream, Turn

from .chat_requests import functions, results

WARNING = "Model metadata for"
"""How Codex begins its warning about a model that it knows nothing of."""

EXAMPLE = "examples/tokenrouter.toml"
FIREWORKS = "https://api.fireworks.ai/inference/v1"

PATCH = """\
*** Begin Patch
*** Add File: made.txt
+It's “made” by C:\\model 🦊
*** End Patch
"""
SETTINGS = """\
[upstreams.scripted]
base_url = {upstream}
dialect = "fireworks"

[models."kimi-k2.6"]
upstream = "scripted"
upstream_model = "accounts/fireworks/models/kimi-k2p6"
context_window = 262144

[models."org/glm-5p1"]
upstream = "scripted"
upstream_model = "accounts/fireworks/models/glm-5p1"
context_window = 202752
vision = false
"""


@dataclass(frozen=True)
class Place:
    """A translator in front of a scripted upstream, and Codex's folders, still empty."""

    upstream: ScriptedUpstream
    base_url: str
    settings: Path
    home: Path
    folder: Path
    binary: str

    def set_up(self, *options: str) -> str:
        """`translator codex --write` with these settings; what it printed."""
        return translator(
            "codex", "--write", "--config", str(self.settings), "--base-url", self.base_url,
            "--codex-home", str(self.home), *options,
        )  # fmt: skip

    def exec(
        self, prompt: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`codex exec`, to its end."""
        command = [self.binary, "exec", *arguments, "--skip-git-repo-check", prompt]
        command.insert(2, "--dangerously-bypass-approvals-and-sandbox")
        named = {"PATH": os.environ["PATH"], "HOME": str(self.home), "CODEX_HOME": str(self.home)}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=NO_NETWORK | named | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CODEX_TIMEOUT_S,
            check=False,
        )
        assert self.upstream.refusals == [], done.stderr
        assert done.returncode == 0, done.stderr
        return done


def translator(*arguments: str) -> str:
    """One run of the command line, which must go well."""
    done = subprocess.run(
        [sys.executable, "-m", "translator", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=CODEX_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def place(codex_binary: str, tmp_path: Path) -> Iterator[Place]:
    home, folder, settings = (tmp_path / name for name in ("home", "folder", "settings.toml"))
    home.mkdir()
    folder.mkdir()
    with ScriptedUpstream() as upstream:
        settings.write_text(SETTINGS.format(upstream=json.dumps(upstream.base_url)))
        with serving(None, "--config", str(settings)) as base_url:
            yield Place(upstream, base_url, settings, home, folder, codex_binary)


@with_older_codex
def test_an_empty_home_is_set_up_in_one_command(place: Place) -> None:
    """The first model is the default: it is known, edits with a free-form patch, and thinks."""
    place.set_up()
    place.upstream.play(
        Turn(reasoning="A patch.", calls=[Call("c1", "apply_patch", {"input": PATCH})]),
        Turn(text="The file is there."),
    )
    done = place.exec("make a file")

    assert done.stdout.strip() == "The file is there."
    assert (place.folder / "made.txt").read_text() == "It's “made” by C:\\model 🦊\n"
    assert WARNING not in done.stderr
    first, second = place.upstream.requests
    assert first["model"] == "accounts/fireworks/models/kimi-k2p6"
    assert first["reasoning_effort"] == "medium"
    assert "*** Begin Patch" in first["messages"][0]["content"], "the model is told the format"
    [patch] = [tool for tool in first["tools"] if tool["function"]["name"] == "apply_patch"]
    assert patch["type"] == "function"
    assert list(patch["function"]["parameters"]["properties"]) == ["input"]
    assert "Success" in results(second)["c1"]


@pytest.mark.parametrize(
    ("profile", "upstream_model"),
    [
        ("kimi-k2-6", "accounts/fireworks/models/kimi-k2p6"),
        ("glm-5p1", "accounts/fireworks/models/glm-5p1"),
    ],
)
def test_each_model_has_a_profile(place: Place, profile: str, upstream_model: str) -> None:
    """`--profile` chooses the model, known and with its tools; the configuration stays a user's."""
    (place.home / "config.toml").write_text('# mine\nmodel = "gpt-5.5"  # as ever\n')
    place.set_up()
    place.upstream.play(Turn(text="Hello."))
    done = place.exec("say hello", "--profile", profile)

    assert done.stdout.strip() == "Hello."
    assert WARNING not in done.stderr
    [request] = place.upstream.requests
    assert request["model"] == upstream_model
    assert "apply_patch" in functions(request)
    kept = (place.home / "config.toml").read_text()
    assert kept.startswith('# mine\nmodel = "gpt-5.5"  # as ever\n')
    assert (place.home / "config.toml.bak").read_text() == '# mine\nmodel = "gpt-5.5"  # as ever\n'


def test_the_documented_commands(
    codex_binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented two lines, word for word, on its own example of settings."""
    first, second = (shlex.split(line) for line in snippets("Codex CLI", "sh")[0].splitlines())
    assert (first[0], second[0]) == ("translator", "codex")
    home, folder, settings = (tmp_path / name for name in ("home", "folder", "settings.toml"))
    folder.mkdir()
    monkeypatch.setenv("FIREWORKS_API_KEY", KEY)
    with ScriptedUpstream(Turn(text="Hello.")) as upstream:
        example = (ROOT / EXAMPLE).read_text()
        assert FIREWORKS in example
        settings.write_text(example.replace(FIREWORKS, upstream.base_url))
        with serving(None, "--config", str(settings)) as base_url:
            monkeypatch.delenv("FIREWORKS_API_KEY")
            words = [str(settings) if word == EXAMPLE else word for word in first[1:]]
            translator(*words, "--codex-home", str(home), "--base-url", base_url)
            place = Place(upstream, base_url, settings, home, folder, codex_binary)
            done = place.exec("say hello", *second[1:])

    assert done.stdout.strip() == "Hello."
    assert WARNING not in done.stderr
    assert upstream.requests[0]["model"] == "accounts/fireworks/models/kimi-k2p6"
    assert upstream.keys == [f"Bearer {KEY}"], "the key is the service's; Codex has none"


def test_the_key_comes_from_the_variable_that_was_named(place: Place) -> None:
    place.set_up("--key-env", "MY_KEY")
    place.upstream.play(Turn(text="Hello."))
    place.exec("say hello", environment={"MY_KEY": KEY})
    assert place.upstream.keys == [f"Bearer {KEY}"]


def test_the_catalog_of_the_service_is_as_good_as_the_file(place: Place) -> None:
    """With `model_catalog_url`, Codex reads the same catalog from `GET /v1/models`."""
    config = f"""\
model = "org/glm-5p1"
model_provider = "translator"

[model_providers.translator]
name = "translator"
base_url = "{place.base_url}"
wire_api = "responses"
env_key = "MY_KEY"
"""
    url = f'model_catalog_url = "{place.base_url}/models"\n'
    told: dict[str, bool] = {}
    for name, text in (("without", config), ("with", config + url)):
        (place.home / "config.toml").write_text(text)
        place.upstream.play(Turn(text="Hello."))
        done = place.exec("say hello", environment={"MY_KEY": KEY})
        told[name] = WARNING in done.stderr
        patches = "apply_patch" in functions(place.upstream.requests[0])
        assert patches is (name == "with")
    assert told == {"without": True, "with": False}


def test_the_readme_s_lines(
    codex_binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its block word for word, but for the upstream's address and the folder of Codex."""
    text = (ROOT / "README.md").read_text("utf-8").partition("\n## Codex CLI\n")[2]
    [block] = re.findall(r"^```sh\n(.*?)^```", text.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
    lines = block.replace("\\\n", " ").splitlines()
    key, setup, serve, run = (shlex.split(line, comments=True) for line in lines)
    assert (key[0], serve[1], run[0]) == ("export", "serve", "codex")
    home, folder = tmp_path / "home", tmp_path / "folder"
    folder.mkdir()
    with ScriptedUpstream(Turn(text="Hello.")) as upstream:
        words = [upstream.base_url if word == FIREWORKS else word for word in serve[2:]]
        assert words == ["--upstream", upstream.base_url]
        with serving(*words[1:], "--dialect", "fireworks") as base_url:
            translator(*setup[1:], "--codex-home", str(home), "--base-url", base_url)
            place = Place(upstream, base_url, tmp_path, home, folder, codex_binary)
            name = key[1].partition("=")[0]
            done = place.exec("say hello", *run[1:], environment={name: KEY})

    assert done.stdout.strip() == "Hello."
    assert WARNING not in done.stderr
    assert upstream.keys == [f"Bearer {KEY}"]


MINE = """\
# mine
model = "kimi-k2.6" # as ever
model_provider = "mine"

[model_providers.mine]
name = "mine"
base_url = {base_url}
wire_api = "responses"
"""


def test_codex_starts_with_what_undo_leaves(place: Place) -> None:
    """The user's own configuration as it was, and what he added to ours since."""
    mine = MINE.format(base_url=json.dumps(place.base_url))
    config = place.home / "config.toml"
    config.write_text(mine)
    place.set_up("--default", "org/glm-5p1")
    assert 'model = "org/glm-5p1" # as ever\n' in config.read_text()
    added = '\nhttp_headers = { "x-mine" = "1" } # mine\n[tui]\nnotifications = false\n'
    config.write_text(config.read_text() + added)
    translator("codex", "--undo", "--codex-home", str(place.home))
    left = '\n[model_providers.translator]\nname = "translator"\n'
    assert config.read_text() == mine + left + added
    place.upstream.play(Turn(text="Hello."))
    done = place.exec("say hello")

    assert done.stdout.strip() == "Hello."
    assert place.upstream.requests[0]["model"] == "accounts/fireworks/models/kimi-k2p6"
    assert not list(place.home.glob("*.config.toml"))
